//! A control plane: the real ingestion and supervision of each registry, what it stored, and whether it serves yet.

use std::collections::BTreeSet;
use std::time::Duration;

use weft_model::{Entry, Mapping};
use weft_registry::{Supervised, UnixMillis};
use weft_xds::{Ingestion, Source as Followed};

use crate::source::{Source, Style};
use crate::truth::{Condition, Truth};

/// What is left of a registry on disk, and when that was true.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) entries: Vec<Entry>,
    pub(crate) of: Option<Duration>,
}

/// A control plane, running or not.
#[derive(Debug)]
pub(crate) struct Plane {
    /// The number of its process.
    pub(crate) run: u64,
    pub(crate) running: Option<Running>,
    /// By registry: what it stored last, and the time before that.
    pub(crate) files: Vec<Option<Stored>>,
    pub(crate) older: Vec<Option<Stored>>,
    /// What its wall clock adds to the right time, in seconds.
    pub(crate) wall: i64,
    pub(crate) bundle: u8,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) ingestion: Ingestion,
    pub(crate) sources: Vec<Source>,
    pub(crate) serving: bool,
    pub(crate) overdue: bool,
    /// By registry: when that was true which is published.
    pub(crate) shown: Vec<Option<Duration>>,
    /// When it is to be published next.
    pub(crate) wake: Option<Duration>,
    /// Registries of which the file is behind.
    pub(crate) behind: BTreeSet<usize>,
}

impl Plane {
    pub(crate) fn new(registries: usize) -> Self {
        Self {
            run: 0,
            running: None,
            files: vec![None; registries],
            older: vec![None; registries],
            wall: 0,
            bundle: 0,
        }
    }

    /// A new process, with what is on its disk.
    pub(crate) fn start(
        &mut self,
        truths: &[Truth],
        styles: &[Style],
        now: std::time::Instant,
        wall: UnixMillis,
    ) {
        self.run += 1;
        let followed = truths.iter().zip(&self.files).map(|(truth, file)| Followed {
            id: truth.id.clone(),
            mapping: Mapping::default(),
            stored: file.as_ref().map(|file| file.entries.clone()),
        });
        let ingestion = Ingestion::new(followed.collect(), now);
        let sources = truths.iter().zip(&self.files).zip(styles).map(|((truth, file), style)| {
            let (entries, of) = file.as_ref().map_or((&[][..], None), |file| (&file.entries[..], file.of));
            Source::new(truth, *style, entries, of, wall)
        });
        self.running = Some(Running {
            ingestion,
            sources: sources.collect(),
            serving: false,
            overdue: false,
            shown: self.files.iter().map(|file| file.as_ref().and_then(|file| file.of)).collect(),
            wake: None,
            behind: BTreeSet::new(),
        });
    }
}

impl Running {
    /// Does what supervision of a registry says.
    pub(crate) fn take(&mut self, registry: usize, now: std::time::Instant) {
        let Some(source) = self.sources.get_mut(registry) else { return };
        while let Some(item) = source.supervision.next_item() {
            let behind = match item {
                Supervised::Event(id, event) => self.ingestion.apply(&id, event, now).is_some(),
                Supervised::Freshness(id, freshness) => {
                    let heard = freshness.has_synced() && self.ingestion.heard(&id);
                    source.freshness = freshness;
                    heard
                }
            };
            if behind {
                self.behind.insert(registry);
            }
        }
    }

    /// How a registry shows itself to this process.
    ///
    /// Nothing can tell a registry that is empty from one that came back empty, unless it held something and is read again
    /// later. So it is not shown empty to who holds less than the guard protects, or doubts a listing already.
    pub(crate) fn condition(&self, registry: usize, truth: &Truth) -> Condition {
        let workload = |entry: &Entry| matches!(entry, Entry::Workload(_));
        let held = self.ingestion.catalog().entries(&truth.id).into_iter().filter(workload).count();
        let doubts = self.sources.get(registry).is_some_and(|source| source.freshness.held_reset.is_some());
        match truth.condition {
            Condition::Empty if held < 2 || doubts => Condition::Down,
            condition => condition,
        }
    }

    /// Whether proxies may be answered.
    pub(crate) fn is_ready(&self, truths: &[Truth]) -> bool {
        let sources = self.sources.iter().zip(truths);
        sources.into_iter().all(|(source, truth)| source.freshness.lets_serve(truth.required, self.overdue))
    }
}
