//! What holds for one pod: its annotations over the mesh's settings, and all that is wrong with them at once.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use weft_model::{
    Cidr, Cpu, InboundPlaintext, KeySyntax, Memory, Metadata, Namespace, Network, ProxyMetadata, ServiceName,
    TrustDomain, Tunnel, UnknownDestination,
};

use crate::refused::Refused;
use crate::{INJECT, InjectorSettings, pod, port};

/// What the proxy of one pod is like.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) capture: bool,
    pub(crate) dns: bool,
    pub(crate) hold: bool,
    pub(crate) unknown: UnknownDestination,
    pub(crate) inbound_plaintext: InboundPlaintext,
    pub(crate) drain: Duration,
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) cpu_limit: Option<Cpu>,
    pub(crate) memory_limit: Option<Memory>,
    pub(crate) log_level: String,
    pub(crate) skip_inbound_ports: BTreeSet<u16>,
    pub(crate) skip_outbound_ports: BTreeSet<u16>,
    pub(crate) skip_outbound_cidrs: BTreeSet<Cidr>,
    pub(crate) upstreams: Vec<weft_model::Upstream>,
    pub(crate) namespace: Namespace,
    pub(crate) network: Network,
    /// What the pod's ports are said to belong to, where it has to be said.
    pub(crate) service: ServiceName,
    pub(crate) app: String,
    pub(crate) version: String,
    /// What callers are told; the proxy needs the protocols of ports that nothing captures.
    pub(crate) metadata: Metadata,
}

impl Options {
    /// Reads the pod's annotations. What is suspicious, but can be done, is among `warnings`.
    pub(crate) fn read(
        pod: &Value,
        namespace: &str,
        settings: &InjectorSettings,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Refused> {
        let own: Namespace = namespace.parse().map_err(|invalid| Refused::because(format!("{invalid}")))?;
        let mut problems = Vec::new();
        let metadata = metadata(pod, &own, &mut problems);
        let options = Self::merge(pod, own, &metadata, settings);
        problems.extend(misplaced(&metadata));
        problems.extend(options.contradictions(metadata.proxy()));
        Refused::if_any(problems)?;
        warnings.extend(options.without_effect(metadata.proxy()));
        warnings.extend(labels_of_ours(pod));
        Ok(options)
    }

    fn merge(pod: &Value, own: Namespace, metadata: &Metadata, settings: &InjectorSettings) -> Self {
        let proxy = metadata.proxy();
        let both = |ours: &BTreeSet<u16>, theirs: &BTreeSet<u16>| ours.union(theirs).copied().collect();
        let label = |names: [&str; 2]| {
            names.into_iter().find_map(|name| pod::text(pod, "labels", name)).unwrap_or_default()
        };
        let capture = proxy.capture.unwrap_or(settings.capture);
        Self {
            capture,
            dns: capture && proxy.dns.unwrap_or(settings.dns),
            hold: proxy.hold.unwrap_or(settings.hold),
            unknown: proxy.unknown.unwrap_or(settings.unknown),
            // The mesh's default is not the pod's contradiction: who is not captured can't be strict.
            inbound_plaintext: proxy.inbound_plaintext.unwrap_or(match capture {
                true => settings.inbound_plaintext,
                false => InboundPlaintext::Permissive,
            }),
            drain: proxy.drain.unwrap_or(settings.drain),
            cpu: proxy
                .cpu
                .unwrap_or_else(|| proxy.cpu_limit.map_or(settings.cpu, |limit| limit.min(settings.cpu))),
            memory: proxy.memory.unwrap_or_else(|| {
                proxy.memory_limit.map_or(settings.memory, |limit| limit.min(settings.memory))
            }),
            // A request above the mesh's limit moves that limit.
            cpu_limit: proxy
                .cpu_limit
                .or(settings.cpu_limit.map(|limit| limit.max(proxy.cpu.unwrap_or(limit)))),
            memory_limit: proxy
                .memory_limit
                .or(settings.memory_limit.map(|limit| limit.max(proxy.memory.unwrap_or(limit)))),
            log_level: proxy.log_level.clone().unwrap_or_else(|| settings.log_level.clone()),
            skip_inbound_ports: both(&settings.skip_inbound_ports, &proxy.skip_inbound_ports),
            skip_outbound_ports: both(&settings.skip_outbound_ports, &proxy.skip_outbound_ports),
            skip_outbound_cidrs: settings
                .skip_outbound_cidrs
                .union(&proxy.skip_outbound_cidrs)
                .copied()
                .collect(),
            upstreams: proxy.upstreams.clone(),
            namespace: own,
            network: metadata.network().unwrap_or(&settings.network).clone(),
            service: service(pod, metadata, label(["app.kubernetes.io/name", "app"])),
            app: metadata.app().unwrap_or_else(|| label(["app.kubernetes.io/name", "app"])).to_owned(),
            version: metadata
                .version()
                .unwrap_or_else(|| label(["app.kubernetes.io/version", "version"]))
                .to_owned(),
            metadata: metadata.clone(),
        }
    }

    /// What can't be together.
    fn contradictions(&self, proxy: &ProxyMetadata) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |broken: bool, problem: String| {
            if broken {
                problems.push(problem);
            }
        };
        check(
            !self.capture && self.inbound_plaintext == InboundPlaintext::Strict,
            format!(
                "{} is \"strict\" and {} is \"false\": without capture nobody can refuse plaintext",
                key("inbound-plaintext"),
                key("capture")
            ),
        );
        let too_little = |what: &str| {
            format!(
                "{} is less than {}: expected at least as much",
                key(&format!("proxy-{what}-limit")),
                key(&format!("proxy-{what}"))
            )
        };
        check(self.cpu_limit.is_some_and(|limit| limit < self.cpu), too_little("cpu"));
        check(self.memory_limit.is_some_and(|limit| limit < self.memory), too_little("memory"));
        check(
            self.upstreams.len() > MOST_UPSTREAMS,
            format!(
                "{} has {} services: expected at most {MOST_UPSTREAMS}",
                key("upstreams"),
                self.upstreams.len()
            ),
        );
        for upstream in self.upstreams.iter().filter(|upstream| port::ALL.contains(&upstream.listen.port())) {
            check(true, format!("{}: {} is a port of the proxy itself", key("upstreams"), upstream.listen));
        }
        for (name, ports) in [
            ("skip-inbound-ports", &proxy.skip_inbound_ports),
            ("skip-outbound-ports", &proxy.skip_outbound_ports),
        ] {
            for own in ports.iter().filter(|port| port::ALL.contains(port)) {
                check(true, format!("{}: {own} is a port of the proxy itself", key(name)));
            }
        }
        problems
    }

    /// Annotations that mean nothing where nothing is captured.
    fn without_effect(&self, proxy: &ProxyMetadata) -> Vec<String> {
        let written = [
            ("dns", proxy.dns == Some(true)),
            ("unknown", proxy.unknown.is_some()),
            ("skip-inbound-ports", !proxy.skip_inbound_ports.is_empty()),
            ("skip-outbound-ports", !proxy.skip_outbound_ports.is_empty()),
            ("skip-outbound-cidrs", !proxy.skip_outbound_cidrs.is_empty()),
        ];
        let lost = written.into_iter().filter(|(_, written)| *written && !self.capture);
        lost.map(|(name, _)| format!("{} has no effect, since nothing is captured", key(name))).collect()
    }
}

/// The service by its annotation, else by the usual labels, else by the service account.
fn service(pod: &Value, metadata: &Metadata, app: &str) -> ServiceName {
    let account = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or("default");
    let named = metadata.service().cloned().or_else(|| app.parse().ok()).or_else(|| account.parse().ok());
    named.unwrap_or_else(|| "default".parse().expect("it is a name"))
}

/// The annotation of a key.
pub(crate) fn key(name: &str) -> String {
    KeySyntax::Slash.written(name)
}

fn metadata(pod: &Value, namespace: &Namespace, problems: &mut Vec<String>) -> Metadata {
    let ours = |key: &str| KeySyntax::Slash.key_of(key).is_some();
    let not_text = pod::raw(pod, "annotations").filter(|(key, value)| ours(key) && !value.is_string());
    problems.extend(
        not_text.map(|(key, value)| format!("{key} is {value}: expected text, so put it into quotes")),
    );
    // Only an identity would need the mesh's, and none may be written here.
    let domain: TrustDomain = "cluster.local".parse().expect("it is a trust domain");
    let (metadata, wrong) =
        Metadata::parse(KeySyntax::Slash, pod::texts(pod, "annotations"), &domain, namespace);
    problems.extend(wrong.iter().map(ToString::to_string));
    metadata
}

/// Keys that others may write on other platforms.
fn misplaced(metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    if metadata.identity().is_some() {
        problems.push(format!(
            "{}: on Kubernetes the identity is that of the pod's service account; leave it out",
            key("identity")
        ));
    }
    if metadata.tunnel().is_some_and(|tunnel| tunnel != Tunnel::Port(port::TUNNEL)) {
        problems.push(format!(
            "{}: with an injected proxy it is \"{}\"; leave it out",
            key("tunnel"),
            port::TUNNEL
        ));
    }
    problems
}

/// Labels that look like annotations.
fn labels_of_ours(pod: &Value) -> impl Iterator<Item = String> {
    let ours =
        pod::texts(pod, "labels").filter(|(key, _)| *key != INJECT && KeySyntax::Slash.key_of(key).is_some());
    ours.map(|(key, _)| format!("the label {key} has no effect; write it as an annotation"))
}

/// More tables in one variable the proxy does not read.
const MOST_UPSTREAMS: usize = 60;
