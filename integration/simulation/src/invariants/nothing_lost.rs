//! No healthy endpoint is lost through an outage: a control plane takes an instance from a proxy only where the instance's
//! registry really was without it at some moment since the control plane read it last (or before that, since its stored
//! state was written). An error, a silence, a moment's emptiness and a restart are no such moment.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_model::{InstanceId, ServiceKey};
use weft_proto::ResourceType;
use weft_proto::discovery::DeltaDiscoveryResponse;

use super::{Violation, holds};
use crate::truth::{Truth, works_for};

const INVARIANT: &str = "no healthy endpoint is lost through an outage";

/// What `response` takes away, given when each registry was read that it was made from, without any such moment.
pub(crate) fn unfounded(
    truths: &[Truth],
    read: &[Option<Duration>],
    kind: ResourceType,
    response: &DeltaDiscoveryResponse,
) -> BTreeSet<(ServiceKey, InstanceId)> {
    let mut unfounded = BTreeSet::new();
    for (truth, read) in truths.iter().zip(read) {
        // Never read: nothing is known to have gone since, so what is there now is missed.
        let always = |id: &InstanceId| match read {
            Some(read) => truth.always_since(id, *read),
            None => truth.always_since(id, Duration::MAX),
        };
        match kind {
            // Nobody asks for addresses in this world.
            ResourceType::TrustBundle | ResourceType::Address => {}
            ResourceType::Service => {
                let gone: BTreeSet<&str> = response.removed_resources.iter().map(String::as_str).collect();
                if gone.is_empty() {
                    continue;
                }
                for id in truth.instances() {
                    let services =
                        always(id).into_iter().filter(|key| gone.contains(key.to_string().as_str()));
                    unfounded.extend(services.map(|key| (key, id.clone())));
                }
            }
            ResourceType::Workload => {
                for name in &response.removed_resources {
                    let Ok(id) = name.parse::<InstanceId>() else { continue };
                    unfounded.extend(always(&id).into_iter().map(|key| (key, id.clone())));
                }
                for resource in &response.resources {
                    let body = resource.resource.as_ref().map(|body| body.value.clone()).unwrap_or_default();
                    let Ok(workload) = weft_proto::workload(&resource.name, body) else { continue };
                    let works = works_for(&workload);
                    let taken = always(&workload.id).into_iter().filter(|key| !works.contains(key));
                    unfounded.extend(taken.map(|key| (key, workload.id.clone())));
                }
            }
        }
    }
    unfounded
}

/// Of what a proxy could use before a response and can't after it.
pub(crate) fn check(
    lost: &BTreeSet<(ServiceKey, InstanceId)>,
    unfounded: &BTreeSet<(ServiceKey, InstanceId)>,
) -> Result<(), Violation> {
    let found = lost.intersection(unfounded).next();
    holds(INVARIANT, found.is_none(), || match found {
        Some((service, id)) => format!("{id} of {service} was there all the time and was taken away"),
        None => String::new(),
    })
}
