//! Why a TLS handshake was refused, as one word for a metric's label and the access log.
//!
//! The details are in the error's text, which names the ids; this only classifies.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::verify::VerifyError;

/// Why a TLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The client showed no certificate where one is needed.
    NoCertificate,
    /// The peer's id is of a trust domain that is not known here.
    ForeignTrustDomain,
    /// The peer's chain does not end at a root of its trust domain.
    UnknownIssuer,
    /// The peer is valid but another one than expected.
    WrongId,
    /// The peer's certificate is over.
    Expired,
    /// The peer's certificate is not valid yet.
    NotYetValid,
    /// The peer's certificate breaks the X509-SVID profile.
    InvalidSvid,
    /// The peer's chain breaks another rule, or the signature of the handshake is wrong.
    InvalidChain,
    /// First contact: the control plane's root is not the pinned one.
    NotPinned,
    /// The peer refused *our* certificate.
    RefusedByPeer,
    /// No TLS version or application protocol in common.
    Incompatible,
    /// What came is not TLS.
    NotTls,
    /// The peer closed, or said something that TLS does not allow.
    Other,
}

impl RefusalReason {
    /// The reason as it stands in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::ForeignTrustDomain => "foreign_trust_domain",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongId => "wrong_id",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::InvalidSvid => "invalid_svid",
            Self::InvalidChain => "invalid_chain",
            Self::NotPinned => "not_pinned",
            Self::RefusedByPeer => "refused_by_peer",
            Self::Incompatible => "incompatible",
            Self::NotTls => "not_tls",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&VerifyError> for RefusalReason {
    fn from(error: &VerifyError) -> Self {
        match error {
            VerifyError::Svid(_) => Self::InvalidSvid,
            VerifyError::ForeignTrustDomain { .. } => Self::ForeignTrustDomain,
            VerifyError::UnknownIssuer { .. } => Self::UnknownIssuer,
            VerifyError::Expired { .. } => Self::Expired,
            VerifyError::NotYetValid { .. } => Self::NotYetValid,
            VerifyError::WrongId { .. } | VerifyError::WrongPath { .. } => Self::WrongId,
            VerifyError::Chain { .. } | VerifyError::ChainTooLong { .. } => Self::InvalidChain,
            VerifyError::NotPinned => Self::NotPinned,
        }
    }
}

/// Classifies an error of a TLS handshake.
pub fn refusal_reason(error: &Error) -> RefusalReason {
    match error {
        Error::NoCertificatesPresented => RefusalReason::NoCertificate,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.downcast_ref::<VerifyError>().map_or(RefusalReason::InvalidChain, RefusalReason::from)
        }
        Error::InvalidCertificate(_) => RefusalReason::InvalidChain,
        Error::AlertReceived(alert) => match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => RefusalReason::RefusedByPeer,
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::InsufficientSecurity
            | AlertDescription::NoApplicationProtocol => RefusalReason::Incompatible,
            _ => RefusalReason::Other,
        },
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => RefusalReason::Incompatible,
        // Only certificates are ever as long as these bounds of rustls.
        Error::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        ) => RefusalReason::InvalidChain,
        Error::InvalidMessage(_) => RefusalReason::NotTls,
        _ => RefusalReason::Other,
    }
}

/// Classifies an IO error of a TLS stream, as tokio-rustls returns it.
pub fn refusal_of_io(error: &std::io::Error) -> RefusalReason {
    rustls_error(error).map_or(RefusalReason::Other, refusal_reason)
}

/// What our own verifier said, where it is behind an IO error of a TLS stream. rustls shows it in debug form only.
pub fn verify_error_of_io(error: &std::io::Error) -> Option<&VerifyError> {
    match rustls_error(error)? {
        Error::InvalidCertificate(CertificateError::Other(other)) => other.0.downcast_ref(),
        _ => None,
    }
}

fn rustls_error(error: &std::io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}
