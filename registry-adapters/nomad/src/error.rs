//! Why a request to Nomad failed, sorted into the outcomes that must not be mixed up.
//!
//! Nomad answers with a status and a line of text; the sorting is here and nowhere else. None of these ever removes anything.

use reqwest::StatusCode;
use weft_registry::{RegistryError, RegistryErrorKind, causes};

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct NomadError {
    /// Which of the outcomes it is; never `Invalid`, which is about single objects.
    pub kind: RegistryErrorKind,
    /// What was asked for, as a user would say it: "the list of services".
    pub what: String,
    /// What went wrong.
    pub reason: String,
    /// What the server answered, where it answered.
    pub status: Option<u16>,
}

impl NomadError {
    /// An error of this kind.
    pub fn new(kind: RegistryErrorKind, what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind, what: what.into(), reason: reason.into(), status: None }
    }

    /// The server answered with another status than success.
    pub(crate) fn of_status(what: &str, status: StatusCode, body: &str) -> Self {
        let (kind, reason) = (of_response(status, body), format!("status {status}: {}", excerpt(body)));
        Self { status: Some(status.as_u16()), ..Self::new(kind, what, reason) }
    }

    /// There was no answer, or it broke off.
    pub(crate) fn of_transport(what: &str, error: reqwest::Error) -> Self {
        Self::new(RegistryErrorKind::SourceDown, what, causes(&error.without_url()))
    }

    /// The answer is not what Nomad answers. Where, and not what: an answer may hold secrets.
    pub(crate) fn of_body(what: &str, error: &serde_json::Error) -> Self {
        let reason = format!(
            "it is not what Nomad answers: not understood at line {}, column {}",
            error.line(),
            error.column()
        );
        Self::new(RegistryErrorKind::Garbage, what, reason)
    }
}

/// What a status and body mean.
fn of_response(status: StatusCode, body: &str) -> RegistryErrorKind {
    match status.as_u16() {
        401 | 403 => RegistryErrorKind::PermissionDenied,
        404 => RegistryErrorKind::NotFound,
        _ if body.contains("No path to region") => RegistryErrorKind::NotFound,
        // Errors of a remote call lose their status.
        _ if body.contains("Permission denied") || body.contains("ACL token not found") => {
            RegistryErrorKind::PermissionDenied
        }
        _ => RegistryErrorKind::SourceDown,
    }
}

/// The start of a body: it goes to logs and status pages.
fn excerpt(body: &str) -> String {
    let line: String = body.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if line.is_empty() { "no text".to_owned() } else { line }
}

impl From<&NomadError> for RegistryError {
    fn from(error: &NomadError) -> Self {
        Self::new(error.kind, error.reason.clone()).about(error.what.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_texts_mean_their_outcome() {
        for (status, body, kind) in [
            (403, "Permission denied", RegistryErrorKind::PermissionDenied),
            (403, "ACL token not found", RegistryErrorKind::PermissionDenied),
            (500, "rpc error: Permission denied", RegistryErrorKind::PermissionDenied),
            (404, "alloc not found", RegistryErrorKind::NotFound),
            (500, "No path to region", RegistryErrorKind::NotFound),
            (500, "No cluster leader", RegistryErrorKind::SourceDown),
            (429, "too many connections", RegistryErrorKind::SourceDown),
            (302, "moved", RegistryErrorKind::SourceDown),
        ] {
            assert_eq!(of_response(StatusCode::from_u16(status).unwrap(), body), kind, "{status} {body}");
        }
    }

    #[test]
    fn a_body_in_a_message_is_one_short_line() {
        let text = excerpt(&format!("a\nb\u{1b}[31m{}", "x".repeat(1000)));
        assert!(text.starts_with("a b [31m") && text.len() == 300, "{text}");
    }
}
