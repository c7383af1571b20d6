//! Captured connections of the local application: the kernel led them here, and tells where they were going.
//!
//! A virtual address, of the registries or of this proxy's own names, is its service; an instance's own address is that very instance; what is nobody's in the mesh is
//! passed on as it came, or refused. Of a private address nobody's is only what the control plane says is nobody's: its
//! silence is no answer. A connection that was made to the listener itself was not captured: there requests
//! name their services, as on the HTTP port.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};
use weft_model::{NetworkAddress, ServiceKey};

use super::{Open, passthrough, serve_any, serve_cluster};
use crate::balance::cluster::Wanted;
use crate::config::{Owner, ServiceConfig};
use crate::demand::Answer;
use crate::http::failure::Failure;
use crate::record::ResponseFlag;
use crate::settings::{PortRef, UnknownDestination};
use crate::tcp::original::original_destination;
use crate::worker::{Guard, Worker};

/// Accepts for one listener of `capture.outbound`.
pub(crate) async fn accept_captured(worker: Rc<Worker>, listener: TcpListener) {
    let Ok(own) = listener.local_addr() else { return };
    let tracker = worker.outbound.clone();
    let serving = worker.clone();
    crate::worker::accept(
        &worker,
        listener,
        tracker,
        || false,
        move |stream, peer, guard| serve(serving.clone(), own, stream, peer, guard),
    )
    .await;
}

async fn serve(worker: Rc<Worker>, own: SocketAddr, stream: TcpStream, peer: SocketAddr, guard: Guard) {
    let _open = Open::new(&worker);
    let Some(to) = original_destination(&stream, own) else {
        return called_itself(worker, stream, peer, guard).await;
    };
    // The application of this host calls a listener of its own proxy by the host's address.
    if to.ip() == peer.ip() && worker.shared.bound.is_own(to) {
        let words = format!("{to} is a listener of this proxy itself");
        let failure = Failure::unsent(ResponseFlag::NoRoute, words);
        return passthrough::refuse(&worker, peer, to, &failure);
    }
    // Every proxy serves its health port as it is: probes and scrapers have no identity.
    if worker.shared.bound.health.is_some_and(|health| health.port() == to.port()) {
        return passthrough::relay(worker, to, stream, peer, guard).await;
    }
    if let Some(names) = &worker.shared.names {
        let given = names.given();
        if given.contains(to.ip()) {
            let service = given.service(to.ip()).cloned();
            drop(given);
            return serve_name(worker, service, to, stream, peer, guard).await;
        }
    }
    let network = worker.shared.settings.capture.network.clone();
    let address = NetworkAddress { network, ip: to.ip() };
    let owner = tokio::select! {
        biased;
        owner = worker.owner(&address) => owner,
        () = guard.closed() => return,
    };
    let port = Some(PortRef::Number(to.port()));
    let wanted = match owner {
        Answer::Present(Owner::Service(service)) => {
            Wanted { service, at: None, port, protocol: None, plaintext: true }
        }
        Answer::Present(Owner::Itself(config)) if !leads_in(&config, to.port()) => {
            return nobodys(worker, to, stream, peer, guard).await;
        }
        Answer::Present(Owner::Itself(config)) => {
            Wanted { service: config.key.clone(), at: Some(address), port, protocol: None, plaintext: true }
        }
        Answer::Unknown if is_private(to.ip()) => {
            let words = format!("whose {to} is was not answered: the control plane has not been heard");
            let failure = Failure::unsent(ResponseFlag::NoHealthyUpstream, words);
            return passthrough::refuse(&worker, peer, to, &failure);
        }
        Answer::Absent | Answer::Unknown => return nobodys(worker, to, stream, peer, guard).await,
    };
    let cluster = worker.cluster(&wanted);
    serve_cluster(worker, cluster, stream, peer, guard).await;
}

/// Serves a connection to a virtual address. One that no name was answered with leads nowhere: it is no address of the
/// network's.
async fn serve_name(
    worker: Rc<Worker>,
    service: Option<ServiceKey>,
    to: SocketAddr,
    stream: TcpStream,
    peer: SocketAddr,
    guard: Guard,
) {
    let Some(service) = service else {
        let words = format!("{to} is in dns.range and stands for no service");
        let failure = Failure::unsent(ResponseFlag::NoRoute, words);
        return passthrough::refuse(&worker, peer, to, &failure);
    };
    let port = Some(PortRef::Called(to.port()));
    // Who calls a name of the mesh wants the mesh, unless the settings say otherwise.
    let plaintext = worker.shared.settings.dns.plaintext;
    let cluster = worker.cluster(&Wanted { service, at: None, port, protocol: None, plaintext });
    serve_cluster(worker, cluster, stream, peer, guard).await;
}

async fn nobodys(worker: Rc<Worker>, to: SocketAddr, stream: TcpStream, peer: SocketAddr, guard: Guard) {
    match worker.shared.settings.capture.unknown {
        UnknownDestination::Pass => passthrough::relay(worker, to, stream, peer, guard).await,
        UnknownDestination::Refuse => {
            let words = format!("{to} is nobody's in the mesh, and capture.unknown is refuse");
            passthrough::refuse(&worker, peer, to, &Failure::unsent(ResponseFlag::NoRoute, words));
        }
    }
}

/// Not captured: the HTTP port, where it is here.
async fn called_itself(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr, guard: Guard) {
    let settings = &worker.shared.settings;
    let http = settings.http.as_ref().map(|http| http.listen);
    if http.is_some_and(|http| settings.capture.outbound.contains(&http)) {
        return serve_any(worker, stream, peer, guard).await;
    }
    tracing::debug!(%peer, "a connection to the capturing listener itself: it leads nowhere");
}

/// Whether an address is one that members of a mesh have. While nobody says whose it is, passing it on could be a call to
/// a member in plaintext, which an attacker on the control plane would like; what is elsewhere goes on working.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        // RFC 1918; RFC 6598 for pods of some providers.
        IpAddr::V4(ip) => ip.is_private() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        // RFC 4193.
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// Whether an instance that is called by its own address is reached through the mesh at this port. What its proxy does not
/// take is another program of the same host.
fn leads_in(config: &ServiceConfig, port: u16) -> bool {
    config.endpoints.iter().any(|endpoint| {
        endpoint.captured || endpoint.ports.iter().any(|registered| registered.number == port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_members_of_a_mesh_have_are_private() {
        for private in ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.127.0.1", "fd00::1"] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["8.8.8.8", "100.63.0.1", "100.128.0.1", "169.254.169.254", "2001:db8::1", "fe80::1"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }
}
