//! The watch on the directory: what makes the adapter look again.
//!
//! inotify says only *that* something happened; what it was is found by looking, so lost or reordered events do no harm.
//! Where it is not to be had (the system's limit of watches is used up), the adapter looks every second instead. Files that
//! were moved into place are told by name: they are whole, so that nobody has to wait for their writer, and the others
//! need no look, however many there are.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::time::{Instant, timeout, timeout_at};

use super::scan::counts;

/// Where something may be different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Where {
    /// Anywhere.
    Everywhere,
    /// In these files, which were moved into place; and in what links to `others`, if anything does.
    Moved {
        /// Files that count, by name.
        names: BTreeSet<OsString>,
        /// Something else happened, to names that do not count.
        others: bool,
    },
}

/// Events of one directory.
pub(super) struct DirectoryWatch {
    events: Option<EventStream<[u8; BUFFER]>>,
}

/// The part of the watch that makes system calls on the directory, and so may block.
#[derive(Clone)]
pub(super) struct Arming {
    /// Or why there can be none.
    watches: Result<Watches, String>,
    armed: Option<WatchDescriptor>,
}

impl DirectoryWatch {
    /// A watch on nothing yet. Where there can be none, it never wakes, and arming says why.
    pub(super) fn new() -> (Self, Arming) {
        match Inotify::init().and_then(|inotify| inotify.into_event_stream([0; BUFFER])) {
            Ok(events) => {
                let watches = Ok(events.watches());
                (Self { events: Some(events) }, Arming { watches, armed: None })
            }
            Err(error) => (Self { events: None }, Arming { watches: Err(error.to_string()), armed: None }),
        }
    }

    /// Returns some time after something happened, when it is quiet again. Cancel safe enough: an event lost by
    /// cancelling is made up for by the caller, who looks everywhere then.
    pub(super) async fn changed(&mut self) -> Where {
        let Some(events) = &mut self.events else { return std::future::pending().await };
        let mut found = Where::Moved { names: BTreeSet::new(), others: false };
        // An error (events overflowed, interrupted) is a reason to look as well, after the pause below.
        found.add(events.next().await);
        let end = Instant::now() + QUIET_AT_MOST;
        while let Ok(Ok(event)) = timeout_at(end, timeout(found.quiet(), events.next())).await {
            found.add(event);
            // Without this, errors that are always ready would spin until the end.
            tokio::task::yield_now().await;
        }
        found
    }
}

impl Where {
    fn add(&mut self, event: Option<io::Result<EventOwned>>) {
        let Self::Moved { names, others } = self else { return };
        let Some(Ok(EventOwned { mask, name: Some(name), .. })) = event else {
            *self = Self::Everywhere;
            return;
        };
        match (counts(&name), mask == EventMask::MOVED_TO) {
            (true, true) => {
                names.insert(name);
            }
            (true, false) => *self = Self::Everywhere,
            (false, _) => *others = true,
        }
    }

    fn quiet(&self) -> Duration {
        match self {
            Self::Everywhere => QUIET,
            Self::Moved { .. } => QUIET_WHEN_MOVED,
        }
    }
}

impl Arming {
    #[cfg(test)]
    pub(super) fn impossible(why: &str) -> Self {
        Self { watches: Err(why.to_owned()), armed: None }
    }

    /// Watches what is at the path now, which may be another directory than last time. Blocking.
    pub(super) fn arm(&mut self, directory: &Path) -> io::Result<()> {
        let watches = self.watches.as_mut().map_err(|error| io::Error::other(error.clone()))?;
        let armed = watches.add(directory, events_of_interest())?;
        if let Some(old) = self.armed.replace(armed.clone()).filter(|old| *old != armed) {
            // The kernel has removed it itself where the old directory is gone.
            let _ = watches.remove(old);
        }
        Ok(())
    }
}

/// Everything that can change what a look shows; not the reading of files, which looking itself does.
fn events_of_interest() -> WatchMask {
    WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_FROM
        | WatchMask::MOVED_TO
        | WatchMask::DELETE
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
}

/// Some hundred events; more overflow into the kernel's queue and are coalesced by looking.
const BUFFER: usize = 16 << 10;
/// Editors and tools write in several steps; longer than the time that makes a file settled.
const QUIET: Duration = Duration::from_millis(20);
/// Files that were moved into place are whole; one tool moves several in a row.
const QUIET_WHEN_MOVED: Duration = Duration::from_millis(1);
/// A directory in which something happens all the time is looked at nevertheless.
const QUIET_AT_MOST: Duration = Duration::from_millis(200);
