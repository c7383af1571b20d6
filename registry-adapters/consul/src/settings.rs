//! What a user sets for one Consul datacenter.
//!
//! One registry is one datacenter: several are several registries. Unknown keys are refused. Files are named here and read
//! by `client.rs`; nothing here does IO.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The settings of one Consul registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsulSettings {
    /// Where the agent's HTTP API is: `http://127.0.0.1:8500` or `https://…`, without a path.
    pub address: String,
    /// The datacenter to read; the agent's own where it is absent.
    pub datacenter: Option<String>,
    /// The namespaces to read (Consul Enterprise); the token's own where it is empty.
    pub namespaces: Vec<String>,
    /// A file with the ACL token. It is read again for each request, so it may change.
    pub token_file: Option<PathBuf>,
    /// Root certificates (PEM) that the agent's certificate must chain to; the system's where it is absent.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) that is shown to the agent.
    pub client_certificate: Option<PathBuf>,
    /// The key (PEM) of `client_certificate`.
    pub client_key: Option<PathBuf>,
    /// Whether any server may answer, not only the leader: less load on it, and answers that may be old.
    pub stale: bool,
    /// From which age on a `stale` answer marks the registry as stale.
    #[serde(with = "weft_registry::duration")]
    pub stale_after: Duration,
    /// How long a blocking query waits for a change; Consul allows at most 10 minutes.
    #[serde(with = "weft_registry::duration")]
    pub wait: Duration,
    /// How much longer than `wait` an answer may take until the agent counts as down.
    #[serde(with = "weft_registry::duration")]
    pub answer_timeout: Duration,
    /// How many services are watched at once. Consul's agent allows 200 connections a client
    /// (`limits.http_max_conns_per_client`); with more services than this they take turns.
    pub max_watches: usize,
}

impl Default for ConsulSettings {
    fn default() -> Self {
        Self {
            address: "http://127.0.0.1:8500".to_owned(),
            datacenter: None,
            namespaces: Vec::new(),
            token_file: None,
            ca_file: None,
            client_certificate: None,
            client_key: None,
            stale: false,
            stale_after: Duration::from_secs(10),
            wait: Duration::from_mins(5),
            answer_timeout: Duration::from_secs(10),
            max_watches: 150,
        }
    }
}

/// Which setting is wrong, and what was expected.
#[derive(Debug, thiserror::Error)]
#[error("consul setting {key}: {reason}")]
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

impl ConsulSettings {
    /// Checks what needs no file.
    pub(crate) fn check(&self) -> Result<(), InvalidSettings> {
        let fail = |key, reason: &str| Err(InvalidSettings::new(key, reason));
        let url = reqwest::Url::parse(&self.address)
            .map_err(|error| InvalidSettings::new("address", format!("{:?}: {error}", self.address)))?;
        // The middleware of consulrs puts `v1` before the whole path, and unwraps on URLs without a host.
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return fail("address", "it is not of the form http://host:port or https://host:port");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return fail(
                "address",
                "it has a path, a query or a fragment; only scheme, host and port are allowed",
            );
        }
        if !url.username().is_empty() || url.password().is_some() {
            return fail("address", "it holds a user or password; use token_file");
        }
        if !(Duration::from_secs(1)..=Duration::from_mins(10)).contains(&self.wait) {
            return fail("wait", "Consul allows 1 second to 10 minutes");
        }
        if self.answer_timeout.is_zero() {
            return fail("answer_timeout", "it must be longer than nothing");
        }
        if !(1..=10_000).contains(&self.max_watches) {
            return fail("max_watches", "1 to 10,000 are allowed");
        }
        if self.client_certificate.is_some() != self.client_key.is_some() {
            return fail(
                "client_certificate",
                "client_certificate and client_key are given together or not at all",
            );
        }
        for (key, names) in [("datacenter", self.datacenter.as_slice()), ("namespaces", &self.namespaces)] {
            if let Some(bad) = names.iter().find(|name| !is_plain(name)) {
                return Err(InvalidSettings::new(
                    key,
                    format!("{bad:?}: letters, digits, '.', '-' and '_' are allowed"),
                ));
            }
        }
        Ok(())
    }
}

/// Whether a name is safe in a URL and in an instance id. `*` would be all namespaces in one list, which says
/// nothing about each.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &ConsulSettings) -> &'static str {
        settings.check().expect_err("the settings were accepted").key
    }

    #[test]
    fn the_defaults_are_valid_and_survive_a_round_trip() {
        let settings = ConsulSettings::default();
        settings.check().unwrap();
        let json = serde_json::to_string(&settings).unwrap();
        assert!(json.contains("\"wait\":\"5m\""), "{json}");
        assert_eq!(serde_json::from_str::<ConsulSettings>(&json).unwrap(), settings);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = serde_json::from_str::<ConsulSettings>(r#"{"adress": "http://x"}"#).unwrap_err();
        assert!(error.to_string().contains("adress"), "{error}");
    }

    #[test]
    fn each_bad_value_is_named() {
        let with = |change: &dyn Fn(&mut ConsulSettings)| {
            let mut settings = ConsulSettings::default();
            change(&mut settings);
            settings
        };
        for address in
            ["", "localhost:8500", "ftp://x", "http://x/consul", "http://x?a", "http://u:p@x", "unix:///a"]
        {
            assert_eq!(refused(&with(&|s| s.address = address.to_owned())), "address", "{address}");
        }
        assert_eq!(refused(&with(&|s| s.wait = Duration::from_secs(601))), "wait");
        assert_eq!(refused(&with(&|s| s.max_watches = 0)), "max_watches");
        assert_eq!(refused(&with(&|s| s.client_key = Some("k".into()))), "client_certificate");
        assert_eq!(refused(&with(&|s| s.namespaces = vec!["*".to_owned()])), "namespaces");
        assert_eq!(refused(&with(&|s| s.datacenter = Some("a&b".to_owned()))), "datacenter");
    }
}
