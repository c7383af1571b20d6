//! A word that one task can be told once, on one thread: "leave". Costs two looks and no lock where it is polled often.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Whether it was told, and who listens.
#[derive(Debug, Default)]
pub(crate) struct Told {
    told: Cell<bool>,
    listener: RefCell<Option<Waker>>,
}

/// Ready when it is told. One at a time listens.
#[derive(Debug)]
pub(crate) struct Heard {
    told: Rc<Told>,
    /// The waker as the other side has it.
    waker: Option<Waker>,
}

impl Told {
    /// Tells it.
    pub(crate) fn tell(&self) {
        self.told.set(true);
        if let Some(waker) = self.listener.take() {
            waker.wake();
        }
    }

    /// Whether it was.
    pub(crate) fn is_told(&self) -> bool {
        self.told.get()
    }

    /// Whether somebody would hear it now.
    pub(crate) fn is_listened_to(&self) -> bool {
        self.listener.borrow().is_some()
    }

    /// Listens.
    pub(crate) fn heard(self: &Rc<Self>) -> Heard {
        Heard { told: self.clone(), waker: None }
    }
}

impl Future for Heard {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.told.is_told() {
            return Poll::Ready(());
        }
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            *self.told.listener.borrow_mut() = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        if self.waker.is_some() {
            self.told.listener.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::task::noop_waker_ref;

    use super::*;

    #[tokio::test]
    async fn a_waiting_task_is_woken_by_the_waker_it_used_last() {
        let told = Rc::new(Told::default());
        let mut heard = told.heard();
        assert!(heard.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_pending());
        let tell = async {
            tokio::task::yield_now().await;
            told.tell();
        };
        tokio::join!(heard, tell);
        assert!(told.heard().now_or_never().is_some(), "who comes later hears it too");
    }

    #[test]
    fn who_stops_listening_is_forgotten() {
        let told = Rc::new(Told::default());
        let mut heard = told.heard();
        assert!(heard.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_pending());
        assert!(told.is_listened_to());
        drop(heard);
        assert!(!told.is_listened_to());
    }
}
