//! All files of a directory together: what each last held that was good, and what that makes of the registry.
//!
//! Pure. Two rules are kept here: a bad file keeps its last good content, and a name belongs to one file. A name
//! stays with the file that has it; a file that takes another's name is bad as a whole until that one gives it up.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{Entry, EntryKey, Provenance};

use super::decode::{Decoded, Object};
use crate::error::Problem;

/// What a look at a file showed.
#[derive(Debug)]
pub(super) enum Seen {
    /// It is as it was.
    Same,
    /// It was read anew.
    Read(Decoded),
}

/// The differences to what was told before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) upserts: Vec<Entry>,
    pub(super) removes: Vec<EntryKey>,
}

/// The state of the directory.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<String, File>,
    entries: BTreeMap<EntryKey, Entry>,
    problems: Vec<Problem>,
}

#[derive(Debug, Default)]
struct File {
    latest: Decoded,
    /// What counts now. The good contents of all files have no key in common.
    good: BTreeMap<EntryKey, Object>,
}

impl File {
    fn objects(&self, good: bool) -> Vec<&Object> {
        if good { self.good.values().collect() } else { self.latest.objects.iter().collect() }
    }
}

impl Files {
    /// Everything that counts now.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.values().cloned().collect()
    }

    /// What is wrong with files now.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Takes what a look at the directory showed; files that are not in `seen` are gone.
    pub(super) fn update(&mut self, seen: BTreeMap<String, Seen>, now_unix_ms: u64) -> Difference {
        self.files.retain(|name, _| seen.contains_key(name));
        for (name, seen) in seen {
            let file = self.files.entry(name).or_default();
            if let Seen::Read(decoded) = seen {
                file.latest = decoded;
            }
        }
        let (bad, mut problems) = self.judge();
        for (name, file) in &mut self.files {
            problems.extend(file.latest.problems.iter().cloned());
            if !bad.contains(name) {
                file.good =
                    file.latest.objects.iter().map(|object| (object.entry.key(), object.clone())).collect();
            }
        }
        self.problems = problems;
        self.compare(now_unix_ms)
    }

    /// Which files keep their last good content, and the problems that this finds.
    fn judge(&self) -> (BTreeSet<String>, Vec<Problem>) {
        let unreadable = self.files.iter().filter(|(_, file)| !file.latest.is_good());
        let mut bad: BTreeSet<String> = unreadable.map(|(name, _)| name.clone()).collect();
        let mut problems = Vec::new();
        // A file found bad keeps names that it was about to give up, which may make further ones bad.
        loop {
            let owners = self.owners(&bad);
            let conflicts = self.conflicts(&bad, &owners);
            if conflicts.is_empty() {
                return (bad, problems);
            }
            for (name, problem) in conflicts {
                bad.insert(name);
                problems.push(problem);
            }
        }
    }

    /// Who has each name: the file that had it, else the first by name.
    fn owners(&self, bad: &BTreeSet<String>) -> BTreeMap<EntryKey, (&str, u64)> {
        let mut owners: BTreeMap<EntryKey, (&str, u64)> = BTreeMap::new();
        for had_it in [true, false] {
            for (name, file) in &self.files {
                for object in file.objects(bad.contains(name)) {
                    let key = object.entry.key();
                    if file.good.contains_key(&key) == had_it {
                        owners.entry(key).or_insert((name, object.line));
                    }
                }
            }
        }
        owners
    }

    fn conflicts(
        &self,
        bad: &BTreeSet<String>,
        owners: &BTreeMap<EntryKey, (&str, u64)>,
    ) -> Vec<(String, Problem)> {
        let mut conflicts = Vec::new();
        for (name, file) in self.files.iter().filter(|(name, _)| !bad.contains(*name)) {
            for object in &file.latest.objects {
                match owners.get(&object.entry.key()) {
                    Some((owner, line)) if owner != name => {
                        let message =
                            format!("the same name is already in {owner}:{line}; expected each name once");
                        let problem = Problem::error(name, message).at_line(object.line).in_field("name");
                        conflicts.push((name.clone(), problem));
                    }
                    _ => {}
                }
            }
        }
        conflicts
    }

    fn compare(&mut self, now_unix_ms: u64) -> Difference {
        let mut difference = Difference::default();
        let mut entries = BTreeMap::new();
        for object in self.files.values().flat_map(|file| file.good.values()) {
            let key = object.entry.key();
            let before = self.entries.remove(&key);
            let entry = with_since(object.entry.clone(), before.as_ref(), now_unix_ms);
            if before.as_ref() != Some(&entry) {
                difference.upserts.push(entry.clone());
            }
            entries.insert(key, entry);
        }
        difference.removes = std::mem::replace(&mut self.entries, entries).into_keys().collect();
        difference
    }
}

/// The entry, there since it was first seen.
fn with_since(mut entry: Entry, before: Option<&Entry>, now_unix_ms: u64) -> Entry {
    let Entry::Workload(workload) = &mut entry else { return entry };
    let known = match before {
        Some(Entry::Workload(before)) => before.provenance.first().map(|known| known.since_unix_ms),
        _ => None,
    };
    let since_unix_ms = known.unwrap_or(now_unix_ms);
    let provenance = std::mem::take(&mut workload.provenance);
    workload.provenance = provenance.into_iter().map(|said| Provenance { since_unix_ms, ..said }).collect();
    entry
}

#[cfg(test)]
mod tests;
