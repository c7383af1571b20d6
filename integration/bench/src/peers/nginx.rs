//! nginx as a pair: HTTP/1.1 with keep-alive on every hop, mTLS 1.3 between, one worker each.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{Pair, half, local, pair, variable_path};
use crate::certificates::Files;

pub(super) fn start(backend: SocketAddr, files: &Files, directory: &Path) -> Result<Option<Pair>> {
    let Some(program) = variable_path("WEFT_NGINX") else { return Ok(None) };
    let (entry, middle) = (local(), local());
    let (root, certificate, key) = (files.root.display(), files.certificate.display(), files.key.display());
    let proxying = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;";
    let out = format!(
        "upstream u {{ server {middle}; keepalive 64; }} server {{ listen {entry}; location / {{ {proxying} proxy_pass https://u; \
         proxy_ssl_certificate {certificate}; proxy_ssl_certificate_key {key}; proxy_ssl_trusted_certificate {root}; \
         proxy_ssl_verify on; proxy_ssl_name bench.weft; proxy_ssl_protocols TLSv1.3; }} }}"
    );
    let inward = format!(
        "upstream u {{ server {backend}; keepalive 64; }} server {{ listen {middle} ssl; ssl_certificate {certificate}; \
         ssl_certificate_key {key}; ssl_client_certificate {root}; ssl_verify_client on; ssl_protocols TLSv1.3; \
         location / {{ {proxying} proxy_pass http://u; }} }}"
    );
    let mut halves = Vec::new();
    for (name, server) in [("nginx-out", out), ("nginx-in", inward)] {
        let prefix = directory.join(name);
        std::fs::create_dir_all(&prefix)?;
        let top = prefix.display();
        // One process, no master: that is the one that is measured.
        let text = format!(
            "daemon off; master_process off; pid {top}/pid; error_log {top}/error.log; events {{ worker_connections 1024; }} \
             http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {top}/a; proxy_temp_path {top}/b; \
             fastcgi_temp_path {top}/c; uwsgi_temp_path {top}/d; scgi_temp_path {top}/e; {server} }}"
        );
        let file = prefix.join("nginx.conf");
        std::fs::write(&file, text)?;
        let arguments =
            ["-p", &top.to_string(), "-c", &file.display().to_string(), "-e", &format!("{top}/start.log")];
        halves.push(half(name, &program, &arguments, directory)?);
    }
    pair(entry, halves).map(Some)
}
