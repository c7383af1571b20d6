//! From what this process holds to what the admin API says. Pure but for the clock.

use std::time::SystemTime;

use sha2::{Digest, Sha256};
use weft_control_api::{
    ControlPlaneStatus, HeldReset, ProblemView, RegistryError, RegistryState, RegistryStatus, RootView,
    ServiceView, Status, TokenState, TokenView,
};
use weft_model::{RegistryId, Snapshot};
use weft_registry::{Problem, State};

use super::Admin;
use crate::clock::unix_ms;
use crate::publish::RegistryReport;
use crate::readiness::{Phase, unsynced};

/// `/v1/status`.
pub(super) fn status(admin: &Admin) -> Status {
    let state = admin.published.state.borrow().clone();
    let reports = admin.published.reports.borrow().clone();
    let (ready, notes) = readiness(admin);
    Status {
        control_plane: ControlPlaneStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: admin.trust_domain.clone(),
            listen: admin.listen,
            ready,
            notes,
            revision: state.snapshot.revision.0,
            services: state.snapshot.service_count(),
            workloads: state.snapshot.workload_count(),
            started_unix_ms: unix_ms(admin.started),
            now_unix_ms: unix_ms(SystemTime::now()),
            certificate_expires_unix_ms: admin.identity.current().map(|own| unix_ms(own.svid.not_after())),
            roots: roots(admin),
        },
        registries: reports.iter().map(|(id, report)| registry(id, report)).collect(),
        proxies: admin.proxies.statuses(&admin.unheard()),
    }
}

/// Whether proxies are served, and what there is to say about it.
pub(super) fn readiness(admin: &Admin) -> (bool, Vec<String>) {
    let phase = *admin.phase.borrow();
    let waiting = unsynced(&admin.published.reports.borrow());
    let unheard = admin.unheard();
    let names = names(&waiting);
    match phase {
        Phase::Stopping => (false, vec!["it is shutting down".to_owned()]),
        Phase::Starting if waiting.is_empty() => (false, vec!["it is starting".to_owned()]),
        Phase::Starting => (false, vec![format!("the first listing is not complete: {names}")]),
        Phase::Serving if waiting.is_empty() => (true, Vec::new()),
        Phase::Serving => {
            let mut notes = vec![format!("it did not wait longer for the first listing of: {names}")];
            if !unheard.is_empty() {
                notes.push(format!(
                    "nothing is known of {}: proxies keep what they have, and services that are not known are \
                     neither answered nor removed until it is heard",
                    self::names(&unheard)
                ));
            }
            (true, notes)
        }
    }
}

fn names(registries: &[RegistryId]) -> String {
    registries.iter().map(RegistryId::as_str).collect::<Vec<_>>().join(", ")
}

/// The one that signs first: what new proxies pin.
fn roots(admin: &Admin) -> Vec<RootView> {
    let ends = admin.authority.roots_not_after();
    let bundle = admin.authority.bundle();
    let roots = bundle.roots.iter().enumerate();
    let mut roots: Vec<RootView> = roots
        .map(|(n, root)| RootView {
            sha256: hex::encode(Sha256::digest(root)),
            expires_unix_ms: ends.get(n).copied().map(unix_ms),
        })
        .collect();
    let signing = admin.authority.root_pin().map(|pin| pin.to_string());
    roots.sort_by_key(|root| Some(&root.sha256) != signing.as_ref());
    roots
}

/// `/v1/ca`.
pub(super) fn ca(admin: &Admin) -> weft_control_api::CaView {
    admin.seen.rotator.view(roots(admin))
}

fn registry(id: &RegistryId, report: &RegistryReport) -> RegistryStatus {
    let freshness = &report.freshness;
    RegistryStatus {
        id: id.clone(),
        required: report.required,
        state: state(freshness.state),
        since_unix_ms: freshness.since_unix_ms.0,
        first_sync_unix_ms: freshness.first_sync_unix_ms.map(|at| at.0),
        last_event_unix_ms: freshness.last_event_unix_ms.map(|at| at.0),
        entries: report.entries,
        last_error: freshness
            .last_error
            .as_ref()
            .map(|error| RegistryError { at_unix_ms: error.at_unix_ms.0, message: error.message.clone() }),
        problems: freshness.problems.iter().map(problem).collect(),
        held_reset: freshness.held_reset.as_ref().map(|held| HeldReset {
            since_unix_ms: held.since_unix_ms.0,
            would_remove: held.would_drop,
            of: held.of,
        }),
    }
}

fn state(state: State) -> RegistryState {
    match state {
        State::Syncing => RegistryState::Syncing,
        State::Synced => RegistryState::Synced,
        State::Stale => RegistryState::Stale,
        State::Denied => RegistryState::Denied,
        State::NotFound => RegistryState::NotFound,
    }
}

fn problem(problem: &Problem) -> ProblemView {
    let line = problem.line.map_or(String::new(), |line| format!(":{line}"));
    ProblemView {
        severity: problem.severity,
        object: format!("{}{line}", problem.object),
        field: problem.field.clone(),
        message: problem.message.clone(),
    }
}

/// `/v1/services`.
pub(super) fn services(snapshot: &Snapshot) -> Vec<ServiceView> {
    let view = |service: &weft_model::Service| {
        let mut view = ServiceView {
            service: service.clone(),
            workloads: weft_control_api::HealthCount::default(),
            registries: std::collections::BTreeSet::new(),
        };
        for workload in snapshot.members(&service.key) {
            view.workloads.add(workload.health);
            view.registries.extend(workload.provenance.iter().map(|from| from.registry.clone()));
        }
        view
    };
    snapshot.services().map(|service| view(service)).collect()
}

/// One of `/v1/tokens`.
pub(super) fn token(record: &weft_ca::TokenRecord) -> TokenView {
    TokenView {
        id: record.id.clone(),
        identity: record.identity.to_string(),
        expires_unix_ms: unix_ms(record.expires),
        state: match record.state {
            weft_ca::TokenState::Unused => TokenState::Unused,
            weft_ca::TokenState::Used => TokenState::Used,
            weft_ca::TokenState::Expired => TokenState::Expired,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_with_file_line_and_field() {
        let said = Problem::error("web.yaml", "expected 1 to 65535").at_line(12).in_field("ports[0].number");
        let view = problem(&said);
        assert_eq!((view.object.as_str(), view.field.as_deref()), ("web.yaml:12", Some("ports[0].number")));
    }
}
