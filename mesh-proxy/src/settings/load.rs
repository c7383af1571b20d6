//! Reads [`Settings`] from their sources, and checks what no type can: that parts fit each other.
//!
//! All problems that can be found at once are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use weft_process::settings::InvalidSettings;

use super::Settings;
use crate::logging::LogLevel;

/// Below this a proxy would shed load without having any.
const LEAST_MEMORY: u64 = 32 << 20;

/// Reads the settings: defaults, `file`, the environment, `flags` (`KEY=VALUE` each).
pub(crate) fn load(file: Option<&Path>, flags: &[String]) -> Result<Settings, InvalidSettings> {
    let settings: Settings = weft_process::settings::load(file, "WEFT_PROXY_", flags)?;
    let problems = settings.problems();
    if problems.is_empty() { Ok(settings) } else { Err(InvalidSettings::Values(problems)) }
}

impl Settings {
    /// What does not fit together, a sentence each.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.listener_problems();
        problems.extend(self.health.problems());
        problems.extend(self.dns_problems());
        problems.extend(self.identity_problems());
        let mut check = |broken: bool, problem: &str| {
            if broken {
                problems.push(problem.to_owned());
            }
        };
        if let Err(error) = LogLevel::new(&self.log) {
            check(true, &format!("log: {:?} is not a log filter: {error}", self.log));
        }
        check(!(1..=256).contains(&self.workers), "workers: expected 1 to 256");
        check(self.outlier.max_ejected_percent > 100, "outlier.max_ejected_percent: expected 0 to 100");
        check(self.timeouts.connect.is_zero(), "timeouts.connect: expected more than 0");
        check(self.timeouts.handshake.is_zero(), "timeouts.handshake: expected more than 0");
        check(self.limits.connections == 0, "limits.connections: expected at least 1");
        check(self.limits.handshakes == 0, "limits.handshakes: expected at least 1");
        check(self.limits.requests == 0, "limits.requests: expected at least 1");
        check(
            self.limits.memory.is_some_and(|memory| memory < LEAST_MEMORY),
            "limits.memory: expected at least 32MiB, as a proxy without work holds a part of it",
        );
        check(self.limits.streams == 0, "limits.streams: expected at least 1");
        check(self.limits.endpoint_connections == 0, "limits.endpoint_connections: expected at least 1");
        check(self.limits.head_bytes < 8192, "limits.head_bytes: expected at least 8192");
        check(self.limits.dns_queries == 0, "limits.dns_queries: expected at least 1");
        check(self.limits.dns_connections == 0, "limits.dns_connections: expected at least 1");
        check(self.metrics.max_series == 0, "metrics.max_series: expected at least 1");
        check(self.drain.grace > self.drain.deadline, "drain.grace is longer than drain.deadline");
        check(
            self.locality.prefer && self.locality.own.is_unknown() && self.locality.addresses.is_empty(),
            "locality.prefer needs locality.self, as in \"eu-1/a\", or locality.addresses",
        );
        problems
    }

    /// What is wrong with how this proxy proves itself, and to whom.
    fn identity_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.identity.join_token.is_some() && self.identity.join_token_file.is_some() {
            problems.push(
                "identity.join_token and identity.join_token_file are both set; expected at most one"
                    .to_owned(),
            );
        }
        if self.identity.ways() > 1 {
            problems.push(
                "identity has several of a join token, [identity.consul], [identity.kubernetes] and [identity.nomad]; \
                 expected one way to prove the identity"
                    .to_owned(),
            );
        }
        if let Some(nomad) = self.identity.nomad.as_ref().filter(|nomad| !nomad.has_node_id()) {
            let node = &nomad.node;
            problems.push(format!(
                "identity.nomad.node: {node:?} is not the id of a node (${{node.unique.id}} in the job file)"
            ));
        }
        for pin in &self.control.root_sha256 {
            if hex::decode(pin).map(|bytes| bytes.len()) != Ok(32) {
                problems.push(format!("control.root_sha256: {pin:?} is not a SHA-256 (64 hex digits)"));
            }
        }
        for address in self.control.endpoints() {
            let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
            if port.is_none_or(|port| port.parse::<u16>().is_err()) {
                problems.push(format!("control.addresses: {address:?} is not host:port"));
            }
        }
        problems
    }

    fn dns_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.dns.listen.is_empty() {
            return problems;
        }
        for (n, address) in
            self.dns.listen.iter().enumerate().filter(|(_, listen)| listen.ip().is_unspecified())
        {
            problems.push(format!(
                "dns.listen[{n}]: {address} is every address; expected one, since an answer has to come from the address that was asked"
            ));
        }
        if self.capture.outbound.is_empty() {
            problems.push("dns.listen is set and capture.outbound is empty: calls to the answered addresses would come nowhere".to_owned());
        }
        let most = self.dns.range.size();
        if self.limits.dns_addresses > most as usize {
            problems.push(format!(
                "limits.dns_addresses: dns.range has {most} addresses; expected at most as many"
            ));
        }
        if self.dns.timeout.is_zero() {
            problems.push("dns.timeout: expected more than 0".to_owned());
        }
        problems
    }

    /// Whether anything of this workload is reached from outside: then the tunnel listens.
    pub(crate) fn has_inbound(&self) -> bool {
        !self.inbound.is_empty() || !self.capture.inbound.is_empty()
    }

    fn listener_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
        let mut take = |address: SocketAddr, key: String| match taken.get(&address) {
            _ if address.port() == 0 => {}
            Some(other) => problems.push(format!("{key}: {address} is already used by {other}")),
            None => _ = taken.insert(address, key),
        };
        take(self.admin.listen, "admin.listen".to_owned());
        if let Some(listen) = self.health.listen {
            take(listen, "health.listen".to_owned());
        }
        if self.has_inbound() {
            take(self.tunnel.listen, "tunnel.listen".to_owned());
        }
        for (n, address) in self.capture.outbound.iter().enumerate() {
            take(*address, format!("capture.outbound[{n}]"));
        }
        for (n, address) in self.capture.inbound.iter().enumerate() {
            take(*address, format!("capture.inbound[{n}]"));
        }
        for (n, address) in self.dns.listen.iter().enumerate() {
            take(*address, format!("dns.listen[{n}]"));
        }
        // A captured listener that is called itself is the HTTP port.
        if let Some(http) = &self.http
            && !self.capture.outbound.contains(&http.listen)
        {
            take(http.listen, "http.listen".to_owned());
        }
        for (n, upstream) in self.upstream.iter().enumerate() {
            take(upstream.listen, format!("upstream[{n}].listen"));
        }
        let mut ports = BTreeSet::new();
        for (n, inbound) in self.inbound.iter().enumerate() {
            if let Some(address) = inbound.permissive {
                take(address, format!("inbound[{n}].permissive"));
            }
        }
        for (n, inbound) in self.inbound.iter().enumerate() {
            if inbound.port == 0 {
                problems.push(format!("inbound[{n}].port: expected 1 to 65535"));
            } else if !ports.insert(inbound.port) {
                problems.push(format!("inbound[{n}].port: {} is there twice", inbound.port));
            }
        }
        problems
    }
}

#[cfg(test)]
impl Settings {
    /// Settings of a TOML text alone.
    pub(crate) fn from_toml(text: &str) -> Self {
        use figment::providers::{Format, Toml};
        figment::Figment::from(Toml::string(text)).extract().unwrap()
    }
}
