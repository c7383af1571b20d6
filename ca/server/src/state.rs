//! The state directory: private files that are there whole or not at all.
//!
//! The directory is 0700 and each file 0600. After a power cut there is the old file or the new one. A certificate and
//! its key are one file, so that a pair can't be torn. A lock file keeps a second process out.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use weft_process::durable;

/// What went wrong with a file of the state directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// An operation of the file system failed.
    #[error("{operation} {}: {cause}", path.display())]
    Io {
        /// What was tried, as "writing".
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        cause: io::Error,
    },
    /// Others can read what is secret.
    #[error("{} can be read by others (mode {mode:o}): a key in it may be stolen; expected mode {expected:o}", path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it should be.
        expected: u32,
    },
    /// Another process has the directory.
    #[error("{} is in use by another process (its lock file is held)", .0.display())]
    InUse(PathBuf),
    /// The content is not what it should be.
    #[error("{} is damaged: {problem}; expected {expected}. Restore it from a backup, or remove the directory to start a new CA that nobody trusts yet", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What should be there.
        expected: &'static str,
    },
}

/// A private directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Opens the directory, making it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("making", path))?;
        check_mode(path, 0o700)?;
        Ok(Self(path.to_owned()))
    }

    /// A directory within this one.
    pub(crate) fn directory(&self, name: &str) -> Result<Self, StateError> {
        Self::open(&self.path(name))
    }

    /// Keeps other processes out for as long as the file lives.
    pub(crate) fn lock(&self) -> Result<File, StateError> {
        let path = self.path("lock");
        let mut options = OpenOptions::new();
        let options = options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&path).map_err(io_error("opening", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(self.0.clone())),
            Err(TryLockError::Error(error)) => Err(io_error("locking", &path)(error)),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The content of a file; `None` if there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => {
                check_mode(&path, 0o600)?;
                Ok(Some(text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("reading", &path)(error)),
        }
    }

    /// Puts a file in place as a whole.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<(), StateError> {
        // One writer of each name: keys are under the lock, and a token's name is its random id.
        let path = self.path(name);
        durable::replace(&path, content.as_bytes()).map_err(io_error("writing", &path))
    }

    /// Renames within this directory or its subdirectories. Of several who try, one succeeds; for the others the answer
    /// is `false`, since the file is not there any more. Durable once the directories are flushed.
    pub(crate) fn take(&self, from: &str, to: &str) -> Result<bool, StateError> {
        let (from, to) = (self.path(from), self.path(to));
        match fs::rename(&from, &to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("putting in place", &to)(error)),
        }
    }

    /// Removes a file; `false` if there was none.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, StateError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => flush_directory(&self.0).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("removing", &path)(error)),
        }
    }

    /// The names of the files that are in place.
    pub(crate) fn names(&self) -> Result<Vec<String>, StateError> {
        let entries = fs::read_dir(&self.0).map_err(io_error("listing", &self.0))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("listing", &self.0))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && entry.path().is_file() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// What is in the directory is what is on the disk.
pub(crate) fn flush_directory(path: &Path) -> Result<(), StateError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error("flushing", path))
}

fn check_mode(path: &Path, expected: u32) -> Result<(), StateError> {
    let mode =
        fs::metadata(path).map_err(io_error("reading the mode of", path))?.permissions().mode() & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(StateError::Exposed { path: path.to_owned(), mode, expected }),
    }
}

pub(crate) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |cause| StateError::Io { operation, path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, StateDir) {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDir::open(&temporary.path().join("ca")).unwrap();
        (temporary, state)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_and_directories_are_private() {
        let (_temporary, state) = directory();
        state.write("key.pem", "secret").unwrap();
        assert_eq!((mode(&state.path("key.pem")), mode(&state.0)), (0o600, 0o700));
        assert_eq!(state.read("key.pem").unwrap().as_deref(), Some("secret"));
        assert_eq!(state.read("other").unwrap(), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_by_name() {
        let (_temporary, state) = directory();
        state.write("key.pem", "secret").unwrap();
        fs::set_permissions(state.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = state.read("key.pem").expect_err("accepted").to_string();
        assert!(error.contains("key.pem") && error.contains("600"), "{error}");
    }

    #[test]
    fn a_failed_write_names_the_file_by_its_place() {
        let (_temporary, state) = directory();
        // Renaming a file over a directory fails, as the last step of a write.
        fs::create_dir(state.path("taken")).unwrap();
        let error = state.write("taken", "new").unwrap_err().to_string();
        assert!(error.contains("writing") && error.contains("/taken: "), "{error}");
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let (_temporary, state) = directory();
        let held = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(StateError::InUse(_))));
        drop(held);
        state.lock().unwrap();
    }

    #[test]
    fn of_two_takers_one_succeeds() {
        let (_temporary, state) = directory();
        state.directory("used").unwrap();
        state.write("a", "1").unwrap();
        assert!(state.take("a", "used/a").unwrap());
        assert!(!state.take("a", "used/a").unwrap());
        assert_eq!(state.names().unwrap(), Vec::<String>::new());
        assert!(!state.remove("a").unwrap());
    }
}
