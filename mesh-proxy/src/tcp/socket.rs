//! Opening connections: one address after the other, each within the connect time-out, without Nagle's delay.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

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
