//! The state directory: what lets a restarted proxy serve without a control plane.
//!
//! Every file is replaced whole and readable by the owner alone; a crash or a full disk leaves the old one. A file that
//! can't be read is renamed to `….bad` and reported, never deleted and never trusted in part. One process at a time: a lock
//! is held while it runs.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use weft_process::durable;

/// The certificate chain and its private key, PEM.
pub(crate) const SVID: &str = "svid.pem";
/// Trust bundles: a JSON object of trust domain to PEM.
pub(crate) const BUNDLES: &str = "bundles.json";
/// The id of the join token that was used, so that it is not sent again.
pub(crate) const JOINED: &str = "joined";
/// The control plane's resources as they were last held.
pub(crate) const RESOURCES: &str = "resources.json";
/// Which virtual address stands for which service.
pub(crate) const NAMES: &str = "names.json";
/// Where the process listens; for whoever asked for port 0.
pub(crate) const PORTS: &str = "ports.json";
/// The instance's name, where the settings give none.
pub(crate) const INSTANCE: &str = "instance";

/// What went wrong, with the file.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {cause}", path.display())]
pub(crate) struct StateError {
    doing: &'static str,
    path: PathBuf,
    cause: std::io::Error,
}

/// An open, locked state directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// The lock lives as long as the file is open.
    _lock: File,
}

impl StateDir {
    /// Makes the directory where it is missing, and takes the lock.
    ///
    /// # Errors
    /// When it can't be made or written, or another process has it.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let fail = |doing| move |cause| StateError { doing, path: path.to_owned(), cause };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(fail("making the state directory (setting state_dir)"))?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"));
        let lock = lock.map_err(fail("locking the state directory (setting state_dir)"))?;
        lock.try_lock().map_err(|error| {
            let cause = match error {
                TryLockError::WouldBlock => std::io::Error::other("another weft-proxy uses it"),
                TryLockError::Error(error) => error,
            };
            fail("locking the state directory (setting state_dir)")(cause)
        })?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The file's content; `None` where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        match std::fs::read_to_string(self.path.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(StateError { doing: "reading", path: self.path.join(name), cause }),
        }
    }

    /// The file's content as `parse` understands it. What it does not understand, or what can't be read, is set aside.
    pub(crate) fn restore<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let read = self.read(name).map_err(|error| error.to_string());
        let parsed = read.and_then(|content| match content {
            Some(content) => parse(&content).map(Some).map_err(|error| error.to_string()),
            None => Ok(None),
        });
        parsed.unwrap_or_else(|error| {
            self.set_aside(name, &error);
            None
        })
    }

    fn set_aside(&self, name: &str, why: &str) {
        let (from, to) = (self.path.join(name), self.path.join(format!("{name}.bad")));
        match std::fs::rename(&from, &to) {
            Ok(()) => {
                tracing::error!(file = %from.display(), kept_as = %to.display(), "saved state is not usable and is set aside: {why}")
            }
            Err(error) => {
                tracing::error!(file = %from.display(), "saved state is not usable ({why}) and can't be renamed: {error}")
            }
        }
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When the disk is full or not writable; the old file is as it was.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        durable::replace(&path, content).map_err(|cause| StateError { doing: "writing", path, cause })
    }

    /// The instance's name: the saved one, or a new one of host name and chance that is saved.
    pub(crate) fn instance_name(&self) -> Result<String, StateError> {
        let saved = self.restore(INSTANCE, |text| match text.trim() {
            name if (1..=253).contains(&name.len()) && !name.chars().any(char::is_control) => {
                Ok(name.to_owned())
            }
            _ => Err("it does not hold a name"),
        });
        if let Some(name) = saved {
            return Ok(name);
        }
        let uname = rustix::system::uname();
        let host: String =
            uname.nodename().to_string_lossy().chars().filter(|c| !c.is_control()).take(200).collect();
        let name = format!("{host}-{:08x}", rand::random::<u32>());
        self.write(INSTANCE, name.as_bytes())?;
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open() -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&directory.path().join("state")).unwrap();
        (directory, state)
    }

    #[test]
    fn a_written_file_is_read_back_and_only_the_owner_may() {
        let (directory, state) = open();
        state.write(SVID, b"secret").unwrap();
        assert_eq!(state.read(SVID).unwrap().as_deref(), Some("secret"));
        let mode =
            |path: &str| std::fs::metadata(directory.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("state"), mode("state/svid.pem")), (0o700, 0o600));
    }

    #[test]
    fn a_corrupt_file_is_kept_under_another_name_and_not_used() {
        let (directory, state) = open();
        state.write(BUNDLES, b"{half").unwrap();
        let restored = state.restore(BUNDLES, |text| serde_json::from_str::<serde_json::Value>(text));
        assert_eq!(restored, None);
        assert_eq!(std::fs::read(directory.path().join("state/bundles.json.bad")).unwrap(), b"{half");
        assert_eq!(state.read(BUNDLES).unwrap(), None);
    }

    #[test]
    fn a_second_process_is_refused_with_the_setting_named() {
        let (directory, _state) = open();
        let error = StateDir::open(&directory.path().join("state")).unwrap_err().to_string();
        assert!(error.contains("another weft-proxy") && error.contains("state_dir"), "{error}");
    }

    #[test]
    fn a_failed_write_names_the_file() {
        let (directory, state) = open();
        // A directory in its place fails the write for root too.
        std::fs::create_dir(directory.path().join("state/bundles.json")).unwrap();
        let error = state.write(BUNDLES, b"new").unwrap_err().to_string();
        assert!(error.starts_with("writing ") && error.contains("/state/bundles.json: "), "{error}");
    }

    #[test]
    fn the_instance_name_stays_the_same() {
        let (_directory, state) = open();
        let name = state.instance_name().unwrap();
        assert_eq!(state.instance_name().unwrap(), name);
    }
}
