//! Binds every listener before the workers start: each worker gets its own socket on each address.
//!
//! `SO_REUSEPORT` lets the kernel spread connections over the workers. Port 0 is resolved by the first worker's socket
//! and the others bind what it became. A first, exclusive bind shows that the port is free: with `SO_REUSEPORT` alone a second
//! proxy of the same user would share the port in silence.
//!
//! What is set on a listener the kernel gives to each connection that it accepts, so that accepting costs no further call.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use crate::settings::Settings;
use crate::shared::{Bound, Captured, Sockets};
use crate::tcp::socket::{EVERY, IDLE, PROBES};

/// Waiting connections before the kernel refuses; a burst of callers after a restart fits.
const BACKLOG: i32 = 1024;

/// Which connections a listener on an IPv6 address takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    /// Those of IPv4 too, where the address is `[::]`.
    AsItIs,
    /// None of IPv4: another listener has them, on the same port.
    OwnFamily,
}

/// One set of sockets a worker, and where they are.
pub(crate) fn bind(settings: &Settings) -> Result<(Vec<Sockets>, Bound)> {
    let mut workers: Vec<Sockets> = (0..settings.workers).map(|_| Sockets::default()).collect();
    let mut bound = Bound::default();
    let count = workers.len();
    if settings.has_inbound() {
        let bind = |listen| bind_each(listen, "tunnel.listen", count, Only::AsItIs);
        let (address, sockets) = any_family(settings.tunnel.listen, bind)?;
        bound.tunnel = Some(address);
        give(&mut workers, sockets, |worker, socket| worker.tunnel = Some(socket));
    }
    let capture = &settings.capture;
    let outbound = |to: &mut Captured<TcpListener>, socket| to.outbound.push(socket);
    bound.captured.outbound = bind_captured(&mut workers, &capture.outbound, "capture.outbound", outbound)?;
    let inbound = |to: &mut Captured<TcpListener>, socket| to.inbound.push(socket);
    bound.captured.inbound = bind_captured(&mut workers, &capture.inbound, "capture.inbound", inbound)?;
    if let Some(http) = settings.http.as_ref().filter(|http| !capture.outbound.contains(&http.listen)) {
        let (address, sockets) = bind_each(http.listen, "http.listen", count, Only::AsItIs)?;
        bound.http = Some(address);
        give(&mut workers, sockets, |worker, socket| worker.http = Some(socket));
    }
    for (n, upstream) in settings.upstream.iter().enumerate() {
        let (address, sockets) =
            bind_each(upstream.listen, &format!("upstream[{n}].listen"), count, Only::AsItIs)?;
        bound.upstreams.push(address);
        give(&mut workers, sockets, |worker, socket| worker.upstreams.push(socket));
    }
    for (n, inbound) in settings.inbound.iter().enumerate() {
        let Some(listen) = inbound.permissive else {
            bound.permissive.push(None);
            workers.iter_mut().for_each(|worker| worker.permissive.push(None));
            continue;
        };
        let (address, sockets) = bind_each(listen, &format!("inbound[{n}].permissive"), count, Only::AsItIs)?;
        bound.permissive.push(Some(address));
        give(&mut workers, sockets, |worker, socket| worker.permissive.push(Some(socket)));
    }
    Ok((workers, bound))
}

/// Listeners of one direction, one an address family. A host without IPv6 has nothing to capture there.
fn bind_captured(
    workers: &mut [Sockets],
    addresses: &[SocketAddr],
    key: &str,
    place: impl Fn(&mut Captured<TcpListener>, TcpListener),
) -> Result<Vec<SocketAddr>> {
    let mut bound = Vec::new();
    for (n, address) in addresses.iter().enumerate() {
        let (address, sockets) =
            match bind_each(*address, &format!("{key}[{n}]"), workers.len(), Only::OwnFamily) {
                Ok(sockets) => sockets,
                Err(error) if address.is_ipv6() && addresses.len() > 1 && lacks_ipv6(&error) => {
                    tracing::warn!(%address, "{key}: this host has no IPv6; nothing is captured there");
                    continue;
                }
                Err(error) => return Err(error),
            };
        bound.push(address);
        give(workers, sockets, |worker, socket| place(&mut worker.captured, socket));
    }
    Ok(bound)
}

fn lacks_ipv6(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    code == Some(libc::EADDRNOTAVAIL) || code == Some(libc::EAFNOSUPPORT)
}

/// The sockets of one address of `dns.listen`: one port, over UDP and TCP.
pub(crate) struct DnsSockets {
    pub(crate) udp: UdpSocket,
    pub(crate) tcp: TcpListener,
}

/// The sockets of `dns.listen`, and where they are. A host without IPv6 has nobody who asks there.
pub(crate) fn bind_dns(settings: &Settings) -> Result<(Vec<DnsSockets>, Vec<SocketAddr>)> {
    let listen = &settings.dns.listen;
    let (mut sockets, mut bound) = (Vec::new(), Vec::new());
    for (n, address) in listen.iter().enumerate() {
        match both_transports(*address).with_context(|| format!("dns.listen[{n}] {address}")) {
            Ok((pair, at)) => {
                sockets.push(pair);
                bound.push(at);
            }
            Err(error) if address.is_ipv6() && listen.len() > 1 && lacks_ipv6(&error) => {
                tracing::warn!(%address, "dns.listen: this host has no IPv6; nothing is asked there");
            }
            Err(error) => return Err(error),
        }
    }
    Ok((sockets, bound))
}

fn both_transports(address: SocketAddr) -> std::io::Result<(DnsSockets, SocketAddr)> {
    let mut attempts = if address.port() == 0 { 16 } else { 1 };
    loop {
        let tcp = open(address, false, Only::OwnFamily)?;
        // Port 0 becomes the same one for both; the one that was found for TCP may be another's for UDP.
        let at = tcp.local_addr()?;
        attempts -= 1;
        match UdpSocket::bind(at) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && attempts > 0 => {}
            udp => {
                let udp = udp?;
                udp.set_nonblocking(true)?;
                return Ok((DnsSockets { udp, tcp }, at));
            }
        }
    }
}

/// The admin endpoint's socket.
pub(crate) fn bind_admin(settings: &Settings) -> Result<(SocketAddr, TcpListener)> {
    let listen = settings.admin.listen;
    let context = || format!("admin.listen {listen}");
    let listener = open(listen, false, Only::AsItIs).with_context(context)?;
    Ok((listener.local_addr().with_context(context)?, listener))
}

/// The health port's socket, where there is one.
pub(crate) fn bind_health(settings: &Settings) -> Result<Option<(SocketAddr, TcpListener)>> {
    let Some(listen) = settings.health.listen else { return Ok(None) };
    let at = |address: SocketAddr| -> Result<(SocketAddr, TcpListener)> {
        let listener = open(address, false, Only::AsItIs)?;
        Ok((listener.local_addr()?, listener))
    };
    any_family(listen, at).map(Some).with_context(|| format!("health.listen {listen}"))
}

/// Where `[::]` is set that is both families, or IPv4 alone on a host without IPv6.
fn any_family<T>(listen: SocketAddr, bind: impl Fn(SocketAddr) -> Result<T>) -> Result<T> {
    match bind(listen) {
        Err(error) if listen.is_ipv6() && listen.ip().is_unspecified() && lacks_ipv6(&error) => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port()))
        }
        bound => bound,
    }
}

fn give(workers: &mut [Sockets], sockets: Vec<TcpListener>, place: impl Fn(&mut Sockets, TcpListener)) {
    for (worker, socket) in workers.iter_mut().zip(sockets) {
        place(worker, socket);
    }
}

fn bind_each(
    listen: SocketAddr,
    key: &str,
    count: usize,
    only: Only,
) -> Result<(SocketAddr, Vec<TcpListener>)> {
    let bind = || -> std::io::Result<_> {
        if listen.port() != 0 {
            // Not listened on, so no connection can get lost in it.
            drop(bound_socket(listen, false, only)?);
        }
        let first = open(listen, true, only)?;
        let address = first.local_addr()?;
        let mut sockets = vec![first];
        for _ in 1..count {
            sockets.push(open(address, true, only)?);
        }
        Ok((address, sockets))
    };
    bind().with_context(|| format!("{key} {listen}"))
}

fn open(address: SocketAddr, shared: bool, only: Only) -> std::io::Result<TcpListener> {
    let socket = bound_socket(address, shared, only)?;
    for_connections(&socket)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Without Nagle's delay; and an idle one whose other end is gone is closed, as in `tcp/socket.rs`.
fn for_connections(socket: &Socket) -> std::io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(IDLE).with_interval(EVERY).with_retries(PROBES))
}

fn bound_socket(address: SocketAddr, shared: bool, only: Only) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted proxy gets its port back although old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() && only == Only::OwnFamily {
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let settings = Settings::from_toml(
            "workers = 3\n[tunnel]\nlisten = '127.0.0.1:0'\n[[inbound]]\nservice = 'api'\nport = 80\n\
             [[upstream]]\nservice = 'b'\nlisten = '127.0.0.1:0'",
        );
        let (workers, bound) = bind(&settings).unwrap();
        assert_eq!(workers.len(), 3);
        for worker in &workers {
            assert_eq!(worker.tunnel.as_ref().unwrap().local_addr().unwrap(), bound.tunnel.unwrap());
            assert_eq!(worker.upstreams[0].local_addr().unwrap(), bound.upstreams[0]);
            assert!(worker.permissive[0].is_none() && worker.http.is_none());
        }
    }

    #[test]
    fn an_accepted_connection_is_probed_for_a_peer_that_vanished_and_does_not_wait_to_fill_packets() {
        let (_, listener) = bind_admin(&Settings::from_toml("admin.listen = '127.0.0.1:0'")).unwrap();
        let _caller = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(false).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert!(accepted.keepalive().unwrap() && accepted.tcp_nodelay().unwrap());
        let probed = (accepted.tcp_keepalive_time().unwrap(), accepted.tcp_keepalive_interval().unwrap());
        assert_eq!(probed, (IDLE, EVERY));
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), PROBES);
        assert_eq!(
            accepted.tcp_user_timeout().unwrap(),
            None,
            "it would cut a client that pauses a download"
        );
    }

    #[test]
    fn the_health_port_is_open_where_it_is_set_and_takes_both_families_at_once() {
        assert!(bind_health(&Settings::from_toml("")).unwrap().is_none());
        let both = bind_health(&Settings::from_toml("health.listen = '[::]:0'")).unwrap();
        let (address, _held) = both.unwrap();
        std::net::TcpStream::connect(("127.0.0.1", address.port())).unwrap();
        let taken = Settings::from_toml(&format!("health.listen = '[::]:{}'", address.port()));
        let error = format!("{:#}", bind_health(&taken).unwrap_err());
        assert!(error.contains("health.listen") && error.contains("in use"), "{error}");
    }

    #[test]
    fn a_pure_caller_opens_no_tunnel() {
        let (workers, bound) =
            bind(&Settings::from_toml("[[upstream]]\nservice = 'b'\nlisten = '127.0.0.1:0'")).unwrap();
        assert!(workers[0].tunnel.is_none() && bound.tunnel.is_none());
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_the_setting_also_when_it_is_shared() {
        let settings_of =
            |port| Settings::from_toml(&format!("[[upstream]]\nservice = 'b'\nlisten = '127.0.0.1:{port}'"));
        let (_held, bound) = bind(&settings_of(0)).unwrap();
        let error = bind(&settings_of(bound.upstreams[0].port())).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("upstream[0].listen") && error.contains("in use"), "{error}");
    }
}
