//! Which endpoints a Service wants its callers to use, in Kubernetes' words and order.
//!
//! `internalTrafficPolicy: Local` forbids, so it counts before all that only prefers; of those the annotation
//! `service.kubernetes.io/topology-mode: Auto` counts before `trafficDistribution`, as it does for kube-proxy. Kubernetes
//! lets a word that it does not know prefer nothing; so do we, and say it.

use weft_model::Prefer;
use weft_registry::Problem;

use crate::object::Traffic;

/// What the service asks of its callers.
pub(super) fn prefer(traffic: &Traffic, object: &str, problems: &mut Vec<Problem>) -> Option<Prefer> {
    let mut unknown = |field: &str, value: &str, known: &str| {
        let message = format!("{value:?} is not known ({known} are): it has no effect");
        problems.push(Problem::warning(object, message).in_field(field));
        None
    };
    let distribution = match traffic.distribution.as_deref() {
        None | Some("") => None,
        // PreferClose is the name that PreferSameZone had before Kubernetes 1.34.
        Some("PreferClose" | "PreferSameZone") => Some(Prefer::Zone),
        Some("PreferSameNode") => Some(Prefer::Node),
        Some(other) => {
            unknown("spec.trafficDistribution", other, "PreferSameZone, PreferClose and PreferSameNode")
        }
    };
    let internal = match traffic.internal_policy.as_deref() {
        None | Some("" | "Cluster") => None,
        Some("Local") => Some(Prefer::NodeOnly),
        Some(other) => unknown("spec.internalTrafficPolicy", other, "Cluster and Local"),
    };
    internal.or(traffic.topology_mode_auto.then_some(Prefer::Zone)).or(distribution)
}
