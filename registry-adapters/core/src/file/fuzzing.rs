//! The decoding of one file's bytes, without a directory: the door for the fuzz targets.

use weft_model::{Entry, RegistryId, TrustDomain};

use super::decode::{self, Context, Known};
use crate::error::Problem;

/// What the adapter makes of a file with this content: its entries, and what is wrong with it.
pub fn decode(bytes: &[u8], registry: &RegistryId, trust_domain: &TrustDomain) -> (Vec<Entry>, Vec<Problem>) {
    decode_after(b"", bytes, registry, trust_domain)
}

/// The same of a file that held `before` before, which makes no difference.
pub fn decode_after(
    before: &[u8],
    bytes: &[u8],
    registry: &RegistryId,
    trust_domain: &TrustDomain,
) -> (Vec<Entry>, Vec<Problem>) {
    let context = Context { registry: registry.clone(), trust_domain: trust_domain.clone() };
    let decode = |bytes: &[u8], known: &Known| decode::decode("file.yaml", bytes, known, &context);
    let before = decode(before, &Known::new());
    let objects = if before.problems.is_empty() { before.objects } else { Vec::new() };
    let known = objects.into_iter().map(|object| (object.text.clone(), object)).collect();
    let decoded = decode(bytes, &known);
    (decoded.objects.into_iter().map(|object| object.entry).collect(), decoded.problems)
}
