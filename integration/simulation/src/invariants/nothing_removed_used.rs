//! No removed endpoint is used after its ACK: once a proxy has acknowledged that an instance is gone or takes nothing new,
//! nothing that it would pick is that instance, until it is told of it anew.

use weft_model::InstanceId;
use weft_proto::ResourceType;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use weft_xds_client::Members;

use super::{Violation, holds};
use crate::proxy::Proxy;
use crate::truth::works_for;

const INVARIANT: &str = "no removed endpoint is used after its ACK";

/// Takes note of what `proxy` acknowledges with `answer`.
pub(crate) fn note(
    proxy: &mut Proxy,
    kind: ResourceType,
    response: &DeltaDiscoveryResponse,
    answer: &DeltaDiscoveryRequest,
) {
    if kind != ResourceType::Workload {
        return;
    }
    for resource in &response.resources {
        let Ok(id) = resource.name.parse::<InstanceId>() else { continue };
        let body = resource.resource.as_ref().map(|body| body.value.clone()).unwrap_or_default();
        let Ok(workload) = weft_proto::workload(&resource.name, body) else { continue };
        match works_for(&workload).is_empty() && answer.error_detail.is_none() {
            true => proxy.gone.insert(id),
            false => proxy.gone.remove(&id),
        };
    }
    if answer.error_detail.is_none() {
        let gone = response.removed_resources.iter().filter_map(|name| name.parse::<InstanceId>().ok());
        proxy.gone.extend(gone);
    }
}

/// Of all that `proxy` would pick now.
pub(crate) fn check(proxy: &Proxy) -> Result<(), Violation> {
    for (service, workloads) in &proxy.view {
        for workload in workloads.iter().flat_map(Members::values) {
            let used = works_for(workload).contains(service);
            holds(INVARIANT, !used || !proxy.gone.contains(&workload.id), || {
                format!("{} is used for {service}", workload.id)
            })?;
        }
    }
    Ok(())
}
