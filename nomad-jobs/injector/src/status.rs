//! What was added to a group, written into the sidecar's `meta`: for people, and to give the group back as it was.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{SIDECAR_TASK, STATUS, job};

/// What was added to a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The injector's version.
    pub(crate) version: String,
    /// Tasks that were added, this one too.
    pub(crate) tasks: Vec<String>,
    /// Ports that were added, by label.
    pub(crate) ports: Vec<String>,
    /// The group had no network, so it got one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) network: bool,
    /// Checks that ask the proxy's health port, as they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<ReplacedCheck>,
    /// The group got a `shutdown_delay`; what it had before, as JSON: `null` is a value here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shutdown_delay: Option<String>,
}

/// A check that asks the proxy, which asks the application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ReplacedCheck {
    /// The name of the task whose service it is; empty: the group's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) task: String,
    /// Which of its services.
    pub(crate) service: usize,
    /// Which of the service's checks.
    pub(crate) check: usize,
    /// What the check was.
    pub(crate) was: Value,
}

impl Status {
    /// The group's; `None` where it has no sidecar of ours.
    pub(crate) fn read(group: &Value) -> Option<Self> {
        let sidecar =
            job::list(group, "Tasks").iter().find(|task| job::text(task, "Name") == SIDECAR_TASK)?;
        let (_, status) = job::texts(sidecar, "Meta").find(|(key, _)| *key == STATUS)?;
        serde_json::from_str(status).ok()
    }

    /// As the value of the key.
    pub(crate) fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
