//! The file adapter's loop: wait for a reason to look, look, tell what is different.
//!
//! Looking runs on a blocking thread, one at a time and with a deadline: a file system that hangs makes the registry
//! stale and nothing else. The state lives in the struct and not in the futures, so that none is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};
use weft_model::{RegistryEvent, Scope};

use super::FileSettings;
use super::decode::Context;
use super::files::Files;
use super::scan::{SETTLED_AFTER, Scan, Stamp, scan, scan_moved, shown};
use super::watch::{Arming, DirectoryWatch, Where};
use crate::Reread;
use crate::backoff::Backoff;
use crate::error::{Problem, RegistryError};
use crate::freshness::UnixMillis;

/// What a look brought: the watch, whether it watches now, and what there is.
struct Look {
    arming: Arming,
    armed: io::Result<()>,
    scan: Result<Scan, RegistryError>,
    /// Only the files that were moved into place were looked at.
    partial: bool,
}

/// A directory that is followed.
pub(super) struct Following {
    settings: FileSettings,
    context: Context,
    reread: Reread,
    watch: Option<(DirectoryWatch, Arming)>,
    files: Files,
    stamps: Arc<BTreeMap<String, Stamp>>,
    /// Whether some file is a link.
    links: bool,
    looking: Option<JoinHandle<Look>>,
    /// Files that were moved into place, where a look at them is all that is due.
    moved: Option<BTreeSet<OsString>>,
    next_look: Instant,
    /// Since when some file is being written.
    unsettled: Option<Instant>,
    /// Whether the next good look is told as everything there is.
    tell_all: bool,
    /// Whether the last look failed, so that the next good one is told even if it brings nothing.
    failed: bool,
    problems: Vec<Problem>,
    backoff: Backoff,
    /// What one look brought: at most an item each for new, gone and wrong objects.
    ready: VecDeque<Result<RegistryEvent, RegistryError>>,
}

impl Following {
    pub(super) fn new(settings: FileSettings, context: Context, reread: Reread) -> Self {
        Self {
            settings,
            context,
            reread,
            watch: None,
            files: Files::default(),
            stamps: Arc::default(),
            links: false,
            looking: None,
            moved: None,
            next_look: Instant::now(),
            unsettled: None,
            tell_all: true,
            failed: false,
            problems: Vec::new(),
            backoff: Backoff::new(RETRY, RETRY_AT_MOST),
            ready: VecDeque::new(),
        }
    }

    /// The next item, whenever there is one.
    pub(super) async fn next(&mut self) -> Result<RegistryEvent, RegistryError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            if self.looking.is_none() {
                self.wait().await;
            }
            self.look().await;
        }
    }

    /// Waits for a reason to look; the first time there is one at once.
    async fn wait(&mut self) {
        self.moved = None;
        let Some((watch, _)) = &mut self.watch else { return };
        loop {
            tokio::select! {
                found = watch.changed() => match found {
                    Where::Everywhere => return,
                    Where::Moved { others: true, .. } if self.links => return,
                    // Nothing that counts.
                    Where::Moved { names, .. } if names.is_empty() => {}
                    Where::Moved { names, .. } => {
                        // What is not settled, or failed, or was never listed, needs a look at everything.
                        let good = !self.failed && !self.tell_all && self.unsettled.is_none();
                        self.moved = good.then_some(names);
                        return;
                    }
                },
                () = sleep_until(self.next_look) => return,
                () = self.reread.requested() => {
                    // Everything is read anew, also what seems unchanged.
                    self.stamps = Arc::default();
                    self.tell_all = true;
                    return;
                }
            }
        }
    }

    async fn look(&mut self) {
        let mut looking = self.looking.take().unwrap_or_else(|| self.start_look());
        match timeout(LOOK_AT_MOST, &mut looking).await {
            Ok(Ok(look)) => self.on_look(look),
            Ok(Err(stopped)) => self.on_error(RegistryError::source_down("looking").caused_by(stopped)),
            Err(_) => {
                // A thread that hangs in the file system can't be stopped: wait on for this one, start no other.
                self.looking = Some(looking);
                let message = format!("listing the directory takes longer than {} s", LOOK_AT_MOST.as_secs());
                self.on_error(
                    RegistryError::source_down(message).about(self.settings.directory.display().to_string()),
                );
            }
        }
    }

    fn start_look(&mut self) -> JoinHandle<Look> {
        let (_, arming) = self.watch.get_or_insert_with(DirectoryWatch::new);
        let (mut arming, directory) = (arming.clone(), self.settings.directory.clone());
        let context = self.context.clone();
        let moved = self.moved.take().map(|names| {
            let paths = names.iter().map(|name| shown(&directory.join(name)));
            let known: BTreeMap<_, _> = paths.map(|path| (path.clone(), self.files.known(&path))).collect();
            (names, known)
        });
        // Shared and not copied: a directory may have many files.
        let known = Arc::clone(&self.stamps);
        let is_patient = self.unsettled.is_none_or(|since| since.elapsed() < WRITERS_GET_AT_MOST);
        spawn_blocking(move || {
            // First the watch, then the look: what happens between the two is told.
            let armed = arming.arm(&directory);
            let some = moved.and_then(|(names, known)| scan_moved(&directory, &names, &known, &context));
            let partial = some.is_some();
            let scan = match some {
                Some(scan) => Ok(scan),
                None => scan(&directory, &known, is_patient.then(SystemTime::now), &context),
            };
            drop(known);
            Look { arming, armed, scan, partial }
        })
    }

    fn on_look(&mut self, look: Look) {
        if let Some((_, arming)) = &mut self.watch {
            *arming = look.arming;
        }
        match look.scan {
            Ok(scan) if look.partial => self.on_some(scan, look.armed),
            Ok(scan) => self.on_scan(scan, look.armed),
            Err(error) => self.on_error(error),
        }
    }

    fn on_error(&mut self, error: RegistryError) {
        self.failed = true;
        self.next_look = Instant::now() + self.backoff.next_delay();
        self.ready.push_back(Err(error));
    }

    /// Some files have new contents, and all is well. When to look everywhere stays as it was.
    fn on_some(&mut self, scan: Scan, armed: io::Result<()>) {
        Arc::make_mut(&mut self.stamps).extend(scan.stamps);
        let difference = self.files.update_some(scan.seen, UnixMillis::now().0);
        if !difference.upserts.is_empty() {
            self.tell(RegistryEvent::Upsert(difference.upserts));
        }
        if !difference.removes.is_empty() {
            self.tell(RegistryEvent::Remove(difference.removes));
        }
        self.tell_problems(armed);
    }

    fn on_scan(&mut self, scan: Scan, armed: io::Result<()>) {
        self.backoff.reset();
        self.unsettled = scan.unsettled.then(|| self.unsettled.unwrap_or_else(Instant::now));
        let pause = match (&armed, scan.unsettled) {
            (_, true) => SETTLED_AFTER,
            (Err(_), _) => self.settings.rescan.min(UNWATCHED_RESCAN),
            (Ok(()), _) => self.settings.rescan,
        };
        self.next_look = Instant::now() + pause;
        // The first listing, or one that was asked for, is complete or it is none.
        if scan.unsettled && self.tell_all {
            return;
        }
        (self.stamps, self.links) = (Arc::new(scan.stamps), scan.links);
        let no_files = scan.seen.is_empty();
        let difference = self.files.update(scan.seen, UnixMillis::now().0);
        let answered = std::mem::take(&mut self.failed);
        // A directory that is suddenly empty may be an unmounted one, so that is told as a listing, which is guarded; who
        // deletes one file of several means it.
        let all_gone = no_files && !difference.removes.is_empty();
        if std::mem::take(&mut self.tell_all) || all_gone {
            self.tell(RegistryEvent::Reset { scope: Scope::All, entries: self.files.entries() });
        } else {
            // New ones first: a workload that moves to another name is never missing.
            if answered || !difference.upserts.is_empty() {
                self.tell(RegistryEvent::Upsert(difference.upserts));
            }
            if !difference.removes.is_empty() {
                self.tell(RegistryEvent::Remove(difference.removes));
            }
        }
        self.tell_problems(armed);
    }

    fn tell(&mut self, event: RegistryEvent) {
        self.ready.push_back(Ok(event));
    }

    fn tell_problems(&mut self, armed: io::Result<()>) {
        let mut problems = self.files.problems().to_vec();
        if let Err(error) = armed {
            let message = format!("changes are found by looking every second, since watching fails: {error}");
            problems.push(Problem::warning(self.settings.directory.display().to_string(), message));
        }
        if problems != self.problems {
            self.problems.clone_from(&problems);
            self.ready.push_back(Err(RegistryError::problems(problems)));
        }
    }
}

/// A directory that is gone is looked for often: looking costs a system call.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_AT_MOST: Duration = Duration::from_secs(1);
const UNWATCHED_RESCAN: Duration = Duration::from_secs(1);
/// Network file systems hang for minutes; a directory that answers does so much sooner.
const LOOK_AT_MOST: Duration = Duration::from_secs(10);
/// A file that is written to all the time is read nevertheless.
const WRITERS_GET_AT_MOST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::watch::Arming;
    use super::*;
    use crate::error::RegistryErrorKind;

    fn following() -> (Following, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        let context =
            Context { registry: "file/t".parse().unwrap(), trust_domain: "weft.local".parse().unwrap() };
        (Following::new(FileSettings::new(root.path()), context, Reread::never()), root)
    }

    fn empty_look() -> Look {
        let arming = Arming::impossible("too many");
        Look { arming, armed: Ok(()), scan: Ok(Scan::empty()), partial: false }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_is_a_source_that_is_down_and_gets_no_second_look() {
        let (mut following, _root) = following();
        let (answer, answered) = oneshot::channel();
        following.looking = Some(tokio::spawn(async move { answered.await.unwrap() }));
        for _ in 0..3 {
            let error = following.next().await.unwrap_err();
            assert_eq!(error.kind(), RegistryErrorKind::SourceDown);
            assert!(following.watch.is_none(), "a second look was started");
        }
        assert!(answer.send(empty_look()).is_ok());
        assert!(matches!(following.next().await, Ok(RegistryEvent::Reset { scope: Scope::All, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watch_it_looks_every_second_and_says_so() {
        let (mut following, _root) = following();
        following.on_look(Look { armed: Err(io::Error::other("too many watches")), ..empty_look() });
        assert_eq!(following.next_look, Instant::now() + UNWATCHED_RESCAN);
        assert!(following.next().await.is_ok());
        let error = following.next().await.unwrap_err();
        assert!(
            error.wrong_objects()[0].to_string().ends_with("since watching fails: too many watches"),
            "{error}"
        );
    }
}
