//! Copies bytes both ways between two connections until both directions have ended.
//!
//! One side's end of data is passed on and the other direction goes on: half-close. What goes through is counted as it
//! goes, so that a connection that breaks has its bytes on record. Nothing for the idle time-out ends it; the clock is
//! looked at by a coarse timer, not set anew with each byte.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

/// What went through, also while it is still going on.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// From the client to the endpoint.
    pub(crate) up: Cell<u64>,
    /// From the endpoint to the client.
    pub(crate) down: Cell<u64>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both sides said that they were done.
    Whole,
    /// Nothing went through for the idle time.
    Idle,
    /// The client's connection broke.
    Client(io::Error),
    /// The endpoint's did.
    Endpoint(io::Error),
}

/// What one read takes at most: a TLS record is at most 16 KiB, and larger reads save calls on bulk.
const BUFFER: usize = 32 * 1024;

thread_local! {
    /// Where reads of this thread land: a connection that waits for bytes holds no buffer for them.
    static LANDING: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Copies until the end.
pub(crate) async fn both_ways<C, E>(
    client: &mut C,
    endpoint: &mut E,
    idle: Duration,
    traffic: &Traffic,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    E: AsyncRead + AsyncWrite + Unpin,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (endpoint_read, endpoint_write) = tokio::io::split(endpoint);
    let last = Cell::new(Instant::now());
    let up = one_way(client_read, endpoint_write, &traffic.up, &last);
    let down = one_way(endpoint_read, client_write, &traffic.down, &last);
    let copied = async {
        tokio::try_join!(async { up.await.map_err(Side::up) }, async { down.await.map_err(Side::down) })
    };
    tokio::select! {
        biased;
        ended = copied => match ended {
            Ok(_) => Ended::Whole,
            Err(ended) => ended,
        },
        () = idle_for(idle, &last) => Ended::Idle,
    }
}

/// Which end of one direction failed.
enum Side {
    Reader(io::Error),
    Writer(io::Error),
}

impl Side {
    fn up(self) -> Ended {
        match self {
            Self::Reader(error) => Ended::Client(error),
            Self::Writer(error) => Ended::Endpoint(error),
        }
    }

    fn down(self) -> Ended {
        match self {
            Self::Reader(error) => Ended::Endpoint(error),
            Self::Writer(error) => Ended::Client(error),
        }
    }
}

async fn one_way(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    count: &Cell<u64>,
    last: &Cell<Instant>,
) -> Result<(), Side> {
    loop {
        let bytes = poll_fn(|cx| land(Pin::new(&mut reader), cx)).await.map_err(Side::Reader)?;
        last.set(Instant::now());
        if bytes.is_empty() {
            return writer.shutdown().await.map_err(Side::Writer);
        }
        writer.write_all(&bytes).await.map_err(Side::Writer)?;
        // TLS keeps what the socket did not take.
        writer.flush().await.map_err(Side::Writer)?;
        count.set(count.get().saturating_add(bytes.len() as u64));
        last.set(Instant::now());
    }
}

/// What there is to read, as a copy of its own; nothing at the end.
fn land(reader: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
    LANDING.with_borrow_mut(|landing| {
        let mut buffer = ReadBuf::new(landing);
        reader.poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().to_vec())
    })
}

async fn idle_for(idle: Duration, last: &Cell<Instant>) {
    loop {
        let due = last.get() + idle;
        if due <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_end_of_one_direction_leaves_the_other_open() {
        let (mut client, mut near) = duplex(1024);
        let (mut far, mut server) = duplex(1024);
        let traffic = Traffic::default();
        let script = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut question = Vec::new();
            server.read_to_end(&mut question).await.unwrap();
            assert_eq!(question, b"question");
            server.write_all(b"a long answer").await.unwrap();
            server.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"a long answer");
        };
        let (ended, ()) = tokio::join!(both_ways(&mut near, &mut far, IDLE, &traffic), script);
        assert!(matches!(ended, Ended::Whole), "{ended:?}");
        assert_eq!((traffic.up.get(), traffic.down.get()), (8, 13));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_carries_nothing_ends_after_the_idle_time_and_not_before() {
        let (mut client, mut near) = duplex(1024);
        let (mut far, _server) = duplex(1024);
        let traffic = Traffic::default();
        let start = Instant::now();
        let script = async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            client.write_all(b"x").await.unwrap();
            client
        };
        let (ended, _client) = tokio::join!(both_ways(&mut near, &mut far, IDLE, &traffic), script);
        assert!(matches!(ended, Ended::Idle), "{ended:?}");
        assert_eq!(start.elapsed().as_secs(), 110);
    }

    #[tokio::test]
    async fn a_side_that_is_gone_is_named() {
        let (client, mut near) = duplex(16);
        let (mut far, mut server) = duplex(16);
        drop(client);
        let traffic = Traffic::default();
        server.write_all(&[0; 16]).await.unwrap();
        let ended = both_ways(&mut near, &mut far, IDLE, &traffic).await;
        assert!(matches!(ended, Ended::Client(_)), "{ended:?}");
    }
}
