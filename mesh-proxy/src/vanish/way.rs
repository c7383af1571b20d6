//! The way to an endpoint: whether anybody is heard there, shared by all connections to it and all who choose it.
//!
//! In doubt is a way whose host acknowledges nothing, and one that takes no connection: a process that restarts, say.
//! A way in doubt is tried again by a connection of its own, never by a request: who calls does not pay for finding out.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub(crate) struct Way {
    addresses: Rc<[SocketAddr]>,
    connect: Duration,
    doubted: Cell<bool>,
    /// Counts the doubts, so that who tries again ends with its own.
    doubt: Cell<u64>,
    turned: Notify,
}

/// The first try comes soon, since most pauses and restarts are short; the later ones are rarer.
const FIRST_TRY: Duration = Duration::from_millis(250);
/// See [`FIRST_TRY`].
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Way {
    pub(super) fn new(addresses: Rc<[SocketAddr]>, connect: Duration) -> Self {
        Self { addresses, connect, doubted: Cell::new(false), doubt: Cell::new(0), turned: Notify::new() }
    }

    /// Whether others should be preferred.
    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted.get()
    }

    /// Ready when this way comes into doubt, from now on.
    pub(crate) async fn turns(&self) {
        self.turned.notified().await;
    }

    /// Nobody answers on it. True: that is news.
    pub(crate) fn unheard(self: &Rc<Self>) -> bool {
        let news = !self.doubted.replace(true);
        if news {
            self.turned.notify_waiters();
            // Ends with the doubt, and with the last endpoint that is reached this way.
            self.doubt.set(self.doubt.get().wrapping_add(1));
            tokio::task::spawn_local(try_again(Rc::downgrade(self), self.doubt.get()));
        }
        news
    }

    /// Somebody answered.
    pub(crate) fn heard(&self) {
        if self.doubted.replace(false) {
            tracing::info!(addresses = ?self.addresses, "an endpoint is heard again");
        }
    }
}

async fn try_again(way: Weak<Way>, doubt: u64) {
    let mut pause = FIRST_TRY;
    loop {
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.9..1.1))).await;
        let Some(way) = way.upgrade() else { return };
        if !way.is_doubted() || way.doubt.get() != doubt {
            return;
        }
        for address in way.addresses.iter() {
            let tried = tokio::time::timeout(way.connect, TcpStream::connect(address)).await;
            if matches!(tried, Ok(Ok(_))) {
                way.heard();
                return;
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "local")]
    async fn a_way_in_doubt_is_found_again_when_somebody_listens_there_and_not_before() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let way = Rc::new(Way::new(Rc::from([address]), Duration::from_secs(1)));
        assert!(way.unheard(), "it is news");
        assert!(!way.unheard(), "it is none any more");
        tokio::time::sleep(FIRST_TRY * 2).await;
        assert!(way.is_doubted(), "a refusal is no answer");
        let _listener = std::net::TcpListener::bind(address).unwrap();
        let found = async {
            while way.is_doubted() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found).await.expect("it is not found again");
    }
}
