//! Whether new work may be sent here, and if not, what is missing, in sentences.
//!
//! Last known good counts: a proxy that was restarted while the control plane is away is ready. That a service does not
//! exist is an answer. Where there is none (the control plane does not decide a name while a registry is silent),
//! readiness waits for `ready.upstream_deadline` and not for ever: one upstream is not worth all other traffic. The
//! listeners are bound before anybody can ask. An overloaded proxy is ready: its work would fall on others that have as much.

use std::time::SystemTime;

use super::Admin;
use crate::identity;
use crate::shared::Phase;

/// What `/ready` says.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// Nothing: ready.
    pub(super) missing: Vec<String>,
    /// What does not hold it up, and is worth saying.
    pub(super) undecided: Vec<String>,
}

/// Looks at everything.
pub(super) fn look(admin: &Admin, now: SystemTime) -> Readiness {
    let mut readiness = Readiness::default();
    if admin.shared.drain.phase() != Phase::Serving {
        readiness.missing.push("it is draining".to_owned());
    }
    readiness.missing.extend(identity_problem(admin, now));
    readiness.undecided.extend(admin.shared.overload.sentence());
    let unknown = unknown_upstreams(admin);
    if deadline_is_over(admin) {
        readiness.undecided.extend(unknown);
    } else {
        readiness.missing.extend(unknown);
    }
    readiness
}

fn unknown_upstreams(admin: &Admin) -> Vec<String> {
    let (config, control) = (admin.shared.config.load(), admin.mesh.borrow());
    let because = match (control.connected, control.last_error.as_str()) {
        (true, _) | (false, "") => String::new(),
        (false, error) => format!("; no control plane: {error}"),
    };
    let declared = admin.shared.demand.declared().filter(|key| !config.services.contains_key(*key));
    let mut unknown: Vec<String> = declared
        .map(|key| format!("upstream {key}: the control plane has said nothing about it yet{because}"))
        .collect();
    unknown.sort();
    unknown
}

fn deadline_is_over(admin: &Admin) -> bool {
    let since = admin.mesh.borrow().answering_since;
    since.is_some_and(|since| since.elapsed() >= admin.shared.settings.ready.upstream_deadline)
}

fn identity_problem(admin: &Admin, now: SystemTime) -> Option<String> {
    let last_error = &admin.identity.borrow().last_error;
    let because = if last_error.is_empty() { String::new() } else { format!(": {last_error}") };
    match admin.shared.svids.current() {
        None => Some(format!("there is no certificate yet{because}")),
        Some(credentials) => match identity::validity(&credentials.svid, now) {
            Ok(()) => None,
            Err(why) => Some(format!("the certificate is {why}{because}")),
        },
    }
}
