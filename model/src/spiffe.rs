//! SPIFFE ids and trust domains, parsed strictly and compared as strings.
//!
//! Never URL-decoded: a `%` is refused, so two spellings of one id can't exist (SPIFFE-ID 2.1 to 2.4).
//! Weft's own ids are `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` on every platform; other
//! paths parse too, since foreign systems' ids (a Consul Connect leaf's) are read as well.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::{Namespace, ServiceName};

/// Why a text is not a SPIFFE id or trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a SPIFFE id: {reason}")]
pub struct InvalidSpiffeId {
    /// What was given.
    pub text: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

/// A trust domain name: `[a-z0-9._-]`, 1 to 255 bytes (SPIFFE-ID 2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidSpiffeId;
    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        let reason = match text.len() {
            0 => "the trust domain is empty",
            1..=255 if text.bytes().all(allowed) => return Ok(Self(text.into())),
            1..=255 => "a trust domain has only lower-case letters, digits, '.', '-' and '_'",
            _ => "the trust domain has more than 255 bytes",
        };
        Err(InvalidSpiffeId { text: text.to_owned(), reason })
    }
}

/// A SPIFFE id: `spiffe://` trust domain and path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// Weft's id of a service account: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// When `service_account` is not one legal path segment.
    pub fn of_service_account(
        trust_domain: &TrustDomain,
        namespace: &Namespace,
        service_account: &str,
    ) -> Result<Self, InvalidSpiffeId> {
        if service_account.contains('/') {
            let text = service_account.to_owned();
            return Err(InvalidSpiffeId { text, reason: "a service account is one path segment" });
        }
        format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}").parse()
    }

    /// Weft's id of a service account that is called as a service may be. A service name is always one legal path
    /// segment, so this cannot fail.
    pub fn of_service(trust_domain: &TrustDomain, namespace: &Namespace, account: &ServiceName) -> Self {
        Self(format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.split().0.into())
    }

    /// The path with its leading slash; empty for a trust domain's own id.
    pub fn path(&self) -> &str {
        self.split().1
    }

    /// Namespace and service account, where the path is `/ns/<namespace>/sa/<service account>`.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.path().strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !account.contains('/')).then_some((namespace, account))
    }

    fn split(&self) -> (&str, &str) {
        let rest = &self.0["spiffe://".len()..];
        rest.split_at(rest.find('/').unwrap_or(rest.len()))
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;
    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let fail = |reason| Err(InvalidSpiffeId { text: text.to_owned(), reason });
        // SPIFFE-ID 2.4: implementations support 2048 bytes and refuse longer ones.
        if text.len() > 2048 {
            return fail("it has more than 2,048 bytes");
        }
        let Some(rest) = text.strip_prefix("spiffe://") else {
            return fail("it does not start with spiffe://");
        };
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if let Err(invalid) = domain.parse::<TrustDomain>() {
            return fail(invalid.reason);
        }
        for segment in path.split('/').skip(1) {
            match segment {
                "" => return fail("a path segment is empty"),
                "." | ".." => return fail("a path segment of only dots is not allowed"),
                _ => {}
            }
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            if !segment.bytes().all(allowed) {
                return fail("a path segment has only letters, digits, '.', '-' and '_'");
            }
        }
        Ok(Self(text.into()))
    }
}

macro_rules! forms {
    ($($type:ident),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
        impl TryFrom<String> for $type {
            type Error = InvalidSpiffeId;
            fn try_from(text: String) -> Result<Self, InvalidSpiffeId> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.0.as_ref().to_owned()
            }
        }
    )*};
}
forms!(TrustDomain, SpiffeId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_splits_into_domain_namespace_and_account() {
        let id: SpiffeId = "spiffe://weft.local/ns/shop/sa/web".parse().unwrap();
        assert_eq!(id.trust_domain().as_str(), "weft.local");
        assert_eq!(id.path(), "/ns/shop/sa/web");
        assert_eq!(id.service_account(), Some(("shop", "web")));
    }

    #[test]
    fn a_consul_leaf_id_parses_and_is_no_service_account() {
        let id: SpiffeId = "spiffe://1111-2222.consul/ns/default/dc/dc1/svc/web".parse().unwrap();
        assert_eq!(id.service_account(), None);
    }

    #[test]
    fn the_longest_names_still_make_a_legal_id() {
        let domain: TrustDomain = "d".repeat(255).parse().unwrap();
        let (namespace, name) = ("n".repeat(253).parse().unwrap(), "s".repeat(253).parse().unwrap());
        let id = SpiffeId::of_service(&domain, &namespace, &name);
        assert_eq!(id.as_str().parse::<SpiffeId>().unwrap(), id);
        assert_eq!(SpiffeId::of_service_account(&domain, &namespace, name.as_str()).unwrap(), id);
    }

    #[test]
    fn every_rule_of_the_grammar_is_enforced() {
        for bad in [
            "https://a/b",
            "spiffe://",
            "spiffe:///x",
            "spiffe://A/x",
            "spiffe://a:1/x",
            "spiffe://u@a/x",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://a/b/",
            "spiffe://a/%41",
            "spiffe://a/b?q",
            "spiffe://a/b#f",
            "spiffe://a/é",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_service_account_cannot_smuggle_path_segments() {
        let domain: TrustDomain = "weft.local".parse().unwrap();
        let namespace = Namespace::default_namespace();
        assert!(SpiffeId::of_service_account(&domain, &namespace, "a/sa/b").is_err());
        assert!(SpiffeId::of_service_account(&domain, &namespace, "..").is_err());
    }
}
