//! What several targets need: the catalog behind what a registry says, and rules that hold for every event.

use std::collections::BTreeMap;

use weft_model::{Catalog, Entry, RegistryEvent, RegistryId};
use weft_xds::Published;

/// The identifier that all targets use.
pub fn registry(text: &str) -> RegistryId {
    text.parse().expect("a constant of the target")
}

/// A control plane's view of one registry.
pub struct Believer {
    registry: RegistryId,
    catalog: Catalog,
    published: Published,
}

impl Believer {
    /// It has heard nothing.
    pub fn new(registry: &RegistryId) -> Self {
        Self {
            registry: registry.clone(),
            catalog: Catalog::new(BTreeMap::new()),
            published: Published::default(),
        }
    }

    /// Applies an event as the control plane does, up to what proxies are sent. Nothing may panic on the way, and what
    /// was said last is what is held.
    pub fn hear(&mut self, event: RegistryEvent) {
        let said: Option<Vec<Entry>> = match &event {
            RegistryEvent::Reset { scope: weft_model::Scope::All, entries } => Some(entries.clone()),
            _ => None,
        };
        let changes = self.catalog.apply(&self.registry, event);
        let snapshot = self.catalog.snapshot();
        self.published = self.published.advance(&snapshot, &changes, &[]);
        if let Some(said) = said {
            let mut keys: Vec<_> = said.iter().map(Entry::key).collect();
            keys.sort();
            keys.dedup();
            assert_eq!(self.catalog.held_by(&self.registry), keys.len(), "a listing is not what is held");
        }
        assert!(self.published.revision == snapshot.revision);
    }

    /// What proxies are served from.
    pub fn published(&self) -> &Published {
        &self.published
    }
}
