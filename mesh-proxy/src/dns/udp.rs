//! Queries over UDP: a task each, as many as there are places.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use weft_dns::MAX_MESSAGE;

use super::{Dns, Transport};

/// Serves for ever.
pub(super) async fn serve(dns: Arc<Dns>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    // Bounded by the places for queries.
    let mut queries = JoinSet::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        while queries.try_join_next().is_some() {}
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An answer to a client that is gone may come back as an error here.
                tracing::debug!("receiving a DNS query: {error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        let bytes: Vec<u8> = buffer.iter().copied().take(length).collect();
        let Some(place) = dns.place() else {
            if let Some(answer) = dns.turn_away(bytes) {
                // A client whose buffer is full asks again.
                _ = socket.try_send_to(&answer, peer);
            }
            continue;
        };
        let (dns, socket) = (dns.clone(), socket.clone());
        queries.spawn(async move {
            let _place = place;
            if let Some(answer) = dns.answer(bytes, peer, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, peer).await
            {
                tracing::debug!(%peer, "sending a DNS answer: {error}");
            }
        });
    }
}
