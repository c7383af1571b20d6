//! What each registry said last, on disk: a control plane that starts while a registry does not answer serves that.
//!
//! One file a registry ([`journal`]), written a second after the first change that it lacks, away from the task that ingests:
//! nothing that is published waits for a disk. After a crash what is newer is missing until the registry answers. A file
//! that can't be read is set aside and reported: the registry then starts from nothing. It is a copy, never the truth: a
//! registry's first complete listing replaces it. Only what a registry listed completely is written, so that a file says
//! also what is *not* there.

mod journal;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};
use weft_model::{Catalog, Changes, Entry, EntryKey, RegistryId};

use self::journal::{Journal, Line};

/// The files, and what they lack.
#[derive(Debug)]
pub(crate) struct LastKnown {
    directory: PathBuf,
    /// Written by this process, and good.
    journals: BTreeMap<RegistryId, Journal>,
    behind: BTreeMap<RegistryId, Behind>,
    due: Option<Instant>,
    /// One at a time.
    writing: Option<JoinHandle<Vec<Written>>>,
    /// The last write failed, which was logged.
    failing: bool,
}

/// What a registry's file lacks.
#[derive(Debug)]
enum Behind {
    Whole,
    Keys(BTreeSet<EntryKey>),
}

/// A registry whose file was written.
type Written = (RegistryId, io::Result<Journal>);

impl LastKnown {
    /// The files in `directory`, which is made when the first is written.
    pub(crate) fn new(directory: PathBuf) -> Self {
        let (journals, behind) = (BTreeMap::new(), BTreeMap::new());
        Self { directory, journals, behind, due: None, writing: None, failing: false }
    }

    /// What a registry said last; `None` where nothing good is stored, which is not the same as nothing.
    pub(crate) fn read(&self, id: &RegistryId) -> Option<Vec<Entry>> {
        let path = self.path(id);
        match journal::read(&path, id) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let aside = path.with_extension("jsonl.bad");
                let kept = fs::rename(&path, &aside).is_ok();
                tracing::error!(registry = %id, file = %path.display(), %error, kept_as_bad = kept,
                    "what this registry said last can't be read; it starts from nothing");
                None
            }
        }
    }

    /// A registry has listed everything: all of it is written.
    pub(crate) fn heard(&mut self, id: &RegistryId) {
        self.lacks(id, Behind::Whole);
    }

    /// Some of what a registry holds has changed.
    pub(crate) fn changed(&mut self, id: &RegistryId, changes: Changes) {
        let services = changes.services.into_iter().map(EntryKey::Service);
        let workloads = changes.workloads.into_iter().map(EntryKey::Workload);
        self.lacks(id, Behind::Keys(services.chain(workloads).collect()));
    }

    /// Returns when it is time to [`write`](Self::write).
    pub(crate) async fn due(&mut self) {
        if let Some(writing) = &mut self.writing {
            let written = writing.await;
            self.done(written);
        }
        match self.due {
            Some(due) => sleep_until(due).await,
            None => pending().await,
        }
    }

    /// Begins to write what the files lack. A failure is logged once and tried again later.
    pub(crate) fn write(&mut self, catalog: &Catalog) {
        self.due = None;
        let mut jobs = Vec::new();
        for (id, behind) in std::mem::take(&mut self.behind) {
            let journal = self.journals.remove(&id).filter(Journal::has_room);
            let job = match (behind, journal) {
                (Behind::Keys(keys), Some(journal)) => {
                    let now = |key| catalog.entry(&id, &key).map_or(Line::Gone(key), Line::from);
                    (Some(journal), keys.into_iter().map(now).collect())
                }
                _ => (None, catalog.entries(&id).into_iter().map(Line::from).collect()),
            };
            jobs.push((self.path(&id), id, job));
        }
        if jobs.is_empty() {
            return;
        }
        // Away from the runtime: a disk may take seconds to sync.
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let write =
                |(path, id, (journal, lines)): (PathBuf, RegistryId, (Option<Journal>, Vec<Line>))| {
                    let written = match journal {
                        Some(journal) => journal.append(&path, &lines),
                        None => Journal::replace(&path, &id, &lines),
                    };
                    (id, written)
                };
            jobs.into_iter().map(write).collect()
        }));
    }

    /// Writes what the files still lack, and returns when that is done.
    pub(crate) async fn finish(&mut self, catalog: &Catalog) {
        for last in [false, true] {
            if let Some(writing) = &mut self.writing {
                let written = writing.await;
                self.done(written);
            }
            if !last {
                self.write(catalog);
            }
        }
    }

    fn done(&mut self, written: Result<Vec<Written>, JoinError>) {
        self.writing = None;
        // A write that panicked leaves no journal to append to, so the next change is written whole.
        for (id, written) in written.unwrap_or_default() {
            match written {
                Ok(copy) => {
                    self.failing = false;
                    self.journals.insert(id, copy);
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        let directory = self.directory.display();
                        tracing::error!(registry = %id, %directory, %error,
                            "what it says can't be stored; it is served all the same");
                    }
                    self.heard(&id);
                }
            }
        }
    }

    fn lacks(&mut self, id: &RegistryId, more: Behind) {
        match (self.behind.get_mut(id), more) {
            (Some(Behind::Keys(keys)), Behind::Keys(more)) => keys.extend(more),
            (Some(Behind::Whole), _) => {}
            (_, more) => _ = self.behind.insert(id.clone(), more),
        }
        self.due.get_or_insert_with(|| Instant::now() + AFTER);
    }

    /// A registry is no more: nothing of it is kept.
    pub(crate) fn forget(&mut self, id: &RegistryId) {
        self.behind.remove(id);
        self.journals.remove(id);
        // A write that is under way may bring it back; nobody reads a file whose registry is not there.
        _ = fs::remove_file(self.path(id));
    }

    fn path(&self, id: &RegistryId) -> PathBuf {
        // A registry's name has no separators, so this can't leave the directory, and '@' is in no name.
        self.directory.join(format!("{}@{}.jsonl", id.kind().as_str(), id.name()))
    }
}

/// Often enough that little is lost in a crash; changes of one moment share a write.
const AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
