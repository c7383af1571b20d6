//! HAProxy: keep-alive on every hop, mTLS 1.3 between the halves of a pair, one thread each.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Half, Place, Running, launch, local, variable_path};
use crate::proxy::scenario::Wire;

pub(super) fn start(place: &Place<'_>) -> Result<Option<Running>> {
    let Some(program) = variable_path("WEFT_HAPROXY") else { return Ok(None) };
    let entry = local();
    // In plaintext HTTP/2 has to be said, over TLS it is agreed on.
    let (plain, alpn) = match place.scenario.wire() {
        Wire::Http1 => ("", "alpn http/1.1"),
        Wire::Grpc => ("proto h2", "alpn h2"),
    };
    let backend = format!("{} {plain}", place.backend);
    let configurations = match place.scenario.is_pair() {
        false => vec![("haproxy", text(&format!("{entry} {plain}"), &backend))],
        true => {
            let middle: SocketAddr = local();
            let (both, root) = (place.files.both.display(), place.files.root.display());
            let tls = format!("ssl crt {both} ca-file {root} verify required ssl-min-ver TLSv1.3 {alpn}");
            let to = format!("{middle} {tls} verifyhost bench.weft");
            vec![
                ("haproxy-out", text(&format!("{entry} {plain}"), &to)),
                ("haproxy-in", text(&format!("{middle} {tls}"), &backend)),
            ]
        }
    };
    let mut halves = Vec::new();
    for (name, configuration) in configurations {
        let file = place.directory.join(format!("{name}.cfg"));
        std::fs::write(&file, &configuration)?;
        let arguments = vec!["-db".to_owned(), "-f".to_owned(), file.display().to_string()];
        halves.push(Half { name, configuration, arguments });
    }
    launch(&program, entry, halves, place.directory).map(Some)
}

fn text(listen: &str, to: &str) -> String {
    format!(
        "global\n  nbthread 1\n  tune.ssl.default-dh-param 2048\ndefaults\n  mode http\n  option http-keep-alive\n  \
         http-reuse always\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n\
         frontend in\n  bind {listen}\n  default_backend out\nbackend out\n  server b {to}\n"
    )
}
