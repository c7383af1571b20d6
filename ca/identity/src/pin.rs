//! First contact with a control plane: no bundle is known yet, only the SHA-256 of its root, from a join token or the
//! settings.
//!
//! The control plane sends its root with its chain. If that root's hash is pinned, it becomes the one anchor of
//! this connection; everything else is checked as always. The client shows no certificate: it has none.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use webpki::anchor_from_trusted_cert;

use crate::credentials::{CredentialsError, harden_client, tls13};
use crate::profile;
use crate::verifier::{JudgeServer, ServerVerifier};
use crate::verify::{Role, VerifyError, check_chain, classify};

/// The SHA-256 of a root certificate's DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootPin([u8; 32]);

/// Why a text is not a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a root pin: expected the SHA-256 of the root certificate's DER as 64 hexadecimal digits"
)]
pub struct InvalidPin(String);

impl RootPin {
    /// The pin of a root.
    pub fn of(root: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(root).into())
    }
}

impl FromStr for RootPin {
    type Err = InvalidPin;
    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| InvalidPin(text.to_owned()))?;
        Ok(Self(hash))
    }
}

impl fmt::Display for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// For connecting to a control plane whose root has one of `pins`, and whose id has the path `expected_path`.
///
/// # Errors
/// When rustls refuses the provider's parameters.
pub fn pinned_client_config(
    pins: &[RootPin],
    expected_path: &str,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, CredentialsError> {
    let judge = Pinned { pins: pins.to_vec(), expected_path: expected_path.to_owned() };
    let mut config = tls13(ClientConfig::builder_with_provider(crate::crypto_provider()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier(judge)))
        .with_no_client_auth();
    harden_client(&mut config, alpn);
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Pinned {
    pins: Vec<RootPin>,
    expected_path: String,
}

impl JudgeServer for Pinned {
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), VerifyError> {
        let id = profile::peer_id(chain)?;
        // Not the leaf: a pinned leaf would vouch for itself.
        let root = chain.iter().skip(1).find(|certificate| self.pins.contains(&RootPin::of(certificate)));
        let root = root.ok_or(VerifyError::NotPinned)?;
        // A root that names a trust domain vouches for that one only; a root of the user's own PKI names none.
        if let Ok(named) = profile::uri_name(&profile::parse(root)?)
            && named.trust_domain() != id.trust_domain()
        {
            return Err(VerifyError::UnknownIssuer { id });
        }
        let anchor = anchor_from_trusted_cert(root).map_err(|error| classify(id.clone(), now, error))?;
        check_chain(chain, &[anchor], now, Role::Server).map_err(|error| classify(id.clone(), now, error))?;
        match id.path() == self.expected_path {
            true => Ok(()),
            false => Err(VerifyError::WrongPath { expected: self.expected_path.clone(), presented: id }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CONTROL_PLANE_PATH;
    use crate::testkit::{TestAuthority, leaf_params};

    fn judge(pins: Vec<RootPin>, chain: &[CertificateDer<'_>]) -> Result<(), VerifyError> {
        Pinned { pins, expected_path: CONTROL_PLANE_PATH.to_owned() }.judge(chain, UnixTime::now())
    }

    fn chain_of(authority: &TestAuthority, path: &str) -> Vec<CertificateDer<'static>> {
        let mut chain = authority.svid(path).chain().to_vec();
        chain.extend(authority.bundle().roots);
        chain
    }

    #[test]
    fn a_pinned_root_in_the_chain_admits_the_control_plane() {
        let authority = TestAuthority::new("weft.test");
        let pin = RootPin::of(&authority.bundle().roots[0]);
        assert_eq!(judge(vec![pin], &chain_of(&authority, CONTROL_PLANE_PATH)), Ok(()));
    }

    #[test]
    fn another_workload_of_the_same_root_is_not_the_control_plane() {
        let authority = TestAuthority::new("weft.test");
        let pin = RootPin::of(&authority.bundle().roots[0]);
        let refused = judge(vec![pin], &chain_of(&authority, "/ns/shop/sa/web"));
        assert!(matches!(refused, Err(VerifyError::WrongPath { .. })), "{refused:?}");
    }

    #[test]
    fn a_root_that_is_not_pinned_is_refused() {
        let authority = TestAuthority::new("weft.test");
        let other = RootPin::of(&TestAuthority::new("weft.test").bundle().roots[0]);
        assert_eq!(
            judge(vec![other], &chain_of(&authority, CONTROL_PLANE_PATH)),
            Err(VerifyError::NotPinned)
        );
    }

    #[test]
    fn the_pinned_root_must_have_signed_the_leaf() {
        let (real, forger) = (TestAuthority::new("weft.test"), TestAuthority::new("weft.test"));
        let mut chain = forger.svid(CONTROL_PLANE_PATH).chain().to_vec();
        chain.extend(real.bundle().roots);
        let refused = judge(vec![RootPin::of(&real.bundle().roots[0])], &chain);
        assert!(matches!(refused, Err(VerifyError::UnknownIssuer { .. })), "{refused:?}");
    }

    #[test]
    fn a_root_vouches_for_its_own_trust_domain_only() {
        let authority = TestAuthority::new("weft.test");
        let (mut chain, _) = authority.sign(leaf_params(&format!("spiffe://other.test{CONTROL_PLANE_PATH}")));
        chain.extend(authority.bundle().roots);
        let refused = judge(vec![RootPin::of(&authority.bundle().roots[0])], &chain);
        assert!(matches!(refused, Err(VerifyError::UnknownIssuer { .. })), "{refused:?}");
    }

    #[test]
    fn a_pinned_leaf_does_not_vouch_for_itself() {
        let authority = TestAuthority::new("weft.test");
        let chain = chain_of(&authority, CONTROL_PLANE_PATH);
        assert_eq!(judge(vec![RootPin::of(&chain[0])], &chain), Err(VerifyError::NotPinned));
    }

    #[test]
    fn a_pin_survives_its_text_form() {
        let pin = RootPin::of(&TestAuthority::new("weft.test").bundle().roots[0]);
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert!("abcd".parse::<RootPin>().is_err());
    }
}
