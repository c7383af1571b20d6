//! The merge rules: how what several registries say about one key becomes one value.
//!
//! All functions take what is held in order of precedence, best first: the kind of registry, then its id. Pure
//! functions of that list, so that the result depends on what is held and never on the order it came in.

use std::sync::Arc;

use crate::name::ServiceKey;
use crate::service::{Service, ServicePort};
use crate::workload::Workload;

/// One workload out of all descriptions of it. The first describes it; the others add services and labels that it
/// has not.
///
/// Health is the worst that anybody knows, since each sees other checks fail. `Unknown` is the least of the order, so
/// it loses to all that is known.
pub(crate) fn workload<'a>(mut held: impl Iterator<Item = &'a Arc<Workload>>) -> Option<Arc<Workload>> {
    let first = held.next()?;
    let Some(second) = held.next() else { return Some(first.clone()) };
    let mut merged = Workload::clone(first);
    for other in std::iter::once(second).chain(held) {
        merged.health = merged.health.max(other.health);
        for (key, ports) in &other.services {
            merged.services.entry(key.clone()).or_insert_with(|| ports.clone());
        }
        for (name, value) in &other.labels {
            merged.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        merged.provenance.extend(other.provenance.iter().cloned());
    }
    Some(Arc::new(merged))
}

/// One service out of all declarations of it; `None` where there is none. What callers prefer is said by the first that
/// says anything of it.
pub(crate) fn service<'a>(
    key: &ServiceKey,
    mut declared: impl Iterator<Item = &'a Arc<Service>>,
) -> Option<Arc<Service>> {
    let first = declared.next()?;
    let Some(second) = declared.next() else { return Some(first.clone()) };
    let mut merged = Service { key: key.clone(), ..Service::clone(first) };
    for other in std::iter::once(second).chain(declared) {
        add_ports(&mut merged.ports, &other.ports);
        merged.addresses.extend(other.addresses.iter().cloned());
        merged.prefer = merged.prefer.or(other.prefer);
        for (name, value) in &other.labels {
            merged.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    Some(Arc::new(merged))
}

/// Adds the ports that are not there yet. Callers name a port by its name or its number, so one whose name or number
/// is taken would change what the better description means, and is left out. Number 0 is no number.
fn add_ports(ports: &mut Vec<ServicePort>, others: &[ServicePort]) {
    let taken = ports.len();
    for other in others {
        let clashes = ports.iter().take(taken).any(|port| {
            (port.number == other.number && (port.number != 0 || port.name == other.name))
                || (port.name.is_some() && port.name == other.name)
        });
        if !clashes {
            ports.push(other.clone());
        }
    }
    ports.sort();
}

/// A service as registries may say it, in the one form in which equal means equal: ports sorted, no name twice.
pub(crate) fn canonical_service(mut service: Service) -> Service {
    service.ports.sort();
    // Sorted by name, so that a name's ports are neighbours; the lowest number stays.
    service
        .ports
        .dedup_by(|later, first| later == first || (first.name.is_some() && later.name == first.name));
    service
}

/// A workload as registries may say it, in the one form in which equal means equal: ports sorted, none twice; addresses
/// in their order, none twice.
pub(crate) fn canonical_workload(mut workload: Workload) -> Workload {
    for ports in workload.services.values_mut() {
        ports.sort();
        ports.dedup();
    }
    let addresses = std::mem::take(&mut workload.addresses);
    for address in addresses {
        // A handful each; a set would cost more than it saves.
        if !workload.addresses.contains(&address) {
            workload.addresses.push(address);
        }
    }
    workload
}
