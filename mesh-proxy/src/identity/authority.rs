//! The CA's service as a client sees it: challenge, issue, and a check of what came before it is used.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use tonic::transport::Channel;
use weft_identity::{RefusalReason, Svid, TrustBundle, TrustBundles, refusal_of_io};
use weft_proto::ca::v1::certificate_authority_client::CertificateAuthorityClient;
use weft_proto::ca::v1::issue_request::Attestation;
use weft_proto::ca::v1::{ChallengeRequest, IssueRequest, IssueResponse};
use weft_xds_client::ConnectError;

/// For the whole of one call. A control plane that accepts and then hangs must not end the attempts.
const CALL: Duration = Duration::from_secs(10);

/// A connection to a control plane's CA.
pub(super) struct Authority(CertificateAuthorityClient<Channel>);

/// What came back, not looked at yet.
pub(super) struct Issuance(IssueResponse);

/// A certificate that can be used.
pub(super) struct Issued {
    pub(super) svid: Svid,
    pub(super) bundles: TrustBundles,
}

/// The control plane looked at the proof and said no: the same proof again is of little use.
#[derive(Debug, thiserror::Error)]
#[error("refused: {0} (the control plane's log says why)")]
pub(super) struct Refused(String);

impl Authority {
    pub(super) async fn connect(address: &str, tls: Arc<ClientConfig>) -> Result<Self> {
        let connecting = tokio::time::timeout(CALL, weft_xds_client::connect(address, tls));
        let channel = connecting.await.context("connecting took more than 10 s")?.map_err(unreachable)?;
        Ok(Self(CertificateAuthorityClient::new(channel)))
    }

    /// A fresh nonce.
    pub(super) async fn challenge(&mut self) -> Result<Vec<u8>> {
        let call = tokio::time::timeout(CALL, self.0.challenge(ChallengeRequest {}));
        let response = call.await.context("the challenge took more than 10 s")?.map_err(failed)?;
        Ok(response.into_inner().nonce.to_vec())
    }

    /// A certificate for `csr`.
    pub(super) async fn issue(&mut self, csr: Vec<u8>, attestation: Attestation) -> Result<Issuance> {
        let request = IssueRequest { csr: csr.into(), attestation: Some(attestation) };
        let call = tokio::time::timeout(CALL, self.0.issue(request));
        let response = call.await.context("issuing took more than 10 s")?.map_err(failed)?;
        Ok(Issuance(response.into_inner()))
    }
}

/// The status without its metadata. The CA tells a refused caller little, so where the reason is is said here.
fn failed(status: tonic::Status) -> anyhow::Error {
    match status.code() {
        tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => {
            Refused(status.message().to_owned()).into()
        }
        tonic::Code::FailedPrecondition => anyhow::anyhow!(
            "{}: the control plane needs a section [ca.consul.\"REGISTRY\"], [ca.kubernetes.\"REGISTRY\"] or \
             [ca.nomad.\"REGISTRY\"] for the registry of [identity]",
            status.message()
        ),
        code => anyhow::anyhow!("{code:?}: {}", status.message()),
    }
}

/// Why there is no connection, and what to look at.
fn unreachable(error: ConnectError) -> anyhow::Error {
    match error {
        ConnectError::Address(_) => anyhow::anyhow!("it is not of the form host:port"),
        // The address stands before it already, and the causes are in the reason.
        ConnectError::Connect { reason, source, .. } => match refusal(&source) {
            RefusalReason::NotPinned => anyhow::anyhow!(
                "connecting: {reason}; compare the pin (control.root_sha256, or the end of the join token) with the \
                 sha256 that `weft status` shows for the control plane's root"
            ),
            // No handshake got so far: nobody is there, or nobody who speaks TLS.
            RefusalReason::Other | RefusalReason::NotTls => {
                anyhow::anyhow!(
                    "connecting: {reason}; does weft-control run there (setting control.addresses)?"
                )
            }
            _ => anyhow::anyhow!("connecting: {reason}"),
        },
    }
}

/// The handshake's reason, which is somewhere among the causes.
fn refusal(error: &dyn std::error::Error) -> RefusalReason {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let io = causes.into_iter().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.map_or(RefusalReason::Other, refusal_of_io)
}

impl Issuance {
    /// Checks that the chain proves the key, ends at a root that came with it, and is valid now.
    pub(super) fn accept(self, key: PrivatePkcs8KeyDer<'static>) -> Result<Issued> {
        let chain: Vec<_> = self.0.chain.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let mut bundles = TrustBundles::default();
        for bundle in self.0.bundles {
            let trust_domain =
                bundle.trust_domain.parse().context("reading the trust bundle that came with it")?;
            let roots = bundle.roots.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
            bundles.insert(TrustBundle::new(trust_domain, roots)?);
        }
        let svid = Svid::from_der(chain, PrivateKeyDer::Pkcs8(key))
            .context("reading the certificate that was issued")?;
        if let Err(why) = super::validity(&svid, SystemTime::now()) {
            bail!("the certificate that was issued is {why}");
        }
        weft_identity::verify(svid.chain(), &bundles, UnixTime::now())
            .context("verifying the certificate that was issued")?;
        Ok(Issued { svid, bundles })
    }
}
