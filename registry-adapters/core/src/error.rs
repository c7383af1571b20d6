//! What can be wrong with a registry as a whole ([`RegistryError`]) and with one of its objects ([`Problem`]).
//!
//! Four kinds of error have four outcomes in `weft status`, so they are told apart here and not by reading messages.
//! None of them removes anything.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};
use weft_model::Severity;

/// What went wrong, as far as the outcome differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryErrorKind {
    /// The source does not answer, or answers that it can't.
    SourceDown,
    /// The source refuses us: a missing right, a bad token, a denied list.
    PermissionDenied,
    /// The source answers that what we were told to read does not exist (a namespace, a datacenter).
    NotFound,
    /// The source answers what can't be understood.
    Garbage,
    /// Single objects are wrong. The source as a whole is well.
    Invalid,
}

impl fmt::Display for RegistryErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceDown => "source down",
            Self::PermissionDenied => "permission denied",
            Self::NotFound => "not found",
            Self::Garbage => "answer not understood",
            Self::Invalid => "invalid objects",
        })
    }
}

/// An error of a registry: an item of its stream, never its end.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {}{message}", .object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default())]
pub struct RegistryError {
    kind: RegistryErrorKind,
    object: Option<String>,
    message: String,
    problems: Vec<Problem>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl RegistryError {
    /// An error of the source as a whole.
    pub fn new(kind: RegistryErrorKind, message: impl Into<String>) -> Self {
        Self { kind, object: None, message: message.into(), problems: Vec::new(), source: None }
    }

    /// The source does not answer; `message` says what was tried and what came back.
    pub fn source_down(message: impl Into<String>) -> Self {
        Self::new(RegistryErrorKind::SourceDown, message)
    }

    /// The source refuses us.
    pub fn permission_denied(message: impl Into<String>) -> Self {
        Self::new(RegistryErrorKind::PermissionDenied, message)
    }

    /// The source has no such thing as we were told to read.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RegistryErrorKind::NotFound, message)
    }

    /// The source's answer is not understood.
    pub fn garbage(message: impl Into<String>) -> Self {
        Self::new(RegistryErrorKind::Garbage, message)
    }

    /// From now on this is the complete list of what is wrong with single objects; empty: all are good again.
    pub fn problems(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        let message = match problems.as_slice() {
            [] => "all objects are good again".to_owned(),
            [one] => one.to_string(),
            [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
        };
        Self { problems, ..Self::new(RegistryErrorKind::Invalid, message) }
    }

    /// Names what in the source the error is about: a path, a URL.
    #[must_use]
    pub fn about(self, object: impl Into<String>) -> Self {
        Self { object: Some(object.into()), ..self }
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn caused_by(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> RegistryErrorKind {
        self.kind
    }

    /// What in the source it is about.
    pub fn object(&self) -> Option<&str> {
        self.object.as_deref()
    }

    /// The wrong objects, where the kind is [`RegistryErrorKind::Invalid`]; sorted.
    pub fn wrong_objects(&self) -> &[Problem] {
        &self.problems
    }

    /// The error and all its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// An error of a client library and its causes in one line, each once: such libraries often repeat the cause.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}

/// What is wrong with one object of a registry, in words its owner can act on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// The object as its owner finds it again: a file's name, `node-1/web-1`.
    pub object: String,
    /// The line in it, from 1, where it is a text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<u64>,
    /// The field in it, as a path: `ports[0].number`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Problem {
    /// An error on `object`.
    pub fn error(object: impl Into<String>, message: impl Into<String>) -> Self {
        let (object, message) = (object.into(), message.into());
        Self { object, line: None, field: None, severity: Severity::Error, message }
    }

    /// A warning on `object`.
    pub fn warning(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(object, message) }
    }

    /// At this line, from 1.
    #[must_use]
    pub fn at_line(self, line: u64) -> Self {
        Self { line: Some(line), ..self }
    }

    /// In this field.
    #[must_use]
    pub fn in_field(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.object)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_file_line_field_and_reason() {
        let problem =
            Problem::error("api.yaml", "expected 1 to 65535").at_line(7).in_field("ports[0].number");
        assert_eq!(problem.to_string(), "api.yaml:7: ports[0].number: expected 1 to 65535");
    }

    #[test]
    fn an_error_names_its_object_and_its_causes_once() {
        let error = RegistryError::source_down("listing the directory")
            .about("/etc/weft")
            .caused_by(std::io::Error::other("no such device"));
        assert_eq!(error.chain(), "source down: /etc/weft: listing the directory: no such device");
    }
}
