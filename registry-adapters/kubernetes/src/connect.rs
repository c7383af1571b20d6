//! The way to the API server: by kubeconfig, or as the pod that this process is.
//!
//! TLS is rustls with the process's one provider. Retries are off: each caller paces its own. Proxies between us and the
//! server are not served, and a `proxy-url` is refused; the environment's are meant for the web and not read. Nothing is
//! sent here.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use weft_registry::{RegistryErrorKind, causes};

use crate::error::KubernetesError;
use crate::inline::InlineKubeconfig;
use crate::settings::KubernetesSettings;

/// A client for the cluster of these settings. Sends nothing yet.
///
/// # Errors
/// When there is no usable kubeconfig, or the process is in no pod.
pub async fn connect(settings: &KubernetesSettings) -> Result<Client, KubernetesError> {
    let config = match (&settings.inline, &settings.kubeconfig) {
        (Some(inline), _) => return connect_inline(inline, settings.context.as_deref()).await,
        (None, Some(path)) => {
            let text = read(path).await?;
            from_kubeconfig(path, &text, settings.context.as_deref()).await?
        }
        (None, None) => in_cluster()?,
    };
    client(config)
}

/// The text of a kubeconfig.
pub(crate) async fn read(path: &Path) -> Result<String, KubernetesError> {
    let read = tokio::fs::read_to_string(path).await;
    read.map_err(|error| KubernetesError::down(about(path), error.to_string()))
}

/// The same for a kubeconfig that was read from `path`.
pub(crate) async fn connect_with(
    path: &Path,
    text: &str,
    context: Option<&str>,
) -> Result<Client, KubernetesError> {
    client(from_kubeconfig(path, text, context).await?)
}

/// The same for one that is no file.
pub(crate) async fn connect_inline(
    inline: &InlineKubeconfig,
    context: Option<&str>,
) -> Result<Client, KubernetesError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(inline.parse()?, &options).await;
    client(config.map_err(|error| inline.of_kube(&error))?)
}

pub(crate) fn in_cluster() -> Result<Config, KubernetesError> {
    Config::incluster().map_err(|error| KubernetesError::down("the pod's service account", causes(&error)))
}

async fn from_kubeconfig(path: &Path, text: &str, context: Option<&str>) -> Result<Config, KubernetesError> {
    let fail = |reason: String| KubernetesError::new(RegistryErrorKind::Garbage, about(path), reason);
    let mut kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| fail(causes(&error)))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    resolve(&mut kubeconfig, directory);
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let proxied = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    if proxied.into_iter().any(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty())) {
        return Err(fail("it has a proxy-url; proxies to the API server are not served".to_owned()));
    }
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| fail(causes(&error)))
}

/// Files that a kubeconfig names are beside it, as kubectl reads it.
fn resolve(kubeconfig: &mut Kubeconfig, directory: &Path) {
    let clusters = kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut());
    let authorities = clusters.map(|cluster| &mut cluster.certificate_authority);
    let users = kubeconfig.auth_infos.iter_mut().filter_map(|named| named.auth_info.as_mut());
    let of_users =
        users.flat_map(|user| [&mut user.client_certificate, &mut user.client_key, &mut user.token_file]);
    for file in authorities.chain(of_users).flatten() {
        // An absolute path replaces the directory.
        *file = directory.join(&*file).to_string_lossy().into_owned();
    }
}

pub(crate) fn client(mut config: Config) -> Result<Client, KubernetesError> {
    config.default_retry = false;
    config.proxy_url = None;
    let what = format!("the API server {}", config.cluster_url);
    Client::try_from(config).map_err(|error| KubernetesError::of_client(&what, &error))
}

fn about(path: &Path) -> String {
    format!("kubeconfig {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: dev\n\
        clusters: [{name: dev, cluster: {server: 'https://10.0.0.1:6443'}}]\n\
        users: [{name: dev, user: {token: x}}]\n\
        contexts: [{name: dev, context: {cluster: dev, user: dev}}]\n";

    async fn refused(text: &str, context: Option<&str>) -> String {
        let refused = connect_with(Path::new("/etc/k/config"), text, context).await;
        refused.err().expect(text).to_string()
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_usable_says_which_file_and_why() {
        assert!(connect_with(Path::new("k"), KUBECONFIG, None).await.is_ok());
        for (text, context, says) in [
            ("clusters: [", None, "kubeconfig /etc/k/config: "),
            (KUBECONFIG, Some("prod"), "prod"),
            (&KUBECONFIG.replace("10.0.0.1", "10.0.0 1"), None, "cluster url"),
            (
                &KUBECONFIG.replace("token: x", "client-certificate: no.pem, client-key: no.key"),
                None,
                "/etc/k/no",
            ),
            (&KUBECONFIG.replace("6443'", "6443', proxy-url: 'http://p:1'"), None, "proxy-url"),
            (&KUBECONFIG.replace("6443'", "6443', certificate-authority-data: '!'"), None, "base64"),
        ] {
            let error = refused(text, context).await;
            assert!(error.contains(says), "{says}: {error}");
        }
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_a_source_that_is_down() {
        let settings =
            KubernetesSettings { kubeconfig: Some("/no/such/file".into()), ..KubernetesSettings::default() };
        let error = connect(&settings).await.err().unwrap();
        assert_eq!(error.kind, RegistryErrorKind::SourceDown);
        assert!(error.to_string().contains("/no/such/file"), "{error}");
    }
}
