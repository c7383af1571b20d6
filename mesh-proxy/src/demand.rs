//! What this proxy asks the control plane for: services, the declared upstreams and others when a request names them; and
//! whose the addresses of captured connections are.
//!
//! A known one costs a map lookup and no lock. An unknown one is put into the wanted set and waited for, at most a
//! second. That there is none is an answer too, and stays known while subscribed. What nobody used for
//! ten minutes leaves the set; its size is bounded, so that callers can't fill the memory.
//! The set says what is wanted, not what changed: `mesh.rs` compares it with what it subscribed to, so a request that is
//! cancelled half-way leaves nothing behind.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;
use weft_model::{NetworkAddress, ServiceKey};

use crate::config::{ConfigStore, KnownAddress, KnownService, Owner, ProxyConfig, ServiceConfig};

/// How long a request waits for the control plane's first word.
const WAIT: Duration = Duration::from_secs(1);
/// What is on demand and nobody used for so long is given up.
const IDLE: Duration = Duration::from_secs(600);
/// Where the bound is reached, what was idle for so long makes room.
const IDLE_WHEN_FULL: Duration = Duration::from_secs(30);

/// What a request learns about a service or an address.
#[derive(Debug, Clone)]
pub(crate) enum Answer<T = Arc<ServiceConfig>> {
    /// It exists.
    Present(T),
    /// The control plane said that there is none.
    Absent,
    /// The control plane said nothing within a second, or too many are asked for.
    Unknown,
}

/// What can be asked for.
pub(crate) trait Asked: Clone + Eq + Hash + Display + Debug {
    /// What it turns out to be.
    type Found;
    /// The setting that bounds how many are asked for at a time.
    const LIMIT: &str;
    /// What `config` knows of it.
    fn look(&self, config: &ProxyConfig) -> Option<Answer<Self::Found>>;
}

impl Asked for ServiceKey {
    type Found = Arc<ServiceConfig>;
    const LIMIT: &str = "limits.on_demand_services";
    fn look(&self, config: &ProxyConfig) -> Option<Answer<Self::Found>> {
        Some(match config.services.get(self)? {
            KnownService::Present(service) => Answer::Present(service.clone()),
            KnownService::Absent => Answer::Absent,
        })
    }
}

impl Asked for NetworkAddress {
    type Found = Owner;
    const LIMIT: &str = "limits.on_demand_addresses";
    fn look(&self, config: &ProxyConfig) -> Option<Answer<Self::Found>> {
        Some(match config.addresses.get(self)? {
            KnownAddress::Owned(owner) => Answer::Present(owner.clone()),
            KnownAddress::Free => Answer::Absent,
        })
    }
}

type LastUse<K> = imbl::HashMap<K, Arc<AtomicU64>>;

/// The set of what is wanted. Used by every worker.
#[derive(Debug)]
pub(crate) struct Demand<K = ServiceKey> {
    declared: HashSet<K>,
    /// Those on demand, with the second of their last use. Requests read it without a lock.
    on_demand: ArcSwap<LastUse<K>>,
    /// Held while `on_demand` is replaced, so that writers don't lose each other's entries.
    writing: Mutex<()>,
    limit: usize,
    start: Instant,
    changed: Notify,
}

impl<K: Asked> Demand<K> {
    /// Those of `declared` are wanted for ever; at most `limit` others at a time.
    pub(crate) fn new(declared: impl IntoIterator<Item = K>, limit: usize) -> Self {
        Self {
            declared: declared.into_iter().collect(),
            on_demand: ArcSwap::default(),
            writing: Mutex::new(()),
            limit,
            start: Instant::now(),
            changed: Notify::new(),
        }
    }

    /// Those that are always wanted.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &K> {
        self.declared.iter()
    }

    /// How many are wanted on demand.
    pub(crate) fn on_demand(&self) -> usize {
        self.on_demand.load().len()
    }

    /// All that is wanted now.
    pub(crate) fn wanted(&self) -> HashSet<K> {
        self.declared.iter().cloned().chain(self.on_demand.load().keys().cloned()).collect()
    }

    /// Whether this one is wanted now.
    pub(crate) fn wants(&self, key: &K) -> bool {
        self.declared.contains(key) || self.on_demand.load().contains_key(key)
    }

    /// Waits until the set has changed since the last call. For one waiter, which is `mesh.rs`.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What `config` knows of it, if anything. Notes the use. No wait, no lock.
    pub(crate) fn known(&self, config: &ProxyConfig, key: &K) -> Option<Answer<K::Found>> {
        let known = key.look(config)?;
        if !self.declared.contains(key) {
            self.touch(key);
        }
        Some(known)
    }

    /// What it is; where nothing is known of it yet, asks for it and waits up to a second.
    pub(crate) async fn ask(&self, config: &ConfigStore, key: &K) -> Answer<K::Found> {
        if let Some(answer) = self.known(&config.load(), key) {
            return answer;
        }
        let mut changes = config.changes();
        if !self.want(key) {
            tracing::warn!(of = %key, limit = self.limit, "not asked for: {} is reached", K::LIMIT);
            return Answer::Unknown;
        }
        let answered = async {
            loop {
                if let Some(answer) = self.known(&config.load(), key) {
                    return answer;
                }
                if changes.changed().await.is_err() {
                    return Answer::Unknown;
                }
            }
        };
        tokio::time::timeout(WAIT, answered).await.unwrap_or(Answer::Unknown)
    }

    /// Puts `key` into the set; false where there is no room.
    pub(crate) fn want(&self, key: &K) -> bool {
        if self.wants(key) {
            return true;
        }
        let _writing = self.write();
        let mut set = LastUse::<K>::clone(&self.on_demand.load());
        if set.len() >= self.limit && !self.make_room(&mut set) {
            return false;
        }
        set.entry(key.clone()).or_insert_with(|| Arc::new(AtomicU64::new(self.second())));
        self.on_demand.store(Arc::new(set));
        self.changed.notify_one();
        true
    }

    /// Gives up what nobody used for ten minutes. The shell calls it now and then.
    pub(crate) fn evict(&self) {
        let _writing = self.write();
        let before = self.on_demand.load_full();
        let mut set = LastUse::<K>::clone(&before);
        set.retain(|_, used| self.idle_for(used) < IDLE);
        if set.len() != before.len() {
            self.on_demand.store(Arc::new(set));
            self.changed.notify_one();
        }
    }

    /// Removes the one that was idle longest, where that is long enough.
    fn make_room(&self, set: &mut LastUse<K>) -> bool {
        let idlest = set.iter().min_by_key(|(_, used)| used.load(Ordering::Relaxed));
        let idlest =
            idlest.filter(|(_, used)| self.idle_for(used) >= IDLE_WHEN_FULL).map(|(key, _)| key.clone());
        idlest.is_some_and(|key| set.remove(&key).is_some())
    }

    fn touch(&self, key: &K) {
        if let Some(used) = self.on_demand.load().get(key) {
            let now = self.second();
            // Written once a second at most: the line stays shared between the workers' caches.
            if used.load(Ordering::Relaxed) != now {
                used.store(now, Ordering::Relaxed);
            }
        }
    }

    fn idle_for(&self, used: &AtomicU64) -> Duration {
        Duration::from_secs(self.second().saturating_sub(used.load(Ordering::Relaxed)))
    }

    fn second(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    fn write(&self) -> MutexGuard<'_, ()> {
        // Nothing is half done when a holder panics: the set is replaced whole.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        name.parse().unwrap()
    }

    fn absent(name: &str, revision: u64) -> ProxyConfig {
        ProxyConfig {
            revision,
            services: imbl::HashMap::unit(key(name), KnownService::Absent),
            ..ProxyConfig::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_service_is_wanted_and_answered_when_the_control_plane_does() {
        let demand = Demand::new([], 10);
        let config = ConfigStore::new(ProxyConfig::default());
        let plane = async {
            demand.changed().await;
            assert!(demand.wanted().contains(&key("api")));
            tokio::time::sleep(Duration::from_millis(300)).await;
            config.publish(absent("api", 1));
        };
        let asked = Instant::now();
        let api = key("api");
        let (answer, ()) = tokio::join!(demand.ask(&config, &api), plane);
        assert!(matches!(answer, Answer::Absent), "{answer:?}");
        assert_eq!(asked.elapsed(), Duration::from_millis(300));
        // The answer is cached: no wait the second time.
        assert!(matches!(demand.ask(&config, &key("api")).await, Answer::Absent));
        assert_eq!(asked.elapsed(), Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_control_plane_costs_a_second_and_no_more() {
        let demand = Demand::new([], 10);
        let config = ConfigStore::new(ProxyConfig::default());
        let asked = Instant::now();
        assert!(matches!(demand.ask(&config, &key("api")).await, Answer::Unknown));
        assert_eq!(asked.elapsed(), WAIT);
        assert!(demand.wanted().contains(&key("api")), "it stays wanted for the next request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_nobody_uses_is_given_up_and_a_used_one_stays() {
        let demand = Demand::new([key("declared")], 10);
        assert!(demand.want(&key("idle")) && demand.want(&key("used")));
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        assert!(matches!(demand.known(&absent("used", 1), &key("used")), Some(Answer::Absent)));
        tokio::time::advance(Duration::from_secs(2)).await;
        demand.evict();
        assert_eq!(demand.wanted(), HashSet::from([key("declared"), key("used")]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_set_makes_room_only_of_what_is_idle() {
        let demand = Demand::new([], 2);
        assert!(demand.want(&key("a")) && demand.want(&key("b")));
        assert!(!demand.want(&key("c")), "both are in use");
        tokio::time::advance(IDLE_WHEN_FULL + Duration::from_secs(1)).await;
        assert!(demand.known(&absent("b", 1), &key("b")).is_some());
        assert!(demand.want(&key("c")));
        assert_eq!(demand.wanted(), HashSet::from([key("b"), key("c")]));
    }
}
