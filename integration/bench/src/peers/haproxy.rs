//! HAProxy as a pair: HTTP/1.1 with keep-alive on every hop, mTLS 1.3 between, one thread each.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{Pair, half, local, pair, variable_path};
use crate::certificates::Files;

pub(super) fn start(backend: SocketAddr, files: &Files, directory: &Path) -> Result<Option<Pair>> {
    let Some(program) = variable_path("WEFT_HAPROXY") else { return Ok(None) };
    let (entry, middle) = (local(), local());
    let common = "global\n  nbthread 1\n  tune.ssl.default-dh-param 2048\ndefaults\n  mode http\n  option http-keep-alive\n  \
                  http-reuse always\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n";
    let (both, root) = (files.both.display(), files.root.display());
    let out = format!(
        "{common}frontend in\n  bind {entry}\n  default_backend out\nbackend out\n  server b {middle} ssl crt {both} \
         ca-file {root} verify required verifyhost bench.weft ssl-min-ver TLSv1.3 alpn http/1.1\n"
    );
    let inward = format!(
        "{common}frontend in\n  bind {middle} ssl crt {both} ca-file {root} verify required ssl-min-ver TLSv1.3 alpn http/1.1\n  \
         default_backend app\nbackend app\n  server a {backend}\n"
    );
    let mut halves = Vec::new();
    for (name, text) in [("haproxy-out", out), ("haproxy-in", inward)] {
        let file = directory.join(format!("{name}.cfg"));
        std::fs::write(&file, text)?;
        halves.push(half(name, &program, &["-db", "-f", &file.display().to_string()], directory)?);
    }
    pair(entry, halves).map(Some)
}
