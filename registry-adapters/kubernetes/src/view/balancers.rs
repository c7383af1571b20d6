//! Whose the addresses of load balancers are.
//!
//! An address of a load balancer stands for its service as a cluster IP does. Where several Services share one, each with
//! other ports, an address alone names none of them: it is nobody's then, and calls to it go past the mesh as before.

use std::collections::{BTreeSet, HashMap};

use weft_model::NetworkAddress;
use weft_registry::Problem;

use super::View;
use crate::convert::Declared;
use crate::object::ObjectKey;
use crate::subject::object_name;

/// Who says to have an address.
#[derive(Debug, Default)]
pub(super) struct Balancers(HashMap<NetworkAddress, BTreeSet<ObjectKey>>);

impl Balancers {
    /// Takes note of what a service has now in place of what it had; gives the others whose addresses are shared by that, or
    /// no longer.
    pub(super) fn change(
        &mut self,
        key: &ObjectKey,
        before: Option<&Declared>,
        after: Option<&Declared>,
    ) -> BTreeSet<ObjectKey> {
        let of = |declared: Option<&Declared>| declared.map(|one| one.balancers.clone()).unwrap_or_default();
        let (before, after) = (of(before), of(after));
        let mut others = BTreeSet::new();
        for address in before.difference(&after) {
            if let Some(claims) = self.0.get_mut(address) {
                claims.remove(key);
                others.extend(claims.iter().cloned());
                if claims.is_empty() {
                    self.0.remove(address);
                }
            }
        }
        for address in after.difference(&before) {
            let claims = self.0.entry(address.clone()).or_default();
            others.extend(claims.iter().cloned());
            claims.insert(key.clone());
        }
        others.remove(key);
        others
    }
}

impl View {
    /// The addresses of load balancers that are this service's alone.
    pub(super) fn own_balancers(&self, declared: &Declared) -> BTreeSet<NetworkAddress> {
        let alone = |address: &&NetworkAddress| {
            self.balancers.0.get(*address).is_some_and(|claims| claims.len() == 1)
        };
        declared.balancers.iter().filter(alone).cloned().collect()
    }

    /// Says which addresses several services have.
    pub(super) fn shared_balancers(&self) -> impl Iterator<Item = Problem> + '_ {
        let shared = self.balancers.0.iter().filter(|(_, claims)| claims.len() > 1);
        shared.flat_map(|(address, claims)| {
            claims.iter().map(move |key| {
                let others = claims.iter().filter(|other| *other != key).map(ObjectKey::as_str);
                let others = others.collect::<Vec<_>>().join(", ");
                let message =
                    format!("{} is also the address of {others}: calls to it go past the mesh", address.ip);
                Problem::warning(object_name("service", key), message).in_field("status.loadBalancer.ingress")
            })
        })
    }
}
