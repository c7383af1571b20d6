//! What the mesh says about the proxies that are injected. Annotations say it for one pod, and win.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use weft_model::{Cidr, Cpu, InboundPlaintext, Memory, Network, RegistryId, UnknownDestination};

use crate::port;

/// The settings of injection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InjectorSettings {
    /// The image with `weft-proxy` and `weft-redirect`.
    pub image: String,
    /// When the kubelet pulls it. Absent: as Kubernetes decides by the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// The control planes, `host:port`, as the pods reach them.
    pub control: Vec<String>,
    /// SHA-256 of the mesh's roots, as hex: what a proxy's first connection must show.
    pub root_sha256: Vec<String>,
    /// The control plane's name of this cluster.
    pub registry: RegistryId,
    /// The network in which the pods' addresses are valid.
    pub network: Network,
    /// The audience of the proxies' tokens.
    pub audience: String,
    /// Whether the CNI plugin sets up the capture, so that pods need no privilege.
    pub cni: bool,
    /// Whether the cluster has native sidecars (Kubernetes 1.29 and later).
    pub native_sidecars: bool,
    /// Whether all traffic goes through the proxy.
    pub capture: bool,
    /// Whether DNS queries go to the proxy, where traffic does: it answers names of the mesh.
    pub dns: bool,
    /// What happens to captured calls to addresses that the mesh does not know.
    pub unknown: UnknownDestination,
    /// Whether callers outside the mesh are let in.
    pub inbound_plaintext: InboundPlaintext,
    /// Whether applications wait for their proxies.
    pub hold: bool,
    /// How long what is in progress may take when a pod stops.
    #[serde(deserialize_with = "read_duration", serialize_with = "write_duration")]
    pub drain: Duration,
    /// How long an application goes on when its pod stops, before it is told to: until then all callers know. Zero: it
    /// is told at once. Containers with a `preStop` of their own keep that.
    #[serde(deserialize_with = "read_duration", serialize_with = "write_duration")]
    pub stop_delay: Duration,
    /// The processor share that is reserved for a proxy.
    pub cpu: Cpu,
    /// The memory that is reserved for a proxy.
    pub memory: Memory,
    /// The processor share that a proxy may not exceed; absent: the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit: Option<Cpu>,
    /// The memory that a proxy may not exceed; absent: the node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Memory>,
    /// The proxies' log filter.
    pub log_level: String,
    /// Ports of all pods at which nothing is captured.
    pub skip_inbound_ports: BTreeSet<u16>,
    /// Ports to which no pod's calls are captured.
    pub skip_outbound_ports: BTreeSet<u16>,
    /// Addresses to which no pod's calls are captured.
    pub skip_outbound_cidrs: BTreeSet<Cidr>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// Where the node has none.
    IfNotPresent,
    /// Never: it must be on the node.
    Never,
}

impl Default for InjectorSettings {
    fn default() -> Self {
        Self {
            image: concat!("weft.dev/proxy:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: None,
            control: vec!["weft-control.weft-system.svc:15010".to_owned()],
            root_sha256: Vec::new(),
            registry: "kubernetes/default".parse().expect("it is a registry's name"),
            network: Network::default_network(),
            audience: "weft".to_owned(),
            cni: false,
            native_sidecars: true,
            capture: true,
            dns: true,
            unknown: UnknownDestination::Pass,
            inbound_plaintext: InboundPlaintext::Permissive,
            hold: true,
            drain: Duration::from_secs(30),
            stop_delay: Duration::from_secs(2),
            cpu: Cpu(50),
            memory: Memory(64 << 20),
            cpu_limit: None,
            memory_limit: Some(Memory(256 << 20)),
            log_level: "info".to_owned(),
            skip_inbound_ports: BTreeSet::new(),
            skip_outbound_ports: BTreeSet::new(),
            skip_outbound_cidrs: BTreeSet::new(),
        }
    }
}

impl InjectorSettings {
    /// What does not fit, a sentence each; the keys are those of the settings.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |broken: bool, problem: &str| {
            if broken {
                problems.push(problem.to_owned());
            }
        };
        let blank = |text: &str| text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control());
        check(blank(&self.image), "image: expected the name of an image");
        check(blank(&self.audience), "audience: expected the audience that the control plane asks for");
        check(self.control.is_empty(), "control: expected at least one host:port");
        for address in &self.control {
            let port = address.rsplit_once(':').and_then(|(host, port)| (!blank(host)).then_some(port));
            let number = port.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0);
            check(number.is_none(), &format!("control: {address:?} is not host:port"));
        }
        for pin in &self.root_sha256 {
            let hex = pin.len() == 64 && pin.bytes().all(|b| b.is_ascii_hexdigit());
            check(!hex, &format!("root_sha256: {pin:?} is not a SHA-256 (64 hex digits)"));
        }
        check(
            self.cpu_limit.is_some_and(|limit| limit < self.cpu),
            "cpu_limit is less than cpu; expected at least as much",
        );
        check(
            self.memory_limit.is_some_and(|limit| limit < self.memory),
            "memory_limit is less than memory; expected at least as much",
        );
        check(
            self.inbound_plaintext == InboundPlaintext::Strict && !self.capture,
            "inbound_plaintext is strict and capture is false: without capture nobody can refuse plaintext",
        );
        check(
            self.drain.is_zero() || self.drain > LONGEST || self.stop_delay > LONGEST,
            "drain and stop_delay: expected at most 1h, and drain more than 0",
        );
        for port in self.skip_inbound_ports.iter().chain(&self.skip_outbound_ports) {
            check(*port == 0 || port::ALL.contains(port), &format!("skipped ports: {port} can't be skipped"));
        }
        problems
    }
}

const LONGEST: Duration = Duration::from_secs(3600);

fn read_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        de::Error::custom(format_args!("{text:?} is not a duration such as 500ms or 10s: {error}"))
    })
}

fn write_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together_and_survive_being_written() {
        let settings = InjectorSettings::default();
        assert_eq!(settings.problems(), Vec::<String>::new());
        let written = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<InjectorSettings>(&written).unwrap(), settings);
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_key() {
        let wrong = InjectorSettings {
            image: "a b".to_owned(),
            control: vec!["host".to_owned()],
            root_sha256: vec!["12".to_owned()],
            cpu_limit: Some(Cpu(1)),
            capture: false,
            inbound_plaintext: InboundPlaintext::Strict,
            drain: Duration::ZERO,
            skip_inbound_ports: [15021].into(),
            ..InjectorSettings::default()
        };
        let problems = wrong.problems().join("\n");
        for key in
            ["image", "control", "root_sha256", "cpu_limit", "inbound_plaintext", "drain", "skipped ports"]
        {
            assert!(problems.contains(key), "{key}: {problems}");
        }
    }

    #[test]
    fn a_key_that_does_not_exist_is_refused() {
        assert!(serde_json::from_str::<InjectorSettings>(r#"{"imagee": "x"}"#).is_err());
        assert!(serde_json::from_str::<InjectorSettings>(r#"{"drain": 30}"#).is_err());
    }
}
