//! The clauses of the contract, one case each.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout_at};
use weft_model::{Health, RegistryEvent};

use super::{Backend, Fault, Instance, Observer, Outcome, Shown, View};
use crate::freshness::State;
use crate::{GuardSettings, Reread};

/// A clause of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say what name() says in words")]
pub enum Case {
    FirstListingIsComplete,
    EmptySourceIsSynced,
    ChangesArrive,
    DeregistrationRemovesExactlyIt,
    BecomingEmptyIsBelieved,
    DownKeeps,
    DownAtStart,
    ChangesWhileDownArrive,
    DeniedKeeps,
    DeniedAtStart,
    NotFoundKeeps,
    GarbageKeeps,
    HangKeeps,
    NoBusyLoop,
    DroppedStops,
    RereadListsAll,
    HeldResetIsConfirmed,
    HeldResetIsCancelled,
    TwoAdapters,
}

/// Why a case did not pass.
enum Stop {
    CannotShow(&'static str),
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

type Verdict = Result<(), Stop>;

impl Case {
    /// All cases.
    pub const ALL: [Case; 19] = [
        Case::FirstListingIsComplete,
        Case::EmptySourceIsSynced,
        Case::ChangesArrive,
        Case::DeregistrationRemovesExactlyIt,
        Case::BecomingEmptyIsBelieved,
        Case::DownKeeps,
        Case::DownAtStart,
        Case::ChangesWhileDownArrive,
        Case::DeniedKeeps,
        Case::DeniedAtStart,
        Case::NotFoundKeeps,
        Case::GarbageKeeps,
        Case::HangKeeps,
        Case::NoBusyLoop,
        Case::DroppedStops,
        Case::RereadListsAll,
        Case::HeldResetIsConfirmed,
        Case::HeldResetIsCancelled,
        Case::TwoAdapters,
    ];

    /// The clause in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstListingIsComplete => "a registry is synced once everything is listed, not before",
            Self::EmptySourceIsSynced => "an empty source is synced and empty",
            Self::ChangesArrive => "a new instance arrives, and so does its health",
            Self::DeregistrationRemovesExactlyIt => "a deregistration removes exactly that instance",
            Self::BecomingEmptyIsBelieved => "a source that becomes empty is believed",
            Self::DownKeeps => "a source that is down removes nothing and is stale until it is back",
            Self::DownAtStart => "a source that is down at the start is stale and not empty",
            Self::ChangesWhileDownArrive => "what changed while the source was down arrives when it is back",
            Self::DeniedKeeps => "a refusal removes nothing and is its own state",
            Self::DeniedAtStart => "a refusal at the start is not an empty source",
            Self::NotFoundKeeps => "not found removes nothing and is its own state",
            Self::GarbageKeeps => "garbage removes nothing and makes the registry stale",
            Self::HangKeeps => "a source that hangs removes nothing and makes the registry stale",
            Self::NoBusyLoop => "a source at rest and one that is down get few requests",
            Self::DroppedStops => "a dropped adapter asks no more",
            Self::RereadListsAll => "a reread lists everything again",
            Self::HeldResetIsConfirmed => "a listing that loses most is held until a second read confirms it",
            Self::HeldResetIsCancelled => "a listing that loses most is forgotten when all is listed again",
            Self::TwoAdapters => "two adapters do not touch each other",
        }
    }

    /// Runs it on fresh backends.
    pub async fn run<B: Backend, F: Future<Output = B>>(self, make: &impl Fn() -> F) -> Outcome {
        let backend = make().await;
        let verdict = match self {
            Self::FirstListingIsComplete => first_listing_is_complete(backend).await,
            Self::EmptySourceIsSynced => empty_source_is_synced(backend).await,
            Self::ChangesArrive => changes_arrive(backend).await,
            Self::DeregistrationRemovesExactlyIt => deregistration_removes_exactly_it(backend).await,
            Self::BecomingEmptyIsBelieved => becoming_empty_is_believed(backend).await,
            Self::DownKeeps => keeps(backend, Fault::Down, State::Stale).await,
            Self::DownAtStart => is_not_empty_at_start(backend, Fault::Down, State::Stale).await,
            Self::ChangesWhileDownArrive => changes_while_down_arrive(backend).await,
            Self::DeniedKeeps => keeps(backend, Fault::Denied, State::Denied).await,
            Self::DeniedAtStart => is_not_empty_at_start(backend, Fault::Denied, State::Denied).await,
            Self::NotFoundKeeps => keeps(backend, Fault::NotFound, State::NotFound).await,
            Self::GarbageKeeps => keeps_garbage(backend).await,
            Self::HangKeeps => keeps(backend, Fault::Hang, State::Stale).await,
            Self::NoBusyLoop => no_busy_loop(backend).await,
            Self::DroppedStops => dropped_stops(backend).await,
            Self::RereadListsAll => reread_lists_all(backend).await,
            Self::HeldResetIsConfirmed => held_reset_is_confirmed(backend).await,
            Self::HeldResetIsCancelled => held_reset_is_cancelled(backend).await,
            Self::TwoAdapters => two_adapters(backend, make().await).await,
        };
        match verdict {
            Ok(()) => Outcome::Passed,
            Err(Stop::CannotShow(why)) => Outcome::CannotShow(why),
            Err(Stop::Failed(why)) => Outcome::Failed(why),
        }
    }
}

const API_1: Instance =
    Instance { service: "kit-api", name: "kit-api-1", port: 4101, health: Health::Healthy };
const API_2: Instance =
    Instance { service: "kit-api", name: "kit-api-2", port: 4102, health: Health::Healthy };
const WEB_1: Instance =
    Instance { service: "kit-web", name: "kit-web-1", port: 4103, health: Health::Healthy };
const ALL: [Instance; 3] = [API_1, API_2, WEB_1];

const PLENTY: Duration = Duration::from_secs(1);
const BELIEVES_ALL: GuardSettings =
    GuardSettings { enabled: false, fraction: 1.0, confirm_after: PLENTY, confirm_empty_after: PLENTY };

fn synced_with(instances: &[Instance]) -> impl Fn(&View) -> bool {
    move |view| view.state() == State::Synced && view.holds(instances)
}

async fn put_all(backend: &mut impl Backend) {
    for instance in ALL {
        backend.put(instance).await;
    }
}

/// An adapter that is synced with three instances.
async fn synced(backend: &mut impl Backend, guard: GuardSettings) -> Result<Observer, Stop> {
    put_all(backend).await;
    let mut observer = Observer::new(backend.registry(), guard, backend.pace());
    observer.until("synced with three instances", synced_with(&ALL)).await?;
    Ok(observer)
}

async fn show(backend: &mut impl Backend, fault: Fault) -> Verdict {
    match backend.fault(fault).await {
        Shown::Yes => Ok(()),
        Shown::CannotShow(why) => Err(Stop::CannotShow(why)),
    }
}

async fn first_listing_is_complete(mut backend: impl Backend) -> Verdict {
    put_all(&mut backend).await;
    let mut observer = Observer::new(backend.registry(), BELIEVES_ALL, backend.pace());
    observer.until("synced", |view| view.state() == State::Synced).await?;
    match observer.view().holds(&ALL) {
        true => Ok(()),
        false => Err(Stop::Failed(format!("synced with only {:?}", observer.view().instances()))),
    }
}

async fn empty_source_is_synced(backend: impl Backend) -> Verdict {
    let mut observer = Observer::new(backend.registry(), BELIEVES_ALL, backend.pace());
    observer.until("synced and empty", synced_with(&[])).await?;
    Ok(observer.stays("synced and empty", synced_with(&[])).await?)
}

async fn changes_arrive(mut backend: impl Backend) -> Verdict {
    backend.put(API_1).await;
    let mut observer = Observer::new(backend.registry(), BELIEVES_ALL, backend.pace());
    observer.until("synced with one", synced_with(&[API_1])).await?;
    backend.put(WEB_1).await;
    observer.until("told of a new service's instance", synced_with(&[API_1, WEB_1])).await?;
    backend.put(API_2).await;
    observer.until("told of a known service's instance", synced_with(&ALL)).await?;
    let ill = Instance { health: Health::Unhealthy, ..API_1 };
    backend.put(ill).await;
    observer.until("told of its failing health", synced_with(&[ill, API_2, WEB_1])).await?;
    backend.put(API_1).await;
    Ok(observer.until("told of its good health", synced_with(&ALL)).await?)
}

async fn deregistration_removes_exactly_it(mut backend: impl Backend) -> Verdict {
    let mut observer = synced(&mut backend, GuardSettings::default()).await?;
    backend.remove(API_1).await;
    observer.until("without the first", synced_with(&[API_2, WEB_1])).await?;
    observer.stays("with the other two", synced_with(&[API_2, WEB_1])).await?;
    // The last one of its service.
    backend.remove(WEB_1).await;
    observer.until("with the last one", synced_with(&[API_2])).await?;
    Ok(observer.stays("with the last one", synced_with(&[API_2])).await?)
}

async fn becoming_empty_is_believed(mut backend: impl Backend) -> Verdict {
    let mut observer = synced(&mut backend, BELIEVES_ALL).await?;
    show(&mut backend, Fault::Empty).await?;
    observer.until("empty and synced", synced_with(&[])).await?;
    backend.heal().await;
    Ok(observer.until("with all again", synced_with(&ALL)).await?)
}

async fn keeps(mut backend: impl Backend, fault: Fault, state: State) -> Verdict {
    let mut observer = synced(&mut backend, BELIEVES_ALL).await?;
    show(&mut backend, fault).await?;
    let kept = |view: &View| view.state() == state && view.holds(&ALL);
    observer.until(&format!("{state} with all"), kept).await?;
    observer.stays(&format!("{state} with all"), kept).await?;
    backend.heal().await;
    observer.until("synced again", synced_with(&ALL)).await?;
    backend.remove(API_1).await;
    Ok(observer.until("told of changes again", synced_with(&[API_2, WEB_1])).await?)
}

/// Garbage may be one object's (then the source is well and the object has a problem) or the source's.
async fn keeps_garbage(mut backend: impl Backend) -> Verdict {
    let mut observer = synced(&mut backend, BELIEVES_ALL).await?;
    show(&mut backend, Fault::Garbage).await?;
    let kept = |view: &View| {
        view.holds(&ALL) && (view.state() == State::Stale || !view.freshness.problems.is_empty())
    };
    observer.until("in error with all", kept).await?;
    observer.stays("in error with all", kept).await?;
    backend.heal().await;
    let well = |view: &View| synced_with(&ALL)(view) && view.freshness.problems.is_empty();
    Ok(observer.until("synced again without problems", well).await?)
}

async fn is_not_empty_at_start(mut backend: impl Backend, fault: Fault, state: State) -> Verdict {
    put_all(&mut backend).await;
    show(&mut backend, fault).await?;
    let mut observer = Observer::new(backend.registry(), BELIEVES_ALL, backend.pace());
    let never_listed = |view: &View| view.state() == state && !view.freshness.has_synced();
    observer.until(&format!("{state} and never synced"), never_listed).await?;
    observer.stays(&format!("{state} and never synced"), never_listed).await?;
    backend.heal().await;
    Ok(observer.until("synced with all", synced_with(&ALL)).await?)
}

async fn changes_while_down_arrive(mut backend: impl Backend) -> Verdict {
    backend.put(API_1).await;
    backend.put(API_2).await;
    let mut observer = Observer::new(backend.registry(), BELIEVES_ALL, backend.pace());
    observer.until("synced with two", synced_with(&[API_1, API_2])).await?;
    show(&mut backend, Fault::Down).await?;
    observer.until("stale", |view| view.state() == State::Stale).await?;
    backend.put(WEB_1).await;
    backend.remove(API_1).await;
    observer.stays("as it was", |view| view.holds(&[API_1, API_2])).await?;
    backend.heal().await;
    Ok(observer.until("told of both changes", synced_with(&[API_2, WEB_1])).await?)
}

async fn no_busy_loop(mut backend: impl Backend) -> Verdict {
    let mut observer = synced(&mut backend, BELIEVES_ALL).await?;
    few_requests(&backend, &mut observer, "at rest").await?;
    show(&mut backend, Fault::Down).await?;
    observer.until("stale", |view| view.state() == State::Stale).await?;
    few_requests(&backend, &mut observer, "down").await
}

async fn few_requests(backend: &impl Backend, observer: &mut Observer, when: &str) -> Verdict {
    let pace = backend.pace();
    let before = backend.requests().ok_or(Stop::CannotShow("this source can't count requests"))?;
    observer.stays("with all", |view| view.holds(&ALL)).await?;
    let made = backend.requests().unwrap_or(before).saturating_sub(before);
    let most = (pace.requests_a_second * pace.quiet.as_secs_f64()).ceil();
    match made as f64 <= most {
        true => Ok(()),
        false => {
            Err(Stop::Failed(format!("{made} requests in {:?} {when}; at most {most} are fine", pace.quiet)))
        }
    }
}

async fn dropped_stops(mut backend: impl Backend) -> Verdict {
    let mut observer = synced(&mut backend, BELIEVES_ALL).await?;
    observer.stays("with all", |view| view.holds(&ALL)).await?;
    drop(observer);
    // What was on its way may still arrive.
    sleep(Duration::from_millis(200)).await;
    let before = backend.requests().ok_or(Stop::CannotShow("this source can't count requests"))?;
    backend.put(Instance { health: Health::Unhealthy, ..API_1 }).await;
    let own = backend.requests().unwrap_or(before);
    sleep(backend.pace().quiet).await;
    match backend.requests().unwrap_or(own).saturating_sub(own) {
        0 => Ok(()),
        more => Err(Stop::Failed(format!("{more} requests after it was dropped"))),
    }
}

async fn reread_lists_all(mut backend: impl Backend) -> Verdict {
    put_all(&mut backend).await;
    let (trigger, reread) = Reread::channel();
    let mut stream = backend.registry().watch(reread);
    for wanted in ["the first listing", "the second listing"] {
        let mut listed = View::default();
        let end = Instant::now() + backend.pace().patience;
        while !listed.holds(&ALL) {
            match timeout_at(end, stream.next()).await {
                Ok(Some(Ok(event @ RegistryEvent::Reset { .. }))) => listed.apply(event),
                // An adapter may list piece by piece; only what is listed counts the second time.
                Ok(Some(Ok(event))) if wanted == "the first listing" => listed.apply(event),
                Ok(Some(_)) => {}
                Ok(None) => return Err(Stop::Failed("the adapter's stream ended".to_owned())),
                Err(_) => {
                    let there = listed.instances();
                    return Err(Stop::Failed(format!("{wanted} does not come; only {there:?} are listed")));
                }
            }
        }
        trigger.fire();
    }
    Ok(())
}

async fn held_reset_is_confirmed(mut backend: impl Backend) -> Verdict {
    let confirm_after = backend.pace().quiet;
    let guard =
        GuardSettings { confirm_after, confirm_empty_after: confirm_after, ..GuardSettings::default() };
    let mut observer = synced(&mut backend, guard).await?;
    show(&mut backend, Fault::Empty).await?;
    observer.until("holding a listing back", |view| view.freshness.held_reset.is_some()).await?;
    // Whatever is held first is held at least this long.
    let most = confirm_after.mul_f64(0.8);
    observer.stays_for(most, "with what is held", |view| !view.instances().is_empty()).await?;
    let settled = |view: &View| synced_with(&[])(view) && view.freshness.held_reset.is_none();
    Ok(observer.until("empty after the second read", settled).await?)
}

async fn held_reset_is_cancelled(mut backend: impl Backend) -> Verdict {
    let guard = GuardSettings { confirm_after: backend.pace().patience * 2, ..GuardSettings::default() };
    let mut observer = synced(&mut backend, guard).await?;
    show(&mut backend, Fault::Empty).await?;
    observer.until("holding a listing back", |view| view.freshness.held_reset.is_some()).await?;
    backend.heal().await;
    let settled = |view: &View| synced_with(&ALL)(view) && view.freshness.held_reset.is_none();
    Ok(observer.until("with all and nothing held", settled).await?)
}

async fn two_adapters(mut one: impl Backend, mut other: impl Backend) -> Verdict {
    let mut of_one = synced(&mut one, BELIEVES_ALL).await?;
    let mut of_other = synced(&mut other, BELIEVES_ALL).await?;
    one.remove(API_1).await;
    of_one.until("without the removed one", synced_with(&[API_2, WEB_1])).await?;
    of_other.stays("untouched by a removal", synced_with(&ALL)).await?;
    show(&mut one, Fault::Down).await?;
    of_one.until("stale", |view| view.state() == State::Stale).await?;
    Ok(of_other.stays("untouched by a fault", synced_with(&ALL)).await?)
}
