//! Callers that must not be let in: one with no certificate, one with a certificate of another trust domain.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weft_identity::AnyServer;

/// A certificate with its key.
pub(super) struct Papers {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Papers in perfect order, from another trust domain: the id has the same path as the real one's.
pub(super) fn foreign_papers() -> Result<Papers> {
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    root.subject_alt_names = vec![SanType::URI("spiffe://elsewhere.example".try_into()?)];
    let root_key = KeyPair::generate()?;
    let issuer = Issuer::new(root, root_key);
    let mut leaf = CertificateParams::default();
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    leaf.subject_alt_names = vec![SanType::URI("spiffe://elsewhere.example/ns/default/sa/web".try_into()?)];
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&leaf_key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    Ok(Papers { chain: vec![leaf.der().clone()], key })
}

/// Knocks at a proxy's tunnel port. `Err` says what the caller saw; `Ok` means that it was let in.
///
/// # Errors
/// The refusal, as the caller sees it.
pub(super) async fn knock(address: SocketAddr, papers: Option<Papers>) -> Result<()> {
    let provider = CryptoProvider::get_default().context("a crypto provider is installed")?.clone();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        // The stranger does not care whom it talks to; the question is whether it is let in.
        .with_custom_certificate_verifier(AnyServer::new(provider));
    let mut config = match papers {
        Some(papers) => config.with_client_auth_cert(papers.chain, papers.key)?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    // In TLS 1.3 the client is done before the server has looked at its certificate: the refusal comes with the first read.
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    let mut first = [0; 9];
    tls.read_exact(&mut first).await.context("after the handshake")?;
    Ok(())
}
