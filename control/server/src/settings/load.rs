//! Reads [`Settings`] from their sources, and checks what no type can: that parts fit each other.
//!
//! All problems that can be found at once are reported at once.

use std::collections::BTreeSet;
use std::path::Path;

use weft_model::RegistryKind;
use weft_process::settings::InvalidSettings;

use super::{RegistrySettings, Settings};

/// Reads the settings: defaults, `file`, the environment, `flags` (`KEY=VALUE` each).
pub(crate) fn load(file: Option<&Path>, flags: &[String]) -> Result<Settings, InvalidSettings> {
    let settings = weft_process::settings::load(file, "WEFT_CONTROL_", flags)?;
    let problems = problems(&settings);
    if problems.is_empty() { Ok(settings) } else { Err(InvalidSettings::Values(problems)) }
}

/// What does not fit together, a sentence each.
fn problems(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(address) = settings.admin.listen.filter(|address| !address.ip().is_loopback()) {
        problems.push(format!(
            "admin.listen: {address} is not a loopback address; nobody is authenticated there: use 127.0.0.1 or [::1]"
        ));
    }
    let mut ids = BTreeSet::new();
    for (n, registry) in settings.registry.iter().enumerate() {
        if !ids.insert(&registry.id) {
            problems.push(format!("registry[{n}].id: {} is there twice", registry.id));
        }
        problems.extend(registry_problems(registry).map(|problem| format!("registry[{n}].{problem}")));
    }
    let registries = &settings.registry;
    if let Some(secrets) = &settings.registry_secrets
        && !registries
            .iter()
            .any(|one| one.id == secrets.registry && one.id.kind() == RegistryKind::Kubernetes)
    {
        let id = &secrets.registry;
        problems.push(format!("registry_secrets.registry: {id} is no kubernetes registry of these settings"));
    }
    for id in settings.ca.consul.keys() {
        if !registries.iter().any(|registry| registry.id == *id && id.kind() == RegistryKind::Consul) {
            problems.push(format!("ca.consul: {id} is no consul registry of these settings"));
        }
    }
    problems
}

fn registry_problems(registry: &RegistrySettings) -> impl Iterator<Item = String> {
    let kind = registry.id.kind();
    let (file, consul) = (kind == RegistryKind::File, kind == RegistryKind::Consul);
    let (kubernetes, nomad) = (kind == RegistryKind::Kubernetes, kind == RegistryKind::Nomad);
    let fraction = registry.guard.fraction;
    [
        (
            !file && !consul && !kubernetes && !nomad,
            format!(
                "id: registries of kind {} are not built in; expected file/NAME, consul/NAME, kubernetes/NAME or nomad/NAME",
                kind.as_str()
            ),
        ),
        (
            file && registry.directory.is_none(),
            format!("directory: {} needs it: the directory of its YAML files", registry.id),
        ),
        (
            !file && registry.directory.is_some(),
            format!("directory: {} has none; only file registries do", registry.id),
        ),
        (
            !consul && registry.consul.is_some(),
            format!("consul: {} has none; only consul registries do", registry.id),
        ),
        (
            !kubernetes && registry.kubernetes.is_some(),
            format!("kubernetes: {} has none; only kubernetes registries do", registry.id),
        ),
        (
            !nomad && registry.nomad.is_some(),
            format!("nomad: {} has none; only nomad registries do", registry.id),
        ),
        (!(0.0..=1.0).contains(&fraction), format!("guard.fraction: expected 0 to 1, not {fraction}")),
    ]
    .into_iter()
    .filter_map(|(broken, problem)| broken.then_some(problem))
}
