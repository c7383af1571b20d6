//! The keys of one region, as it published them last.
//!
//! They are all that it publishes and nothing else: Nomad publishes a key that signs no more for as long as tokens of it may
//! live. A name that is not among them is asked for at once, since a region may sign by a new key at any time, but not more
//! often than every [`REREAD`]: names cost their sender nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::refusal::NomadUnavailable;
use super::token::Key;
use super::witness::AllocationWitness;

/// The keys of a region.
#[derive(Default)]
pub(super) struct Keys(Mutex<Option<Published>>);

struct Published {
    keys: BTreeMap<String, Arc<Key>>,
    read: Instant,
}

impl Published {
    /// Whether they have to be read again for who asks for `kid`.
    fn are_stale(&self, kid: &str, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.read);
        age >= LONGEST_KEPT || (age >= REREAD && !self.keys.contains_key(kid))
    }
}

impl Keys {
    /// The key of that name, if the region publishes one.
    pub(super) async fn key(
        &self,
        kid: &str,
        witness: &dyn AllocationWitness,
    ) -> Result<Option<Arc<Key>>, NomadUnavailable> {
        // Held while they are read: who comes meanwhile needs the same answer.
        let mut published = self.0.lock().await;
        if published.as_ref().is_none_or(|published| published.are_stale(kid, Instant::now())) {
            let read = Instant::now();
            let keys = witness.signing_keys().await?;
            let keys = keys.iter().filter_map(|key| Some((key.kid.clone(), Arc::new(Key::read(key)?))));
            *published = Some(Published { keys: keys.take(MOST_KEYS).collect(), read });
        }
        Ok(published.as_ref().and_then(|published| published.keys.get(kid).cloned()))
    }
}

/// A key that Nomad takes away must not be good for much longer. Nomad itself asks for 15 minutes at least.
const LONGEST_KEPT: Duration = Duration::from_mins(5);
/// A proxy whose token is signed by a new key tries again after a second or some.
const REREAD: Duration = Duration::from_secs(5);
/// A region has one, and some older ones.
const MOST_KEYS: usize = 256;
