//! nginx: keep-alive on every hop, mTLS 1.3 between the halves of a pair, one worker each.

use std::path::Path;

use anyhow::Result;

use super::{Half, Place, Running, launch, local, variable_path};
use crate::proxy::certificates::Files;
use crate::proxy::scenario::Wire;

pub(super) fn start(place: &Place<'_>) -> Result<Option<Running>> {
    let Some(program) = variable_path("WEFT_NGINX") else { return Ok(None) };
    let (entry, middle, wire) = (local(), local(), place.scenario.wire());
    let backend = place.backend.to_string();
    let (open, certified) = match wire {
        Wire::Http1 => ("", "ssl"),
        Wire::Grpc => ("http2", "ssl http2"),
    };
    let servers = match place.scenario.is_pair() {
        false => vec![("nginx", server(&format!("{entry} {open}"), "", &backend, &forward(wire, None)))],
        true => vec![
            (
                "nginx-out",
                server(
                    &format!("{entry} {open}"),
                    "",
                    &middle.to_string(),
                    &forward(wire, Some(place.files)),
                ),
            ),
            (
                "nginx-in",
                server(
                    &format!("{middle} {certified}"),
                    &downstream(place.files),
                    &backend,
                    &forward(wire, None),
                ),
            ),
        ],
    };
    let halves = servers.into_iter().map(|(name, server)| half(name, &server, place.directory));
    launch(&program, entry, halves.collect::<Result<_>>()?, place.directory).map(Some)
}

fn server(listen: &str, tls: &str, to: &str, forward: &str) -> String {
    format!(
        "upstream u {{ server {to}; keepalive 64; keepalive_requests 100000000; }} \
         server {{ listen {listen}; {tls} location / {{ {forward} }} }}"
    )
}

/// How requests go on, with mTLS where there are certificates.
fn forward(wire: Wire, files: Option<&Files>) -> String {
    let (pass, scheme) = match wire {
        Wire::Http1 => ("proxy", "http"),
        Wire::Grpc => ("grpc", "grpc"),
    };
    let headers = match wire {
        Wire::Http1 => {
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;"
        }
        Wire::Grpc => "",
    };
    let Some(files) = files else { return format!("{headers} {pass}_pass {scheme}://u;") };
    let (root, certificate, key) = (files.root.display(), files.certificate.display(), files.key.display());
    format!(
        "{headers} {pass}_pass {scheme}s://u; {pass}_ssl_certificate {certificate}; {pass}_ssl_certificate_key {key}; \
         {pass}_ssl_trusted_certificate {root}; {pass}_ssl_verify on; {pass}_ssl_name bench.weft; \
         {pass}_ssl_protocols TLSv1.3;"
    )
}

fn downstream(files: &Files) -> String {
    format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_client_certificate {}; ssl_verify_client on; \
         ssl_protocols TLSv1.3;",
        files.certificate.display(),
        files.key.display(),
        files.root.display()
    )
}

fn half(name: &'static str, server: &str, directory: &Path) -> Result<Half> {
    let prefix = directory.join(name);
    std::fs::create_dir_all(&prefix)?;
    let top = prefix.display();
    // One process, no master: that is the one that is measured.
    let configuration = format!(
        "daemon off; master_process off; pid {top}/pid; error_log {top}/error.log; events {{ worker_connections 1024; }} \
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {top}/a; proxy_temp_path {top}/b; \
         fastcgi_temp_path {top}/c; uwsgi_temp_path {top}/d; scgi_temp_path {top}/e; {server} }}"
    );
    let file = prefix.join("nginx.conf");
    std::fs::write(&file, &configuration)?;
    let arguments =
        ["-p", &top.to_string(), "-c", &file.display().to_string(), "-e", &format!("{top}/start.log")];
    Ok(Half { name, configuration, arguments: arguments.map(str::to_owned).into() })
}
