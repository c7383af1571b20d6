//! From a file's bytes to entries, or to problems with line and field. Pure; no input makes it panic.
//!
//! A file counts as a whole: with one error in it none of its objects is used, since a half-applied file is harder
//! to understand than the last good one. Warnings do not count as errors.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_saphyr::{MessageFormatter, UserMessageFormatter};
use weft_model::{Entry, Provenance, RegistryId, Severity, TrustDomain};

use super::convert::Converting;
use super::document::Document;
use crate::error::Problem;

/// What decoding needs to know besides the bytes.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) registry: RegistryId,
    pub(super) trust_domain: TrustDomain,
}

/// An object, where it starts, and the text that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) entry: Entry,
    pub(super) line: u64,
    pub(super) text: Arc<str>,
}

impl Object {
    /// The same object, where its text starts on another line now.
    fn moved_to(&self, file: &str, line: u64) -> Self {
        let mut moved = Self { line, ..self.clone() };
        if line != self.line
            && let Entry::Workload(workload) = &mut moved.entry
        {
            let workload = Arc::make_mut(workload);
            let provenance = std::mem::take(&mut workload.provenance);
            let object = place(file, line);
            workload.provenance =
                provenance.into_iter().map(|said| Provenance { object: object.clone(), ..said }).collect();
        }
        moved
    }
}

/// Where an object is, as its provenance says it.
pub(super) fn place(file: &str, line: u64) -> String {
    format!("{file}:{line}")
}

/// Objects of a file as it was, in which nothing was wrong, by their text: where that is the same, so is the object.
pub(super) type Known = HashMap<Arc<str>, Object>;

/// A file's content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    /// All objects; none where the file has an error.
    pub(super) objects: Vec<Object>,
    /// Errors, at most [`PROBLEMS_AT_MOST`], and warnings.
    pub(super) problems: Vec<Problem>,
}

impl Decoded {
    /// A file that can't be read at all.
    pub(super) fn bad(problem: Problem) -> Self {
        Self { objects: Vec::new(), problems: vec![problem] }
    }

    /// Whether its objects are used.
    pub(super) fn is_good(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity == Severity::Warning)
    }
}

/// Reads `bytes` as the content of the file that is shown as `file`. What is `known` of that file is not read again: a
/// change costs its own document.
pub(super) fn decode(file: &str, bytes: &[u8], known: &Known, context: &Context) -> Decoded {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count() as u64;
            return Decoded::bad(Problem::error(file, "expected UTF-8 text").at_line(line));
        }
    };
    let mut decoded = Decoded::default();
    let mut seen = BTreeMap::new();
    for part in parts(text) {
        let same = known.get(part.text).map(|object| object.moved_to(file, part.content_line));
        if let Some(object) = same.or_else(|| read(file, &part, context, &mut decoded.problems)) {
            if let Some(first) = seen.insert(object.entry.key(), object.line) {
                let message = format!("the same name is already at line {first}; expected each name once");
                decoded.problems.push(Problem::error(file, message).at_line(object.line).in_field("name"));
            }
            decoded.objects.push(object);
        }
        if decoded.problems.len() >= PROBLEMS_AT_MOST {
            decoded.problems.truncate(PROBLEMS_AT_MOST);
            break;
        }
    }
    if !decoded.is_good() {
        decoded.objects.clear();
    }
    decoded
}

/// The text of one document within its file.
struct Part<'a> {
    text: &'a str,
    /// The file's line that `text` starts on, from 1.
    first_line: u64,
    /// The first line with content.
    content_line: u64,
}

/// Cuts at `---` and `...`. YAML allows neither at the start of a line within any scalar (YAML 1.2, 9.1.4), so
/// lines are enough. Each document is read by itself: the lines of an error are then sure, whatever came before.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut first_line, mut content) = (0, 1, None);
    let (mut offset, mut line) = (0, 1);
    for piece in text.split_inclusive('\n') {
        if is_marker(piece, "---") || is_marker(piece, "...") {
            // Only comments and directives so far: they belong to the document that starts here.
            if let Some(content_line) = content.take() {
                let text = text.get(start..offset).unwrap_or_default();
                parts.push(Part { text, first_line, content_line });
                (start, first_line) = (offset, line);
            }
            if is_marker(piece, "...") {
                (start, first_line) = (offset + piece.len(), line + 1);
            } else if has_content(piece.trim_start_matches("---")) {
                content = Some(line);
            }
        } else if content.is_none() && has_content(piece) && !piece.starts_with('%') {
            content = Some(line);
        }
        offset += piece.len();
        line += 1;
    }
    let text = text.get(start..).unwrap_or_default();
    parts.extend(content.map(|content_line| Part { text, first_line, content_line }));
    parts
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn has_content(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

fn read(file: &str, part: &Part<'_>, context: &Context, problems: &mut Vec<Problem>) -> Option<Object> {
    match parse(part) {
        Ok(document) => {
            let mut converting = Converting::new(file, part.first_line, part.content_line, context);
            let entry = converting.entry(document);
            problems.append(&mut converting.problems);
            Some(Object { entry: entry?, line: part.content_line, text: part.text.into() })
        }
        Err(wrong) => {
            let problem = Problem::error(file, wrong.message).at_line(wrong.line);
            problems.push(match wrong.field {
                Some(field) => problem.in_field(field),
                None => problem,
            });
            None
        }
    }
}

/// Why a document can't be read.
struct Wrong {
    line: u64,
    field: Option<String>,
    message: String,
}

fn parse(part: &Part<'_>) -> Result<Document, Wrong> {
    let options = serde_saphyr::options! { with_snippet: false };
    let mut path = String::new();
    let document =
        serde_saphyr::with_deserializer_from_str_with_options(part.text, options, |deserializer| {
            serde_path_to_error::deserialize::<_, Document>(deserializer).map_err(|error| {
                path = error.path().to_string();
                error.into_inner()
            })
        });
    document.map_err(|error| {
        let line = match error.location().map_or(0, |location| location.line()) {
            0 => part.content_line,
            line => part.first_line + line - 1,
        };
        // A value with its line is read as a structure, whose inner name is no field of the user's; `?` is a field that
        // the error came before.
        let path = path.replacen(".value", "", usize::from(!path.starts_with("labels")));
        let field = (!path.contains('?') && path != ".").then_some(path);
        Wrong { line, field, message: message(&error) }
    })
}

/// The error without its place, and without the YAML reader's own words for what users write.
fn message(error: &serde_saphyr::Error) -> String {
    let message = UserMessageFormatter.format_message(error.without_snippet());
    message
        .replace("expected mapping start", "expected fields (name: value)")
        .replace("string scalar", "a text")
}

/// More would not be read by anybody, and a file of garbage could have millions.
const PROBLEMS_AT_MOST: usize = 20;

#[cfg(test)]
mod tests;
