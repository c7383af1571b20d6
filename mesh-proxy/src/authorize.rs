//! Who may call: a pure function of the caller's proven identity and the trust bundles.
//!
//! TLS has checked the chain against the bundle of the id's own trust domain. Asked again for every stream, so that a
//! trust domain that is withdrawn loses its open connections' next request. Nothing but the identity counts: no header,
//! no address. Policies of the mesh come with routing; then they are asked here.

use weft_identity::TrustBundles;
use weft_model::{SpiffeId, TrustDomain};

use crate::http::failure::Failure;
use crate::record::ResponseFlag;

/// A caller as TLS proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) id: SpiffeId,
    trust_domain: TrustDomain,
}

impl Caller {
    /// Reads the trust domain once, for every stream of the connection.
    pub(crate) fn new(id: SpiffeId) -> Self {
        Self { trust_domain: id.trust_domain(), id }
    }
}

/// Allows a caller whose trust domain is trusted now.
pub(crate) fn authorize(caller: &Caller, bundles: &TrustBundles) -> Result<(), Failure> {
    if bundles.get(&caller.trust_domain).is_some() {
        return Ok(());
    }
    let detail = format!("caller {}: its trust domain is not trusted any more", caller.id);
    Err(Failure::unsent(ResponseFlag::Unauthorized, detail))
}

#[cfg(test)]
mod tests {
    use weft_identity::testkit::TestAuthority;

    use super::*;

    #[test]
    fn a_caller_of_a_withdrawn_trust_domain_is_refused() {
        let bundles = TestAuthority::new("weft.local").bundles();
        let ours = Caller::new("spiffe://weft.local/ns/shop/sa/web".parse().unwrap());
        let foreign = Caller::new("spiffe://weft.local.evil/ns/shop/sa/web".parse().unwrap());
        assert!(authorize(&ours, &bundles).is_ok());
        assert_eq!(authorize(&foreign, &bundles).unwrap_err().flag, ResponseFlag::Unauthorized);
        assert!(authorize(&ours, &TrustBundles::default()).is_err());
    }
}
