//! What a user sets for one Nomad region.
//!
//! One registry is one region: several are several registries. Unknown keys are refused. Files are named here and read by
//! `client.rs`; nothing here does IO.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::IdentityRules;

/// The settings of one Nomad registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NomadSettings {
    /// Where a server's or client agent's HTTP API is: `http://127.0.0.1:4646` or `https://…`, without a path.
    pub address: String,
    /// The region to read; the agent's own where it is absent.
    pub region: Option<String>,
    /// The namespaces to read; all that the token may read where it is empty.
    pub namespaces: Vec<String>,
    /// A file with the ACL token. It is read again for each request, so it may change.
    pub token_file: Option<PathBuf>,
    /// Root certificates (PEM) that the agent's certificate must chain to; the system's where it is absent.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) that is shown to the agent.
    pub client_certificate: Option<PathBuf>,
    /// The key (PEM) of `client_certificate`.
    pub client_key: Option<PathBuf>,
    /// Which identities jobs may have beside their own names.
    pub identities: IdentityRules,
    /// The key of nodes' `meta` that names their zone; the node's datacenter is the region.
    pub zone_meta: String,
    /// How often the checks of an allocation are read from its node; Nomad's servers don't know them.
    #[serde(with = "weft_registry::duration")]
    pub checks_every: Duration,
    /// How long a blocking query waits for a change; Nomad allows at most 10 minutes.
    #[serde(with = "weft_registry::duration")]
    pub wait: Duration,
    /// How much longer than `wait` an answer may take until the agent counts as down.
    #[serde(with = "weft_registry::duration")]
    pub answer_timeout: Duration,
    /// How many requests are under way at once. Nomad's agent allows 100 connections a client
    /// (`limits.http_max_conns_per_client`).
    pub max_requests: usize,
}

impl Default for NomadSettings {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:4646".to_owned(),
            region: None,
            namespaces: Vec::new(),
            token_file: None,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            identities: IdentityRules::default(),
            zone_meta: "zone".to_owned(),
            checks_every: Duration::from_secs(5),
            wait: Duration::from_mins(5),
            answer_timeout: Duration::from_secs(10),
            max_requests: 64,
        }
    }
}

/// Which setting is wrong, and what was expected.
#[derive(Debug, thiserror::Error)]
#[error("nomad setting {key}: {reason}")]
pub struct InvalidSettings {
    /// The setting.
    pub key: &'static str,
    /// What is wrong and what was expected.
    pub reason: String,
}

impl InvalidSettings {
    pub(crate) fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }
}

impl NomadSettings {
    /// Checks what needs no file.
    pub(crate) fn check(&self) -> Result<(), InvalidSettings> {
        let fail = |key, reason: &str| Err(InvalidSettings::new(key, reason));
        self.check_address()?;
        if !(Duration::from_secs(1)..=Duration::from_mins(10)).contains(&self.wait) {
            return fail("wait", "Nomad allows 1 second to 10 minutes");
        }
        if self.answer_timeout.is_zero() {
            return fail("answer_timeout", "it must be longer than nothing");
        }
        if self.checks_every < Duration::from_secs(1) {
            return fail("checks_every", "at least 1 second is expected");
        }
        if !(3..=10_000).contains(&self.max_requests) {
            return fail("max_requests", "3 to 10,000 are allowed");
        }
        if self.client_certificate.is_some() != self.client_key.is_some() {
            return fail(
                "client_certificate",
                "client_certificate and client_key are given together or not at all",
            );
        }
        for (key, names) in [("region", self.region.as_slice()), ("namespaces", &self.namespaces)] {
            if let Some(bad) = names.iter().find(|name| !is_plain(name)) {
                let reason = format!("{bad:?}: letters, digits, '.', '-' and '_' are allowed");
                return Err(InvalidSettings::new(key, reason));
            }
        }
        Ok(())
    }

    /// Whether this namespace is read.
    pub(crate) fn reads(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|one| one == namespace)
    }

    fn check_address(&self) -> Result<(), InvalidSettings> {
        let fail = |reason: &str| Err(InvalidSettings::new("address", reason));
        let url = reqwest::Url::parse(&self.address)
            .map_err(|error| InvalidSettings::new("address", format!("{:?}: {error}", self.address)))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return fail("it is not of the form http://host:port or https://host:port");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return fail("it has a path, a query or a fragment; only scheme, host and port are allowed");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return fail("it holds a user or password; use token_file");
        }
        Ok(())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut NomadSettings)) -> &'static str {
        let mut settings = NomadSettings::default();
        change(&mut settings);
        settings.check().expect_err("the settings were accepted").key
    }

    #[test]
    fn the_defaults_are_valid_and_survive_a_round_trip() {
        let settings = NomadSettings::default();
        settings.check().unwrap();
        let json = serde_json::to_string(&settings).unwrap();
        assert!(json.contains("\"wait\":\"5m\""), "{json}");
        assert_eq!(serde_json::from_str::<NomadSettings>(&json).unwrap(), settings);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<NomadSettings>(r#"{"adress": "http://x"}"#).unwrap_err();
        assert!(error.to_string().contains("adress"), "{error}");
    }

    #[test]
    fn each_bad_value_is_named() {
        for address in
            ["", "localhost:4646", "ftp://x", "http://x/nomad", "http://x?a", "http://u:p@x", "unix:///a"]
        {
            assert_eq!(refused(|s| s.address = address.to_owned()), "address", "{address}");
        }
        assert_eq!(refused(|s| s.wait = Duration::from_secs(601)), "wait");
        assert_eq!(refused(|s| s.answer_timeout = Duration::ZERO), "answer_timeout");
        assert_eq!(refused(|s| s.checks_every = Duration::from_millis(10)), "checks_every");
        assert_eq!(refused(|s| s.max_requests = 1), "max_requests");
        assert_eq!(refused(|s| s.client_key = Some("k".into())), "client_certificate");
        assert_eq!(refused(|s| s.namespaces = vec!["a*".to_owned()]), "namespaces");
        assert_eq!(refused(|s| s.region = Some("a&b".to_owned())), "region");
    }
}
