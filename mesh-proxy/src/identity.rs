//! Obtains this proxy's certificate and keeps it valid.
//!
//! Order at the start: a valid certificate on disk, else an attestation (join token, Consul leaf, a pod's or an allocation's token), tried for
//! ever with back-off. Then renewal with the current certificate from half its life on; a failed renewal changes nothing until it
//! really expires. A certificate that expired, or whose renewal is refused, is attested anew where that can be repeated; a
//! join token can't, and the status says what a person has to do.

mod attest;
mod authority;
mod consul;
mod kubernetes;
mod nomad;
mod saved;
mod token;

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::Instant;
use weft_identity::{Keeping, RenewalSchedule, Step, Svid};

use crate::shared::Shared;
use crate::state::StateDir;
use attest::Attestor;
use authority::Issued;

pub(crate) use saved::{restore, save_bundles};

/// What is known of the own certificate, for `/ready`, the dump and the metrics.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(crate) struct IdentityStatus {
    /// Attempts that failed since the start.
    pub(crate) failures: u64,
    /// Why the last attempt failed; empty after a success.
    pub(crate) last_error: String,
    /// There was no valid certificate at that attempt.
    #[serde(skip)]
    expired: bool,
}

/// Runs for ever.
pub(crate) async fn keep(shared: Arc<Shared>, state: Arc<StateDir>, status: watch::Sender<IdentityStatus>) {
    let mut attestor = Attestor::new(&shared, &state);
    let mut keeping = Keeping::default();
    if let Some(credentials) = shared.svids.current() {
        keeping.obtained(credentials.svid.not_before(), RenewalSchedule::restored(&credentials.svid));
    }
    loop {
        let obtained = match keeping.step(SystemTime::now(), Instant::now().into_std()) {
            Step::Wait(wait) => {
                tokio::time::sleep(wait).await;
                continue;
            }
            Step::Renew => attestor.renew().await,
            Step::Attest => attestor.attest().await,
        };
        match obtained {
            Ok(issued) => {
                status.send_modify(|status| status.last_error.clear());
                let schedule = RenewalSchedule::obtained(&issued.svid, SystemTime::now());
                keeping.obtained(issued.svid.not_before(), schedule);
                install(&shared, &state, issued);
            }
            Err(error) => {
                let now = Instant::now().into_std();
                let valid = keeping.failed(SystemTime::now(), now, rand::random());
                failed(&status, !valid, format!("{error:#}"));
            }
        }
    }
}

/// Logged when it is another reason than before, and when it gets serious; in between it is in `/ready` and the metrics.
fn failed(status: &watch::Sender<IdentityStatus>, expired: bool, error: String) {
    let mut news = false;
    status.send_modify(|status| {
        status.failures += 1;
        news = (status.expired, &status.last_error) != (expired, &error);
        (status.expired, status.last_error) = (expired, error.clone());
    });
    match (expired, news) {
        (true, true) => tracing::error!("there is no valid certificate, trying on: {error}"),
        (false, true) => {
            tracing::warn!("the certificate could not be renewed yet; the current one serves on: {error}")
        }
        (_, false) => tracing::debug!("certificate: {error}"),
    }
}

/// Saves first: what serves must survive a restart. A disk that is full does not keep it from serving.
fn install(shared: &Shared, state: &StateDir, issued: Issued) {
    if let Err(error) = saved::save(state, &issued.svid, &issued.bundles) {
        tracing::error!("the new certificate is in use, but a restart would need another one: {error}");
    }
    tracing::info!(id = %issued.svid.id(), expires = %humantime::format_rfc3339_seconds(issued.svid.not_after()), "certificate obtained");
    shared.svids.set(issued.svid, issued.bundles);
}

/// Whether `svid` is valid now, and if not, why.
pub(crate) fn validity(svid: &Svid, now: SystemTime) -> Result<(), &'static str> {
    weft_identity::validity(svid.not_before(), svid.not_after(), now)
}

#[cfg(test)]
mod tests;
