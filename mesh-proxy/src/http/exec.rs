//! Lets hyper spawn its connection and stream tasks on this worker's own thread, and ends those whose peer takes nothing.
//!
//! Tasks are `!Send` and live in the worker's runtime, which owns them: they end with the worker. hyper has no clock for a
//! peer that opens streams and never gives them a window. A stream's task is stalled when its response's body has bytes
//! and is not asked for more; who waits for the endpoint is not. The body says which, by a note for the task that polls it.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep};

/// Spawns on this thread's runtime, and ends a stream whose peer takes nothing for so long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdleExec {
    idle: Duration,
}

/// What a response's body did when it was polled last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Took {
    /// It was not polled.
    Nothing,
    /// It gave something, which now is the peer's to take.
    Frame,
    /// It waits for the endpoint.
    Waits,
    /// Its task is being ended, since the peer took nothing for too long.
    Stalled,
}

thread_local! {
    /// The note of the body that is polled at the moment: set and read within one poll of its task.
    static LAST: Cell<Took> = const { Cell::new(Took::Nothing) };
}

/// Leaves the note.
pub(crate) fn note(took: Took) {
    LAST.set(took);
}

/// Whether what is dropped now is so because its peer took nothing.
pub(crate) fn is_stalled() -> bool {
    LAST.get() == Took::Stalled
}

impl IdleExec {
    /// For `timeouts.idle`.
    pub(crate) fn new(idle: Duration) -> Self {
        Self { idle }
    }
}

impl<F> Executor<F> for IdleExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        let task = Unstalled { future: Some(future), idle: self.idle, since: None, timer: None };
        // The worker's runtime owns the task; hyper needs no handle to it.
        drop(tokio::task::spawn_local(task));
    }
}

pin_project_lite::pin_project! {
    /// A task until it ends, or has been stalled for so long.
    struct Unstalled<F> {
        #[pin]
        future: Option<F>,
        idle: Duration,
        since: Option<Instant>,
        // Made when it is first needed, and then left to itself: few streams ever wait for their peer.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for Unstalled<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        note(Took::Nothing);
        if future.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match LAST.get() {
            Took::Frame => *this.since = Some(Instant::now()),
            Took::Waits => *this.since = None,
            Took::Nothing | Took::Stalled => {}
        }
        let Some(since) = *this.since else { return Poll::Pending };
        let due = since + *this.idle;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                break;
            }
            timer.as_mut().reset(due);
        }
        note(Took::Stalled);
        this.future.set(None);
        note(Took::Nothing);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    /// Notes `took` at every poll, is woken every second, and says when it is dropped.
    struct Body {
        took: Rc<Cell<Took>>,
        dropped: Rc<Cell<Option<bool>>>,
        tick: Pin<Box<Sleep>>,
    }

    impl Future for Body {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            note(self.took.get());
            if self.tick.as_mut().poll(cx).is_ready() {
                self.tick.as_mut().reset(Instant::now() + Duration::from_secs(1));
                let _woken = self.tick.as_mut().poll(cx);
            }
            Poll::Pending
        }
    }

    impl Drop for Body {
        fn drop(&mut self) {
            self.dropped.set(Some(is_stalled()));
        }
    }

    fn spawn(took: Took) -> (Rc<Cell<Took>>, Rc<Cell<Option<bool>>>) {
        let (took, dropped) = (Rc::new(Cell::new(took)), Rc::new(Cell::new(None)));
        let tick = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
        IdleExec::new(IDLE).execute(Body { took: took.clone(), dropped: dropped.clone(), tick });
        (took, dropped)
    }

    async fn local(test: impl Future<Output = ()>) {
        tokio::task::LocalSet::new().run_until(test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_peer_takes_nothing_is_ended_after_the_idle_time() {
        local(async {
            let (took, dropped) = spawn(Took::Frame);
            tokio::time::sleep(IDLE / 2).await;
            // From now on the body is not asked any more.
            took.set(Took::Nothing);
            tokio::time::sleep(IDLE - Duration::from_secs(2)).await;
            assert_eq!(dropped.get(), None);
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!(dropped.get(), Some(true), "ended, and as stalled");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_endpoint_is_not_ended() {
        local(async {
            let (took, dropped) = spawn(Took::Frame);
            tokio::time::sleep(IDLE / 2).await;
            took.set(Took::Waits);
            tokio::time::sleep(Duration::from_secs(2)).await;
            took.set(Took::Nothing);
            tokio::time::sleep(IDLE * 10).await;
            assert_eq!(dropped.get(), None);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_that_takes_something_is_not_ended() {
        local(async {
            let (took, dropped) = spawn(Took::Frame);
            for _ in 0..100 {
                took.set(Took::Nothing);
                tokio::time::sleep(IDLE - Duration::from_secs(5)).await;
                took.set(Took::Frame);
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            assert_eq!(dropped.get(), None);
        })
        .await;
    }
}
