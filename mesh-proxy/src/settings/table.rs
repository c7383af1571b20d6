//! Every setting with its default and meaning, for the documentation. A test holds it against what is really read.

/// One setting.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Setting {
    /// The key; `[[name]]` sections are lists.
    pub(crate) key: &'static str,
    /// The default as it would be written, or "none", or "needed".
    pub(crate) default: &'static str,
    /// One line.
    pub(crate) meaning: &'static str,
}

const fn setting(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { key, default, meaning }
}

/// All of them, in the order of the sections.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("workers", "1", "threads of the data path"),
    setting("state_dir", "/var/lib/weft-proxy", "where identity and last known good configuration are kept"),
    setting("log", "info", "log filter, also per module: info,weft_proxy::identity=debug"),
    setting("log_format", "text", "text or json, on standard error"),
    setting("workload.name", "host name and a random suffix", "this instance in the list of proxies"),
    setting("workload.app", "empty", "label app in telemetry"),
    setting("workload.version", "empty", "label version in telemetry"),
    setting(
        "control.addresses",
        "none",
        "control planes as host:port, in order of preference; none: last known good only",
    ),
    setting(
        "control.root_sha256",
        "none",
        "SHA-256 of the mesh's roots, for the first contact; a join token carries it",
    ),
    setting("control.bundle", "none", "PEM file with the mesh's roots, instead of root_sha256"),
    setting("identity.join_token", "none", "token of weft token create; good for one certificate"),
    setting("identity.join_token_file", "none", "file with the join token, read at every attempt"),
    setting("identity.consul.address", "http://127.0.0.1:8500", "HTTP address of the local Consul agent"),
    setting("identity.consul.service", "needed", "service whose Connect leaf is the proof"),
    setting("identity.consul.registry", "needed", "the control plane's name of this Consul: consul/dc1"),
    setting("identity.consul.token_file", "none", "file with an ACL token that has service:write"),
    setting("identity.consul.ca_file", "none", "PEM roots of the agent's HTTPS certificate"),
    setting("identity.consul.namespace", "none", "the service's Consul namespace"),
    setting(
        "identity.kubernetes.registry",
        "needed",
        "the control plane's name of this cluster: kubernetes/prod",
    ),
    setting(
        "identity.kubernetes.token_file",
        "/var/run/secrets/weft.dev/token",
        "service account token that the kubelet projects, for the control plane's audience; read at every attempt",
    ),
    setting(
        "tunnel.listen",
        "0.0.0.0:15008",
        "mTLS listener for other proxies; open where there is an [[inbound]]",
    ),
    setting("tunnel.addresses", "none", "further addresses that a CONNECT may name"),
    setting("inbound.service", "needed", "service that the port belongs to, for telemetry"),
    setting("inbound.port", "needed", "the port as registered"),
    setting("inbound.app", "127.0.0.1 and the port", "where the application listens"),
    setting("inbound.protocol", "detect", "http1, http2, grpc, tcp, tls or detect (as the caller spoke)"),
    setting(
        "inbound.permissive",
        "none",
        "plaintext listener for callers outside the mesh; they have no identity",
    ),
    setting("upstream.service", "needed", "the service: name or namespace/name"),
    setting("upstream.port", "the only or first one", "its port, by name or number"),
    setting("upstream.listen", "needed", "local address that leads to it"),
    setting("upstream.protocol", "as registered", "what is spoken, where the registry does not say"),
    setting("upstream.plaintext", "false", "allow endpoints without a proxy, in plaintext"),
    setting(
        "http.listen",
        "127.0.0.1:15001",
        "local port that leads to any service by Host; open where there is an [http]",
    ),
    setting("http.plaintext", "false", "allow endpoints without a proxy, in plaintext"),
    setting(
        "capture.outbound",
        "none",
        "listeners to which the application's own connections are redirected; one that is called itself routes by Host",
    ),
    setting("capture.inbound", "none", "listeners to which connections to the application are redirected"),
    setting("capture.network", "default", "the network in which the captured destinations are valid"),
    setting(
        "capture.unknown",
        "pass",
        "pass or refuse: what becomes of a captured connection whose destination is nobody's in the mesh",
    ),
    setting(
        "capture.plaintext",
        "permissive",
        "permissive or strict: whether captured connections without an identity reach the application",
    ),
    setting("admin.listen", "127.0.0.1:15000", "ready, metrics, dump, log level, drain; no access control"),
    setting(
        "health.listen",
        "none",
        "ready, live, metrics and the application's probes, for a kubelet; nothing can be changed there",
    ),
    setting("health.probe.name", "needed", "a question to the application, asked at /probe/NAME"),
    setting("health.probe.timeout", "1s", "from the connection to the answer"),
    setting(
        "health.probe.http.port",
        "needed",
        "GET this port, at the address at which the health port is asked",
    ),
    setting("health.probe.http.path", "/", "path and query of the GET"),
    setting("health.probe.http.host", "address and port", "Host of the GET"),
    setting("health.probe.http.https", "false", "over TLS; the certificate is not verified"),
    setting("health.probe.http.headers", "none", "list of { name, value }"),
    setting("health.probe.tcp.port", "needed", "connect to this port instead"),
    setting(
        "health.probe.grpc.port",
        "needed",
        "grpc.health.v1.Health/Check at this port instead, without TLS",
    ),
    setting("health.probe.grpc.service", "empty", "the service that is asked about; empty: the server"),
    setting(
        "ready.upstream_deadline",
        "10s",
        "how long readiness waits for word on a declared upstream, once there is a stream or a last known good state",
    ),
    setting(
        "access_log.mode",
        "errors",
        "off, errors (flag, status of 500 or more, gRPC status other than 0) or all",
    ),
    setting("access_log.format", "text", "text or json"),
    setting("access_log.output", "stdout", "stdout or the path of a file"),
    setting(
        "metrics.max_series",
        "500",
        "distinct label sets of requests and connections; more are counted as overflow",
    ),
    setting("timeouts.connect", "1s", "TCP connection, per address tried"),
    setting("timeouts.handshake", "5s", "TLS handshake"),
    setting("timeouts.header_read", "10s", "head of an HTTP/1 request, from its first byte"),
    setting("timeouts.request", "none", "from the request's head to the response's head"),
    setting(
        "timeouts.idle",
        "1h",
        "TCP, tunnelled or upgraded connection, or the body of a message, without a byte",
    ),
    setting("timeouts.pool_idle", "90s", "unused pooled connection"),
    setting(
        "timeouts.connection_age",
        "1h",
        "a pooled connection takes no new work after it, give or take 20 %",
    ),
    setting("timeouts.detect", "50ms", "wait for the first bytes where the protocol is not declared"),
    setting("retries.attempts", "2", "attempts beyond the first; only for what was not processed"),
    setting("retries.budget_percent", "20", "retries as a share of the requests"),
    setting("retries.min_per_second", "10", "retries that are allowed in any case"),
    setting("outlier.consecutive_failures", "5", "failures in a row that eject an endpoint; 0: never"),
    setting("outlier.base_ejection", "10s", "first ejection; the n-th is n times as long"),
    setting("outlier.max_ejected_percent", "50", "share of a service's endpoints that may be ejected"),
    setting("locality.self", "empty", "where this proxy runs: region/zone/subzone"),
    setting("locality.node", "none", "the node that this proxy runs on, as the registry names it"),
    setting(
        "locality.addresses",
        "empty",
        "the own workload's, with commas: what is not set here is what the mesh says of it",
    ),
    setting("locality.prefer", "false", "nearest endpoints get all that they can take"),
    setting("drain.grace", "500ms", "new connections are still taken for so long after SIGTERM"),
    setting("drain.deadline", "30s", "what is not finished then is cut"),
    setting("limits.connections", "10000", "accepted connections, a worker"),
    setting("limits.handshakes", "2048", "TLS handshakes of callers that are not finished, a worker"),
    setting("limits.requests", "10000", "requests in progress, a worker"),
    setting(
        "limits.memory",
        "of the control group, else 1GiB",
        "memory of the process; load is shed from 80 % of it on",
    ),
    setting("limits.streams", "1000", "concurrent streams on an accepted connection"),
    setting("limits.head_bytes", "65536", "bytes of a head"),
    setting("limits.endpoint_connections", "1024", "connections to one endpoint, a worker"),
    setting("limits.on_demand_addresses", "4096", "addresses of captured connections that are subscribed to"),
    setting("limits.on_demand_services", "1000", "services subscribed to because a request named them"),
];
