//! The contract of registry adapters as tests: every adapter runs them on a scripted server and on the real one.
//!
//! A [`Backend`] is what an adapter reads from, with the means to change and to break it. Each [`Case`] gets a fresh one
//! and judges only what the supervised adapter says, so the same cases fit every platform. A backend that can't show a
//! fault (a real server can't be made to send garbage) says so, and that is an outcome of its own, never a silent pass.
//!
//! ```text
//! async fn scripted() -> ScriptedConsul { … }             // implements Backend
//! weft_registry::contract_tests!(scripted);               // one #[tokio::test] a case
//! ```

mod cases;
mod observer;
pub mod real;
mod watching;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use weft_model::Health;

use crate::Registry;

pub use cases::Case;
pub use observer::{Observer, View};
pub use watching::Watching;

/// An instance that the kit registers. Its port is unique within a case, and it is what the kit knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Its service. All of the kit's services start with `kit-`; others in the source are ignored.
    pub service: &'static str,
    /// Its name or id at the source.
    pub name: &'static str,
    /// Its port at the source; the adapter must report a workload port of this number.
    pub port: u16,
    /// `Healthy` or `Unhealthy`.
    pub health: Health,
}

/// What a source can be made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not answer: connection refused, directory gone.
    Down,
    /// It refuses the adapter.
    Denied,
    /// It says that what the adapter was told to read does not exist.
    NotFound,
    /// It answers what can't be understood.
    Garbage,
    /// It takes requests and answers nothing.
    Hang,
    /// It holds nothing, truthfully.
    Empty,
}

/// Whether a fault could be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The source does it now.
    Yes,
    /// This source can't; with the reason.
    CannotShow(&'static str),
}

/// How fast a source and its adapter are.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After this, what must happen has not happened.
    pub patience: Duration,
    /// For this long, what must not happen does not happen.
    pub quiet: Duration,
    /// More requests a second than this are a busy loop.
    pub requests_a_second: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { patience: Duration::from_secs(10), quiet: Duration::from_millis(700), requests_a_second: 30.0 }
    }
}

/// A source that a case can change and break. Dropping it cleans up.
pub trait Backend: Send {
    /// A new adapter that reads from it. Called before and during faults.
    fn registry(&self) -> Box<dyn Registry>;

    /// Registers the instance, or changes the one of that name. During a fault it is remembered for after it.
    fn put(&mut self, instance: Instance) -> impl Future<Output = ()> + Send;

    /// Takes the instance away. During a fault it is remembered for after it.
    fn remove(&mut self, instance: Instance) -> impl Future<Output = ()> + Send;

    /// Starts a fault.
    fn fault(&mut self, fault: Fault) -> impl Future<Output = Shown> + Send;

    /// Ends the fault: the source answers again, with what was put and not removed.
    fn heal(&mut self) -> impl Future<Output = ()> + Send;

    /// Requests that the source got so far, where it can count them.
    fn requests(&self) -> Option<u64> {
        None
    }

    /// How fast it is.
    fn pace(&self) -> Pace {
        Pace::default()
    }
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The adapter keeps this clause of the contract.
    Passed,
    /// The backend can't show it; with the reason.
    CannotShow(&'static str),
    /// The adapter breaks the contract; with what happened.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::CannotShow(why) => write!(f, "NOT SHOWN: {why}"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// Runs all cases, each on a fresh backend, one after the other.
pub async fn run<B: Backend, F: Future<Output = B>>(make: impl Fn() -> F) -> Vec<(Case, Outcome)> {
    let mut outcomes = Vec::new();
    for case in Case::ALL {
        outcomes.push((case, case.run(&make).await));
    }
    outcomes
}

/// Runs one case and prints how it ended.
///
/// # Panics
/// When the adapter breaks the contract.
pub async fn check<B: Backend, F: Future<Output = B>>(case: Case, make: impl Fn() -> F) {
    let outcome = case.run(&make).await;
    eprintln!("contract: {}: {outcome}", case.name());
    assert!(!matches!(outcome, Outcome::Failed(_)), "{}: {outcome}", case.name());
}

/// One `#[tokio::test]` for each case of the contract. The argument is an `async fn()` that makes a fresh
/// [`Backend`](crate::testkit::Backend).
#[macro_export]
macro_rules! contract_tests {
    ($make:path) => {
        $crate::contract_tests!(@each $make:
            first_listing_is_complete FirstListingIsComplete,
            an_empty_source_is_synced_and_empty EmptySourceIsSynced,
            a_new_instance_and_its_health_arrive ChangesArrive,
            a_deregistration_removes_exactly_it DeregistrationRemovesExactlyIt,
            a_source_that_becomes_empty_is_believed BecomingEmptyIsBelieved,
            a_source_that_is_down_removes_nothing DownKeeps,
            a_source_that_is_down_at_the_start_is_not_empty DownAtStart,
            what_changed_while_the_source_was_down_arrives ChangesWhileDownArrive,
            a_refusal_removes_nothing DeniedKeeps,
            a_refusal_at_the_start_is_not_empty DeniedAtStart,
            not_found_removes_nothing NotFoundKeeps,
            garbage_removes_nothing GarbageKeeps,
            a_source_that_hangs_removes_nothing HangKeeps,
            a_source_at_rest_and_one_down_get_few_requests NoBusyLoop,
            a_dropped_adapter_asks_no_more DroppedStops,
            a_reread_lists_everything_again RereadListsAll,
            a_listing_that_loses_most_is_held_and_confirmed HeldResetIsConfirmed,
            a_listing_that_loses_most_is_held_and_cancelled HeldResetIsCancelled,
            two_adapters_do_not_touch_each_other TwoAdapters
        );
    };
    (@each $make:path: $($name:ident $case:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::testkit::check($crate::testkit::Case::$case, $make).await;
        }
    )*};
}
