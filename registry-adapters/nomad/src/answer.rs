//! Nomad's JSON, as far as it is read. Fields that are absent or `null` have defaults; what a workload can't do without has none.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// `/v1/services`: the services of each namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct NamespaceServices {
    pub(crate) namespace: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) services: Vec<ListedService>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListedService {
    pub(crate) service_name: String,
}

/// `/v1/service/NAME`: one instance of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Registration {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) service_name: String,
    pub(crate) namespace: String,
    #[serde(rename = "AllocID", default)]
    pub(crate) alloc: String,
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) port: i64,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) tags: Vec<String>,
}

/// `/v1/allocations`: an allocation without its job.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Allocation {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) namespace: String,
    #[serde(rename = "NodeID", default)]
    pub(crate) node: String,
    #[serde(default)]
    pub(crate) node_name: String,
    #[serde(rename = "JobID")]
    pub(crate) job: String,
    #[serde(default)]
    pub(crate) job_version: u64,
    pub(crate) task_group: String,
    #[serde(default)]
    pub(crate) desired_status: String,
    #[serde(default)]
    pub(crate) client_status: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) deployment_status: Option<DeploymentStatus>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) allocated_resources: Option<AllocatedResources>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeploymentStatus {
    #[serde(default)]
    pub(crate) healthy: Option<bool>,
    #[serde(default)]
    pub(crate) canary: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AllocatedResources {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) shared: SharedResources,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SharedResources {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) ports: Vec<AllocatedPort>,
}

/// A port that an allocation has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AllocatedPort {
    pub(crate) label: String,
    /// Its number on the node.
    #[serde(default)]
    pub(crate) value: i64,
    /// Where it leads inside; 0 and less: to the same number.
    #[serde(default)]
    pub(crate) to: i64,
    #[serde(rename = "HostIP", default)]
    pub(crate) host: String,
}

impl Allocation {
    /// The port of this label.
    pub(crate) fn port(&self, label: &str) -> Option<&AllocatedPort> {
        self.allocated_resources.as_ref()?.shared.ports.iter().find(|port| port.label == label)
    }
}

/// `/v1/allocation/ID`, of which the job is wanted.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WholeAllocation {
    pub(crate) job: Job,
}

/// A version of a job.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Job {
    #[serde(rename = "ParentID", default, deserialize_with = "or_default")]
    pub(crate) parent: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) meta: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) task_groups: Vec<TaskGroup>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TaskGroup {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) meta: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) services: Vec<JobService>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) tasks: Vec<Task>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Task {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) services: Vec<JobService>,
}

/// A service as a job declares it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct JobService {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) checks: Vec<serde::de::IgnoredAny>,
}

impl TaskGroup {
    /// Whether any of its services of this name has checks.
    pub(crate) fn checks(&self, service: &str) -> bool {
        let of_tasks = self.tasks.iter().flat_map(|task| &task.services);
        self.services.iter().chain(of_tasks).any(|one| one.name == service && !one.checks.is_empty())
    }
}

/// `/v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Node {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) datacenter: String,
    #[serde(default)]
    pub(crate) node_pool: String,
    #[serde(default)]
    pub(crate) node_class: String,
    #[serde(default)]
    pub(crate) status: String,
    /// Of `/v1/node/ID`, where it was asked for.
    #[serde(skip)]
    pub(crate) zone: String,
}

/// `/v1/node/ID`, of which the meta is wanted.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WholeNode {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) meta: BTreeMap<String, String>,
}

/// `/v1/client/allocation/ID/checks`: a check's last result.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CheckResult {
    #[serde(default)]
    pub(crate) service: String,
    #[serde(default)]
    pub(crate) status: String,
}

/// A line of `/v1/event/stream`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Events {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Event {
    pub(crate) topic: String,
    #[serde(default)]
    pub(crate) payload: Payload,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Payload {
    pub(crate) service: Option<Registration>,
}

/// Nomad writes empty collections as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
