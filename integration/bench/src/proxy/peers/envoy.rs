//! Envoy: the router filter alone, no access log, mTLS 1.3 between the halves of a pair, one worker each.

use std::net::SocketAddr;

use anyhow::Result;

use super::{Half, Place, Running, launch, local, variable_path};
use crate::proxy::certificates::Files;
use crate::proxy::scenario::Wire;

pub(super) fn start(place: &Place<'_>) -> Result<Option<Running>> {
    let Some(program) = variable_path("WEFT_ENVOY") else { return Ok(None) };
    let (entry, middle, wire) = (local(), local(), place.scenario.wire());
    let configurations = match place.scenario.is_pair() {
        false => vec![("envoy", bootstrap(wire, entry, "", place.backend, ""))],
        true => {
            let (upstream, downstream) = (
                context(place.files, wire, "Upstream", "sni: bench.weft,"),
                context(place.files, wire, "Downstream", "require_client_certificate: true,"),
            );
            vec![
                ("envoy-out", bootstrap(wire, entry, "", middle, &upstream)),
                ("envoy-in", bootstrap(wire, middle, &downstream, place.backend, "")),
            ]
        }
    };
    let mut halves = Vec::new();
    for (name, configuration) in configurations {
        let file = place.directory.join(format!("{name}.yaml"));
        std::fs::write(&file, &configuration)?;
        let file = file.display().to_string();
        let arguments = ["-c", &file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"];
        halves.push(Half { name, configuration, arguments: arguments.map(str::to_owned).into() });
    }
    launch(&program, entry, halves, place.directory).map(Some)
}

fn bootstrap(wire: Wire, listen: SocketAddr, tls: &str, to: SocketAddr, to_tls: &str) -> String {
    let (codec, options) = match wire {
        Wire::Http1 => ("HTTP1", "http_protocol_options: {}"),
        Wire::Grpc => ("HTTP2", "http2_protocol_options: {}"),
    };
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
          codec_type: {codec}
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
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{{options}}}
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

fn context(files: &Files, wire: Wire, side: &str, more: &str) -> String {
    let alpn = match wire {
        Wire::Http1 => "http/1.1",
        Wire::Grpc => "h2",
    };
    format!(
        "transport_socket:
  name: envoy.transport_sockets.tls
  typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext, {more} \
         common_tls_context: {{alpn_protocols: [{alpn}], tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}, \
         tls_certificates: [{{certificate_chain: {{filename: {}}}, private_key: {{filename: {}}}}}], \
         validation_context: {{trusted_ca: {{filename: {}}}}}}}}}",
        files.certificate.display(),
        files.key.display(),
        files.root.display()
    )
}
