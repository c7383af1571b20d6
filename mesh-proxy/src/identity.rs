//! Obtains this proxy's certificate and keeps it valid.
//!
//! Order at the start: a valid certificate on disk, else an attestation (join token or Consul leaf), tried for ever with
//! back-off. Then renewal with the current certificate from half its life on; a failed renewal changes nothing until it
//! really expires. A certificate that expired, or whose renewal is refused, is attested anew where that can be repeated; a
//! join token can't, and the status says what a person has to do.

mod attest;
mod authority;
mod consul;
mod saved;
mod token;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use weft_identity::{RenewalSchedule, RenewalState, Svid};

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

/// A wait that is longer than this is cut, so that a clock that is set forward is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// Between attempts to get a first certificate: a control plane that comes up is noticed soon.
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// Runs for ever.
pub(crate) async fn keep(shared: Arc<Shared>, state: Arc<StateDir>, status: watch::Sender<IdentityStatus>) {
    let mut attestor = Attestor::new(&shared, &state);
    let current = shared.svids.current();
    let mut schedule = current.map(|credentials| RenewalSchedule::restored(&credentials.svid));
    let mut failures = 0_u32;
    loop {
        let now = SystemTime::now();
        let expired = schedule.as_ref().is_none_or(|schedule| schedule.is_expired(now));
        if let Some(schedule) = &schedule
            && let RenewalState::Wait(wait) = schedule.state(now)
        {
            tokio::time::sleep(wait.min(LONGEST_SLEEP)).await;
            continue;
        }
        let obtained = if expired { attestor.attest().await } else { attestor.renew().await };
        match obtained {
            Ok(issued) => {
                failures = 0;
                status.send_modify(|status| status.last_error.clear());
                schedule = Some(RenewalSchedule::obtained(&issued.svid, SystemTime::now()));
                install(&shared, &state, issued);
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                failed(&status, expired, format!("{error:#}"));
                match schedule.as_mut().filter(|_| !expired) {
                    Some(schedule) => schedule.failed(SystemTime::now(), rand::random()),
                    None => tokio::time::sleep(backoff(failures)).await,
                }
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

fn backoff(failures: u32) -> Duration {
    let doubled = Duration::from_millis(250).saturating_mul(2_u32.saturating_pow(failures.min(16)));
    doubled.min(LONGEST_BACKOFF).mul_f64(rand::random_range(0.8..1.2))
}

/// Whether `svid` is valid now, and if not, why.
pub(crate) fn validity(svid: &Svid, now: SystemTime) -> Result<(), &'static str> {
    if now > svid.not_after() {
        Err("expired")
    } else if now < svid.not_before() {
        Err("not valid yet; is the clock right?")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
