//! Nothing unchanged is resent: no resource comes in the version that the proxy holds already, on whatever stream it got it.
//!
//! Three exceptions are the protocol's own. What was refused is offered again on a new stream. What belongs to a service that
//! the proxy gave up on this stream is told once more where the two sides could not know of each other; and a control plane
//! that has not heard everything does not know what belongs to it.

use weft_proto::ResourceType;
use weft_proto::discovery::DeltaDiscoveryResponse;

use super::{Violation, holds};
use crate::proxy::{Proxy, is_of};

const INVARIANT: &str = "nothing unchanged is resent";

/// Of a response that `proxy` is about to apply. `incomplete`: the stream began before everything was heard; `idle`: nothing
/// has changed since the proxy held everything.
pub(crate) fn check(
    proxy: &Proxy,
    kind: ResourceType,
    response: &DeltaDiscoveryResponse,
    incomplete: bool,
    idle: bool,
) -> Result<(), Violation> {
    for resource in &response.resources {
        let name = (kind, resource.name.clone());
        let same = proxy.held.get(&name) == Some(&resource.version)
            && !is_of(&proxy.given_up, kind, resource)
            && (!incomplete || proxy.given_up.is_empty());
        holds(INVARIANT, !same, || {
            format!("{kind} {} again in version {}", resource.name, resource.version)
        })?;
        holds(INVARIANT, !idle || proxy.refused.contains(&name), || {
            format!("{kind} {} was sent after everything was there", resource.name)
        })?;
    }
    Ok(())
}
