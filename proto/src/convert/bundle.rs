//! `weft.mesh.v1.TrustBundle` as a plain struct. What the certificates say is checked where they are used.

use bytes::Bytes;
use weft_model::TrustDomain;

use super::field::{InvalidField, InvalidResource, ascending, message, parse, same_name};
use crate::mesh::v1 as wire;

/// The roots of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// Whose roots.
    pub trust_domain: TrustDomain,
    /// X.509, DER; at least one.
    pub roots: Vec<Bytes>,
}

impl From<&TrustBundle> for wire::TrustBundle {
    fn from(bundle: &TrustBundle) -> Self {
        let mut roots = bundle.roots.clone();
        roots.sort_unstable();
        roots.dedup();
        Self { trust_domain: bundle.trust_domain.as_str().to_owned(), roots }
    }
}

/// Reads the bundle that came under the resource name `name`.
///
/// # Errors
/// On anything that is not understood in full, and on a bundle without roots: it would trust nobody.
pub fn trust_bundle(name: &str, encoded: Bytes) -> Result<TrustBundle, InvalidResource> {
    read(name, message(name, encoded)?).map_err(|invalid| invalid.of(name))
}

fn read(name: &str, wire: wire::TrustBundle) -> Result<TrustBundle, InvalidField> {
    same_name("trust_domain", name, &wire.trust_domain)?;
    let trust_domain = parse("trust_domain", &wire.trust_domain)?;
    if wire.roots.is_empty() {
        return Err(InvalidField::new("roots", "there is none"));
    }
    let mut previous = None;
    for (i, root) in wire.roots.iter().enumerate() {
        let path = format!("roots[{i}]");
        // A DER certificate is a SEQUENCE; all else is its reader's business.
        if root.first() != Some(&0x30) {
            return Err(InvalidField::new(path, "it is not a DER certificate"));
        }
        ascending(&path, previous, root)?;
        previous = Some(root);
    }
    Ok(TrustBundle { trust_domain, roots: wire.roots })
}
