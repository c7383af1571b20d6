//! The file adapter: a directory of YAML as a registry.
//!
//! A change of any kind leads to one look at the whole directory (`scan.rs`), whose result is compared with what was told
//! before (`files.rs`); inotify (`watch.rs`) only says when. A slow look without any event is the safety net for what
//! inotify can't see: targets of links, network file systems. It does not descend into subdirectories.

mod convert;
mod decode;
mod document;
mod files;
mod follow;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod scan;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use weft_model::{RegistryEvent, RegistryId, TrustDomain};

use crate::error::RegistryError;
use crate::{Registry, Reread};
use decode::Context;
use follow::Following;

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The directory; its `*.yaml` and `*.yml` are read.
    pub directory: PathBuf,
    /// How often it is looked at without any sign of a change.
    pub rescan: Duration,
}

impl FileSettings {
    /// `directory`, looked at every 10 s besides.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), rescan: Duration::from_secs(10) }
    }
}

/// A directory of YAML files as a registry.
#[derive(Debug)]
pub struct FileRegistry {
    id: RegistryId,
    settings: FileSettings,
    trust_domain: TrustDomain,
}

impl FileRegistry {
    /// The registry `id` of the files in `settings.directory`; service accounts in them are of `trust_domain`.
    pub fn new(id: RegistryId, settings: FileSettings, trust_domain: TrustDomain) -> Self {
        Self { id, settings, trust_domain }
    }
}

impl Registry for FileRegistry {
    fn id(&self) -> &RegistryId {
        &self.id
    }

    fn watch(self: Box<Self>, reread: Reread) -> BoxStream<'static, Result<RegistryEvent, RegistryError>> {
        let context = Context { registry: self.id, trust_domain: self.trust_domain };
        stream::unfold(Following::new(self.settings, context, reread), |mut following| async move {
            let item = following.next().await;
            Some((item, following))
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests;
