//! Why a read from Consul failed, sorted into the outcomes that must not be mixed up.
//!
//! Consul says "no such datacenter" and "no leader" with the same status, and an unknown token with 403; the sorting is
//! here, by status and text, and nowhere else. None of these ever removes anything.

use rustify::errors::ClientError;
use weft_registry::{RegistryError, RegistryErrorKind, causes};

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct ConsulError {
    /// Which of the outcomes it is; never `Invalid`, which is about single objects.
    pub kind: RegistryErrorKind,
    /// What was asked for, as a user would say it: "health of service api".
    pub what: String,
    /// What went wrong.
    pub reason: String,
}

impl ConsulError {
    pub(crate) fn new(kind: RegistryErrorKind, what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind, what: what.into(), reason: reason.into() }
    }

    /// Sorts what the client machinery says.
    pub(crate) fn from_client(what: &str, error: &ClientError) -> Self {
        match error {
            ClientError::ServerResponseError { code, content } => {
                let body = content.as_deref().unwrap_or("").trim();
                Self::new(of_response(*code, body), what, format!("status {code}: {}", excerpt(body)))
            }
            ClientError::ResponseParseError { source, .. } => Self::new(
                RegistryErrorKind::Garbage,
                what,
                format!("it is not what Consul answers: {source}"),
            ),
            ClientError::ResponseError { source } => {
                Self::new(RegistryErrorKind::SourceDown, what, causes(source.as_ref()))
            }
            other => Self::new(RegistryErrorKind::SourceDown, what, causes(other)),
        }
    }
}

/// What a status and body mean.
fn of_response(code: u16, body: &str) -> RegistryErrorKind {
    match code {
        401 | 403 => RegistryErrorKind::PermissionDenied,
        404 => RegistryErrorKind::NotFound,
        // 1.8 to 1.20 answer 500 for an unknown datacenter and for unknown tokens behind a remote call.
        _ if body.contains("No path to datacenter") => RegistryErrorKind::NotFound,
        _ if body.contains("Permission denied") || body.contains("ACL not found") => {
            RegistryErrorKind::PermissionDenied
        }
        400 if body.contains("Namespaces are a Consul Enterprise feature") => RegistryErrorKind::NotFound,
        _ => RegistryErrorKind::SourceDown,
    }
}

/// The start of a body: it goes to logs and status pages.
fn excerpt(body: &str) -> String {
    let line: String = body.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    if line.is_empty() { "no text".to_owned() } else { line }
}

impl From<&ConsulError> for RegistryError {
    fn from(error: &ConsulError) -> Self {
        Self::new(error.kind, error.reason.clone()).about(error.what.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_texts_mean_their_outcome() {
        for (code, body, kind) in [
            (403, "Permission denied: token lacks permission", RegistryErrorKind::PermissionDenied),
            (403, "ACL not found", RegistryErrorKind::PermissionDenied),
            (500, "rpc error making call: ACL not found", RegistryErrorKind::PermissionDenied),
            (404, "Invalid URL path", RegistryErrorKind::NotFound),
            (500, "No path to datacenter", RegistryErrorKind::NotFound),
            (
                400,
                "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
                RegistryErrorKind::NotFound,
            ),
            (500, "No cluster leader", RegistryErrorKind::SourceDown),
            (429, "Your IP is issuing too many concurrent connections", RegistryErrorKind::SourceDown),
            (503, "", RegistryErrorKind::SourceDown),
            (302, "moved", RegistryErrorKind::SourceDown),
        ] {
            assert_eq!(of_response(code, body), kind, "{code} {body}");
        }
    }

    #[test]
    fn a_body_in_a_message_is_one_short_line() {
        let text = excerpt(&format!("a\nb\u{1b}[31m{}", "x".repeat(1000)));
        assert!(text.starts_with("a b [31m") && text.len() == 200, "{text}");
    }
}
