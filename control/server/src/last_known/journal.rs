//! One registry's copy on disk: a base that is replaced as a whole, and behind it what changed since, a line of JSON each.
//!
//! So a change costs what it is and not what there is. When as much was appended as the base has, the base is made anew,
//! which at most doubles what is written. A last line that is not whole is what a crash leaves of an append: what stands
//! before it counts. Anything else that can't be read condemns the file.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_model::{Entry, EntryKey, RegistryId, Service, Workload};
use weft_process::durable;

/// A file that this process wrote.
#[derive(Debug)]
pub(super) struct Journal {
    base: u64,
    length: u64,
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// Of this file's form.
    version: u32,
    registry: RegistryId,
}

/// Every other line: an entry as it is from here on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    Service(Service),
    Workload(Arc<Workload>),
    Gone(EntryKey),
}

impl From<Entry> for Line {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Service(service) => Self::Service(service),
            Entry::Workload(workload) => Self::Workload(workload),
        }
    }
}

impl Journal {
    /// Makes the file anew; it is the old one or the new one, whole.
    pub(super) fn replace(path: &Path, registry: &RegistryId, lines: &[Line]) -> io::Result<Self> {
        fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new(".")))?;
        let mut base = 0;
        durable::replace_with(path, |file| {
            let mut file = Counted { file, written: 0 };
            line(&mut file, &Header { version: VERSION, registry: registry.clone() })?;
            lines.iter().try_for_each(|one| line(&mut file, one))?;
            base = file.written;
            Ok(())
        })?;
        Ok(Self { base, length: base })
    }

    /// Whether appending still costs less than what the appended lines make a reader do in vain.
    pub(super) fn has_room(&self) -> bool {
        self.length - self.base <= self.base.max(SMALL)
    }

    /// Adds lines. On an error the file is left as it was, as far as the disk lets us.
    pub(super) fn append(self, path: &Path, lines: &[Line]) -> io::Result<Self> {
        let mut more = Vec::new();
        lines.iter().try_for_each(|one| line(&mut more, one))?;
        let mut file = OpenOptions::new().append(true).open(path)?;
        if file.metadata()?.len() != self.length {
            return Err(io::Error::other("somebody else wrote to this file"));
        }
        let appended = file.write_all(&more).and_then(|()| file.sync_data());
        if appended.is_err() {
            // Half a line, and a whole one behind it later, could not be read.
            _ = file.set_len(self.length);
        }
        appended.map(|()| Self { length: self.length + more.len() as u64, ..self })
    }
}

/// The entries that a registry's file holds, in the order in which a catalog gives them.
pub(super) fn read(path: &Path, registry: &RegistryId) -> io::Result<Vec<Entry>> {
    let bytes = fs::read(path)?;
    // Behind the last end of a line is what a crash left, or nothing.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or_default();
    let mut lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
    let Header { version, registry: of } = serde_json::from_slice(lines.next().unwrap_or_default())?;
    if version != VERSION || of != *registry {
        let expected = format!("expected version {VERSION} of {registry}");
        return Err(io::Error::other(format!("{expected}, found version {version} of {of}")));
    }
    let mut entries = BTreeMap::new();
    for (number, line) in lines.enumerate() {
        let line = serde_json::from_slice(line)
            .map_err(|error| io::Error::other(format!("line {}: {error}", number + 2)))?;
        let entry = match line {
            Line::Gone(key) => {
                entries.remove(&key);
                continue;
            }
            Line::Service(service) => Entry::Service(service),
            Line::Workload(workload) => Entry::Workload(workload),
        };
        entries.insert(entry.key(), entry);
    }
    Ok(entries.into_values().collect())
}

fn line(file: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *file, value)?;
    file.write_all(b"\n")
}

struct Counted<W> {
    file: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Bytes that are not worth making a file anew.
const SMALL: u64 = 64 << 10;
const VERSION: u32 = 2;
