//! Where this proxy runs: its locality and its node.
//!
//! What the settings say holds. The rest is what the mesh says of the workload that has this proxy's own addresses: a pod
//! cannot know its zone, but the control plane knows the zone of the pod's node. What was known stays while nothing else
//! is said: a workload does not move.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::{Locality, NetworkAddress, NodeName};

use crate::config::{KnownAddress, Owner, ProxyConfig};
use crate::settings::Settings;

/// A place in the mesh, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) locality: Locality,
    pub(crate) node: Option<NodeName>,
}

/// The addresses by which this proxy finds its own workload.
pub(crate) fn own_addresses(settings: &Settings) -> impl Iterator<Item = NetworkAddress> {
    let network = &settings.capture.network;
    settings.locality.addresses.iter().map(|ip| NetworkAddress { network: network.clone(), ip: *ip })
}

/// The configuration with the place that follows from it.
pub(crate) fn placed(mut config: ProxyConfig, settings: &Settings) -> ProxyConfig {
    let told = own_addresses(settings).find_map(|address| told(&config, &address));
    let told = told.unwrap_or_else(|| Place::clone(&config.place));
    let own = &settings.locality;
    let place = Place {
        locality: if own.own.is_unknown() { told.locality } else { own.own.clone() },
        node: own.node.clone().or(told.node),
    };
    // The same `Arc` while it is the same place: the balancers compare it by that.
    if *config.place != place {
        config.place = Arc::new(place);
    }
    config
}

/// Where the workloads are that have this address; `None` where they are not known, or not all in one place.
fn told(config: &ProxyConfig, address: &NetworkAddress) -> Option<Place> {
    let Some(KnownAddress::Owned(Owner::Itself(itself))) = config.addresses.get(address) else { return None };
    let places = itself.endpoints.iter().map(|one| (&one.locality, &one.node)).collect::<BTreeSet<_>>();
    let mut places = places.into_iter();
    let (locality, node) = places.next()?;
    places.next().is_none().then(|| Place { locality: locality.clone(), node: node.clone() })
}

#[cfg(test)]
mod tests;
