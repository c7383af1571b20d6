//! The CA's root in a Kubernetes Secret: what several control planes share, and what outlives a pod.
//!
//! Only the root is shared; each process makes its own issuing certificate with it, so that nothing has to be agreed on
//! later. The first one that starts makes the root, and the API server decides who was first: it refuses a second object
//! of the name. The object is never changed here. Replacing the root is refused where it is kept so: every replica would
//! have to do it at once.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use serde::Deserialize;
use weft_ca::{Authority, SharedTokens};
use weft_model::RegistryId;
use weft_registry_kubernetes::connect;

use crate::ca::authority_settings;
use crate::settings::Settings;
use crate::token_secret::TokenSecret;

/// `[ca.secret]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretSettings {
    /// Whose API server keeps it: a `[[registry]]` of kind `kubernetes`, by which it is reached.
    pub(crate) registry: RegistryId,
    /// The Secret's name.
    #[serde(default = "default_name")]
    pub(crate) name: String,
    /// The name of the Secret with the join tokens that the control planes share. It need not be there.
    #[serde(default = "default_tokens")]
    pub(crate) tokens: String,
    /// Their namespace; absent: that of this pod, or of the kubeconfig's context.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

fn default_name() -> String {
    "weft-ca".to_owned()
}

fn default_tokens() -> String {
    weft_identity::SHARED_TOKENS.to_owned()
}

/// The root's file, which is the object's key too.
const ROOT: &str = "root.pem";
/// One that is made while another process makes one too is given up; more often than once that can't happen.
const ATTEMPTS: usize = 3;

/// An API server that is away for longer is no matter of a moment: this process ends and says so.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// Brings the root into the state directory before the authority is opened there, where the settings keep it in a Secret.
///
/// # Errors
/// When the API server refuses or does not answer, or the directory has another root.
pub(crate) async fn fetch(settings: &Settings) -> Result<()> {
    let Some(secret) = &settings.ca.secret else { return Ok(()) };
    ensure!(settings.ca.own_pem.is_none(), "settings: ca.own_pem and ca.secret are both set; expected one");
    let api = api(settings, secret).await?;
    let directory = settings.state_dir.join("ca");
    for _ in 0..ATTEMPTS {
        let found = read(&api, &secret.name).await;
        let found = found.with_context(|| format!("reading Secret {} (ca.secret)", secret.name))?;
        if let Some(object) = found {
            return put(&directory, &secret.name, root_of(&object)?);
        }
        let made = make(settings, &directory)?;
        match api.create(&PostParams::default(), &object(&secret.name, &made)).await {
            Ok(_) => {
                tracing::warn!(
                    secret = secret.name,
                    "the mesh's root is kept in this Secret now: back it up"
                );
                return Ok(());
            }
            // Another replica was first.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                std::fs::remove_dir_all(&directory)
                    .with_context(|| format!("removing {}", directory.display()))?;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("creating Secret {} (ca.secret)", secret.name));
            }
        }
    }
    bail!("Secret {} comes and goes", secret.name)
}

/// Reads it, waiting for an API server that is away for a moment.
async fn read(api: &Api<Secret>, name: &str) -> Result<Option<Secret>, kube::Error> {
    let start = Instant::now();
    loop {
        match api.get_opt(name).await {
            Err(error) if !matches!(error, kube::Error::Api(_)) && start.elapsed() < PATIENCE => {
                tracing::warn!(%error, secret = name, "the API server does not answer: no root of the mesh yet");
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// The join tokens that the control planes share, where the settings keep the root in a Secret.
///
/// # Errors
/// When the settings of the registry lead to no API server.
pub(crate) async fn shared_tokens(settings: &Settings) -> Result<Option<Arc<dyn SharedTokens>>> {
    let Some(secret) = &settings.ca.secret else { return Ok(None) };
    let api = api(settings, secret).await?;
    Ok(Some(Arc::new(TokenSecret { api, name: secret.tokens.clone() })))
}

async fn api(settings: &Settings, secret: &SecretSettings) -> Result<Api<Secret>> {
    let found = settings.registry.iter().find(|registry| registry.id == secret.registry);
    let registry = found
        .with_context(|| format!("settings: ca.secret.registry: no [[registry]] is {}", secret.registry))?;
    let client = connect(&registry.kubernetes.clone().unwrap_or_default()).await.context("ca.secret")?;
    Ok(match &secret.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::default_namespaced(client),
    })
}

/// Makes a root, or takes the one that is there, and says what it is.
fn make(settings: &Settings, directory: &Path) -> Result<String> {
    let authority = Authority::open(&authority_settings(settings), SystemTime::now());
    drop(authority.context("making the root")?);
    let path = directory.join(ROOT);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn object(name: &str, root: &str) -> Secret {
    Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        // Nobody changes it by a slip.
        immutable: Some(true),
        data: Some([(ROOT.to_owned(), ByteString(root.as_bytes().to_vec()))].into()),
        type_: Some("weft.dev/ca".to_owned()),
        ..Secret::default()
    }
}

fn root_of(object: &Secret) -> Result<String> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let bytes = object.data.as_ref().and_then(|data| data.get(ROOT));
    let bytes = bytes.with_context(|| format!("Secret {name} has no {ROOT}"))?;
    String::from_utf8(bytes.0.clone()).ok().with_context(|| format!("Secret {name}: {ROOT} is not text"))
}

/// Puts the shared root in place. An issuing certificate that is there stays: it was made with this root.
fn put(directory: &Path, secret: &str, root: String) -> Result<()> {
    let path = directory.join(ROOT);
    if let Ok(there) = std::fs::read_to_string(&path) {
        ensure!(
            there == root,
            "{} is another root than Secret {secret} holds: remove the directory to take over the Secret's",
            path.display()
        );
        return Ok(());
    }
    let making = || format!("writing {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(making)?;
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600).open(&path).with_context(making)?;
    std::io::Write::write_all(&mut &file, root.as_bytes()).with_context(making)?;
    file.sync_all().with_context(making)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_makes_another_one_takes_over_and_signs_with() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = |of: &tempfile::TempDir| Settings {
            state_dir: of.path().to_owned(),
            trust_domain: "mesh.test".parse().unwrap(),
            ..Settings::default()
        };
        let root = make(&settings(&first), &first.path().join("ca")).unwrap();
        let object = object("weft-ca", &root);
        put(&second.path().join("ca"), "weft-ca", root_of(&object).unwrap()).unwrap();
        let open = |of| Authority::open(&authority_settings(&settings(of)), SystemTime::now()).unwrap();
        assert_eq!(open(&first).root_pin(), open(&second).root_pin());
        // A restart in the same place finds what it left.
        put(&second.path().join("ca"), "weft-ca", root).unwrap();
    }

    #[test]
    fn another_root_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca");
        put(&ca, "weft-ca", "one".to_owned()).unwrap();
        let error = put(&ca, "weft-ca", "other".to_owned()).unwrap_err().to_string();
        assert!(error.contains("another root than Secret weft-ca"), "{error}");
        assert_eq!(std::fs::read_to_string(ca.join(ROOT)).unwrap(), "one");
    }

    #[test]
    fn a_secret_without_the_root_is_an_error_that_names_it() {
        let mut object = object("weft-ca", "x");
        object.data = None;
        assert!(root_of(&object).unwrap_err().to_string().contains("Secret weft-ca has no root.pem"));
    }
}
