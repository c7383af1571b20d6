//! What a Secret says of a registry. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Secret;
use weft_model::RegistryId;
use weft_registry_kubernetes::{InlineKubeconfig, KubernetesSettings};

/// A cluster to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) settings: KubernetesSettings,
    /// For whom its pods' tokens must be meant; `None`: nobody of it is attested here.
    pub(super) audience: Option<String>,
}

/// The registry that the Secret is, by its name.
pub(super) fn id_of(secret: &Secret) -> Option<RegistryId> {
    format!("kubernetes/{}", secret.metadata.name.as_deref()?).parse().ok()
}

/// Reads it. An error is for who wrote it.
pub(super) fn read(secret: &Secret, configured: &BTreeSet<RegistryId>) -> Result<Wanted, String> {
    let id = id_of(secret).ok_or("its name is no name of a registry")?;
    if configured.contains(&id) {
        return Err(format!("the settings have a registry {id} already; give the Secret another name"));
    }
    let mut settings = KubernetesSettings::default();
    let (mut kubeconfig, mut audience) = (None, None);
    for (key, value) in secret.data.iter().flatten() {
        let text = std::str::from_utf8(&value.0).map_err(|_| format!("data.{key} is not text"))?;
        let trimmed = text.trim();
        match key.as_str() {
            "kubeconfig" => kubeconfig = Some(text),
            "context" => settings.context = Some(trimmed.to_owned()),
            "network" => {
                settings.network = trimmed.parse().map_err(|error| format!("data.network: {error}"))?;
            }
            "namespaces" => {
                let names = trimmed.split(',').map(|name| name.trim().to_owned());
                settings.namespaces.include = names.filter(|name| !name.is_empty()).collect();
                // Who names one names it in full knowledge.
                let include = &settings.namespaces.include;
                settings.namespaces.exclude.retain(|name| !include.contains(name));
            }
            "selector" => settings.namespaces.selector = Some(trimmed.to_owned()),
            "audience" if trimmed.is_empty() => return Err("data.audience is empty".to_owned()),
            "audience" => audience = Some(trimmed.to_owned()),
            _ => {
                return Err(format!(
                    "data.{key} is not known; known are kubeconfig, context, network, namespaces, selector, audience"
                ));
            }
        }
    }
    let text = kubeconfig.ok_or("data.kubeconfig is missing")?;
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let origin = format!("Secret {namespace}/{}", id.name());
    let inline = InlineKubeconfig::new(&origin, text).map_err(|error| error.to_string())?;
    settings.inline = Some(inline);
    settings.check().map_err(|error| error.to_string())?;
    Ok(Wanted { settings, audience })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: east\n\
        clusters: [{name: east, cluster: {server: 'https://10.0.0.1:6443'}}]\n\
        users: [{name: weft, user: {token: s3cret}}]\n\
        contexts: [{name: east, context: {cluster: east, user: weft}}]\n";

    fn secret(name: &str, data: &[(&str, &str)]) -> Secret {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.namespace = Some("weft-system".to_owned());
        let pairs =
            data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        secret.data = Some(pairs.collect());
        secret
    }

    fn none() -> BTreeSet<RegistryId> {
        BTreeSet::new()
    }

    #[test]
    fn a_secret_is_a_registry_of_its_name_with_the_settings_that_it_has() {
        let read = |data: &[(&str, &str)]| read(&secret("east", data), &none()).unwrap();
        let plain = read(&[("kubeconfig", KUBECONFIG)]);
        assert_eq!((plain.audience, plain.settings.network.as_str()), (None, "default"));
        assert!(plain.settings.namespaces.exclude.contains("kube-system"));
        let full = read(&[
            ("kubeconfig", KUBECONFIG),
            ("network", "east\n"),
            ("namespaces", "shop, kube-public"),
            ("context", "east"),
            ("audience", "weft"),
        ]);
        assert_eq!((full.audience.as_deref(), full.settings.network.as_str()), (Some("weft"), "east"));
        assert_eq!(full.settings.namespaces.include.len(), 2);
        assert_eq!(id_of(&secret("east", &[])).unwrap().as_str(), "kubernetes/east");
    }

    #[test]
    fn what_is_wrong_with_it_is_said_by_key_and_without_its_values() {
        let refused = |data: &[(&str, &str)]| read(&secret("east", data), &none()).unwrap_err();
        for (data, says) in [
            (&[][..], "data.kubeconfig is missing"),
            (&[("kubeconfig", KUBECONFIG), ("kubconfig", "s3cret")], "data.kubconfig is not known"),
            (&[("kubeconfig", "users: [s3cret")], "not YAML in the form of a kubeconfig"),
            (&[("kubeconfig", KUBECONFIG), ("network", "a b")], "data.network"),
            (&[("kubeconfig", KUBECONFIG), ("namespaces", "Shop")], "namespaces.include"),
            (&[("kubeconfig", KUBECONFIG), ("selector", "")], "namespaces.selector"),
            (&[("kubeconfig", KUBECONFIG), ("audience", " ")], "data.audience is empty"),
        ] {
            let error = refused(data);
            assert!(error.contains(says) && !error.contains("s3cret"), "{says}: {error}");
        }
        let exec = KUBECONFIG.replace("token: s3cret", "exec: {command: /bin/sh}");
        assert!(refused(&[("kubeconfig", &exec)]).contains("users[weft].user.exec is not allowed"));
    }

    #[test]
    fn a_name_that_the_settings_have_is_refused() {
        let configured = BTreeSet::from(["kubernetes/east".parse().unwrap()]);
        let error = read(&secret("east", &[("kubeconfig", KUBECONFIG)]), &configured).unwrap_err();
        assert!(error.contains("the settings have a registry kubernetes/east already"), "{error}");
    }
}
