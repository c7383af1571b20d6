//! The way to ask an adapter for a second read.
//!
//! A watch channel, not a queue: an adapter that is busy reading owes one more read, however often it was asked, and an
//! adapter of many tasks gives each its own clone, all of which wake.

use std::future;

use tokio::sync::watch;

/// What an adapter awaits: somebody wants everything read anew.
#[derive(Debug, Clone)]
pub struct Reread(watch::Receiver<u64>);

impl Reread {
    /// A trigger and the handle that it wakes.
    pub fn channel() -> (RereadTrigger, Reread) {
        let (sender, receiver) = watch::channel(0);
        (RereadTrigger(sender), Reread(receiver))
    }

    /// A handle that never wakes.
    pub fn never() -> Reread {
        Self::channel().1
    }

    /// Returns once a read was requested that this clone has not yet returned for. Cancel safe. Waits for ever
    /// where nobody can ask any more.
    pub async fn requested(&mut self) {
        if self.0.changed().await.is_err() {
            future::pending::<()>().await;
        }
    }
}

/// What asks.
#[derive(Debug)]
pub struct RereadTrigger(watch::Sender<u64>);

impl RereadTrigger {
    /// Asks for everything to be read anew.
    pub fn fire(&self) {
        self.0.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_made_while_nobody_waits_is_kept_and_counts_once_for_each_clone() {
        let (trigger, mut one) = Reread::channel();
        let mut other = one.clone();
        trigger.fire();
        trigger.fire();
        one.requested().await;
        other.requested().await;
        assert!(timeout(Duration::from_secs(1), one.requested()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_anybody_who_can_ask_it_waits_for_ever() {
        assert!(timeout(Duration::from_secs(3600), Reread::never().requested()).await.is_err());
    }
}
