//! Who was thrown out again and again: a client that misbehaves and comes back at once would have each stream's limits
//! anew. Kept by identity and address, so that one host with a stolen certificate does not shut out the others.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use weft_ca::transport::PeerIdentity;
use weft_ca::{Buckets, RateLimit};
use weft_model::SpiffeId;

use crate::proxies::lock;

/// The record of all clients. Clones share it; its size is bounded.
#[derive(Debug, Clone)]
pub(crate) struct Expelled(Arc<Mutex<Buckets<(SpiffeId, IpAddr)>>>);

impl Default for Expelled {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Buckets::new(OFTEN))))
    }
}

impl Expelled {
    /// A stream of this client was ended for what it did.
    pub(crate) fn note(&self, peer: &PeerIdentity) {
        if let Some(key) = key(peer) {
            lock(&self.0).allow(&key, Instant::now());
        }
    }

    /// Whether it may open another one.
    pub(crate) fn may_return(&self, peer: &PeerIdentity) -> bool {
        key(peer).is_none_or(|key| lock(&self.0).could(&key, Instant::now()))
    }
}

fn key(peer: &PeerIdentity) -> Option<(SpiffeId, IpAddr)> {
    Some((peer.id.clone()?, peer.remote.ip()))
}

/// A fleet with a wrong version behind one address may come back a few times at once; then one every two seconds.
const OFTEN: RateLimit = RateLimit { per_second: 0.5, burst: 20 };
