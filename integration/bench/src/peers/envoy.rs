//! Envoy as a pair: the router filter alone, no access log, mTLS 1.3 between with HTTP/1.1, one worker each.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{Pair, half, local, pair, variable_path};
use crate::certificates::Files;

pub(super) fn start(backend: SocketAddr, files: &Files, directory: &Path) -> Result<Option<Pair>> {
    let Some(program) = variable_path("WEFT_ENVOY") else { return Ok(None) };
    let (entry, middle) = (local(), local());
    let (upstream, downstream) = (
        context(files, "Upstream", "sni: bench.weft,"),
        context(files, "Downstream", "require_client_certificate: true,"),
    );
    let mut halves = Vec::new();
    for (name, listen, tls, to, to_tls) in [
        ("envoy-out", entry, "", middle, upstream.as_str()),
        ("envoy-in", middle, downstream.as_str(), backend, ""),
    ] {
        let file = directory.join(format!("{name}.yaml"));
        std::fs::write(&file, bootstrap(listen, tls, to, to_tls))?;
        let file = file.display().to_string();
        let arguments = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"];
        halves.push(half(name, &program, &arguments, directory)?);
    }
    pair(entry, halves).map(Some)
}

fn bootstrap(listen: SocketAddr, tls: &str, to: SocketAddr, to_tls: &str) -> String {
    let address =
        |a: SocketAddr| format!("{{socket_address: {{address: {}, port_value: {}}}}}", a.ip(), a.port());
    format!(
        "static_resources:
  listeners:
  - name: in
    address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          codec_type: HTTP1
          generate_request_id: false
          route_config:
            virtual_hosts:
            - {{name: all, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: out}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
{tls}
  clusters:
  - name: out
    type: STATIC
    connect_timeout: 5s
    load_assignment: {{cluster_name: out, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {to}}}}}]}}]}}
{to_tls}
",
        listen = address(listen),
        to = address(to),
        tls = indent(tls, 6),
        to_tls = indent(to_tls, 4),
    )
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

fn context(files: &Files, side: &str, more: &str) -> String {
    format!(
        "transport_socket:
  name: envoy.transport_sockets.tls
  typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext, {more} \
         common_tls_context: {{tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}, \
         tls_certificates: [{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}], \
         validation_context: {{trusted_ca: {{filename: {}}}}}}}}}",
        files.certificate.display(),
        files.key.display(),
        files.root.display()
    )
}
