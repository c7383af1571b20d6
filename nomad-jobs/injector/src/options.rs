//! What holds for one group: its `meta` over the mesh's settings, and all that is wrong with it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weft_injector::port;
use weft_model::{
    Cidr, Cpu, InboundPlaintext, KeySyntax, Memory, Metadata, Namespace, Network, ProxyMetadata, Severity,
    TrustDomain, UnknownDestination, Upstream,
};

use crate::NomadInjectorSettings;
use crate::network::Mode;

/// What the proxy of one group is like.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) capture: bool,
    pub(crate) dns: bool,
    pub(crate) hold: bool,
    pub(crate) unknown: UnknownDestination,
    pub(crate) inbound_plaintext: InboundPlaintext,
    pub(crate) drain: Duration,
    pub(crate) cpu_mhz: u32,
    pub(crate) memory: Memory,
    pub(crate) memory_limit: Option<Memory>,
    pub(crate) log_level: String,
    pub(crate) skip_inbound_ports: BTreeSet<u16>,
    pub(crate) skip_outbound_ports: BTreeSet<u16>,
    pub(crate) skip_outbound_cidrs: BTreeSet<Cidr>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) namespace: Namespace,
    pub(crate) network: Network,
    pub(crate) metadata: Metadata,
}

/// The group's `meta`, read.
pub(crate) fn metadata(
    meta: &BTreeMap<&str, &str>,
    namespace: &Namespace,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Metadata {
    // Only an identity would need the mesh's; the control plane decides on that.
    let domain: TrustDomain = "nomad.local".parse().expect("it is a trust domain");
    let pairs = meta.iter().map(|(key, value)| (*key, *value));
    let (metadata, wrong) = Metadata::parse(KeySyntax::Slash, pairs, &domain, namespace);
    for problem in wrong {
        match problem.severity {
            Severity::Error => problems.push(format!("meta: {problem}")),
            Severity::Warning => warnings.push(format!("meta: {problem}")),
        }
    }
    metadata
}

impl Options {
    /// What follows for a group in a network of this mode.
    pub(crate) fn new(
        metadata: Metadata,
        mode: Mode,
        settings: &NomadInjectorSettings,
        problems: &mut Vec<String>,
        warnings: &mut Vec<String>,
    ) -> Self {
        let options = Self::merge(metadata, mode, settings);
        problems.extend(options.contradictions(mode));
        warnings.extend(options.without_effect());
        options
    }

    fn merge(metadata: Metadata, mode: Mode, settings: &NomadInjectorSettings) -> Self {
        let proxy = metadata.proxy();
        let both = |ours: &BTreeSet<u16>, theirs: &BTreeSet<u16>| ours.union(theirs).copied().collect();
        let capture = mode == Mode::Own && proxy.capture.unwrap_or(settings.capture);
        Self {
            capture,
            dns: capture && proxy.dns.unwrap_or(settings.dns),
            hold: proxy.hold.unwrap_or(settings.hold),
            unknown: proxy.unknown.unwrap_or(settings.unknown),
            // The mesh's default is not the group's contradiction: who is not captured can't be strict.
            inbound_plaintext: proxy.inbound_plaintext.unwrap_or(match capture {
                true => settings.inbound_plaintext,
                false => InboundPlaintext::Permissive,
            }),
            drain: proxy.drain.unwrap_or(settings.drain),
            // A thousandth of a processor is taken for a MHz, which is what Nomad plans with.
            cpu_mhz: proxy.cpu.map_or(settings.cpu_mhz, |Cpu(thousandths)| thousandths),
            memory: proxy.memory.unwrap_or_else(|| {
                proxy.memory_limit.map_or(settings.memory, |limit| limit.min(settings.memory))
            }),
            // A reservation above the mesh's limit moves that limit.
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
            namespace: metadata.namespace().clone(),
            network: metadata.network().unwrap_or(&settings.network).clone(),
            metadata,
        }
    }

    /// What can't be together, or can't be on this platform.
    fn contradictions(&self, mode: Mode) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |broken: bool, problem: String| {
            if broken {
                problems.push(problem);
            }
        };
        let proxy = self.metadata.proxy();
        check(
            mode == Mode::Host && proxy.capture == Some(true),
            format!(
                "meta: {} is \"true\", but the group is in the node's own network, where that would capture the node: set \
                 network {{ mode = \"bridge\" }}, or name what it calls in {}",
                key("capture"),
                key("upstreams")
            ),
        );
        check(
            !self.capture && self.inbound_plaintext == InboundPlaintext::Strict,
            format!(
                "meta: {} is \"strict\", but the group's traffic is not captured, so nobody can refuse plaintext",
                key("inbound-plaintext")
            ),
        );
        check(
            proxy.cpu_limit.is_some(),
            format!("meta: {}: Nomad limits no task's processor share; leave it out", key("proxy-cpu-limit")),
        );
        check(
            self.memory_limit.is_some_and(|limit| limit < self.memory),
            format!(
                "meta: {} is less than {}: expected at least as much",
                key("proxy-memory-limit"),
                key("proxy-memory")
            ),
        );
        check(
            self.metadata.tunnel().is_some(),
            format!(
                "meta: {}: with an injected proxy it follows from the group's ports; leave it out",
                key("tunnel")
            ),
        );
        problems.extend(self.port_problems());
        problems
    }

    /// Ports that can't be what the `meta` says.
    fn port_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (upstreams, count) = (key("upstreams"), self.upstreams.len());
        if count > MOST_UPSTREAMS {
            problems
                .push(format!("meta: {upstreams} has {count} services: expected at most {MOST_UPSTREAMS}"));
        }
        for upstream in self.upstreams.iter().filter(|upstream| port::ALL.contains(&upstream.listen.port())) {
            problems.push(format!("meta: {upstreams}: {} is a port of the proxy itself", upstream.listen));
        }
        for (name, ports) in skipped(self.metadata.proxy()) {
            for own in ports.iter().filter(|own| port::ALL.contains(own)) {
                problems.push(format!("meta: {}: {own} is a port of the proxy itself", key(name)));
            }
        }
        problems
    }

    /// Keys that mean nothing where nothing is captured.
    fn without_effect(&self) -> Vec<String> {
        let proxy = self.metadata.proxy();
        let written = [
            ("dns", proxy.dns == Some(true)),
            ("unknown", proxy.unknown.is_some()),
            ("skip-inbound-ports", !proxy.skip_inbound_ports.is_empty()),
            ("skip-outbound-ports", !proxy.skip_outbound_ports.is_empty()),
            ("skip-outbound-cidrs", !proxy.skip_outbound_cidrs.is_empty()),
        ];
        let lost = written.into_iter().filter(|(_, written)| *written && !self.capture);
        lost.map(|(name, _)| format!("meta: {} has no effect, since nothing is captured", key(name)))
            .collect()
    }
}

fn skipped(proxy: &ProxyMetadata) -> [(&'static str, &BTreeSet<u16>); 2] {
    [("skip-inbound-ports", &proxy.skip_inbound_ports), ("skip-outbound-ports", &proxy.skip_outbound_ports)]
}

/// The key as it is written in `meta`.
pub(crate) fn key(name: &str) -> String {
    KeySyntax::Slash.written(name)
}

/// More tables in one variable the proxy does not read.
const MOST_UPSTREAMS: usize = 60;
