//! A connection's settings, and the task that drives it.
//!
//! A peer that answers no PING is given up, with every stream that waits for it. It is asked only while there are such
//! streams: what nobody waits for is closed by its pool.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use crate::http::serve::{
    CONNECTION_WINDOW, MOST_STREAMS, PING_EVERY, PING_TIMEOUT, SEND_BUFFER, STREAM_WINDOW,
};

/// Opens streams.
pub(crate) type Sender = SendRequest<Bytes>;

/// The settings for connections whose responses' heads have at most so many bytes.
pub(crate) fn builder(head_bytes: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(MOST_STREAMS as usize)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(head_bytes)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Drives a connection to its end, and keeps `limit` at what its peer allows. `streams` are the open ones.
pub(crate) async fn drive<I>(
    mut connection: Connection<I, Bytes>,
    limit: Rc<Cell<usize>>,
    streams: Rc<Cell<usize>>,
) where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut alive = KeepAlive::new(connection.ping_pong());
    poll_fn(|cx| {
        if alive.poll(cx, streams.get() > 0).is_ready() {
            // Its streams learn it from the connection's end.
            return Poll::Ready(());
        }
        let polled = Pin::new(&mut connection).poll(cx);
        limit.set(connection.max_concurrent_send_streams());
        // Errors reach the streams.
        polled.map(drop)
    })
    .await;
}

struct KeepAlive {
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    /// A PING is on its way.
    asked: bool,
}

impl KeepAlive {
    fn new(pings: Option<PingPong>) -> Self {
        Self { pings, timer: Box::pin(sleep(PING_EVERY)), asked: false }
    }

    /// Ready when the peer has not answered in time.
    fn poll(&mut self, cx: &mut Context<'_>, busy: bool) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            if self.asked && pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.timer.as_mut().reset(Instant::now() + PING_EVERY);
            }
            ready!(pin!(&mut self.timer).poll(cx));
            if self.asked {
                return Poll::Ready(());
            }
            self.asked = busy && pings.send_ping(Ping::opaque()).is_ok();
            let pause = if self.asked { PING_TIMEOUT } else { PING_EVERY };
            self.timer.as_mut().reset(Instant::now() + pause);
        }
    }
}
