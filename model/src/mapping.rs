//! How one registry's services are named in the mesh.
//!
//! Equal keys in several registries are one service. That is the default, since it is what moves and fail-over
//! need; where it is wrong, the registry's mapping says so. A mapping only names: it can neither hide nor add anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::name::{Namespace, RegistryId, ServiceKey, ServiceName};

/// How one registry's services are named in the mesh. The default keeps each name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// These services get exactly these names; the other two settings don't touch them.
    pub rename: BTreeMap<ServiceKey, ServiceKey>,
    /// All others move to this namespace.
    pub namespace: Option<Namespace>,
    /// All others get the suffix `-<registry name>`, so that they are not one with another registry's services of
    /// the same name.
    pub apart: bool,
}

impl Mapping {
    /// The mesh's key of a service that `registry` calls `key`.
    pub fn apply(&self, registry: &RegistryId, key: &ServiceKey) -> ServiceKey {
        if let Some(renamed) = self.rename.get(key) {
            return renamed.clone();
        }
        let namespace = self.namespace.as_ref().unwrap_or(&key.namespace).clone();
        let name = if self.apart { suffixed(&key.name, registry.name()) } else { key.name.clone() };
        ServiceKey::new(namespace, name)
    }
}

/// `name-suffix`; where that is too long for a name, as much of it as fits and a hash of all of it.
fn suffixed(name: &ServiceName, suffix: &str) -> ServiceName {
    let full = format!("{name}-{suffix}");
    full.parse().unwrap_or_else(|_| {
        let hash = xxh3_64(full.as_bytes());
        // Both parts are made of a name's characters, so that the length is all there is to refuse; 236 + 1 + 16 = 253.
        let start: String = full.chars().take(236).collect();
        format!("{start}-{hash:016x}").parse().unwrap_or_else(|_| name.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ServiceKey {
        text.parse().unwrap()
    }

    fn map(mapping: &Mapping, text: &str) -> String {
        mapping.apply(&"consul/dc1".parse().unwrap(), &key(text)).to_string()
    }

    #[test]
    fn the_default_keeps_every_name() {
        assert_eq!(map(&Mapping::default(), "shop/web"), "shop/web");
    }

    #[test]
    fn a_registry_kept_apart_and_moved_gets_suffix_and_namespace() {
        let mapping =
            Mapping { namespace: Some("legacy".parse().unwrap()), apart: true, ..Mapping::default() };
        assert_eq!(map(&mapping, "shop/web"), "legacy/web-dc1");
    }

    #[test]
    fn a_renamed_service_gets_exactly_its_new_name() {
        let rename = BTreeMap::from([(key("web"), key("shop/front"))]);
        let mapping = Mapping { rename, apart: true, ..Mapping::default() };
        assert_eq!(map(&mapping, "web"), "shop/front");
        assert_eq!(map(&mapping, "api"), "default/api-dc1");
    }

    #[test]
    fn a_suffix_that_does_not_fit_still_tells_names_apart() {
        let mapping = Mapping { apart: true, ..Mapping::default() };
        let (long, longer) = ("x".repeat(252), "x".repeat(253));
        let (first, second) = (map(&mapping, &long), map(&mapping, &longer));
        assert_ne!(first, second);
        assert_eq!(key(&first).name.as_str().len(), 253);
    }

    #[test]
    fn settings_with_an_unknown_field_are_refused() {
        assert!(serde_json::from_str::<Mapping>(r#"{"aprat": true}"#).is_err());
        let mapping: Mapping = serde_json::from_str(r#"{"rename": {"web": "shop/front"}}"#).unwrap();
        assert_eq!(map(&mapping, "default/web"), "shop/front");
    }
}
