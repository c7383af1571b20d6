//! The way from the API's answers to events without an API server: the door for the fuzz targets.
//!
//! The same decoding, conversion and view as in `watch.rs`; only the transport and its clocks are missing.

use weft_model::{Entry, EntryKey, RegistryEvent, RegistryId, TrustDomain};
use weft_registry::Problem;

use crate::convert::Context;
use crate::object::{Kind, Object, Source, WatchLine, decode_line, decode_page};
use crate::settings::{KubernetesSettings, NamespaceSettings};
use crate::view::View;

/// A cluster of which only answers are seen.
#[derive(Debug)]
pub struct Answers {
    registry: RegistryId,
    trust_domain: TrustDomain,
    view: View,
    /// All objects as they were said last.
    objects: Vec<Object>,
}

impl Answers {
    /// Everything was read, and there was nothing.
    pub fn new(registry: RegistryId, trust_domain: TrustDomain) -> Self {
        let view = read(&registry, &trust_domain, &[]).0;
        Self { registry, trust_domain, view, objects: Vec::new() }
    }

    /// Takes a line of a watch of the kind with this letter (`s`, `e`, `p`, `n`). `None`: it can't be read.
    pub fn line(&mut self, letter: u8, line: &[u8]) -> Option<Vec<RegistryEvent>> {
        match decode_line(kind(letter)?, line).ok()?? {
            WatchLine::Changed(changed) => self.changed(changed.object),
            WatchLine::Deleted(deleted) => {
                self.objects.retain(|object| !object.is_same(&deleted.object));
                self.view.on_deleted(&deleted.object);
            }
            WatchLine::Bookmark { .. } | WatchLine::Error { .. } => {}
        }
        Some(self.view.settle(NOW))
    }

    /// Takes a page of a list as so many changes. `None`: it can't be read.
    pub fn page(&mut self, letter: u8, body: &[u8]) -> Option<Vec<RegistryEvent>> {
        for object in decode_page(kind(letter)?, body).ok()?.objects {
            self.changed(object);
        }
        Some(self.view.settle(NOW))
    }

    fn changed(&mut self, object: Object) {
        self.objects.retain(|known| !known.is_same(&object));
        self.objects.push(object.clone());
        self.view.on_changed(object);
    }

    /// What the mesh was told, all in all.
    pub fn told(&self) -> Vec<(EntryKey, Entry)> {
        sorted(self.view.all())
    }

    /// What it would be told by somebody who reads the objects as they are now.
    pub fn anew(&self) -> Vec<(EntryKey, Entry)> {
        sorted(read(&self.registry, &self.trust_domain, &self.objects).1)
    }

    /// What is wrong with single objects.
    pub fn problems(&self) -> Vec<Problem> {
        self.view.problems()
    }
}

/// A view that has read these objects, and what it says then.
fn read(registry: &RegistryId, trust_domain: &TrustDomain, objects: &[Object]) -> (View, RegistryEvent) {
    let network = KubernetesSettings::default().network;
    let context = Context { registry: registry.clone(), trust_domain: trust_domain.clone(), network };
    let sources = KINDS.map(|(_, kind)| Source { kind, namespace: None });
    let mut view = View::new(context, NamespaceSettings::default(), sources.to_vec());
    for object in objects {
        view.on_changed(object.clone());
    }
    for source in &sources {
        view.on_listed(source, Vec::new(), true);
    }
    // Held to be missing, since no list had them: they are there.
    for object in objects {
        view.on_changed(object.clone());
    }
    view.settle(NOW);
    let all = view.all();
    (view, all)
}

fn sorted(event: RegistryEvent) -> Vec<(EntryKey, Entry)> {
    let RegistryEvent::Reset { entries, .. } = event else { return Vec::new() };
    let mut entries: Vec<_> = entries.into_iter().map(|entry| (entry.key(), entry)).collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    entries
}

fn kind(letter: u8) -> Option<Kind> {
    KINDS.into_iter().find_map(|(known, kind)| (known == letter).then_some(kind))
}

const KINDS: [(u8, Kind); 4] =
    [(b's', Kind::Services), (b'e', Kind::Slices), (b'p', Kind::Pods), (b'n', Kind::Nodes)];
const NOW: u64 = 7;
