//! Accepting connections, or refusing them with a reason.
//!
//! A connection is refused at once and never left to wait: at the limits of connections and of open files, and while the
//! process is overloaded. Who speaks HTTP/1 is told so; others see a closed connection, and a caller's proxy goes elsewhere.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Worker;
use super::tracker::{Guard, Tracker};
use crate::overload::Pressure;
use crate::telemetry::{Level, Refused};

/// Accepts connections until `tracker` closes; then takes what the kernel has accepted already, and ends.
/// `speaks_http1` says whether who is refused would understand an HTTP/1 response.
pub(crate) async fn accept<F>(
    worker: &Rc<Worker>,
    listener: TcpListener,
    tracker: Rc<Tracker>,
    speaks_http1: impl Fn() -> bool,
    mut handle: impl FnMut(TcpStream, std::net::SocketAddr, Guard) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let listening = tracker.listening();
    let apologies = Rc::new(Cell::new(0));
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = listening.closed() => return,
        };
        match accepted {
            Ok((stream, peer)) => match worker.take(&tracker) {
                Ok(guard) => drop(tokio::task::spawn_local(handle(stream, peer, guard))),
                Err(refused) => {
                    worker.shared.telemetry.refused_by_limit(refused);
                    if refused != Refused::Files && speaks_http1() && apologies.get() < APOLOGIES {
                        let place = Apology::new(&apologies);
                        tokio::task::spawn_local(apologize(stream, place));
                    }
                }
            },
            Err(error) => {
                // Of the connection that was to be accepted, or out of file descriptors: the next try would fail too.
                tracing::debug!(%error, "accepting a connection failed");
                worker.shared.telemetry.refused_by_limit(Refused::Files);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Worker {
    /// A place for a connection that was accepted just now.
    fn take(&self, tracker: &Rc<Tracker>) -> Result<Guard, Refused> {
        let overload = &self.shared.overload;
        if overload.pressure() >= Pressure::High && tracker.open() >= overload.always {
            return Err(Refused::ConnectionMemory);
        }
        if !self.shared.files.has_room(self.open_connections()) {
            // Idle ones make room for the next.
            tracker.close_idle(1);
            return Err(Refused::Files);
        }
        tracker.enter().ok_or(Refused::Connections)
    }

    /// Of the whole process, both ways: each is an open file.
    fn open_connections(&self) -> u64 {
        let open = [
            Level::TunnelConnections,
            Level::OutboundConnections,
            Level::PermissiveConnections,
            Level::UpstreamConnections,
            Level::AppConnections,
        ];
        open.iter().map(|level| u64::try_from(self.shared.telemetry.level(*level)).unwrap_or(0)).sum()
    }
}

/// At once, a listener and worker: a flood is closed without a word.
const APOLOGIES: usize = 64;
/// What a refused caller reads.
const APOLOGY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
                       content-length: 52\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
                       weft: this proxy takes no more connections now (OM)\n";
/// How long the caller may take to read it, and how much of its request is thrown away.
const PATIENCE: Duration = Duration::from_secs(1);
/// See [`PATIENCE`].
const MOST_READ: u64 = 64 * 1024;

/// One place for an apology, until it is dropped.
struct Apology(Rc<Cell<usize>>);

impl Apology {
    fn new(all: &Rc<Cell<usize>>) -> Self {
        all.set(all.get() + 1);
        Self(all.clone())
    }
}

impl Drop for Apology {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Says why, and waits for the caller to close: closing with its request unread would reset the connection under the
/// answer.
async fn apologize(mut stream: TcpStream, _place: Apology) {
    let said = async {
        stream.write_all(APOLOGY.as_bytes()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MOST_READ), &mut tokio::io::sink()).await
    };
    // Whoever does not wait for it does not get it.
    _ = tokio::time::timeout(PATIENCE, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apology_is_as_long_as_it_says() {
        let (head, body) = APOLOGY.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
