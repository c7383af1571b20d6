//! The cluster's API server as witness: the pod's service account token is sent to the control plane, which asks about it.
//!
//! Unlike Consul's proof this is the secret itself, so it goes only over a connection whose other end has proved to be the
//! control plane, and its audience makes it useless to anybody else. The kubelet replaces the file before the token is
//! over, so it is read at every attempt.

use anyhow::{Context, Result, bail};
use weft_proto::ca::v1::KubernetesToken;

use crate::settings::KubernetesAttestation;

/// Real ones have about 1.3 kB; more than this the control plane does not look at.
const LONGEST: usize = 16 * 1024;

/// The proof. Errors name the setting and never show the token.
pub(super) fn proof(settings: &KubernetesAttestation) -> Result<KubernetesToken> {
    let named = || format!("identity.kubernetes.token_file {}", settings.token_file.display());
    let token = std::fs::read_to_string(&settings.token_file).with_context(named)?;
    let token = token.trim();
    if token.is_empty() || token.len() > LONGEST || token.split('.').count() != 3 {
        bail!("{}: it holds no service account token", named());
    }
    Ok(KubernetesToken { registry: settings.registry.as_str().to_owned(), token: token.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_anew_each_time_and_may_end_with_a_line_end() {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        let settings = KubernetesAttestation { registry: "kubernetes/prod".parse().unwrap(), token_file };
        for token in ["head.first.signature", "head.second.signature"] {
            std::fs::write(&settings.token_file, format!("{token}\n")).unwrap();
            let proof = proof(&settings).unwrap();
            assert_eq!((proof.registry.as_str(), proof.token.as_str()), ("kubernetes/prod", token));
        }
    }

    #[test]
    fn a_bad_token_is_named_by_its_file_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        let settings = KubernetesAttestation { registry: "kubernetes/prod".parse().unwrap(), token_file };
        let missing = format!("{:#}", proof(&settings).unwrap_err());
        assert!(missing.starts_with("identity.kubernetes.token_file "), "{missing}");
        for bad in ["", "\n", "secret", "se.cret", &format!("secret.{}.c", "b".repeat(LONGEST))] {
            std::fs::write(&settings.token_file, bad).unwrap();
            let error = format!("{:#}", proof(&settings).unwrap_err());
            assert!(error.contains("no service account token") && !error.contains("cret."), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
