//! What is known of a cluster: a file in its folder, and whether the process that it names still is that process.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::components::Tools;
use crate::files::{Folder, private};
use crate::network::Network;

/// A cluster's name: its folder, its node and its zone are called after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A name that a cluster can't have.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidName(String);

impl std::fmt::Display for InvalidName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} can't be a cluster's name: 1 to 30 of a-z, 0-9 and -, a letter first, no - last",
            self.0
        )
    }
}

impl std::error::Error for InvalidName {}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        let legal = name.len() <= 30
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && !name.ends_with('-')
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if legal { Ok(Self(name)) } else { Err(InvalidName(name)) }
    }
}

impl std::str::FromStr for Name {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        name.to_owned().try_into()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl Name {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Its file in the folder of a cluster.
pub(crate) const RECORD: &str = "cluster.json";

/// A cluster that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) tools: Tools,
    /// The first process of its namespaces, with which everything ends; while there is none yet, who starts it.
    pub(crate) first: Process,
    /// Since it has one.
    pub(crate) network: Option<Network>,
}

/// A process that can't be mistaken for a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In ticks since the machine's start.
    started: u64,
}

impl Process {
    /// The one that has this number now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let (state, started) = stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        // A zombie has ended, however long its parent takes to notice.
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    /// Whether it is still there.
    pub(crate) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// State and start of a line of `/proc/<pid>/stat` (proc(5), fields 3 and 22); the name in it may hold anything.
fn stat(line: &str) -> Option<(char, u64)> {
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

impl Record {
    /// Writes it into the folder.
    pub(crate) fn write(&self, folder: &Folder) -> Result<()> {
        private(&folder.path(RECORD), &serde_json::to_string_pretty(self)?)
    }

    /// What is in the folder; `None` where there is no cluster, or one that was never whole.
    pub(crate) fn read(folder: &Folder) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(folder.path(RECORD)).ok()?).ok()
    }
}

/// The folders of all clusters under a home, in order.
pub(crate) fn folders(home: &Path) -> Result<Vec<Folder>> {
    let entries = match std::fs::read_dir(home) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {}", home.display()))?,
    };
    let mut folders: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders.into_iter().map(Folder).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_folder_or_node_could_have_are_refused() {
        for name in ["dev", "a", "test-12-3"] {
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "1a", "A", "a/b", "..", "a b", &"a".repeat(31)] {
            assert!(name.parse::<Name>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start_also_when_its_name_is_odd() {
        let line = "7 (a) Z (b)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert_eq!(stat(line), Some(('S', 4711)));
        assert_eq!(stat("7 (a"), None);
    }

    #[test]
    fn this_process_lives_and_one_of_its_number_from_another_time_does_not() {
        let this = Process::of(std::process::id()).unwrap();
        assert!(this.lives());
        assert!(!Process { started: this.started + 1, ..this }.lives());
    }
}
