//! Which names are the mesh's, and which service each is: `SERVICE.NAMESPACE.SUFFIX`, and `SERVICE.SUFFIX` for those of
//! the asking workload's own namespace.
//!
//! Names are compared in any case; a service whose name has a capital letter or a dot has no name here. Whether a service exists
//! is not decided here.

use std::fmt;
use std::str::FromStr;

use hickory_proto::rr::Name;
use serde::{Deserialize, Serialize};
use weft_model::{Namespace, ServiceKey};

/// The part of the names that is the mesh's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    text: String,
    labels: Vec<String>,
}

/// Why a text is not a zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a suffix of names: expected labels of a-z, 0-9 and '-' with dots between them, 100 characters at most, as in \"mesh\""
)]
pub struct InvalidZone(String);

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// None of ours.
    Others,
    /// The zone itself.
    Zone,
    /// This service, if it exists.
    Service(ServiceKey),
    /// It is ours, and no service can have it.
    Nobody,
    /// A service of the own namespace, which is not known yet.
    Homeless,
}

impl Zone {
    /// What `name` is to a workload of the namespace `own`.
    pub fn named(&self, name: &Name, own: Option<&Namespace>) -> Named {
        let labels: Vec<Vec<u8>> = name.iter().map(<[u8]>::to_ascii_lowercase).collect();
        let Some(start) = labels.len().checked_sub(self.labels.len()) else { return Named::Others };
        let (front, suffix) = labels.split_at(start);
        if !suffix.iter().zip(&self.labels).all(|(label, ours)| label == ours.as_bytes()) {
            return Named::Others;
        }
        match front {
            [] => Named::Zone,
            [service] => match (own, label(service)) {
                (_, None) => Named::Nobody,
                (None, Some(_)) => Named::Homeless,
                (Some(own), Some(service)) => key(own.clone(), service),
            },
            [service, namespace] => match (label(service), label(namespace).map(str::parse)) {
                (Some(service), Some(Ok(namespace))) => key(namespace, service),
                _ => Named::Nobody,
            },
            _ => Named::Nobody,
        }
    }

    pub(crate) fn name(&self) -> Name {
        // Checked by the constructor.
        Name::from_labels(self.labels.iter().map(String::as_bytes)).unwrap_or_else(|_| Name::root())
    }
}

fn key(namespace: Namespace, service: &str) -> Named {
    match service.parse() {
        Ok(name) => Named::Service(ServiceKey::new(namespace, name)),
        Err(_) => Named::Nobody,
    }
}

/// A label that can be a part of a service's key. One with a dot in it is another name than it looks like.
fn label(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.chars().all(plain).then_some(text)
}

impl FromStr for Zone {
    type Err = InvalidZone;
    fn from_str(text: &str) -> Result<Self, InvalidZone> {
        let labels: Vec<String> = text.split('.').map(str::to_owned).collect();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = |label: &String| (1..=63).contains(&label.len()) && label.chars().all(plain);
        // 100 leaves room for a service and a namespace of 63 each in the 253 of a name, with some to spare.
        match text.len() <= 100 && labels.iter().all(good) {
            true => Ok(Self { text: text.to_owned(), labels }),
            false => Err(InvalidZone(text.to_owned())),
        }
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for Zone {
    type Error = InvalidZone;
    fn try_from(text: String) -> Result<Self, InvalidZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(zone: &str, name: &str) -> Named {
        let (zone, own): (Zone, Namespace) = (zone.parse().unwrap(), "shop".parse().unwrap());
        zone.named(&Name::from_ascii(name).unwrap(), Some(&own))
    }

    fn service(key: &str) -> Named {
        Named::Service(key.parse().unwrap())
    }

    #[test]
    fn services_have_names_with_and_without_their_namespace_in_any_case() {
        assert_eq!(named("mesh", "billing.default.mesh."), service("default/billing"));
        assert_eq!(named("mesh", "BiLLing.DEFAULT.Mesh"), service("default/billing"));
        assert_eq!(named("mesh", "billing.mesh."), service("shop/billing"));
        assert_eq!(named("mesh.internal", "api.pay.mesh.internal"), service("pay/api"));
        assert_eq!(named("mesh", "mesh."), Named::Zone);
    }

    #[test]
    fn what_only_looks_like_a_name_of_ours_is_somebody_elses() {
        for name in
            ["example.com.", "mesh.example.com.", "amesh.", "billing.default.mesh.svc.cluster.local.", "."]
        {
            assert_eq!(named("mesh", name), Named::Others, "{name}");
        }
        assert_eq!(named("mesh.internal", "billing.mesh."), Named::Others);
    }

    #[test]
    fn below_a_namespace_there_is_nobody() {
        for name in ["a.b.c.mesh.", "*.default.mesh.", r"a\.b.default.mesh."] {
            assert_eq!(named("mesh", name), Named::Nobody, "{name}");
        }
        let no_text = Name::from_labels([b"\xff".as_slice(), b"mesh"]).unwrap();
        assert_eq!("mesh".parse::<Zone>().unwrap().named(&no_text, None), Named::Nobody);
    }

    #[test]
    fn without_a_namespace_of_its_own_a_short_name_is_undecided() {
        let zone: Zone = "mesh".parse().unwrap();
        let name = |text: &str| Name::from_ascii(text).unwrap();
        assert_eq!(zone.named(&name("billing.mesh."), None), Named::Homeless);
        assert_eq!(zone.named(&name("billing.default.mesh."), None), service("default/billing"));
    }

    #[test]
    fn a_suffix_is_refused_with_what_is_allowed() {
        for wrong in ["", ".", "mesh.", ".mesh", "Mesh", "a b", "me_sh", &"a".repeat(64), &"a.".repeat(60)] {
            let error = wrong.parse::<Zone>().unwrap_err().to_string();
            assert!(error.contains("as in \"mesh\""), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_service_with_a_plain_name_is_found_under_it(
            service in "[a-z0-9][a-z0-9-]{0,62}", namespace in "[a-z0-9][a-z0-9-]{0,62}",
        ) {
            let key: ServiceKey = format!("{namespace}/{service}").parse().unwrap();
            let name = format!("{service}.{namespace}.mesh.").to_ascii_uppercase();
            prop_assert_eq!(named("mesh", &name), Named::Service(key));
        }
    }
}
