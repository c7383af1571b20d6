//! The servers of a Nomad region as witness: the workload identity token of this task is sent to the control plane, which
//! verifies it and asks them about the allocation.
//!
//! Like a pod's token it is the secret itself: it goes only over a connection whose other end has proved to be the control
//! plane, and its audience makes it useless to anybody else. Nomad replaces the file at half of the token's life, so it is read
//! at every attempt.

use anyhow::{Context, Result, bail};
use weft_proto::ca::v1::NomadToken;

use crate::settings::NomadAttestation;

/// Real ones have about 0.8 kB; more than this the control plane does not look at.
const LONGEST: usize = 16 * 1024;

/// The proof. Errors name the setting and never show the token.
pub(super) fn proof(settings: &NomadAttestation) -> Result<NomadToken> {
    let named = || format!("identity.nomad.token_file {}", settings.token_file.display());
    let token = std::fs::read_to_string(&settings.token_file).with_context(named)?;
    let token = token.trim();
    if token.is_empty() || token.len() > LONGEST || token.split('.').count() != 3 {
        bail!("{}: it holds no workload identity token", named());
    }
    let (registry, token) = (settings.registry.as_str().to_owned(), token.to_owned());
    Ok(NomadToken { registry, token, node: settings.node.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(directory: &tempfile::TempDir) -> NomadAttestation {
        let token_file = directory.path().join("nomad_weft.jwt");
        NomadAttestation { registry: "nomad/prod".parse().unwrap(), token_file, node: "n".to_owned() }
    }

    #[test]
    fn a_token_is_read_anew_each_time_since_nomad_replaces_it() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&directory);
        for token in ["head.first.signature", "head.second.signature"] {
            std::fs::write(&settings.token_file, token).unwrap();
            let NomadToken { registry, token: read, node } = proof(&settings).unwrap();
            assert_eq!((registry.as_str(), read.as_str(), node.as_str()), ("nomad/prod", token, "n"));
        }
    }

    #[test]
    fn a_bad_token_is_named_by_its_file_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let settings = settings(&directory);
        let missing = format!("{:#}", proof(&settings).unwrap_err());
        assert!(missing.starts_with("identity.nomad.token_file "), "{missing}");
        for bad in ["", "\n", "secret", "se.cret", &format!("secret.{}.c", "b".repeat(LONGEST))] {
            std::fs::write(&settings.token_file, bad).unwrap();
            let error = format!("{:#}", proof(&settings).unwrap_err());
            assert!(error.contains("no workload identity token") && !error.contains("cret"), "{error}");
        }
    }
}
