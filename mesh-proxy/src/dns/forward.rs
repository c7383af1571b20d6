//! The sockets of a forwarded query: one for each server that is asked, on a port that the kernel draws.
//!
//! A connected socket takes messages of that server alone; what else must fit is `weft_dns::Forwarding`'s to judge.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};
use weft_dns::{Forwarding, Heard, MAX_MESSAGE, Query, Step};

use super::{Dns, Transport};
use crate::worker::now;

/// Asks one server after the other; `None` when nobody answered.
pub(super) async fn forward(dns: &Dns, query: &Query, transport: Transport) -> Option<Vec<u8>> {
    let servers = dns.resolvers.servers(now());
    let mut forwarding = Forwarding::new(query, servers, dns.shared.settings.dns.timeout);
    loop {
        let (server, until) = match forwarding.next(rand::random(), now()) {
            Step::Ask { server, until } => (server, Instant::from_std(until)),
            Step::Answer(answer) => return Some(answer),
            Step::Failed => return None,
        };
        let asked = async {
            match transport {
                Transport::Udp => over_udp(dns, &mut forwarding, server).await,
                Transport::Tcp => over_tcp(dns, &mut forwarding, server).await,
            }
        };
        match timeout_at(until, asked).await {
            Ok(Ok(Some(answer))) => return Some(answer),
            Ok(Ok(None)) => tracing::debug!(%server, "a nameserver has no answer"),
            Ok(Err(error)) => tracing::debug!(%server, "a nameserver can't be asked: {error}"),
            Err(_) => tracing::debug!(%server, "a nameserver does not answer"),
        }
    }
}

/// `None`: the server said that it has no answer.
async fn over_udp(dns: &Dns, forwarding: &mut Forwarding, server: SocketAddr) -> io::Result<Option<Vec<u8>>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    let _asking = dns.asks_from(socket.local_addr()?);
    socket.send(forwarding.message()).await?;
    loop {
        socket.readable().await?;
        match received(&socket) {
            Ok(bytes) => match forwarding.heard(server, bytes) {
                Heard::Answer(answer) => return Ok(Some(answer)),
                Heard::Unhelpful => return Ok(None),
                Heard::Stray => tracing::debug!(%server, "not an answer to what was asked"),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// The buffer lives while there is something to read, and not while the server thinks.
fn received(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let length = socket.try_recv(&mut buffer)?;
    buffer.truncate(length);
    buffer.shrink_to_fit();
    Ok(buffer)
}

async fn over_tcp(dns: &Dns, forwarding: &mut Forwarding, server: SocketAddr) -> io::Result<Option<Vec<u8>>> {
    let mut stream = TcpStream::connect(server).await?;
    let _asking = dns.asks_from(stream.local_addr()?);
    write_message(&mut stream, forwarding.message()).await?;
    match forwarding.heard(server, read_message(&mut stream).await?) {
        Heard::Answer(answer) => Ok(Some(answer)),
        Heard::Unhelpful => Ok(None),
        Heard::Stray => Err(io::Error::other("it answered another question")),
    }
}

/// RFC 1035 4.2.2: over TCP a message's length comes first.
pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// RFC 7766 8: length and message in one write.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}
