//! Queries over TCP: one after the other on each connection, as many connections as there are places.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::forward::{read_message, write_message};
use super::{Dns, Transport};
use crate::telemetry::Refused;

/// For a query to come, or an answer to be taken (RFC 7766 6.2.3 leaves it to the server: seconds).
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves for ever.
pub(super) async fn serve(dns: Arc<Dns>, listener: TcpListener) {
    // Bounded by the places for connections.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => match dns.connections.clone().try_acquire_owned() {
                Ok(place) => {
                    let dns = dns.clone();
                    connections.spawn(async move {
                        let _place = place;
                        // A client that goes away is its own business.
                        _ = serve_connection(&dns, stream, peer).await;
                    });
                }
                Err(_full) => dns.shared.telemetry.refused_by_limit(Refused::DnsConnections),
            },
            Err(error) => {
                // Out of file descriptors: waiting is all that helps.
                tracing::warn!("accepting a DNS connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(dns: &Dns, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    loop {
        let bytes = timeout(PATIENCE, read_message(&mut stream)).await??;
        let answer = match dns.place() {
            Some(_place) => dns.answer(bytes, peer, Transport::Tcp).await,
            None => dns.turn_away(bytes),
        };
        // What gets no answer is no client.
        let Some(answer) = answer else { return Ok(()) };
        timeout(PATIENCE, write_message(&mut stream, &answer)).await??;
    }
}
