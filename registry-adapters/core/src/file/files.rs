//! All files of a directory together: what each last held that was good, and what that makes of the registry.
//!
//! Pure. Two rules are kept here: a bad file keeps its last good content, and a name belongs to one file. A name
//! stays with the file that has it; a file that takes another's name is bad as a whole until that one gives it up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_model::{Entry, EntryKey, Provenance};

use super::decode::{Decoded, Known, Object};
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
    /// What was read last; without its objects where they are the good ones.
    latest: Decoded,
    /// What counts now. The good contents of all files have no key in common.
    good: BTreeMap<EntryKey, Object>,
    /// The good content is the latest.
    is_latest: bool,
}

impl File {
    fn objects(&self, good: bool) -> Vec<&Object> {
        let good = good || self.is_latest;
        if good { self.good.values().collect() } else { self.latest.objects.iter().collect() }
    }

    /// What was read last counts from now on. What counted before.
    fn accept(&mut self) -> BTreeMap<EntryKey, Object> {
        self.is_latest = true;
        let objects = std::mem::take(&mut self.latest.objects);
        let good = objects.into_iter().map(|object| (object.entry.key(), object)).collect();
        std::mem::replace(&mut self.good, good)
    }
}

impl Files {
    /// Everything that counts now.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.values().cloned().collect()
    }

    /// The objects of a file, for as long as nothing is wrong with it.
    pub(super) fn known(&self, name: &str) -> Known {
        let file = self.files.get(name).filter(|file| file.is_latest && file.latest.problems.is_empty());
        let objects = file.into_iter().flat_map(|file| file.good.values());
        objects.map(|object| (Arc::clone(&object.text), object.clone())).collect()
    }

    /// What is wrong with files now.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Takes what a look at the directory showed; files that are not in `seen` are gone.
    pub(super) fn update(&mut self, seen: BTreeMap<String, Seen>, now_unix_ms: u64) -> Difference {
        let is_same =
            |(name, seen): (&String, &Seen)| matches!(seen, Seen::Same) && self.files.contains_key(name);
        if seen.len() == self.files.len() && seen.iter().all(is_same) {
            return Difference::default();
        }
        self.files.retain(|name, _| seen.contains_key(name));
        for (name, seen) in seen {
            let file = self.files.entry(name).or_default();
            if let Seen::Read(decoded) = seen {
                (file.latest, file.is_latest) = (decoded, false);
            }
        }
        let (bad, mut problems) = self.judge();
        for (name, file) in &mut self.files {
            problems.extend(file.latest.problems.iter().cloned());
            if !file.is_latest && !bad.contains(name) {
                file.accept();
            }
        }
        self.problems = problems;
        self.compare(now_unix_ms)
    }

    /// Takes what a look at some files showed; the others are as they were. Costs what these files hold, as long as
    /// nothing is wrong and no name goes from one file to another that was not looked at.
    pub(super) fn update_some(&mut self, seen: BTreeMap<String, Seen>, now_unix_ms: u64) -> Difference {
        if !self.is_simple(&seen) {
            let same = self.files.keys().map(|name| (name.clone(), Seen::Same));
            return self.update(same.chain(seen).collect(), now_unix_ms);
        }
        let mut difference = Difference::default();
        let (mut held, mut holds) = (BTreeSet::new(), BTreeSet::new());
        for (name, seen) in seen {
            let Seen::Read(decoded) = seen else { continue };
            let file = self.files.entry(name).or_default();
            file.latest = decoded;
            held.extend(file.accept().into_keys());
            for (key, object) in &mut file.good {
                let before = self.entries.get(key);
                set_since(&mut object.entry, before, now_unix_ms);
                if before != Some(&object.entry) {
                    difference.upserts.push(object.entry.clone());
                    self.entries.insert(key.clone(), object.entry.clone());
                }
                holds.insert(key.clone());
            }
        }
        difference.removes = held.difference(&holds).cloned().collect();
        for key in &difference.removes {
            self.entries.remove(key);
        }
        difference
    }

    /// Nothing was wrong and nothing is, and each name in `seen` is new or of a file in `seen`, once.
    fn is_simple(&self, seen: &BTreeMap<String, Seen>) -> bool {
        let mut names = BTreeSet::new();
        let has_it = |key: &EntryKey| {
            seen.keys().any(|name| self.files.get(name).is_some_and(|file| file.good.contains_key(key)))
        };
        let is_free = |key: &EntryKey| !self.entries.contains_key(key) || has_it(key);
        self.problems.is_empty()
            && seen.values().all(|seen| match seen {
                Seen::Same => true,
                Seen::Read(decoded) => {
                    decoded.problems.is_empty()
                        && decoded.objects.iter().all(|object| {
                            let key = object.entry.key();
                            is_free(&key) && names.insert(key)
                        })
                }
            })
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
        for (key, object) in self.files.values_mut().flat_map(|file| &mut file.good) {
            let before = self.entries.remove(key);
            set_since(&mut object.entry, before.as_ref(), now_unix_ms);
            if before.as_ref() != Some(&object.entry) {
                difference.upserts.push(object.entry.clone());
            }
            entries.insert(key.clone(), object.entry.clone());
        }
        difference.removes = std::mem::replace(&mut self.entries, entries).into_keys().collect();
        difference
    }
}

/// The entry has been there since it was first seen.
fn set_since(said: &mut Entry, before: Option<&Entry>, now_unix_ms: u64) {
    let Entry::Workload(workload) = said else { return };
    let known = match before {
        Some(Entry::Workload(before)) => before.provenance.first().map(|known| known.since_unix_ms),
        _ => None,
    };
    let since_unix_ms = known.unwrap_or(now_unix_ms);
    if workload.provenance.iter().all(|said| said.since_unix_ms == since_unix_ms) {
        return;
    }
    let workload = Arc::make_mut(workload);
    let provenance = std::mem::take(&mut workload.provenance);
    workload.provenance = provenance.into_iter().map(|said| Provenance { since_unix_ms, ..said }).collect();
}

#[cfg(test)]
mod tests;
