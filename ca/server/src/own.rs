//! The control plane's own SVID: issued by its own authority, renewed for as long as the task runs. The same task
//! keeps the issuing certificate alive, since both are a matter of looking at the clock now and then.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_identity::{CONTROL_PLANE_PATH, RenewalSchedule, RenewalState, Svid, SvidSource, TrustBundles};

use crate::authority::{Authority, describe};
use crate::issuing::IssueError;

/// Puts an own SVID and the bundle into `source` unless they are there, then renews the SVID (and the issuing
/// certificate) for ever. Spawn it; dropping it stops it.
///
/// The first SVID is there before the first `await`, so a server can start beside it.
///
/// # Errors
/// When the first SVID can't be issued. Later failures are logged and tried again.
pub async fn keep_own_svid(authority: Arc<Authority>, source: SvidSource) -> Result<(), IssueError> {
    let now = SystemTime::now();
    let mut schedule = match source.current() {
        Some(issued) => RenewalSchedule::restored(&issued.svid),
        None => {
            let first = authority.issue_own(CONTROL_PLANE_PATH, now)?;
            let schedule = RenewalSchedule::obtained(&first, now);
            source.set(first, TrustBundles::from_iter([authority.bundle().clone()]));
            schedule
        }
    };
    loop {
        // Looks at the clock at least once an hour: a suspended machine's timers are late.
        let wait = match schedule.state(SystemTime::now()) {
            RenewalState::Wait(wait) => wait.min(LONGEST_SLEEP),
            RenewalState::Due => Duration::ZERO,
        };
        tokio::time::sleep(wait).await;
        let now = SystemTime::now();
        if let Err(error) = authority.renew_issuing(now) {
            tracing::error!(error = describe(&error), "the issuing certificate could not be renewed");
        }
        if schedule.state(now) == RenewalState::Due {
            match authority.issue_own(CONTROL_PLANE_PATH, now) {
                Ok(svid) => schedule = renewed(&source, svid, now),
                Err(error) => {
                    tracing::error!(error = describe(&error), "the own certificate could not be renewed");
                    schedule.failed(now, rand::random());
                }
            }
        }
    }
}

fn renewed(source: &SvidSource, svid: Svid, now: SystemTime) -> RenewalSchedule {
    let schedule = RenewalSchedule::obtained(&svid, now);
    source.set_svid(svid);
    schedule
}

const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AuthoritySettings;

    #[tokio::test]
    async fn the_own_svid_is_there_at_once_and_is_replaced_before_it_ends() {
        let temporary = tempfile::tempdir().unwrap();
        let mut settings = AuthoritySettings::new("weft.test".parse().unwrap(), temporary.path().join("ca"));
        settings.leaf_ttl = Duration::from_secs(10);
        let authority = Arc::new(Authority::open(&settings, SystemTime::now()).unwrap());
        let source = SvidSource::new();
        let mut changed = source.subscribe();
        let renewing = keep_own_svid(authority, source.clone());
        tokio::pin!(renewing);
        tokio::select! {
            biased;
            _ = &mut renewing => panic!("renewal ended"),
            () = std::future::ready(()) => {}
        }
        let first = source.current().expect("no SVID after the first poll");
        assert_eq!(first.svid.id().path(), CONTROL_PLANE_PATH);
        changed.mark_unchanged();
        // Half of 10 s, give or take a tenth, in real time: certificates know no other.
        tokio::select! {
            _ = &mut renewing => panic!("renewal ended"),
            changed = changed.changed() => changed.unwrap(),
            () = tokio::time::sleep(Duration::from_secs(8)) => panic!("not renewed"),
        }
        let second = source.current().unwrap();
        assert!(second.svid.not_after() > first.svid.not_after());
        assert!(SystemTime::now() < first.svid.not_after());
    }
}
