//! Which Nomad is meant, and as whom: by the flags and variables that `nomad` itself has.

use std::path::PathBuf;

use anyhow::{Context, Result};
use weft_registry_nomad::{NomadClient, NomadSettings};

/// Where Nomad is.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// Where a Nomad agent's HTTP API is.
    #[arg(long, env = "NOMAD_ADDR", default_value = "http://127.0.0.1:4646", value_name = "URL")]
    address: String,
    /// Its region; the agent's own without it.
    #[arg(long, env = "NOMAD_REGION")]
    region: Option<String>,
    /// The namespace of jobs that name none.
    #[arg(long, env = "NOMAD_NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    /// The ACL token.
    #[arg(long, env = "NOMAD_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Root certificates (PEM) that the agent's certificate must chain to.
    #[arg(long, env = "NOMAD_CACERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// The certificate (PEM) that is shown to the agent.
    #[arg(long, env = "NOMAD_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, env = "NOMAD_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
}

impl Place {
    /// The client.
    pub(crate) fn client(&self) -> Result<NomadClient> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let settings = NomadSettings {
            address: self.address.clone(),
            region: given(&self.region),
            ca_file: self.ca_cert.clone(),
            client_certificate: self.client_cert.clone(),
            client_key: self.client_key.clone(),
            ..NomadSettings::default()
        };
        weft_identity::install_crypto_provider();
        let client = NomadClient::new(&settings).context("the way to Nomad")?;
        match given(&self.token) {
            Some(token) => Ok(client.with_token(&token)?),
            None => Ok(client),
        }
    }
}

impl std::fmt::Debug for Place {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place")
            .field("address", &self.address)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
