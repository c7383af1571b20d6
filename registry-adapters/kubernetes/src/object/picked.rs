//! Labels and annotations of which only some are kept, picked while they are read.
//!
//! A `kubectl apply` leaves the whole object in an annotation of each object; copying it for 50,000 pods to throw it away
//! would be most of the work of a start.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

/// Pairs, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Picked(Box<[(Box<str>, Box<str>)]>);

impl Picked {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(had, _)| had.as_ref().cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// Those of our own keys.
    pub(crate) fn ours(self) -> Self {
        Self(self.0.into_iter().filter(|(key, _)| key.starts_with(OURS)).collect())
    }
}

#[cfg(test)]
impl<'a> FromIterator<(&'a str, &'a str)> for Picked {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        pairs.sort();
        Self(pairs.into())
    }
}

impl<'de> Deserialize<'de> for Picked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // `null` stands for an empty map.
        deserializer.deserialize_option(Pick)
    }
}

struct Pick;

impl<'de> Visitor<'de> for Pick {
    type Value = Picked;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts")
    }

    fn visit_none<E: de::Error>(self) -> Result<Picked, E> {
        Ok(Picked::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Picked, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Picked, A::Error> {
        let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            if key.starts_with(OURS) || USED.contains(&key.as_ref()) {
                pairs.push((key.into(), map.next_value()?));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        pairs.sort();
        pairs.dedup_by(|later, first| later.0 == first.0);
        Ok(Picked(pairs.into()))
    }
}

/// A map's key, borrowed where it can be.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

const OURS: &str = "weft.dev/";

/// What is used of other people's keys.
const USED: [&str; 10] = [
    "app",
    "app.kubernetes.io/name",
    "app.kubernetes.io/version",
    "endpointslice.kubernetes.io/managed-by",
    "k8s.io/initial-events-end",
    "kubernetes.io/service-name",
    "service.kubernetes.io/topology-mode",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "version",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_used_keys_are_kept_and_a_null_map_is_empty() {
        let json = r#"{"weft.dev/tunnel": "15008", "pod-template-hash": "x", "app": "a", "a\u0070p\n": "y"}"#;
        let picked: Picked = serde_json::from_str(json).unwrap();
        assert_eq!(picked.iter().collect::<Vec<_>>(), [("app", "a"), ("weft.dev/tunnel", "15008")]);
        assert_eq!(picked.clone().ours().iter().count(), 1);
        assert_eq!(picked.get("app"), Some("a"));
        assert!(serde_json::from_str::<Picked>("null").unwrap().is_empty());
        assert!(serde_json::from_str::<Picked>("[]").is_err());
    }
}
