//! Consul's JSON, as far as it is read: the answers of the endpoints in `endpoints.rs`.
//!
//! Fields that are absent or `null` in some version have defaults; what a workload cannot do without does not.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};

/// One element of `/v1/health/service/NAME`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthEntry {
    pub(crate) node: Node,
    pub(crate) service: Service,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) checks: Vec<Check>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Node {
    pub(crate) node: String,
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) datacenter: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) tagged_addresses: HashMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Service {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) service: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) address: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) tagged_addresses: HashMap<String, TaggedAddress>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) meta: HashMap<String, String>,
    // 1.20 leaves a port of 0 out.
    #[serde(default)]
    pub(crate) port: i64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) weights: Weights,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TaggedAddress {
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) port: i64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Weights {
    pub(crate) passing: i64,
    pub(crate) warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Check {
    #[serde(rename = "CheckID")]
    pub(crate) id: String,
    pub(crate) status: String,
}

/// `/v1/connect/ca/roots`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CaRoots {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) trust_domain: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) roots: Vec<CaRoot>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CaRoot {
    pub(crate) root_cert: String,
}

/// `/v1/agent/self`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentSelf {
    pub(crate) config: AgentConfig,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentConfig {
    pub(crate) version: String,
}

/// Consul writes empty collections as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
