//! Opaque bytes from a caller to the local application: HBONE's `CONNECT`, and plaintext connections.
//!
//! The authority must be this workload's own address and an inbound port: that is what keeps the tunnel from being an open
//! proxy. The answer is 200 only when the application's connection stands.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use ::http::{Response, Uri};
use tokio::net::TcpStream;

use crate::http::body::ResponseBody;
use crate::http::call::Call;
use crate::http::failure::Failure;
use crate::http::upgrade::{Answered, Switching, finish};
use crate::inbound::{Connection, Port};
use crate::record::{Reporter, ResponseFlag};
use crate::tcp::bytes::{Bytes, reset};
use crate::tcp::copy::{Ended, Traffic, both_ways};

/// Answers a `CONNECT`.
pub(super) async fn tunnel(
    connection: &Connection,
    fixed: Option<Rc<Port>>,
    uri: &Uri,
    client: Switching,
    call: &mut Call,
) -> Result<Answered, Failure> {
    if fixed.is_some() {
        let words = "a plaintext listener is for requests and bytes of one port, not for CONNECT";
        return Err(Failure::unsent(ResponseFlag::DownstreamProtocolError, words));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let port = reachable(connection, authority)?;
    let tcp = open(connection, &port, call).await?;
    let response = Response::new(ResponseBody::empty());
    Ok(Answered::Switched { response, client, endpoint: Switching::Now(Bytes::Tcp(tcp)) })
}

/// Relays a plaintext connection.
pub(super) async fn relay(
    connection: &Connection,
    port: Rc<Port>,
    mut stream: TcpStream,
    mut call: Box<Call>,
) {
    let opened = match port.refuse_own(&connection.worker.shared.bound) {
        Ok(()) => open(connection, &port, &mut call).await,
        Err(failure) => Err(failure),
    };
    match opened {
        Ok(mut tcp) => {
            let traffic = Traffic::default();
            let idle = connection.worker.shared.settings.timeouts.idle;
            let ended = both_ways(&mut stream, &mut tcp, idle, &traffic).await;
            match &ended {
                Ended::Endpoint(_) => reset(&stream),
                Ended::Client(_) => reset(&tcp),
                Ended::Whole | Ended::Idle => {}
            }
            finish(call, &traffic, &ended);
        }
        Err(failure) => {
            call.failed(&failure);
            call.complete();
        }
    }
}

fn reachable(connection: &Connection, authority: &str) -> Result<Rc<Port>, Failure> {
    let refuse = |words: String| Failure::unsent(ResponseFlag::DownstreamProtocolError, words);
    let address: SocketAddr = authority
        .parse()
        .map_err(|_| refuse(format!("CONNECT {authority:?} is not an address and a port")))?;
    let ip = address.ip().to_canonical();
    let own = ip.is_loopback()
        || connection.ports.local() == Some(ip)
        || connection
            .worker
            .shared
            .settings
            .tunnel
            .addresses
            .iter()
            .any(|own: &IpAddr| own.to_canonical() == ip);
    if !own {
        let words =
            format!("CONNECT {authority}: not an address of this workload (tunnel.addresses names more)");
        return Err(refuse(words));
    }
    connection
        .port(address.port())
        .map_err(|failure| Failure { flag: ResponseFlag::DownstreamProtocolError, ..failure })
}

async fn open(connection: &Connection, port: &Port, call: &mut Call) -> Result<TcpStream, Failure> {
    call.record.destination = Some(port.destination.clone());
    call.record.upstream = Some(port.app);
    let opened = connection.worker.dialer.tcp(&[port.app]).await;
    let (tcp, _) = opened.map_err(|error| error.failure())?;
    let (source, to) = (call.record.source.as_ref(), call.record.destination.as_ref());
    connection.worker.shared.telemetry.tcp_opened(Reporter::Destination, source, to, call.record.mtls);
    Ok(tcp)
}
