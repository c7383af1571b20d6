//! The adapter under supervision, with a catalog behind it.

use weft_registry::SuperviseSettings;
use weft_registry::testkit::Watching;
use weft_registry_consul::{ConsulRegistry, ConsulSettings};

/// Watches by these settings.
pub(crate) fn follow(settings: ConsulSettings) -> Watching {
    follow_with(settings, SuperviseSettings::default())
}

/// The same, supervised otherwise.
pub(crate) fn follow_with(settings: ConsulSettings, supervision: SuperviseSettings) -> Watching {
    super::init();
    let (id, domain) = ("consul/dc1".parse().unwrap(), "weft.test".parse().unwrap());
    Watching::new(ConsulRegistry::new(id, settings, domain).unwrap(), supervision)
}
