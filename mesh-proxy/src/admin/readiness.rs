//! Whether new work may be sent here, and if not, what is missing, in sentences.
//!
//! Last known good counts: a proxy that was restarted while the control plane is away is ready. The listeners are
//! bound before anybody can ask.

use std::time::SystemTime;

use super::Admin;
use crate::identity;
use crate::shared::Phase;

/// What is missing; nothing: ready.
pub(super) fn missing(admin: &Admin, now: SystemTime) -> Vec<String> {
    let shared = &admin.shared;
    let mut missing = Vec::new();
    if shared.drain.phase() != Phase::Serving {
        missing.push("it is draining".to_owned());
    }
    missing.extend(identity_problem(admin, now));
    let config = shared.config.load();
    let mut unknown: Vec<String> = shared
        .demand
        .declared()
        .filter(|key| !config.services.contains_key(*key))
        .map(|key| format!("upstream {key}: the control plane has said nothing about it yet"))
        .collect();
    unknown.sort();
    missing.extend(unknown);
    missing
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
