//! Nothing unsubscribed is kept: neither does a proxy hold anything of a service that it does not want, nor does a control
//! plane remember it for the stream.

use weft_proto::ResourceType;
use weft_xds::Stream;

use super::{Violation, holds};
use crate::proxy::Proxy;

const INVARIANT: &str = "nothing unsubscribed is kept";

/// At the proxy, at any time.
pub(crate) fn check(proxy: &Proxy) -> Result<(), Violation> {
    let stray = proxy.view.keys().find(|key| !proxy.wanted.contains(*key));
    holds(INVARIANT, stray.is_none(), || format!("the proxy still routes to {stray:?}"))?;
    for resource in proxy.client.held() {
        let Some(body) = resource.resource else { continue };
        let wanted = match ResourceType::from_url(&body.type_url) {
            Some(ResourceType::Workload) => weft_proto::workload(&resource.name, body.value)
                .is_ok_and(|workload| workload.services.keys().any(|key| proxy.wanted.contains(key))),
            Some(ResourceType::Service) => resource.name.parse().is_ok_and(|key| proxy.wanted.contains(&key)),
            Some(ResourceType::Address) => false,
            Some(ResourceType::TrustBundle) | None => true,
        };
        holds(INVARIANT, wanted, || format!("the proxy still holds {}", resource.name))?;
    }
    Ok(())
}

/// At the control plane, once everything was said.
pub(crate) fn check_stream(proxy: &Proxy, stream: &Stream) -> Result<(), Violation> {
    for status in stream.status().types {
        let kind = ResourceType::ALL.into_iter().find(|kind| kind.as_str() == status.kind);
        let Some(kind) = kind else { continue };
        let expected = match kind {
            ResourceType::TrustBundle => 1,
            ResourceType::Workload | ResourceType::Service => proxy.wanted.len(),
            // No proxy of this world captures.
            ResourceType::Address => 0,
        };
        holds(INVARIANT, status.subscribed == expected, || {
            format!("{kind}: {} subscriptions are remembered, {expected} are wanted", status.subscribed)
        })?;
        let held = proxy.held.keys().filter(|(held, _)| *held == kind).count();
        holds(INVARIANT, status.held == held || !proxy.refused.is_empty(), || {
            format!("{kind}: {} are remembered as held, the proxy holds {held}", status.held)
        })?;
    }
    Ok(())
}
