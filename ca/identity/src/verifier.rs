//! The rustls side of verification: a server's certificate must carry the expected id, a client's any trusted one.
//!
//! TLS 1.3 only; the 1.2 methods refuse. Server names are ignored: the mesh knows peers by id, not by DNS.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use weft_model::SpiffeId;

use crate::credentials::ClientAuth;
use crate::verify::{Anchors, Role, VerifyError, algorithms, into_rustls};

/// How a server's chain is judged. The TLS around it is the same for every judge.
pub(crate) trait JudgeServer: std::fmt::Debug + Send + Sync {
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), VerifyError>;
}

/// The server must be exactly this id.
#[derive(Debug)]
pub(crate) struct ExactId {
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) expected: SpiffeId,
}

impl JudgeServer for ExactId {
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), VerifyError> {
        let presented = self.anchors.verify(chain, now, Role::Server)?;
        match presented == self.expected {
            true => Ok(()),
            false => Err(VerifyError::WrongId { expected: self.expected.clone(), presented }),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ServerVerifier<J>(pub(crate) J);

impl<J: JudgeServer> ServerCertVerifier for ServerVerifier<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.judge(&whole(end_entity, intermediates), now).map_err(into_rustls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// The client may be any id of a trusted domain; who may do what is policy, not TLS.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) client: ClientAuth,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A client has one certificate; hints would only tell strangers whom we trust.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.anchors.verify(&whole(end_entity, intermediates), now, Role::Client).map_err(into_rustls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

fn whole<'a>(
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf)
        .chain(intermediates)
        .map(|certificate| CertificateDer::from(certificate.as_ref()))
        .collect()
}

fn only_tls13() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)
}
