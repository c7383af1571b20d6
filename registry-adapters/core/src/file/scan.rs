//! One look at the directory: which files there are, and the content of those that changed.
//!
//! Blocking; the caller runs it where blocking is allowed. Only regular files are read (a FIFO would never end), and a
//! file that is just being written is left for the next look: half a file can be good YAML, with half of the endpoints. A file
//! that was moved into place is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::decode::{Context, Decoded, Known, decode};
use super::files::Seen;
use crate::error::{Problem, RegistryError};

/// What tells one content of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What the look showed.
#[derive(Debug)]
pub(super) struct Scan {
    /// All files that count, by path.
    pub(super) seen: BTreeMap<String, Seen>,
    /// The stamps of those that were read. One that could not be read has none and is tried each time.
    pub(super) stamps: BTreeMap<String, Stamp>,
    /// Whether some file is just being written, so that another look is due soon.
    pub(super) unsettled: bool,
    /// Whether some file is a link: then it may change by what happens to other names.
    pub(super) links: bool,
}

impl Scan {
    pub(super) fn empty() -> Self {
        Self { seen: BTreeMap::new(), stamps: BTreeMap::new(), unsettled: false, links: false }
    }
}

/// Looks at `directory`. Files whose stamp is in `known` are not read again. A file that is just being written at `now`
/// stays as it was; without `now` it is read nevertheless.
pub(super) fn scan(
    directory: &Path,
    known: &BTreeMap<String, Stamp>,
    now: Option<SystemTime>,
    context: &Context,
) -> Result<Scan, RegistryError> {
    let mut scan = Scan::empty();
    let listing = fs::read_dir(directory).map_err(|error| unlisted(directory, error))?;
    for entry in listing {
        let entry = entry.map_err(|error| unlisted(directory, error))?;
        if counts(&entry.file_name()) {
            scan.links |= entry.file_type().is_ok_and(|kind| kind.is_symlink());
            scan.look(&entry.path(), known, now, context);
        }
    }
    Ok(scan)
}

/// Looks at some files only, which were moved into place. `None`: there is more to it than new contents, so that the whole
/// directory needs a look. What is `known` of them is not read again.
pub(super) fn scan_moved(
    directory: &Path,
    names: &BTreeSet<OsString>,
    known: &BTreeMap<String, Known>,
    context: &Context,
) -> Option<Scan> {
    let mut scan = Scan::empty();
    for name in names {
        let path = directory.join(name);
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return None;
        }
        match read(&path, None) {
            Ok(Content::New { stamp, bytes, settled_at: Settled::After(_) }) => {
                let nothing = Known::new();
                let known = known.get(&shown(&path)).unwrap_or(&nothing);
                scan.take(&path, stamp, &bytes, known, context);
            }
            _ => return None,
        }
    }
    Some(scan)
}

/// Why the directory as a whole can't be read. A directory that is not there is a source that is down, as an
/// unmounted one: it never means that there are no services.
fn unlisted(directory: &Path, error: io::Error) -> RegistryError {
    let refused = error.kind() == ErrorKind::PermissionDenied;
    let what = "listing the directory";
    let listed =
        if refused { RegistryError::permission_denied(what) } else { RegistryError::source_down(what) };
    listed.about(directory.display().to_string()).caused_by(error)
}

/// Whether an entry is ours by its name: `*.yaml`, `*.yml`, not hidden (editors' and tools' files are).
pub(super) fn counts(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

/// The path as it is shown. A name that is not UTF-8 is escaped and not replaced, or two files could look like one.
pub(super) fn shown(path: &Path) -> String {
    path.to_str().map_or_else(|| format!("{path:?}"), str::to_owned)
}

impl Scan {
    fn look(
        &mut self,
        path: &Path,
        known: &BTreeMap<String, Stamp>,
        now: Option<SystemTime>,
        context: &Context,
    ) {
        let shown = shown(path);
        let before = known.get(&shown);
        match read(path, before) {
            Ok(Content::Same(stamp)) => {
                self.stamps.insert(shown.clone(), stamp);
                self.seen.insert(shown, Seen::Same);
            }
            Ok(Content::New { settled_at, .. }) if now.is_some_and(|now| !settled_at.by(now)) => {
                self.unsettled = true;
                self.stamps.extend(before.map(|stamp| (shown.clone(), *stamp)));
                self.seen.insert(shown, Seen::Same);
            }
            Ok(Content::New { stamp, bytes, .. }) => self.take(path, stamp, &bytes, &Known::new(), context),
            // Gone between the listing and the look, and not a link to nothing.
            Err(Unread::Io(error))
                if error.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => {}
            Err(unread) => {
                let problem = Problem::error(&shown, unread.to_string());
                self.seen.insert(shown, Seen::Read(Decoded::bad(problem)));
            }
        }
    }

    fn take(&mut self, path: &Path, stamp: Stamp, bytes: &[u8], known: &Known, context: &Context) {
        let shown = shown(path);
        let decoded = decode(&shown, bytes, known, context);
        self.stamps.insert(shown.clone(), stamp);
        self.seen.insert(shown, Seen::Read(decoded));
    }
}

enum Content {
    Same(Stamp),
    New { stamp: Stamp, bytes: Vec<u8>, settled_at: Settled },
}

/// When a file that was read counts as written to its end.
#[derive(Debug, Clone, Copy)]
enum Settled {
    /// It changed while it was read.
    Changing,
    /// Some time after this.
    After(SystemTime),
}

impl Settled {
    fn by(self, now: SystemTime) -> bool {
        let Self::After(written) = self else { return false };
        match now.duration_since(written) {
            Ok(ago) => ago >= SETTLED_AFTER,
            // Far in the future: another machine's clock, from which nothing is known. A moment: written since `now`.
            Err(ahead) => ahead.duration() >= OTHER_CLOCK,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is not a file")]
    NoFile,
    #[error("it has more than {} MiB; split it", LARGEST_FILE >> 20)]
    TooLarge,
}

fn read(path: &Path, before: Option<&Stamp>) -> Result<Content, Unread> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Unread::NoFile);
    }
    if before == Some(&Stamp::of(&metadata)) {
        return Ok(Content::Same(Stamp::of(&metadata)));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let stamp = Stamp::of(&metadata);
    if stamp.len > LARGEST_FILE {
        return Err(Unread::TooLarge);
    }
    let mut bytes = Vec::new();
    (&file).take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Unread::TooLarge);
    }
    let settled_at = match Stamp::of(&file.metadata()?) == stamp {
        true => Settled::After(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)),
        false => Settled::Changing,
    };
    Ok(Content::New { stamp, bytes, settled_at })
}

/// Far more than anybody writes by hand, and little enough to be decoded in a moment.
const LARGEST_FILE: u64 = 8 << 20;
/// Writers that truncate and write do it within this; below the time between an event and the look that it causes.
pub(super) const SETTLED_AFTER: Duration = Duration::from_millis(15);
const OTHER_CLOCK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn context() -> Context {
        Context { registry: "file/t".parse().unwrap(), trust_domain: "weft.local".parse().unwrap() }
    }

    #[test]
    fn a_refused_directory_is_another_error_than_a_missing_one() {
        use crate::error::RegistryErrorKind::{PermissionDenied, SourceDown};
        let kind = |kind: ErrorKind| unlisted(Path::new("/x"), kind.into()).kind();
        assert_eq!(kind(ErrorKind::PermissionDenied), PermissionDenied);
        for other in [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::Other] {
            assert_eq!(kind(other), SourceDown);
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_left_as_it_was_until_it_rests() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a.yaml");
        fs::write(&path, "kind: Service\nname: a\n").unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let look = |now| scan(root.path(), &BTreeMap::new(), now, &context()).unwrap();
        let ms = Duration::from_millis;
        for now in [written, written + ms(5), written - ms(5)] {
            let scan = look(Some(now));
            assert!(scan.unsettled && scan.stamps.is_empty());
            assert!(matches!(scan.seen.values().next(), Some(Seen::Same)));
        }
        // At rest; by another clock; out of patience.
        for now in [Some(written + ms(15)), Some(written - ms(5000)), None] {
            let scan = look(now);
            assert!(!scan.unsettled && scan.stamps.len() == 1);
            assert!(matches!(scan.seen.values().next(), Some(Seen::Read(_))));
        }
    }

    #[test]
    fn a_file_is_read_again_only_when_its_stamp_changed() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a.yaml"), "kind: Service\nname: a\n").unwrap();
        let first = scan(root.path(), &BTreeMap::new(), None, &context()).unwrap();
        let second = scan(root.path(), &first.stamps, None, &context()).unwrap();
        assert!(matches!(second.seen.values().next(), Some(Seen::Same)));
        // Same length, same time: the inode tells.
        fs::write(root.path().join(".b"), "kind: Service\nname: b\n").unwrap();
        fs::rename(root.path().join(".b"), root.path().join("a.yaml")).unwrap();
        let third = scan(root.path(), &second.stamps, None, &context()).unwrap();
        assert!(matches!(third.seen.values().next(), Some(Seen::Read(_))));
    }

    #[test]
    fn names_that_are_not_utf_8_stay_apart() {
        let root = tempfile::tempdir().unwrap();
        for name in [b"a\xff.yaml", b"a\xfe.yaml"] {
            fs::write(root.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        assert_eq!(scan(root.path(), &BTreeMap::new(), None, &context()).unwrap().seen.len(), 2);
    }
}
