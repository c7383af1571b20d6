//! A deadline that moves with every byte and costs a timer only when it comes near.
//!
//! The timer is set when somebody first waits, and then not again before it fires: most deadlines are put off long before.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline.
#[derive(Debug)]
pub(crate) struct Clock {
    due: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Due at this time.
    pub(crate) fn new(due: Instant) -> Self {
        Self { due, timer: None }
    }

    /// Moves it.
    pub(crate) fn set(&mut self, due: Instant) {
        self.due = due;
        if let Some(timer) = &mut self.timer
            && due < timer.deadline()
        {
            timer.as_mut().reset(due);
        }
    }

    /// Ready when it has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.due;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_put_off_comes_later_and_one_that_is_drawn_near_sooner() {
        let start = Instant::now();
        let mut clock = Clock::new(start + Duration::from_secs(10));
        assert!(futures::poll!(poll_fn(|cx| clock.poll(cx))).is_pending());
        clock.set(start + Duration::from_secs(30));
        poll_fn(|cx| clock.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 30);
        let start = Instant::now();
        clock.set(start + Duration::from_secs(100));
        assert!(futures::poll!(poll_fn(|cx| clock.poll(cx))).is_pending());
        clock.set(start + Duration::from_secs(5));
        poll_fn(|cx| clock.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
