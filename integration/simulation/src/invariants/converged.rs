//! Everything converges to the catalog: once nothing changes and everything can be reached, each proxy has exactly what the
//! registries hold of the services that it wants, but for what it refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::{Catalog, Changes, RegistryEvent, Scope, ServiceKey, Workload};
use weft_proto::{ResourceType, TrustBundle};
use weft_xds::{Published, Stream};

use super::{Violation, holds};
use crate::proxy::Proxy;
use crate::truth::{Truth, UNREADABLE};

const INVARIANT: &str = "everything converges to the catalog";

/// What a control plane would publish that had just read everything, and nothing else.
pub(crate) fn expected(truths: &[Truth], bundles: &[TrustBundle]) -> Published {
    let mut catalog = Catalog::default();
    let mut all = Changes::default();
    for truth in truths {
        let entries = truth.entries.values().cloned().collect();
        all.absorb(catalog.apply(&truth.id, RegistryEvent::Reset { scope: Scope::All, entries }));
    }
    Published::default().advance(&catalog.snapshot(), &all, bundles)
}

/// Of one proxy and its stream.
pub(crate) fn check(
    proxy: &Proxy,
    stream: Option<&Stream>,
    expected: &Published,
    bundles: &[TrustBundle],
) -> Result<(), Violation> {
    let fail = |what: String| Violation { invariant: INVARIANT, what };
    let stream = stream.ok_or_else(|| fail("it has no stream".to_owned()))?;
    for status in stream.status().types {
        let rest = (status.waiting, status.undecided, status.in_flight_revision);
        holds(INVARIANT, rest == (0, 0, None), || format!("its stream is not at rest: {status:?}"))?;
    }
    for key in &proxy.wanted {
        check_service(proxy, key, expected)?;
    }
    check_refused(proxy, stream, expected)?;
    if !proxy.refused.iter().any(|(kind, _)| *kind == ResourceType::TrustBundle) {
        holds(INVARIANT, proxy.bundles.as_deref() == Some(bundles), || {
            format!("bundles are {:?}, expected {bundles:?}", proxy.bundles)
        })?;
    }
    Ok(())
}

/// The control plane shows as refused what the proxy can't read, and nothing else.
fn check_refused(proxy: &Proxy, stream: &Stream, expected: &Published) -> Result<(), Violation> {
    let resources = &expected.resources;
    let unreadable = |id: &&Arc<str>| {
        let read = resources.workload(id).map(|one| weft_proto::workload(id, one.encoded.clone()));
        proxy.old_version && matches!(read, Some(Ok(one)) if one.weight == UNREADABLE)
    };
    let members = proxy.wanted.iter().flat_map(|key| resources.members(&key.to_string()).collect::<Vec<_>>());
    let expected: BTreeSet<String> = members.filter(unreadable).map(ToString::to_string).collect();
    let types = stream.status().types.into_iter();
    let refused: BTreeSet<String> = types.flat_map(|one| one.refused).map(|one| one.name).collect();
    holds(INVARIANT, refused == expected, || {
        format!("{refused:?} are shown as refused, expected {expected:?}")
    })
}

fn check_service(proxy: &Proxy, key: &ServiceKey, expected: &Published) -> Result<(), Violation> {
    let name = key.to_string();
    let resources = &expected.resources;
    let decoded = |id: &str| weft_proto::workload(id, resources.workload(id)?.encoded.clone()).ok();
    let unreadable = |one: &Workload| proxy.old_version && one.weight == UNREADABLE;
    // Of what it can't read it has an older state, or nothing.
    let refused = |id: &str| decoded(id).is_some_and(|one| unreadable(&one));
    let expected: Option<Vec<Workload>> = resources.service(&name).map(|_| {
        let members = resources.members(&name).filter_map(|id| decoded(id));
        members.filter(|one| !unreadable(one)).collect()
    });
    let held = proxy.view.get(key).map(|held| {
        held.as_ref().map(|workloads| {
            let good = workloads.values().filter(|one| !refused(one.id.as_str()));
            good.map(|one| one.as_ref().clone()).collect::<Vec<_>>()
        })
    });
    holds(INVARIANT, held.as_ref() == Some(&expected), || {
        format!("{name} is {:?}, expected {:?}", held.map(|held| ids(&held)), ids(&expected))
    })
}

fn ids(workloads: &Option<Vec<Workload>>) -> Option<Vec<String>> {
    let text = |one: &Workload| format!("{} {} x{} {:?}", one.id, one.health, one.weight, one.addresses);
    workloads.as_ref().map(|workloads| workloads.iter().map(text).collect())
}
