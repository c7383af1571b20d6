//! Opening connections: one address after the other, each within the connect time-out, without Nagle's delay; and the
//! kernel's own means against peers that are gone.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// Connects to the first address that answers.
///
/// # Errors
/// The last address's error; a time-out is `TimedOut`.
pub(crate) async fn connect(addresses: &[SocketAddr], each: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "there is no address");
    for address in addresses {
        match tokio::time::timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok((stream, *address));
            }
            Ok(Err(error)) => last = error,
            Err(_elapsed) => {
                last = io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {each:?}"))
            }
        }
    }
    Err(last)
}

/// Silence on an idle connection is asked about after so long, …
pub(crate) const IDLE: Duration = Duration::from_secs(20);
/// … so often, …
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// … and so many times before it is closed.
pub(crate) const PROBES: u32 = 4;
/// What a proxy has not acknowledged for so long it never will.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Has the kernel close an idle connection whose other end is gone.
pub(crate) fn keep_alive(stream: &TcpStream) {
    let set = || {
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, IDLE)?;
        sockopt::set_tcp_keepintvl(stream, EVERY)?;
        sockopt::set_tcp_keepcnt(stream, PROBES)
    };
    // Fails on a socket that is dead already.
    let _ = set();
}

/// Has the kernel close a connection between proxies that acknowledges nothing (RFC 5482). Not for others: Linux counts
/// a full window as well, so a client that pauses a download would be cut off; a proxy always reads.
pub(crate) fn give_up_unacknowledged(stream: &TcpStream) {
    // As above.
    let _ = sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED.as_millis() as u32);
}
