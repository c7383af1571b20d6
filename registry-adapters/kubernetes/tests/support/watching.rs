//! The adapter under supervision, with a catalog behind it.

use weft_registry::SuperviseSettings;
use weft_registry::testkit::Watching;
use weft_registry_kubernetes::{KubernetesRegistry, KubernetesSettings};

/// Watches by these settings.
pub(crate) fn follow(settings: KubernetesSettings) -> Watching {
    follow_with(settings, SuperviseSettings::default())
}

/// The same, supervised otherwise.
pub(crate) fn follow_with(settings: KubernetesSettings, supervision: SuperviseSettings) -> Watching {
    let (id, domain) = ("kubernetes/prod".parse().unwrap(), "weft.test".parse().unwrap());
    Watching::new(KubernetesRegistry::new(id, settings, domain).unwrap(), supervision)
}
