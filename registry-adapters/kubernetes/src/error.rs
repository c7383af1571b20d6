//! Why a read from the API server failed, sorted into the outcomes that must not be mixed up.
//!
//! The sorting is here and nowhere else. None of these ever removes anything. That a version is too old (410) is no
//! failure: what follows it reads everything anew.

use std::time::Duration;

use weft_registry::{RegistryError, RegistryErrorKind, causes};

use crate::object::decode_status;

/// A read that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct KubernetesError {
    /// Which of the outcomes it is; never `Invalid`, which is about single objects.
    pub kind: RegistryErrorKind,
    /// What was asked for, as a user would say it: "pods".
    pub what: String,
    /// What went wrong.
    pub reason: String,
    /// How long the server asks us to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The status of the answer, where there was one.
    pub(crate) status: Option<u16>,
}

impl KubernetesError {
    pub(crate) fn new(kind: RegistryErrorKind, what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { kind, what: what.into(), reason: reason.into(), retry_after: None, status: None }
    }

    pub(crate) fn down(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(RegistryErrorKind::SourceDown, what, reason)
    }

    /// What a status that is no success means.
    pub(crate) fn of_status(what: &str, status: u16, body: &[u8]) -> Self {
        let text = match decode_status(body) {
            Some((_, message)) => message,
            None => String::from_utf8_lossy(body).into_owned(),
        };
        let kind = match status {
            401 | 403 => RegistryErrorKind::PermissionDenied,
            404 => RegistryErrorKind::NotFound,
            _ => RegistryErrorKind::SourceDown,
        };
        Self { status: Some(status), ..Self::new(kind, what, format!("status {status}: {}", excerpt(&text))) }
    }

    /// What kube's client says where there is no answer.
    pub(crate) fn of_client(what: &str, error: &kube::Error) -> Self {
        Self::down(what, causes(error))
    }

    /// The answer can't be read.
    pub(crate) fn garbage(what: &str, error: &serde_json::Error) -> Self {
        let reason = format!("it is not what Kubernetes answers: {error}");
        Self::new(RegistryErrorKind::Garbage, what, reason)
    }

    /// Whether the version that a watch asked for is not to be had: too old, or of a former life of the server, which
    /// did not come that far yet.
    pub(crate) fn is_version_lost(&self) -> bool {
        self.status == Some(410)
            || (self.status == Some(504) && self.reason.contains("Too large resource version"))
    }

    /// Whether a streamed list was refused in a way that a server does which does not know it.
    pub(crate) fn is_no_streaming(&self) -> bool {
        // 422 and 400 without the feature, 500 with an old etcd.
        matches!(self.status, Some(400 | 422 | 500))
    }

    /// Whether the server answers and says no, so that waiting is of no use.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.kind, RegistryErrorKind::PermissionDenied | RegistryErrorKind::NotFound)
    }
}

/// The start of a body: it goes to logs and status pages.
fn excerpt(body: &str) -> String {
    let line: String = body.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if line.is_empty() { "no text".to_owned() } else { line }
}

impl From<&KubernetesError> for RegistryError {
    fn from(error: &KubernetesError) -> Self {
        Self::new(error.kind, error.reason.clone()).about(error.what.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_their_outcome() {
        let of = |status, body: &str| KubernetesError::of_status("pods", status, body.as_bytes());
        for (status, kind) in [
            (401, RegistryErrorKind::PermissionDenied),
            (403, RegistryErrorKind::PermissionDenied),
            (404, RegistryErrorKind::NotFound),
            (400, RegistryErrorKind::SourceDown),
            (429, RegistryErrorKind::SourceDown),
            (500, RegistryErrorKind::SourceDown),
            (503, RegistryErrorKind::SourceDown),
            (302, RegistryErrorKind::SourceDown),
        ] {
            assert_eq!(of(status, "").kind, kind, "{status}");
        }
        let forbidden = of(403, r#"{"kind":"Status","code":403,"message":"pods is forbidden"}"#);
        assert_eq!(forbidden.reason, "status 403: pods is forbidden");
        assert!(forbidden.is_refusal() && !of(429, "").is_refusal());
    }

    #[test]
    fn a_version_is_lost_when_it_is_too_old_or_from_a_former_life() {
        let of = |status, body: &str| KubernetesError::of_status("pods", status, body.as_bytes());
        assert!(of(410, "too old resource version").is_version_lost());
        assert!(of(504, "Timeout: Too large resource version: 90, current: 4").is_version_lost());
        assert!(!of(504, "the server was unable to answer in time").is_version_lost());
    }

    #[test]
    fn a_body_in_a_message_is_one_short_line() {
        let text = excerpt(&format!("a\nb\u{1b}[31m{}", "x".repeat(1000)));
        assert!(text.starts_with("a b [31m") && text.len() == 300, "{text}");
    }
}
