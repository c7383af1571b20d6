//! What each registry said last, on disk: a control plane that starts while a registry does not answer serves that.
//!
//! One JSON file a registry, replaced as a whole, at most every [`EVERY`], and less often where writing takes long: it costs
//! what there is and not what changed, so it may take no more than [`SHARE`] of the time. After a crash what is newer is
//! missing until the registry answers. A file that can't be read is set aside and reported: the registry then starts from
//! nothing. It is a copy, never the truth: a registry's first complete listing replaces it. Only what a registry
//! listed completely is written, so that a file says also what is *not* there.

use std::collections::BTreeSet;
use std::fs;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use weft_model::{Catalog, Entry, RegistryId, Service, Workload};
use weft_process::durable;

/// The files, and which of them are behind.
#[derive(Debug)]
pub(crate) struct LastKnown {
    directory: PathBuf,
    changed: BTreeSet<RegistryId>,
    due: Option<Instant>,
    /// No write before this: the last one took long.
    not_before: Instant,
    /// The last write failed, which was logged.
    failing: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// Of this file's form.
    version: u32,
    registry: RegistryId,
    services: Vec<Service>,
    workloads: Vec<Arc<Workload>>,
}

impl LastKnown {
    /// The files in `directory`, which is made when the first is written.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, changed: BTreeSet::new(), due: None, not_before: Instant::now(), failing: false }
    }

    /// What a registry said last; `None` where nothing good is stored, which is not the same as nothing.
    pub(crate) fn read(&self, id: &RegistryId) -> Option<Vec<Entry>> {
        let path = self.path(id);
        match read(&path, id) {
            Ok(stored) => {
                let services = stored.services.into_iter().map(Entry::Service);
                Some(services.chain(stored.workloads.into_iter().map(Entry::Workload)).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let aside = path.with_extension("json.bad");
                let kept = fs::rename(&path, &aside).is_ok();
                tracing::error!(registry = %id, file = %path.display(), %error, kept_as_bad = kept,
                    "what this registry said last can't be read; it starts from nothing");
                None
            }
        }
    }

    /// What this registry holds has changed.
    pub(crate) fn changed(&mut self, id: &RegistryId) {
        self.changed.insert(id.clone());
        self.due.get_or_insert_with(|| (Instant::now() + EVERY).max(self.not_before));
    }

    /// Returns when it is time to [`write`](Self::write).
    pub(crate) async fn write_due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => pending().await,
        }
    }

    /// Writes what has changed. A failure is logged once and tried again later.
    pub(crate) async fn write(&mut self, catalog: &Catalog) {
        let ids = std::mem::take(&mut self.changed);
        self.due = None;
        let started = Instant::now();
        for id in ids {
            let (path, stored) = (self.path(&id), stored(&id, catalog.entries(&id)));
            // Away from the runtime: a disk may take seconds to sync.
            let written = tokio::task::spawn_blocking(move || write(&path, &stored)).await;
            match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(()) => self.failing = false,
                Err(error) => self.failed(&id, &error),
            }
        }
        self.not_before = Instant::now() + started.elapsed() * SHARE;
    }

    fn failed(&mut self, id: &RegistryId, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let directory = self.directory.display();
            tracing::error!(registry = %id, %directory, %error, "what it says can't be stored; it is served all the same");
        }
        self.changed(id);
    }

    fn path(&self, id: &RegistryId) -> PathBuf {
        // A registry's name has no separators, so this can't leave the directory, and '@' is in no name.
        self.directory.join(format!("{}@{}.json", id.kind().as_str(), id.name()))
    }
}

fn stored(id: &RegistryId, entries: Vec<Entry>) -> Stored {
    let mut stored =
        Stored { version: VERSION, registry: id.clone(), services: Vec::new(), workloads: Vec::new() };
    for entry in entries {
        match entry {
            Entry::Service(service) => stored.services.push(service),
            Entry::Workload(workload) => stored.workloads.push(workload),
        }
    }
    stored
}

fn read(path: &Path, id: &RegistryId) -> io::Result<Stored> {
    let stored: Stored = serde_json::from_slice(&fs::read(path)?)?;
    if stored.version != VERSION || stored.registry != *id {
        let (version, registry) = (stored.version, stored.registry);
        return Err(io::Error::other(format!(
            "expected version {VERSION} of {id}, found version {version} of {registry}"
        )));
    }
    Ok(stored)
}

fn write(path: &Path, stored: &Stored) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new(".")))?;
    durable::replace_with(path, |file| Ok(serde_json::to_writer(file, stored)?))
}

/// Often enough that little is lost in a crash, seldom enough that a large busy registry costs little.
const EVERY: Duration = Duration::from_secs(5);
/// Of a hundred milliseconds, at most one is spent on writing.
const SHARE: u32 = 100;
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use weft_model::{RegistryEvent, Scope};

    fn service(name: &str) -> Entry {
        Entry::Service(Service { key: name.parse().unwrap(), ports: Vec::new(), labels: BTreeMap::new() })
    }

    fn id() -> RegistryId {
        "consul/dc1".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::new(BTreeMap::new());
        catalog.apply(
            &id(),
            RegistryEvent::Reset { scope: Scope::All, entries: vec![service("shop/a"), service("b")] },
        );
        let mut last_known = LastKnown::new(directory.path().join("registries"));
        last_known.changed(&id());
        last_known.write_due().await;
        last_known.write(&catalog).await;

        let entries = LastKnown::new(directory.path().join("registries")).read(&id()).unwrap();
        let mut restored = Catalog::new(BTreeMap::new());
        assert!(!restored.restore(&id(), entries).is_empty());
        assert_eq!(restored.snapshot().service_count(), 2);
    }

    #[test]
    fn a_file_that_is_garbage_or_of_another_registry_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let last_known = LastKnown::new(directory.path().to_owned());
        let other = serde_json::to_string(&stored(&"consul/dc2".parse().unwrap(), Vec::new())).unwrap();
        for content in ["{", "", "[]", &other] {
            let path = last_known.path(&id());
            fs::write(&path, content).unwrap();
            assert!(last_known.read(&id()).is_none());
            assert!(!path.exists() && path.with_extension("json.bad").exists(), "{content}");
        }
        assert!(last_known.read(&id()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let blocked = directory.path().join("registries");
        fs::write(&blocked, "a file where the directory should be").unwrap();
        let mut last_known = LastKnown::new(blocked.clone());
        last_known.changed(&id());
        last_known.write(&Catalog::new(BTreeMap::new())).await;
        fs::remove_file(&blocked).unwrap();
        last_known.write_due().await;
        last_known.write(&Catalog::new(BTreeMap::new())).await;
        assert!(last_known.path(&id()).exists());
        assert!(last_known.due.is_none());
    }
}
