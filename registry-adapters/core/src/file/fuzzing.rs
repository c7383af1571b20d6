//! The decoding of one file's bytes, without a directory: the door for the fuzz targets.

use weft_model::{Entry, RegistryId, TrustDomain};

use super::decode::{self, Context};
use crate::error::Problem;

/// What the adapter makes of a file with this content: its entries, and what is wrong with it.
pub fn decode(bytes: &[u8], registry: &RegistryId, trust_domain: &TrustDomain) -> (Vec<Entry>, Vec<Problem>) {
    let context = Context { registry: registry.clone(), trust_domain: trust_domain.clone() };
    let decoded = decode::decode("file.yaml", bytes, &context);
    (decoded.objects.into_iter().map(|object| object.entry).collect(), decoded.problems)
}
