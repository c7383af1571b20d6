//! Identities as people write them: short, within the mesh they speak of, or whole.

use weft_model::{InvalidName, InvalidSpiffeId, SpiffeId, TrustDomain};

/// `NAMESPACE/SERVICE-ACCOUNT`, or a whole SPIFFE id of this trust domain.
///
/// # Errors
/// What is wrong with it, for the person who wrote it.
pub fn identity(text: &str, trust_domain: &TrustDomain) -> Result<SpiffeId, String> {
    if text.starts_with("spiffe://") {
        let id: SpiffeId = text.parse().map_err(|error: InvalidSpiffeId| error.to_string())?;
        if id.trust_domain() != *trust_domain {
            return Err(format!("{id} is of another trust domain; this mesh is {trust_domain}"));
        }
        return Ok(id);
    }
    let Some((namespace, account)) = text.split_once('/') else {
        return Err(format!(
            "{text:?} is no identity; expected NAMESPACE/SERVICE-ACCOUNT or spiffe://{trust_domain}/…"
        ));
    };
    let namespace = namespace.parse().map_err(|error: InvalidName| error.to_string())?;
    SpiffeId::of_service_account(trust_domain, &namespace, account).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_short_or_whole() {
        let domain: TrustDomain = "mesh.test".parse().unwrap();
        for text in ["shop/web", "spiffe://mesh.test/ns/shop/sa/web"] {
            assert_eq!(identity(text, &domain).unwrap().as_str(), "spiffe://mesh.test/ns/shop/sa/web");
        }
        for wrong in [
            "web",
            "",
            "/web",
            "shop/",
            "shop/a/b",
            "spiffe://other.test/ns/a/sa/b",
            "spiffe://mesh.test/%41",
        ] {
            assert!(identity(wrong, &domain).is_err(), "{wrong:?} was accepted");
        }
    }
}
