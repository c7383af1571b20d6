//! Certificates for the peers' mTLS: a root and one leaf for each end, ECDSA P-256 as the mesh's own.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

/// Files of one end.
pub(crate) struct Files {
    /// Root, PEM.
    pub(crate) root: PathBuf,
    /// Leaf, PEM.
    pub(crate) certificate: PathBuf,
    /// Key, PEM.
    pub(crate) key: PathBuf,
    /// Leaf and key in one file, as HAProxy wants it.
    pub(crate) both: PathBuf,
}

/// Makes them in `directory`.
pub(crate) fn make(directory: &Path) -> Result<Files> {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    // Names must differ, or the leaf looks as if it had signed itself.
    root.distinguished_name.push(DnType::CommonName, "bench root");
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root_key = KeyPair::generate()?;
    let root_certificate = root.self_signed(&root_key)?;
    let mut leaf = CertificateParams::new(vec!["bench.weft".to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, "bench leaf");
    leaf.subject_alt_names.push(SanType::URI("spiffe://bench.weft/ns/default/sa/peer".try_into()?));
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let leaf_key = KeyPair::generate()?;
    let leaf_certificate = leaf.signed_by(&leaf_key, &Issuer::new(root, root_key))?;
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        std::fs::write(&path, text).map(|()| path)
    };
    Ok(Files {
        root: write("root.pem", root_certificate.pem())?,
        certificate: write("leaf.pem", leaf_certificate.pem())?,
        key: write("leaf.key", leaf_key.serialize_pem())?,
        both: write("both.pem", leaf_certificate.pem() + &leaf_key.serialize_pem())?,
    })
}
