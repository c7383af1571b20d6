//! The certificates of a cluster: one authority for everything, as the fewest that the components accept. They are made
//! anew for every cluster, live as long as its folder and are worth nothing outside it.

use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::files::private;

/// Longer than anybody keeps a test cluster.
const LIFE: Duration = Duration::days(3650);

/// Kubernetes' group of those who may do everything.
pub(crate) const ADMINS: &str = "system:masters";

/// The cluster's certificate authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    key: String,
}

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// Writes `<name>.crt` and `<name>.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<()> {
        private(&folder.join(format!("{name}.crt")), &self.certificate)?;
        private(&folder.join(format!("{name}.key")), &self.key)
    }
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Result<Self> {
        let mut params = params("weft-test-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        let key = KeyPair::generate().context("making the authority's key")?;
        let text = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(params, key).context("signing the authority")?;
        Ok(Self { issuer, key: text })
    }

    /// Its own pair; the controller manager signs requests with it.
    pub(crate) fn pair(&self) -> Pair {
        Pair { certificate: self.issuer.pem(), key: self.key.clone() }
    }

    /// A server's pair, for these names and addresses.
    pub(crate) fn server(&self, name: &str, names: Vec<String>) -> Result<Pair> {
        let mut params = params(name, None);
        let read = CertificateParams::new(names).context("names for a certificate")?;
        params.subject_alt_names = read.subject_alt_names;
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's pair: a user, who may be in a group.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Pair> {
        self.issue(params(user, group), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("signing a certificate")?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The pair with which the API server signs the tokens of service accounts.
///
/// In two files: Kubernetes finds no public key in a private one of this kind.
pub(crate) fn tokens(folder: &Path) -> Result<()> {
    let key = KeyPair::generate().context("making the key of tokens")?;
    private(&folder.join("tokens.key"), &key.serialize_pem())?;
    private(&folder.join("tokens.pub"), &key.public_key_pem())
}

fn params(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    let now = OffsetDateTime::now_utc();
    // Pods may look a moment before this machine's clock says that it is made.
    (params.not_before, params.not_after) = (now - Duration::HOUR, now + LIFE);
    params
}
