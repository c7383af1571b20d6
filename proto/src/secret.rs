//! How messages with a secret in them are shown: without it. A request may get into a log line or a panic's message.

use std::fmt;

use crate::ca::v1::{JoinToken, KubernetesToken};

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").finish_non_exhaustive()
    }
}

impl fmt::Debug for KubernetesToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesToken").field("registry", &self.registry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::ca::v1::issue_request::Attestation;
    use crate::ca::v1::{IssueRequest, JoinToken, KubernetesToken};

    #[test]
    fn a_request_is_shown_without_its_token() {
        let (registry, token) = ("kubernetes/prod".to_owned(), "very-secret".to_owned());
        let join = Attestation::JoinToken(JoinToken { token: token.clone() });
        let kubernetes = Attestation::KubernetesToken(KubernetesToken { registry, token });
        for attestation in [join, kubernetes] {
            let shown =
                format!("{:?}", IssueRequest { csr: Vec::new().into(), attestation: Some(attestation) });
            assert!(shown.contains("Token") && !shown.contains("very-secret"), "{shown}");
        }
    }
}
