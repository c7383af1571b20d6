//! A resource's version: the hash of its meaning.
//!
//! Equal meaning is an equal version on every replica and after every restart, so that a reconnect resends nothing.
//! So it is a hash of the sorted fields and never of protobuf bytes (whose order nobody promises) and never a counter.
//! [`ENCODER`] is part of it: an encoder that writes something else for the same meaning resends.

use std::fmt;
use std::str::FromStr;

use weft_proto::mesh::v1 as wire;
use xxhash_rust::xxh3::Xxh3;

/// 128 bits; 32 hexadecimal digits as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u128);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Version {
    type Err = ();
    /// Reads what `Display` writes; a version of another make is an `Err` and equals none of ours.
    fn from_str(text: &str) -> Result<Self, ()> {
        match text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            true => u128::from_str_radix(text, 16).map(Self).map_err(|_| ()),
            false => Err(()),
        }
    }
}

/// Raise it when the encoder writes something else for the same model. The test with fixed versions is the reminder.
const ENCODER: &str = "weft.mesh.v1/3";

/// A message whose fields can be told to a hash. Its lists are sorted already, by the conversion from the model.
pub(crate) trait Meaning {
    /// The message's name, then each field in the order of the schema.
    fn tell(&self, hash: &mut MeaningHash);

    /// The hash of all that.
    fn version(&self) -> Version {
        let mut hash = MeaningHash(Xxh3::new());
        hash.text(ENCODER);
        self.tell(&mut hash);
        Version(hash.0.digest128())
    }
}

/// Takes fields so that no two sequences of fields look the same: every text and list goes with its length.
pub(crate) struct MeaningHash(Xxh3);

impl MeaningHash {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn signed(&mut self, number: i32) {
        self.0.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], tell: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            tell(self, item);
        }
    }

    fn ports(&mut self, ports: &[wire::Port]) {
        self.list(ports, |hash, port| {
            hash.text(&port.name);
            hash.number(port.number.into());
            hash.signed(port.protocol);
        });
    }

    fn labels(&mut self, labels: &[wire::Label]) {
        self.list(labels, |hash, label| {
            hash.text(&label.key);
            hash.text(&label.value);
        });
    }
}

impl Meaning for wire::Workload {
    fn tell(&self, hash: &mut MeaningHash) {
        hash.text("Workload");
        hash.text(&self.id);
        hash.list(&self.services, |hash, membership| {
            hash.text(&membership.service);
            hash.ports(&membership.ports);
        });
        hash.list(&self.addresses, |hash, address| hash.bytes(address));
        hash.text(&self.network);
        hash.text(&self.identity);
        hash.number(self.tunnel_port.into());
        hash.number(self.captured.into());
        hash.text(&self.locality);
        hash.text(&self.node);
        hash.number(self.weight.into());
        hash.signed(self.health);
        hash.labels(&self.labels);
    }
}

impl Meaning for wire::Service {
    fn tell(&self, hash: &mut MeaningHash) {
        hash.text("Service");
        hash.text(&self.namespace);
        hash.text(&self.name);
        hash.ports(&self.ports);
        hash.labels(&self.labels);
        hash.signed(self.prefer);
    }
}

impl Meaning for wire::Address {
    fn tell(&self, hash: &mut MeaningHash) {
        hash.text("Address");
        hash.text(&self.network);
        hash.bytes(&self.ip);
        hash.text(&self.service);
        hash.list(&self.workloads, |hash, workload| workload.tell(hash));
    }
}

impl Meaning for wire::TrustBundle {
    fn tell(&self, hash: &mut MeaningHash) {
        hash.text("TrustBundle");
        hash.text(&self.trust_domain);
        hash.list(&self.roots, |hash, root| hash.bytes(root));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> wire::Workload {
        wire::Workload {
            id: "vm/a".to_owned(),
            services: vec![wire::Membership {
                service: "default/api".to_owned(),
                ports: vec![wire::Port { name: "http".to_owned(), number: 80, protocol: 1 }],
            }],
            addresses: vec![vec![10, 0, 0, 1].into()],
            network: String::new(),
            identity: "spiffe://mesh.test/ns/default/sa/api".to_owned(),
            tunnel_port: 15008,
            captured: false,
            locality: "eu".to_owned(),
            node: String::new(),
            weight: 100,
            health: 1,
            labels: vec![wire::Label { key: "app".to_owned(), value: "api".to_owned() }],
        }
    }

    /// The versions are the same in every process and build. When this fails since a field was added or is written in
    /// another way, raise [`ENCODER`] and write the new versions here.
    #[test]
    fn versions_are_the_same_on_every_machine() {
        let service = wire::Service { namespace: "default".into(), name: "api".into(), ..Default::default() };
        let bundle =
            wire::TrustBundle { trust_domain: "mesh.test".into(), roots: vec![vec![0x30, 0].into()] };
        let versions = [workload().version(), service.version(), bundle.version()];
        assert_eq!(versions.map(|version| version.to_string()), GOLDEN);
    }

    const GOLDEN: [&str; 3] = [
        "e169e3fadf55115ff9354219c676a281",
        "66d7a958bca8254e4a0c177084d1eda9",
        "4a3bc6d3468251994da3c2880dcdcbdb",
    ];

    #[test]
    fn every_field_of_a_workload_is_part_of_its_version() {
        type Change = fn(&mut wire::Workload);
        let changes: [Change; 16] = [
            |w| w.id.push('x'),
            |w| w.services[0].service.push('x'),
            |w| w.services[0].ports[0].name.push('x'),
            |w| w.services[0].ports[0].number += 1,
            |w| w.services[0].ports[0].protocol += 1,
            |w| w.addresses[0] = vec![10, 0, 0, 2].into(),
            |w| w.network.push('x'),
            |w| w.identity.push('x'),
            |w| w.tunnel_port += 1,
            |w| w.captured = true,
            |w| w.locality.push('x'),
            |w| w.node.push('x'),
            |w| w.weight += 1,
            |w| w.health += 1,
            |w| w.labels[0].key.push('x'),
            |w| w.labels[0].value.push('x'),
        ];
        let mut seen = std::collections::BTreeSet::from([workload().version()]);
        for (i, change) in changes.into_iter().enumerate() {
            let mut changed = workload();
            change(&mut changed);
            assert!(seen.insert(changed.version()), "change {i} is not seen");
        }
    }

    #[test]
    fn what_callers_prefer_is_part_of_a_service_s_version() {
        let service = |prefer| wire::Service { name: "api".into(), prefer, ..Default::default() }.version();
        assert_ne!(service(0), service(3));
    }

    #[test]
    fn text_that_moves_from_one_field_to_the_next_is_another_version() {
        let service = |namespace: &str, name: &str| {
            wire::Service { namespace: namespace.into(), name: name.into(), ..Default::default() }.version()
        };
        assert_ne!(service("ab", "c"), service("a", "bc"));
    }

    #[test]
    fn a_version_is_read_back_and_foreign_text_is_none() {
        let version = workload().version();
        assert_eq!(version.to_string().parse(), Ok(version));
        for foreign in ["", "1", "+0000000000000000000000000000001", &version.to_string().to_uppercase()] {
            assert_eq!(foreign.parse::<Version>(), Err(()), "{foreign:?}");
        }
    }
}
