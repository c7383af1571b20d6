//! Puts the sources together, reads them into [`Settings`], and checks what no type can: that parts fit each other.
//!
//! All problems that can be found at once are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Env, Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::Settings;
use crate::logging::LogLevel;

/// Why the settings can't be used. Each line says where, which key, and what was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidSettings {
    /// The file of `--config` is not there or not readable.
    #[error("reading the settings file {}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    /// A source has a syntax error, an unknown key or a value of the wrong form.
    #[error("{}", .0.iter().map(|line| format!("settings: {line}")).collect::<Vec<_>>().join("\n"))]
    Values(Vec<String>),
}

/// Reads the settings: defaults, `file`, the environment, `flags` (`KEY=VALUE` each).
pub(crate) fn load(file: Option<&Path>, flags: &[String]) -> Result<Settings, InvalidSettings> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        let read = |cause| InvalidSettings::File { path: path.to_owned(), cause };
        std::fs::File::open(path).map_err(read)?;
        figment = figment.merge(Toml::file_exact(path));
    }
    figment = figment.merge(Env::prefixed("WEFT_PROXY_").split("__"));
    for flag in flags {
        figment = figment.merge(Flag::parse(flag)?);
    }
    let settings: Settings = figment
        .extract()
        .map_err(|errors| InvalidSettings::Values(errors.into_iter().map(describe).collect()))?;
    let problems = settings.problems();
    if problems.is_empty() { Ok(settings) } else { Err(InvalidSettings::Values(problems)) }
}

/// Key, what is wrong and what was expected, and where it was read.
fn describe(error: figment::Error) -> String {
    // Figment puts marks around the whole list of names, and marks around each.
    let one_of = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let what = match &error.kind {
        Kind::UnknownField(found, known) => {
            format!("unknown field `{found}`, expected one of {}", one_of(known))
        }
        Kind::UnknownVariant(found, known) => {
            format!("unknown value `{found}`, expected one of {}", one_of(known))
        }
        other => other.to_string(),
    };
    let key = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path.join(".")) };
    let from = error.metadata.as_ref().map_or(String::new(), |metadata| match &metadata.source {
        Some(source) => format!(" (in {source})"),
        None => format!(" (from {})", metadata.name),
    });
    format!("{key}{what}{from}")
}

/// One `--set KEY=VALUE`.
struct Flag {
    text: String,
    values: Dict,
}

impl Flag {
    fn parse(text: &str) -> Result<Self, InvalidSettings> {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            let problem = format!("flag --set {text}: expected KEY=VALUE, as in admin.listen=127.0.0.1:0");
            return Err(InvalidSettings::Values(vec![problem]));
        };
        // Figment's own reading of a bare value: numbers, booleans, [lists], {tables}; everything else is text.
        let value: Value = value.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        let values = figment::util::nest(key, value).into_dict().unwrap_or_default();
        Ok(Self { text: text.to_owned(), values })
    }
}

impl Provider for Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("flag --set {}", self.text))
            .interpolater(|_: &Profile, keys: &[&str]| keys.join("."))
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

impl Settings {
    /// What does not fit together, a sentence each.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.listener_problems();
        let mut check = |broken: bool, problem: &str| {
            if broken {
                problems.push(problem.to_owned());
            }
        };
        if let Err(error) = LogLevel::new(&self.log) {
            check(true, &format!("log: {:?} is not a log filter: {error}", self.log));
        }
        check(!(1..=256).contains(&self.workers), "workers: expected 1 to 256");
        check(
            self.identity.join_token.is_some() && self.identity.join_token_file.is_some(),
            "identity.join_token and identity.join_token_file are both set; expected at most one",
        );
        check(
            self.identity.join_token().is_some() && self.identity.consul.is_some(),
            "identity has a join token and [identity.consul]; expected one way to prove the identity",
        );
        check(self.outlier.max_ejected_percent > 100, "outlier.max_ejected_percent: expected 0 to 100");
        check(self.timeouts.connect.is_zero(), "timeouts.connect: expected more than 0");
        check(self.timeouts.handshake.is_zero(), "timeouts.handshake: expected more than 0");
        check(self.limits.connections == 0, "limits.connections: expected at least 1");
        check(self.limits.streams == 0, "limits.streams: expected at least 1");
        check(self.limits.endpoint_connections == 0, "limits.endpoint_connections: expected at least 1");
        check(self.limits.head_bytes < 8192, "limits.head_bytes: expected at least 8192");
        check(self.metrics.max_series == 0, "metrics.max_series: expected at least 1");
        check(self.drain.grace > self.drain.deadline, "drain.grace is longer than drain.deadline");
        check(
            self.locality.prefer && self.locality.own.is_unknown(),
            "locality.prefer needs locality.self, as in \"eu-1/a\"",
        );
        for pin in &self.control.root_sha256 {
            check(
                hex::decode(pin).map(|bytes| bytes.len()) != Ok(32),
                &format!("control.root_sha256: {pin:?} is not a SHA-256 (64 hex digits)"),
            );
        }
        for address in self.control.endpoints() {
            let port = address.rsplit_once(':').and_then(|(host, port)| (!host.is_empty()).then_some(port));
            check(
                port.is_none_or(|port| port.parse::<u16>().is_err()),
                &format!("control.addresses: {address:?} is not host:port"),
            );
        }
        problems
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
        if !self.inbound.is_empty() {
            take(self.tunnel.listen, "tunnel.listen".to_owned());
        }
        if let Some(http) = &self.http {
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
        Figment::from(Toml::string(text)).extract().unwrap()
    }
}
