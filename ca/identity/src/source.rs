//! Where a process's current SVID and bundles are: written by who obtains them, read by every connection.
//!
//! One value behind one arc-swap, so that an SVID and its bundles can't be of two moments. Readers pay one atomic load
//! and never wait.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::bundle::TrustBundles;
use crate::credentials::Credentials;
use crate::svid::Svid;

/// The current credentials of this process. Clones share them.
#[derive(Clone)]
pub struct SvidSource(Arc<Shared>);

struct Shared {
    current: ArcSwapOption<Credentials>,
    parts: Mutex<Parts>,
    /// The generation, as the wake-up.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Parts {
    svid: Option<Arc<Svid>>,
    bundles: Option<Arc<TrustBundles>>,
}

impl SvidSource {
    /// A source that has nothing yet.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            current: ArcSwapOption::empty(),
            parts: Mutex::default(),
            changed: watch::Sender::new(0),
        }))
    }

    /// Replaces the SVID.
    pub fn set_svid(&self, svid: Svid) {
        self.change(|parts| {
            parts.svid = Some(Arc::new(svid));
            true
        });
    }

    /// Replaces the bundles. The same ones again change nothing: a reconnect shows them anew, and each new
    /// generation makes pools reconnect.
    pub fn set_bundles(&self, bundles: TrustBundles) {
        self.change(|parts| {
            let differs = parts.bundles.as_deref() != Some(&bundles);
            if differs {
                parts.bundles = Some(Arc::new(bundles));
            }
            differs
        });
    }

    /// Replaces both in one step, for a first issue: nobody sees one without the other.
    pub fn set(&self, svid: Svid, bundles: TrustBundles) {
        self.change(|parts| {
            *parts = Parts { svid: Some(Arc::new(svid)), bundles: Some(Arc::new(bundles)) };
            true
        });
    }

    /// The credentials of now; `None` until there was an SVID and bundles.
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.0.current.load_full()
    }

    /// The generation of the current credentials; 0 while there are none.
    pub fn generation(&self) -> u64 {
        *self.0.changed.borrow()
    }

    /// Wakes at each change of the credentials; its value is the generation.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Parts) -> bool) {
        // Parts are replaced whole, so a writer that panicked left nothing half-done.
        let mut parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if !change(&mut parts) {
            return;
        }
        if let (Some(svid), Some(bundles)) = (&parts.svid, &parts.bundles) {
            let generation = self.generation() + 1;
            let credentials = Credentials::new(Arc::clone(svid), Arc::clone(bundles), generation);
            // The value first, then the nudge: who is woken finds it.
            self.0.current.store(Some(Arc::new(credentials)));
            self.0.changed.send_replace(generation);
        }
    }
}

impl Default for SvidSource {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SvidSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SvidSource").field(&self.current()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::TestAuthority;

    #[test]
    fn there_are_no_credentials_until_both_parts_are_there() {
        let authority = TestAuthority::new("weft.test");
        let source = SvidSource::new();
        source.set_svid(authority.svid("/a"));
        assert!(source.current().is_none());
        assert_eq!(source.generation(), 0);
        source.set_bundles(authority.bundles());
        assert_eq!(source.current().unwrap().generation, 1);
    }

    #[test]
    fn a_change_wakes_subscribers_and_equal_bundles_do_not() {
        let authority = TestAuthority::new("weft.test");
        let source = SvidSource::new();
        source.set(authority.svid("/a"), authority.bundles());
        let mut changed = source.subscribe();
        source.set_bundles(authority.bundles());
        assert!(!changed.has_changed().unwrap());
        source.set_svid(authority.svid("/b"));
        assert!(changed.has_changed().unwrap());
        assert_eq!(*changed.borrow_and_update(), 2);
        assert_eq!(source.current().unwrap().svid.id().path(), "/b");
    }
}
