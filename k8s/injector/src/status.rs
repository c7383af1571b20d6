//! `weft.dev/status`: what was added to a pod, for people and for a second look at the same pod.
//!
//! It also holds the application's own probes as they were, so that a container that another webhook adds later gets its
//! probes rewritten as well.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::probes::Probe;
use crate::{STATUS, pod};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// The injector's version.
    pub(crate) version: String,
    /// Init containers that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) init_containers: Vec<String>,
    /// Containers that were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) containers: Vec<String>,
    /// Volumes that were added.
    pub(crate) volumes: Vec<String>,
    /// Probes that go through the proxy, as they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) probes: Vec<Probe>,
}

impl Status {
    /// The pod's; `None` where there is none that this version understands.
    pub(crate) fn read(pod: &Value) -> Option<Self> {
        serde_json::from_str(pod::text(pod, "annotations", STATUS)?).ok()
    }

    /// As the annotation's value.
    pub(crate) fn written(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
