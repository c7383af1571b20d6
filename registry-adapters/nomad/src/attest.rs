//! What attestation asks Nomad: the keys that sign workload identities, an allocation, the node that it runs on, and the job
//! that it names as its parent. No rule is decided here; the certificate authority does that.
//!
//! A job's tasks hold secrets in their environment and templates: only what is used is read, and no error quotes a job.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::client::{Answer, Block, NomadClient};
use crate::error::NomadError;
use crate::settings::{InvalidSettings, NomadSettings};

/// One region's API, as the witness of its allocations. Needs `read-job` in their namespaces, and `node:read`.
#[derive(Debug, Clone)]
pub struct NomadWitness(NomadClient);

/// A key that signs workload identities, as the region publishes it (RFC 7517). What it does not say is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct SigningKey {
    /// Its name.
    pub kid: String,
    /// `RSA` or `OKP`.
    pub kty: String,
    /// The one algorithm that it is for.
    pub alg: String,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// The curve of an `OKP` key.
    pub crv: String,
    /// The modulus of an `RSA` key, base64url.
    pub n: String,
    /// The exponent of an `RSA` key, base64url.
    pub e: String,
    /// The public key of an `OKP` key, base64url.
    pub x: String,
}

/// An allocation as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Allocation {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its job's namespace.
    pub namespace: String,
    /// Its job's id.
    #[serde(rename = "JobID")]
    pub job_id: String,
    /// Which of its job's groups it is.
    pub task_group: String,
    /// Where it is.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// What the servers want of it: `run`, `stop`, `evict`.
    pub desired_status: String,
    /// What its node says of it: `pending`, `running`, `complete`, `failed`, `lost`, `unknown`.
    pub client_status: String,
    /// By task.
    #[serde(deserialize_with = "or_empty")]
    pub task_states: BTreeMap<String, TaskState>,
    /// The version of its job that it runs.
    pub job: Job,
    /// How new this is.
    #[serde(skip)]
    pub index: u64,
}

/// What a node says of a task.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskState {
    /// `pending`, `running` or `dead`.
    pub state: String,
}

/// A job: what attestation reads of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Job {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The job that Nomad made it of, where it did; else empty.
    #[serde(rename = "ParentID", default)]
    pub parent_id: String,
    /// Nomad made it by a dispatch. Nobody can register a job that says so.
    #[serde(default)]
    pub dispatched: bool,
    /// Its region.
    pub region: String,
    /// Its namespace.
    pub namespace: String,
    /// Its own meta.
    #[serde(default, deserialize_with = "or_empty")]
    pub meta: BTreeMap<String, String>,
    /// Its groups.
    #[serde(default, deserialize_with = "or_empty")]
    pub task_groups: Vec<TaskGroup>,
    /// It launches others by the clock.
    #[serde(default, deserialize_with = "is_there")]
    pub periodic: bool,
    /// It is a template for others, which are dispatched.
    #[serde(rename = "ParameterizedJob", default, deserialize_with = "is_there")]
    pub parameterized: bool,
}

/// A group of a job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TaskGroup {
    /// Its name.
    pub name: String,
    /// Its own meta.
    #[serde(default, deserialize_with = "or_empty")]
    pub meta: BTreeMap<String, String>,
    /// Its tasks.
    #[serde(default, deserialize_with = "or_empty")]
    pub tasks: Vec<Task>,
}

/// A task of a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// Its name.
    pub name: String,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// `initializing`, `ready`, `disconnected` or `down`.
    pub status: String,
}

#[derive(Deserialize)]
struct KeySet {
    #[serde(deserialize_with = "or_empty")]
    keys: Vec<SigningKey>,
}

impl NomadWitness {
    /// Of the region of these settings.
    ///
    /// # Errors
    /// When a setting is wrong or a file that it names can't be used.
    pub fn new(settings: &NomadSettings) -> Result<Self, InvalidSettings> {
        Ok(Self(NomadClient::new(settings)?))
    }

    /// The keys that the region publishes now. Asking needs no right.
    ///
    /// # Errors
    /// When Nomad does not answer, or its answer can't be read.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, NomadError> {
        let answer: Answer<KeySet> =
            self.0.get("the keys of workload identities", &[".well-known", "jwks.json"], &[], None).await?;
        Ok(answer.value.keys)
    }

    /// The allocation of that id, if there is one. With `newer_than` it is waited for, for [`CHANGE`], where it is not newer.
    ///
    /// # Errors
    /// When Nomad does not answer, does not let us ask, or its answer can't be read.
    pub async fn allocation(
        &self,
        id: &str,
        newer_than: Option<u64>,
    ) -> Result<Option<Allocation>, NomadError> {
        const ASKED: &str = "an allocation (read-job in its namespace)";
        let block = newer_than.map(|index| Block { index, wait: CHANGE });
        let answer = self.0.get::<Allocation>(ASKED, &["v1", "allocation", id], &[], block).await;
        let answer = found(answer)?;
        Ok(answer.map(|answer| Allocation { index: answer.index.unwrap_or_default(), ..answer.value }))
    }

    /// The node of that id, if there is one.
    ///
    /// # Errors
    /// As [`Self::allocation`].
    pub async fn node(&self, id: &str) -> Result<Option<Node>, NomadError> {
        let answer = self.0.get("a node (node:read)", &["v1", "node", id], &[], None).await;
        Ok(found(answer)?.map(|answer| answer.value))
    }

    /// The job of that id, if there is one.
    ///
    /// # Errors
    /// As [`Self::allocation`].
    pub async fn job(&self, namespace: &str, id: &str) -> Result<Option<Job>, NomadError> {
        const ASKED: &str = "a parent job (read-job in its namespace)";
        let answer = self.0.get(ASKED, &["v1", "job", id], &[("namespace", namespace)], None).await;
        Ok(found(answer)?.map(|answer| answer.value))
    }
}

/// Nothing of that name, or the answer. A region that is not there answers with another status than 404.
fn found<T>(answer: Result<Answer<T>, NomadError>) -> Result<Option<Answer<T>>, NomadError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.status == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Nomad writes null for what is empty.
fn or_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

/// Whether there is anything else than null.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    Ok(Option::<serde::de::IgnoredAny>::deserialize(value)?.is_some())
}

/// Nodes tell what became of their tasks every 200 ms, or more rarely where they are many.
pub const CHANGE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
