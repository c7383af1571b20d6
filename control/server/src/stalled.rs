//! Streams that are watched from outside: a client that does not read is not asked for its next step by anybody.
//!
//! A stream is pulled by its connection. One whose client gives HTTP/2 no window is never pulled again, and so can't see
//! that its time is over. Each stream notes here until when it should have shown life; one task looks once a second and
//! ends the connections of those that did not. A stream that is pulled ends itself before that, with a status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use weft_ca::transport::Handle;

use crate::proxies::lock;

/// All streams that are watched. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Stalled(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    streams: Mutex<(u64, BTreeMap<u64, Stream>)>,
}

#[derive(Debug)]
struct Stream {
    connection: Handle,
    /// Milliseconds after `began`; 0: it waits for nothing.
    until: Arc<AtomicU64>,
}

/// A stream's entry; dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Watch {
    stalled: Stalled,
    number: u64,
    until: Arc<AtomicU64>,
}

impl Default for Stalled {
    fn default() -> Self {
        Self(Arc::new(Shared { began: Instant::now(), streams: Mutex::default() }))
    }
}

impl Stalled {
    /// Watches a stream on this connection.
    pub(crate) fn watch(&self, connection: Handle) -> Watch {
        let until = Arc::new(AtomicU64::new(0));
        let mut streams = lock(&self.0.streams);
        let number = streams.0;
        streams.0 += 1;
        streams.1.insert(number, Stream { connection, until: Arc::clone(&until) });
        Watch { stalled: self.clone(), number, until }
    }

    /// Looks for ever. `count` is told of each one ended.
    pub(crate) async fn run(self, count: impl Fn()) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            (0..self.end_overdue(Instant::now())).for_each(|_| count());
        }
    }

    fn end_overdue(&self, now: Instant) -> usize {
        let now = self.millis(now);
        let mut ended = 0;
        for stream in lock(&self.0.streams).1.values() {
            let until = stream.until.load(Relaxed);
            if until != 0 && until <= now {
                // Once: its streams are gone when the connection notices.
                stream.until.store(0, Relaxed);
                stream.connection.close();
                ended += 1;
            }
        }
        ended
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.began).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Watch {
    /// The stream has to end itself at `until`; it is ended if it has not a while later.
    pub(crate) fn expect_by(&self, until: Option<Instant>) {
        let until = until.map_or(0, |until| self.stalled.millis(until + GRACE).max(1));
        self.until.store(until, Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.stalled.0.streams).1.remove(&self.number);
    }
}

/// Time for the stream to end itself with a status.
const GRACE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_is_overdue_is_ended_and_once() {
        let stalled = Stalled::default();
        let now = Instant::now();
        let (late, free) = (stalled.watch(Handle::new(false)), stalled.watch(Handle::new(false)));
        late.expect_by(Some(now + Duration::from_secs(1)));
        free.expect_by(None);
        assert_eq!(stalled.end_overdue(now + Duration::from_secs(2)), 0, "its grace is not over");
        assert_eq!(stalled.end_overdue(now + Duration::from_secs(4)), 1);
        assert_eq!(stalled.end_overdue(now + Duration::from_secs(5)), 0);
        late.expect_by(Some(now + Duration::from_secs(1)));
        late.expect_by(None);
        assert_eq!(stalled.end_overdue(now + Duration::from_secs(9)), 0, "it has shown life");
        drop(late);
        assert_eq!(lock(&stalled.0.streams).1.len(), 1);
    }
}
