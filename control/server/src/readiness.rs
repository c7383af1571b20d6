//! When this process answers proxies: once each registry has listed everything, or its deadline has passed.
//!
//! Before that it knows too little to be of much use. Ready is not complete: what a registry may have that is still not
//! heard after the deadline stays undecided (`weft_xds::Published`), so that nothing looks gone. Pure decision
//! ([`judge`]); the waiting is in [`await_registries`]. What never comes back is `Starting`.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use weft_model::RegistryId;

use crate::publish::Reports;

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Registries are still read for the first time. Certificates are issued; streams wait.
    Starting,
    /// All is served.
    Serving,
    /// SIGTERM came: streams are closed, nothing new is taken.
    Stopping,
}

/// Returns once the process is to stop. That nobody could say so any more is the same.
pub(crate) async fn stopping(phase: &mut watch::Receiver<Phase>) {
    let _either_way = phase.wait_for(|phase| *phase == Phase::Stopping).await;
}

/// Registries that have not listed everything yet.
pub(crate) fn unsynced(reports: &Reports) -> Vec<RegistryId> {
    let unsynced = reports.iter().filter(|(_, report)| !report.freshness.has_synced());
    unsynced.map(|(id, _)| id.clone()).collect()
}

/// Registries of which nothing complete is known, for which proxies keep what they have.
pub(crate) fn unheard(reports: &Reports) -> Vec<RegistryId> {
    reports.iter().filter(|(_, report)| report.unheard).map(|(id, _)| id.clone()).collect()
}

/// Whether waiting is over, with `overdue` when the deadline has passed.
fn judge(reports: &Reports, overdue: bool) -> bool {
    reports.values().all(|report| report.freshness.lets_serve(report.required, overdue))
}

/// Waits for each registry's first listing; for those that are not required at most `deadline`.
pub(crate) async fn await_registries(mut reports: watch::Receiver<Reports>, deadline: Duration) {
    let until = Instant::now() + deadline;
    let mut overdue = false;
    loop {
        let newest = reports.borrow_and_update().clone();
        let waiting = unsynced(&newest);
        if judge(&newest, overdue) {
            for registry in waiting {
                tracing::warn!(%registry, "its first listing is not complete; serving without waiting longer for it");
            }
            return;
        }
        tokio::select! {
            Ok(()) = reports.changed() => {}
            () = sleep_until(until), if !overdue => {
                overdue = true;
                for (registry, report) in newest.iter().filter(|(id, _)| waiting.contains(id)) {
                    if report.required {
                        tracing::warn!(%registry, "not ready: it is required and its first listing is not complete");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use weft_registry::{Freshness, UnixMillis};

    use crate::publish::RegistryReport;

    fn reports(registries: &[(&str, bool, bool)]) -> Reports {
        let report = |required, synced: bool| {
            let freshness =
                Freshness { first_sync_unix_ms: synced.then_some(UnixMillis(1)), ..Freshness::default() };
            RegistryReport { required, freshness, ..RegistryReport::default() }
        };
        let reports =
            registries.iter().map(|&(id, required, synced)| (id.parse().unwrap(), report(required, synced)));
        Reports::new(reports.collect::<BTreeMap<_, _>>())
    }

    async fn waited(registries: &[(&str, bool, bool)]) -> Option<Duration> {
        let (_sender, receiver) = watch::channel(reports(registries));
        let start = Instant::now();
        let waiting = await_registries(receiver, Duration::from_secs(10));
        tokio::time::timeout(Duration::from_secs(3600), waiting).await.ok().map(|()| start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_is_waited_for_until_its_deadline_and_a_required_one_for_ever() {
        assert_eq!(waited(&[]).await, Some(Duration::ZERO));
        assert_eq!(waited(&[("file/a", true, true), ("consul/b", false, true)]).await, Some(Duration::ZERO));
        let deadline = waited(&[("file/a", true, true), ("consul/b", false, false)]).await.unwrap();
        assert!((9..=11).contains(&deadline.as_secs()), "{deadline:?}");
        assert_eq!(waited(&[("consul/b", true, false)]).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_listing_ends_the_wait_at_once() {
        let (sender, receiver) = watch::channel(reports(&[("consul/b", true, false)]));
        let waiting = tokio::spawn(await_registries(receiver, Duration::from_secs(10)));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished());
        let start = Instant::now();
        sender.send_replace(reports(&[("consul/b", true, true)]));
        waiting.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
