//! Trust bundles: the roots of each trust domain. Kept apart by domain and never merged, since one domain's root
//! could otherwise sign ids of another (SPIFFE Federation 5.4).

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use weft_model::TrustDomain;

use crate::pem::{InvalidPem, certificates_from_pem, certificates_to_pem};
use crate::profile::{self, InvalidSvid};

/// Why certificates are not a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBundle {
    /// Not PEM.
    #[error(transparent)]
    Pem(#[from] InvalidPem),
    /// One of them can't be read. Counted from 1.
    #[error("root {number} of {trust_domain}: {source}")]
    Root {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        source: InvalidSvid,
    },
    /// One of them is no CA certificate. Counted from 1.
    #[error("root {number} of {trust_domain} is not a CA certificate")]
    NotCa {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// Which one, from 1.
        number: usize,
    },
    /// One of them names another trust domain. Counted from 1.
    #[error("root {number} of {trust_domain} is of trust domain {named}")]
    OtherDomain {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// Which one, from 1.
        number: usize,
        /// The domain in its URI name.
        named: TrustDomain,
    },
}

/// The roots of one trust domain; several while they rotate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// Whose roots.
    pub trust_domain: TrustDomain,
    /// X.509 certificates, DER.
    pub roots: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// A bundle of checked roots: each is readable, a CA certificate, and of this trust domain if it names one.
    /// No roots is a bundle that trusts nobody.
    ///
    /// # Errors
    /// Which root breaks which rule.
    pub fn new(
        trust_domain: TrustDomain,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, InvalidBundle> {
        for (index, root) in roots.iter().enumerate() {
            check_root(&trust_domain, index + 1, root)?;
        }
        Ok(Self { trust_domain, roots })
    }

    /// A bundle of PEM text.
    ///
    /// # Errors
    /// When it is not PEM, or as [`TrustBundle::new`].
    pub fn from_pem(trust_domain: TrustDomain, text: &str) -> Result<Self, InvalidBundle> {
        Self::new(trust_domain, certificates_from_pem(text)?)
    }

    /// The roots as PEM.
    pub fn to_pem(&self) -> String {
        certificates_to_pem(&self.roots)
    }
}

fn check_root(
    trust_domain: &TrustDomain,
    number: usize,
    der: &CertificateDer<'_>,
) -> Result<(), InvalidBundle> {
    let trust_domain = || trust_domain.clone();
    let root = profile::parse(der).map_err(|source| InvalidBundle::Root {
        trust_domain: trust_domain(),
        number,
        source,
    })?;
    if !root.is_ca() {
        return Err(InvalidBundle::NotCa { trust_domain: trust_domain(), number });
    }
    match profile::uri_name(&root) {
        Ok(id) if id.trust_domain() != trust_domain() => {
            Err(InvalidBundle::OtherDomain { trust_domain: trust_domain(), number, named: id.trust_domain() })
        }
        // A root of the user's own PKI names no trust domain, and may.
        Ok(_) | Err(InvalidSvid::UriCount(0)) => Ok(()),
        Err(source) => Err(InvalidBundle::Root { trust_domain: trust_domain(), number, source }),
    }
}

/// The bundles of all trust domains that are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustBundles(pub BTreeMap<TrustDomain, TrustBundle>);

impl TrustBundles {
    /// The bundle of one domain.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        self.0.get(trust_domain)
    }

    /// All bundles, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.0.values()
    }

    /// Puts in a bundle, in place of the one of its domain.
    pub fn insert(&mut self, bundle: TrustBundle) {
        self.0.insert(bundle.trust_domain.clone(), bundle);
    }
}

impl FromIterator<TrustBundle> for TrustBundles {
    fn from_iter<I: IntoIterator<Item = TrustBundle>>(bundles: I) -> Self {
        Self(bundles.into_iter().map(|bundle| (bundle.trust_domain.clone(), bundle)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::TestAuthority;

    #[test]
    fn a_bundle_survives_its_pem_form() {
        let bundle = TestAuthority::new("weft.test").bundle();
        assert_eq!(TrustBundle::from_pem(bundle.trust_domain.clone(), &bundle.to_pem()), Ok(bundle));
    }

    #[test]
    fn a_leaf_or_a_root_of_another_domain_is_no_root() {
        let authority = TestAuthority::new("weft.test");
        let domain = authority.bundle().trust_domain;
        let leaf = authority.svid("/a").chain()[0].clone();
        let not_ca = TrustBundle::new(domain.clone(), vec![leaf]);
        assert!(matches!(not_ca, Err(InvalidBundle::NotCa { number: 1, .. })), "{not_ca:?}");
        let mut roots = authority.bundle().roots;
        roots.extend(TestAuthority::new("other.test").bundle().roots);
        let other = TrustBundle::new(domain, roots);
        assert!(matches!(other, Err(InvalidBundle::OtherDomain { number: 2, .. })), "{other:?}");
    }
}
