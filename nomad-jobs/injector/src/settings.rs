//! What the mesh says about the sidecars of jobs. A job's `meta` says it for one group, and wins.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use weft_injector::port;
use weft_model::{Cidr, InboundPlaintext, Memory, Network, RegistryId, UnknownDestination};

/// The settings of injection into jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NomadInjectorSettings {
    /// What runs the sidecar's tasks.
    pub driver: Driver,
    /// Where `weft-proxy` and `weft-redirect` are on the nodes; in the image they are in `/usr/bin`.
    pub directory: String,
    /// The image with both, for `docker` and `podman`.
    pub image: String,
    /// The user of the nodes as whom the proxy runs where traffic is captured; its own traffic is not. No application may run
    /// as that user. In images it is `1337`.
    pub user: String,
    /// The control planes, `host:port`, as the nodes reach them.
    pub control: Vec<String>,
    /// SHA-256 of the mesh's roots, as hex: what a proxy's first connection must show.
    pub root_sha256: Vec<String>,
    /// The control plane's name of this Nomad.
    pub registry: RegistryId,
    /// The network in which the nodes' addresses are valid.
    pub network: Network,
    /// The audience of the proxies' tokens.
    pub audience: String,
    /// Whether all traffic goes through the proxy, of groups that have a network of their own.
    pub capture: bool,
    /// Whether DNS queries go to the proxy, where traffic does: it answers names of the mesh.
    pub dns: bool,
    /// What happens to captured calls to addresses that the mesh does not know.
    pub unknown: UnknownDestination,
    /// Whether callers outside the mesh are let in, where traffic is captured.
    pub inbound_plaintext: InboundPlaintext,
    /// Whether applications wait for their proxies.
    pub hold: bool,
    /// How long what is in progress may take when an allocation stops. Nodes cut longer times than their `max_kill_timeout` (30 s).
    #[serde(deserialize_with = "read_duration", serialize_with = "write_duration")]
    pub drain: Duration,
    /// How long an application goes on when its allocation stops, before it is told to: until then all callers know. Groups
    /// with a `shutdown_delay` of their own keep that.
    #[serde(deserialize_with = "read_duration", serialize_with = "write_duration")]
    pub stop_delay: Duration,
    /// The MHz that are reserved for a proxy.
    pub cpu_mhz: u32,
    /// The memory that is reserved for a proxy.
    pub memory: Memory,
    /// The memory that a proxy may not exceed, where the cluster allows more than is reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<Memory>,
    /// The proxies' log filter.
    pub log_level: String,
    /// Ports of all groups at which nothing is captured.
    pub skip_inbound_ports: BTreeSet<u16>,
    /// Ports to which no group's calls are captured.
    pub skip_outbound_ports: BTreeSet<u16>,
    /// Addresses to which no group's calls are captured.
    pub skip_outbound_cidrs: BTreeSet<Cidr>,
}

/// What runs a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// What runs the group's application, where that can run a proxy.
    Auto,
    /// A process of the node.
    RawExec,
    /// A process of the node, isolated.
    Exec,
    /// A container.
    Docker,
    /// A container.
    Podman,
}

impl Driver {
    /// As a job names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::RawExec => "raw_exec",
            Self::Exec => "exec",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Whether it runs images.
    pub(crate) fn is_container(self) -> bool {
        matches!(self, Self::Docker | Self::Podman)
    }
}

impl Default for NomadInjectorSettings {
    fn default() -> Self {
        Self {
            driver: Driver::Auto,
            directory: "/usr/local/bin".to_owned(),
            image: concat!("weft.dev/proxy:", env!("CARGO_PKG_VERSION")).to_owned(),
            user: "weft".to_owned(),
            control: vec!["weft-control.service.consul:15010".to_owned()],
            root_sha256: Vec::new(),
            registry: "nomad/default".parse().expect("it is a registry's name"),
            network: Network::default_network(),
            audience: "weft".to_owned(),
            capture: true,
            dns: true,
            unknown: UnknownDestination::Pass,
            inbound_plaintext: InboundPlaintext::Permissive,
            hold: true,
            drain: Duration::from_secs(25),
            stop_delay: Duration::from_secs(2),
            cpu_mhz: 100,
            memory: Memory(64 << 20),
            // Most clusters don't allow it, and Nomad would warn of each.
            memory_limit: None,
            log_level: "info".to_owned(),
            skip_inbound_ports: BTreeSet::new(),
            skip_outbound_ports: BTreeSet::new(),
            skip_outbound_cidrs: BTreeSet::new(),
        }
    }
}

impl NomadInjectorSettings {
    /// What does not fit, a sentence each; the keys are those of the settings.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |broken: bool, problem: &str| {
            if broken {
                problems.push(problem.to_owned());
            }
        };
        let blank = |text: &str| text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control());
        check(!self.directory.starts_with('/'), "directory: expected a path from /, as on the nodes");
        check(blank(&self.image), "image: expected the name of an image");
        check(blank(&self.user), "user: expected the name of a user of the nodes");
        check(
            self.user == "root",
            "user: root's traffic would not be captured; expected a user of the proxy's own",
        );
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
        check(self.cpu_mhz == 0, "cpu_mhz: expected more than 0");
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
        for skipped in self.skip_inbound_ports.iter().chain(&self.skip_outbound_ports) {
            let ours = *skipped == 0 || port::ALL.contains(skipped);
            check(ours, &format!("skipped ports: {skipped} can't be skipped"));
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
        let settings = NomadInjectorSettings::default();
        assert_eq!(settings.problems(), Vec::<String>::new());
        let written = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<NomadInjectorSettings>(&written).unwrap(), settings);
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_key() {
        let wrong = NomadInjectorSettings {
            directory: "bin".to_owned(),
            image: "a b".to_owned(),
            user: "root".to_owned(),
            control: vec!["host".to_owned()],
            root_sha256: vec!["12".to_owned()],
            cpu_mhz: 0,
            memory_limit: Some(Memory(1)),
            capture: false,
            inbound_plaintext: InboundPlaintext::Strict,
            drain: Duration::ZERO,
            skip_inbound_ports: [15021].into(),
            ..NomadInjectorSettings::default()
        };
        let problems = wrong.problems().join("\n");
        for key in [
            "directory",
            "image",
            "user",
            "control",
            "root_sha256",
            "cpu_mhz",
            "memory_limit",
            "inbound_plaintext",
            "drain",
            "skipped ports",
        ] {
            assert!(problems.contains(key), "{key}: {problems}");
        }
    }

    #[test]
    fn a_key_that_does_not_exist_is_refused() {
        assert!(serde_json::from_str::<NomadInjectorSettings>(r#"{"drivr": "exec"}"#).is_err());
    }
}
