//! Where access log lines go: standard output, or a file that may be moved away by who rotates logs.
//!
//! Nobody has to signal the process: at most once a second, before lines are written, the path is looked at, and if it
//! leads to another file than the open one (or to none), it is opened anew. A file that is truncated in place needs
//! nothing, since every write appends.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, Result, Stdout, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::settings::AccessLogOutput;

/// How often the path is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// An open output.
pub(super) enum Output {
    Stdout(Stdout),
    File(Appended),
}

/// A file that is open for appending.
pub(super) struct Appended {
    path: PathBuf,
    file: File,
    looked: Instant,
    /// The last attempt to open the path anew failed, and was reported.
    failing: bool,
}

impl Output {
    /// Opens the output.
    ///
    /// # Errors
    /// When the file can't be opened; the setting is named.
    pub(super) fn open(output: &AccessLogOutput) -> Result<Self> {
        Ok(match output {
            AccessLogOutput::Stdout => Self::Stdout(std::io::stdout()),
            AccessLogOutput::File(path) => {
                let named = |error: Error| {
                    Error::new(error.kind(), format!("access_log.output {}: {error}", path.display()))
                };
                let file = append(path).map_err(named)?;
                Self::File(Appended { path: path.clone(), file, looked: Instant::now(), failing: false })
            }
        })
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// When they could not be written.
    pub(super) fn write(&mut self, lines: &[u8], now: Instant) -> Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.write_all(lines).and_then(|()| stdout.flush()),
            Self::File(file) => {
                file.follow_path(now);
                file.file.write_all(lines)
            }
        }
    }
}

impl Appended {
    fn follow_path(&mut self, now: Instant) {
        if now.duration_since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        if self.is_in_place() {
            self.failing = false;
            return;
        }
        match append(&self.path) {
            Ok(file) => (self.file, self.failing) = (file, false),
            Err(error) => {
                if !self.failing {
                    tracing::error!(file = %self.path.display(), "access log: the file was moved and can't be opened anew, lines go on into the old one: {error}");
                }
                self.failing = true;
            }
        }
    }

    /// Whether the path still leads to the open file.
    fn is_in_place(&self) -> bool {
        let same = |a: Metadata, b: Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        std::fs::metadata(&self.path)
            .is_ok_and(|there| self.file.metadata().is_ok_and(|own| same(own, there)))
    }
}

fn append(path: &PathBuf) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_within_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let mut output = Output::open(&AccessLogOutput::File(path.clone())).unwrap();
        let start = Instant::now();
        output.write(b"one\n", start).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        output.write(b"two\n", start).unwrap();
        assert!(!path.exists(), "not looked at at every write");
        output.write(b"three\n", start + 2 * LOOK).unwrap();
        output.write(b"four\n", start + 4 * LOOK).unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\nfour\n");
    }

    #[test]
    fn a_path_that_can_not_be_opened_anew_costs_no_line() {
        let directory = tempfile::tempdir().unwrap();
        let (folder, moved) = (directory.path().join("log"), directory.path().join("old"));
        std::fs::create_dir(&folder).unwrap();
        let mut output = Output::open(&AccessLogOutput::File(folder.join("access.log"))).unwrap();
        std::fs::rename(&folder, &moved).unwrap();
        output.write(b"one\n", Instant::now() + 2 * LOOK).unwrap();
        assert_eq!(std::fs::read_to_string(moved.join("access.log")).unwrap(), "one\n");
    }

    #[test]
    fn a_file_that_was_truncated_goes_on_at_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut output = Output::open(&AccessLogOutput::File(path.clone())).unwrap();
        output.write(b"one\n", Instant::now()).unwrap();
        std::fs::write(&path, "").unwrap();
        output.write(b"two\n", Instant::now() + 2 * LOOK).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }
}
