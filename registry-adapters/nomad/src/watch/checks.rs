//! The checks of allocations. Nomad's servers don't know their results, and their nodes tell them only to who asks.
//!
//! Each allocation that has checks is asked every `checks_every`, and at once when it is new. One whose node does not
//! answer keeps what it said last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::follow::Report;
use super::shared::Shared;
use crate::answer::CheckResult;
use crate::client::Answer;

/// Runs for ever.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut wanted = shared.checked.subscribe();
    let mut tick = interval(shared.settings.checks_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = JoinSet::new();
    let (mut known, mut busy) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let now: Vec<String> = tokio::select! {
            _ = tick.tick() => wanted.borrow().clone(),
            Ok(()) = wanted.changed() => {
                let all = wanted.borrow_and_update().clone();
                let new: Vec<String> = all.iter().filter(|one| !known.contains(*one)).cloned().collect();
                known = all.into_iter().collect();
                new
            }
            Some(ended) = asking.join_next() => {
                if let Ok(allocation) = ended {
                    busy.remove(&allocation);
                }
                continue;
            }
        };
        for allocation in now {
            // A node that hangs has one question at a time.
            if busy.insert(allocation.clone()) {
                asking.spawn(ask(shared.clone(), allocation));
            }
        }
    }
}

async fn ask(shared: Arc<Shared>, allocation: String) -> String {
    let permit = shared.permits.acquire().await;
    let path = ["v1", "client", "allocation", allocation.as_str(), "checks"];
    let started = Instant::now();
    let answer: Result<Answer<BTreeMap<String, CheckResult>>, _> =
        shared.client.get("an allocation's checks", &path, &[], None).await;
    drop(permit);
    match answer {
        Ok(answer) => {
            let results = answer.value.into_values().collect();
            shared.report(Report::Checks { allocation: allocation.clone(), results }).await;
        }
        Err(error) => {
            tracing::debug!(allocation, took = ?started.elapsed(), "its checks are not known: {error}");
        }
    }
    allocation
}
