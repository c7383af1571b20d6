//! How near an endpoint is, by what its service wants its callers to prefer. Pure.
//!
//! The service's word counts before the proxy's own setting. A wider level is used only while nobody nearer takes work, so
//! a preference loses no call; only `node-only` forbids.

use weft_model::Prefer;

use crate::config::Endpoint;
use crate::place::Place;

/// The nearest level; 0 is the widest.
pub(super) const NEAREST: u8 = 3;

/// How near the endpoint is to `own`, from 0 to [`NEAREST`]. `by_setting`: this proxy prefers near ones where the service
/// says nothing.
pub(super) fn level(prefer: Option<Prefer>, by_setting: bool, own: &Place, endpoint: &Endpoint) -> u8 {
    let shared = endpoint.locality.shared_levels(&own.locality);
    match prefer {
        None if by_setting => shared,
        // All that are allowed are on the one node.
        None | Some(Prefer::NodeOnly) => 0,
        // A subzone is narrower than anybody asked for.
        Some(Prefer::Zone) => shared.min(ZONE),
        Some(Prefer::Node) if is_same_node(own, endpoint) => NEAREST,
        Some(Prefer::Node) => shared.min(ZONE),
    }
}

/// Whether the service lets this proxy call the endpoint at all. Where a node is not known, it is not the same one.
pub(super) fn is_allowed(prefer: Option<Prefer>, own: &Place, endpoint: &Endpoint) -> bool {
    prefer != Some(Prefer::NodeOnly) || is_same_node(own, endpoint)
}

fn is_same_node(own: &Place, endpoint: &Endpoint) -> bool {
    own.node.is_some() && own.node == endpoint.node
}

/// Region and zone are shared.
const ZONE: u8 = 2;
