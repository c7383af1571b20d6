//! The proxy's settings as the environment of its task, with what only the node knows left to Nomad: `${NOMAD_…}`.

use serde_json::{Map, Value};
use weft_injector::written::{self, both_families, list, quoted, table};
use weft_injector::{Probe, port};
use weft_model::{Network, PortName, ServiceName};

use crate::network::{self, Mode};
use crate::options::Options;
use crate::{ADMIN_PORT, HEALTH_PORT, NomadInjectorSettings, TUNNEL_PORT, job};

/// All variables.
pub(crate) fn variables(
    group: &Value,
    mode: Mode,
    options: &Options,
    settings: &NomadInjectorSettings,
    probes: &[Probe],
) -> Map<String, Value> {
    let mut variables = Map::new();
    let mut set =
        |name: &str, value: String| _ = variables.insert(format!("WEFT_PROXY_{name}"), value.into());
    set("WORKLOAD__NAME", quoted("${NOMAD_JOB_NAME}-${NOMAD_ALLOC_ID}"));
    for (name, value) in [
        ("WORKLOAD__APP", options.metadata.app().unwrap_or("${NOMAD_JOB_NAME}")),
        ("WORKLOAD__VERSION", options.metadata.version().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            set(name, quoted(value));
        }
    }
    set("STATE_DIR", quoted("${NOMAD_SECRETS_DIR}/weft-proxy"));
    set("LOG", quoted(&options.log_level));
    set("CONTROL__ADDRESSES", list(settings.control.iter().map(|address| quoted(address))));
    if !settings.root_sha256.is_empty() {
        set("CONTROL__ROOT_SHA256", list(settings.root_sha256.iter().map(|pin| quoted(pin))));
    }
    set("IDENTITY__NOMAD__REGISTRY", quoted(&settings.registry.to_string()));
    let token = format!("${{NOMAD_SECRETS_DIR}}/nomad_{}.jwt", weft_registry_nomad::sidecar::IDENTITY_NAME);
    set("IDENTITY__NOMAD__TOKEN_FILE", quoted(&token));
    set("IDENTITY__NOMAD__NODE", quoted("${node.unique.id}"));
    set("DRAIN__DEADLINE", quoted(&format!("{}ms", options.drain.as_millis())));
    if options.network != Network::default_network() {
        set("CAPTURE__NETWORK", quoted(options.network.as_str()));
    }
    for (name, value) in listeners(mode) {
        set(name, value);
    }
    // By it the proxy learns its zone and node, which no task can know of itself.
    set("LOCALITY__ADDRESSES", quoted(&format!("${{NOMAD_HOST_IP_{TUNNEL_PORT}}}")));
    if !probes.is_empty() {
        set("HEALTH__PROBE", written::probes(probes));
    }
    if options.capture {
        set("CAPTURE__OUTBOUND", both_families("127.0.0.1", "[::1]", port::OUTBOUND));
        set("CAPTURE__INBOUND", both_families("0.0.0.0", "[::]", port::INBOUND));
        set("CAPTURE__UNKNOWN", quoted(options.unknown.as_str()));
        set("CAPTURE__PLAINTEXT", quoted(options.inbound_plaintext.as_str()));
        if options.dns {
            set("DNS__LISTEN", both_families("127.0.0.1", "[::1]", port::DNS));
        }
    }
    let inbound = inbound(group, mode, options);
    if !inbound.is_empty() {
        set("INBOUND", list(inbound.into_iter()));
    }
    if !options.upstreams.is_empty() {
        set("UPSTREAM", written::upstreams(&options.upstreams, &options.namespace));
    }
    variables
}

/// Where the proxy itself listens.
fn listeners(mode: Mode) -> Vec<(&'static str, String)> {
    match mode {
        Mode::Own => vec![
            ("TUNNEL__LISTEN", quoted(&format!("[::]:{}", port::TUNNEL))),
            // Other proxies name the address that they called, which is the node's.
            ("TUNNEL__ADDRESSES", list([quoted(&format!("${{NOMAD_HOST_IP_{TUNNEL_PORT}}}"))].into_iter())),
            ("HEALTH__LISTEN", quoted(&format!("[::]:{}", port::HEALTH))),
        ],
        Mode::Host => {
            let at = |label: &str| quoted(&format!("${{NOMAD_IP_{label}}}:${{NOMAD_PORT_{label}}}"));
            vec![
                ("TUNNEL__LISTEN", at(TUNNEL_PORT)),
                ("HEALTH__LISTEN", at(HEALTH_PORT)),
                ("ADMIN__LISTEN", quoted(&format!("127.0.0.1:${{NOMAD_PORT_{ADMIN_PORT}}}"))),
            ]
        }
    }
}

/// `[[inbound]]`: the ports of the group's services, by the numbers under which they are registered.
fn inbound(group: &Value, mode: Mode, options: &Options) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    for service in services(group) {
        let Ok(name) = job::text(service, "Name").parse::<ServiceName>() else { continue };
        let label = job::text(service, "PortLabel");
        let protocol = tagged_protocol(service).or_else(|| {
            options
                .metadata
                .protocol_for(label.parse::<PortName>().ok().as_ref())
                .map(|p| p.as_str().to_owned())
        });
        for (number, app) in reached(group, mode, label) {
            let mut fields = vec![
                ("service", quoted(&format!("{}/{name}", options.namespace))),
                ("port", number.clone()),
                ("app", quoted(&app)),
            ];
            fields.extend(protocol.as_deref().map(|protocol| ("protocol", quoted(protocol))));
            // Several services may have one port.
            let port = format!("port={number},");
            if !tables.iter().any(|table| table.contains(&port)) {
                tables.push(table(&fields));
            }
        }
    }
    tables
}

/// The numbers by which others may name a port, and where the application listens.
fn reached(group: &Value, mode: Mode, label: &str) -> Vec<(String, String)> {
    let Some(port) = network::port(group, label) else {
        // A number: registered with the allocation's own address.
        let number = label.parse::<u16>().ok().filter(|number| *number != 0);
        return number
            .map(|number| (number.to_string(), format!("127.0.0.1:{number}")))
            .into_iter()
            .collect();
    };
    let host = format!("${{NOMAD_HOST_PORT_{label}}}");
    match (mode, port.to) {
        // The port's own address: the group says by `host_network` which that is.
        (Mode::Host, _) => vec![(host, format!("${{NOMAD_IP_{label}}}:${{NOMAD_PORT_{label}}}"))],
        (Mode::Own, Some(to)) => {
            let app = format!("127.0.0.1:{to}");
            vec![(host, app.clone()), (to.to_string(), app)]
        }
        (Mode::Own, None) => vec![(host.clone(), format!("127.0.0.1:{host}"))],
    }
}

/// The services of the group and of its tasks.
pub(crate) fn services(group: &Value) -> impl Iterator<Item = &Value> {
    let of_tasks = job::list(group, "Tasks").iter().flat_map(|task| job::list(task, "Services"));
    job::list(group, "Services").iter().chain(of_tasks)
}

/// What a service's own tags or Consul `meta` say is spoken at its port.
fn tagged_protocol(service: &Value) -> Option<String> {
    let tags = job::list(service, "Tags").iter().filter_map(Value::as_str);
    let tagged = { tags }.find_map(|tag| tag.strip_prefix("weft.dev/protocol="));
    let in_meta =
        job::texts(service, "Meta").find(|(key, _)| *key == "weft-protocol").map(|(_, value)| value);
    tagged.or(in_meta).map(str::to_owned)
}
