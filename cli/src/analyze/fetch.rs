//! Objects of a cluster. What may not be read is named, and the rest goes on.

use anyhow::Result;
use figment::Figment;
use figment::providers::{Format as _, Toml};
use serde_json::Value;
use weft_injector::InjectorSettings;

use super::objects::{Objects, list, text};
use crate::cluster::{Cluster, ClusterError};

/// Kinds in namespaces, and the groups in which they are.
const IN_NAMESPACES: &[(&str, &str, &str)] = &[
    ("Pod", "/api/v1", "pods"),
    ("Service", "/api/v1", "services"),
    ("Deployment", "/apis/apps/v1", "deployments"),
    ("ReplicaSet", "/apis/apps/v1", "replicasets"),
    ("StatefulSet", "/apis/apps/v1", "statefulsets"),
    ("DaemonSet", "/apis/apps/v1", "daemonsets"),
    ("Job", "/apis/batch/v1", "jobs"),
    ("CronJob", "/apis/batch/v1", "cronjobs"),
    ("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies"),
];
/// Where the control plane is, if its webhook does not say otherwise.
const CONTROL: &str = "weft-system";

/// Everything of one namespace, or of all.
///
/// # Errors
/// When the cluster does not answer at all.
pub(super) async fn objects(
    cluster: &Cluster,
    namespace: Option<&str>,
    unread: &mut Vec<String>,
) -> Result<Objects> {
    let mut all = Vec::new();
    match namespace {
        Some(name) => {
            let path = format!("/api/v1/namespaces/{name}");
            all.extend(kept(
                cluster.get(&path).await.map(|object| vec![of_kind(object, "Namespace")]),
                unread,
            )?);
        }
        None => all.extend(kept(cluster.list("/api/v1/namespaces", "Namespace").await, unread)?),
    }
    for (kind, group, plural) in IN_NAMESPACES {
        let path = match namespace {
            Some(namespace) => format!("{group}/namespaces/{namespace}/{plural}"),
            None => format!("{group}/{plural}"),
        };
        all.extend(kept(cluster.list(&path, kind).await, unread)?);
    }
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/weft-injector";
    let kind = "MutatingWebhookConfiguration";
    let webhook = one(cluster.get(path).await.map(|object| of_kind(object, kind)), unread)?;
    let named = webhook.iter().flat_map(|webhook| list(webhook, "/webhooks"));
    let named = named.map(|webhook| text(webhook, "/clientConfig/service/namespace").to_owned());
    let control = named.filter(|name| !name.is_empty()).max().unwrap_or_else(|| CONTROL.to_owned());
    all.extend(webhook);
    let mut objects = Objects::new(all);
    let path = format!("/apis/apps/v1/namespaces/{control}/deployments/weft-control");
    let deployment = one(cluster.get(&path).await.map(|object| of_kind(object, "Deployment")), unread)?;
    deployment.into_iter().for_each(|deployment| objects.apply(deployment));
    let path = format!("/api/v1/namespaces/{control}/configmaps/weft-control");
    if let Some(map) = one(cluster.get(&path).await, unread)? {
        match settings(text(&map, "/data/control.toml")) {
            Ok((settings, registries)) => (objects.settings, objects.alone) = (settings, registries == 1),
            Err(error) => unread.push(format!("ConfigMap {control}/weft-control, control.toml: {error}")),
        }
    }
    objects.control = Some(control);
    Ok(objects)
}

/// What the control plane was told about injection, and how many registries it has.
fn settings(text: &str) -> Result<(InjectorSettings, usize), Box<figment::Error>> {
    let read = Figment::from(Toml::string(text));
    let mut settings: InjectorSettings = match read.find_value("webhook.injector") {
        Ok(_) => read.extract_inner("webhook.injector").map_err(Box::new)?,
        Err(_) => InjectorSettings::default(),
    };
    if let Ok(registry) = read.extract_inner("webhook.registry") {
        settings.registry = registry;
    }
    let registries: Vec<figment::value::Value> = read.extract_inner("registry").unwrap_or_default();
    Ok((settings, registries.len()))
}

fn of_kind(mut object: Value, kind: &str) -> Value {
    object["kind"] = Value::from(kind);
    object
}

/// One object; `None` where there is none.
fn one(answer: Result<Value, ClusterError>, unread: &mut Vec<String>) -> Result<Option<Value>> {
    match answer {
        Err(error) if error.status() == Some(404) => Ok(None),
        answer => Ok(kept(answer.map(|object| vec![object]), unread)?.pop()),
    }
}

/// What was answered; that it is forbidden, or is not there, is noted.
fn kept(answer: Result<Vec<Value>, ClusterError>, unread: &mut Vec<String>) -> Result<Vec<Value>> {
    match answer {
        Ok(objects) => Ok(objects),
        Err(error) if matches!(error.status(), Some(403 | 404)) => {
            unread.push(error.to_string());
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_the_shipped_control_plane_are_understood() {
        let manifests = include_str!("../../../k8s/manifests/weft.yaml");
        let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).unwrap();
        let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        let (settings, registries) = settings(text(map, "/data/control.toml")).unwrap();
        assert_eq!((settings, registries), (InjectorSettings::default(), 1));
    }
}
