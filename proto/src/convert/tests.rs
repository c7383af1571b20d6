//! Round trips, refusals with their field path, and bytes of any kind.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use weft_model::{
    Health, InstanceId, Network, Provenance, Service, ServiceKey, ServicePort, Tunnel, Workload, WorkloadPort,
};

use super::*;
use crate::mesh::v1 as wire;

fn a_workload() -> Workload {
    let port = |name: Option<&str>, number| WorkloadPort {
        name: name.map(|name| name.parse().unwrap()),
        number,
        protocol: weft_model::Protocol::Http1,
    };
    let provenance = Provenance {
        registry: "consul/dc1".parse().unwrap(),
        object: "node-1/api-1".to_owned(),
        since_unix_ms: 1_700_000_000_000,
    };
    Workload {
        id: "consul/dc1/node-1/api-1".parse().unwrap(),
        services: BTreeMap::from([
            ("default/api".parse().unwrap(), vec![port(Some("http"), 8080), port(None, 9090)]),
            ("other/api".parse().unwrap(), vec![]),
        ]),
        addresses: vec!["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        network: "vpc-1".parse().unwrap(),
        identity: Some("spiffe://mesh.test/ns/default/sa/api".parse().unwrap()),
        tunnel: Tunnel::Port(15008),
        captured: false,
        locality: "eu/eu-1/rack-2".parse().unwrap(),
        node: Some("kubernetes/prod/worker-1".parse().unwrap()),
        weight: 100,
        health: Health::Healthy,
        labels: ["app", "version", "team"].map(|key| (key.to_owned(), format!("{key}-1"))).into(),
        provenance: BTreeSet::from([provenance]),
    }
}

fn encode(workload: &Workload) -> Bytes {
    wire::Workload::from(workload).encode_to_vec().into()
}

fn refused(change: impl FnOnce(&mut wire::Workload)) -> InvalidResource {
    let model = a_workload();
    let mut message = wire::Workload::from(&model);
    change(&mut message);
    workload(model.id.as_str(), message.encode_to_vec().into()).unwrap_err()
}

#[test]
fn a_workload_is_read_as_it_was_but_for_provenance_and_private_labels() {
    let model = a_workload();
    let read = workload(model.id.as_str(), encode(&model)).unwrap();
    let mut expected = model;
    expected.provenance.clear();
    expected.labels.remove("team");
    for ports in expected.services.values_mut() {
        ports.sort();
    }
    assert_eq!(read, expected);
}

#[test]
fn a_workload_costs_less_than_400_bytes() {
    assert!(encode(&a_workload()).len() < 400, "{} bytes", encode(&a_workload()).len());
}

#[test]
fn the_order_in_which_ports_were_given_is_not_visible_on_the_wire() {
    let model = a_workload();
    let mut shuffled = model.clone();
    for ports in shuffled.services.values_mut() {
        ports.reverse();
        ports.extend(ports.clone());
    }
    assert_eq!(encode(&model), encode(&shuffled));
}

#[test]
fn each_bad_field_of_a_workload_is_refused_with_its_path() {
    let cases: Vec<(&str, InvalidResource)> = vec![
        ("id", refused(|w| w.id = "consul/dc1/other".to_owned())),
        ("services[1].service", refused(|w| w.services[1].service = "api".to_owned())),
        ("services[1].service", refused(|w| w.services[1].service = "default/api".to_owned())),
        ("services[1].service", refused(|w| w.services.swap(0, 1))),
        ("services[0].ports[1].number", refused(|w| w.services[0].ports[1].number = 0)),
        ("services[0].ports[0].number", refused(|w| w.services[0].ports[0].number = 65_536)),
        ("services[0].ports[0].protocol", refused(|w| w.services[0].ports[0].protocol = 99)),
        ("services[0].ports[1].name", refused(|w| w.services[0].ports[1].name = "a b".to_owned())),
        ("services[0].ports[1]", refused(|w| w.services[0].ports.swap(0, 1))),
        ("addresses[0]", refused(|w| w.addresses[0] = Bytes::from_static(&[1, 2, 3]))),
        ("addresses[1]", refused(|w| w.addresses[1] = w.addresses[0].clone())),
        ("addresses[0]", refused(|w| w.addresses[0] = Bytes::from_static(&[0, 0, 0, 0]))),
        ("addresses[0]", refused(|w| w.addresses[0] = Bytes::from_static(&[224, 0, 0, 1]))),
        ("network", refused(|w| w.network = "a/b".to_owned())),
        ("identity", refused(|w| w.identity = "spiffe://Mesh/x".to_owned())),
        ("tunnel_port", refused(|w| w.tunnel_port = 70_000)),
        ("locality", refused(|w| w.locality = "a//b".to_owned())),
        ("health", refused(|w| w.health = -1)),
        ("labels[1].key", refused(|w| w.labels.swap(0, 1))),
        ("labels[0].key", refused(|w| w.labels[0].key.clear())),
    ];
    for (path, refusal) in cases {
        assert_eq!(refusal.field_path, path, "{refusal}");
        assert_eq!(refusal.name, "consul/dc1/node-1/api-1");
        assert!(!refusal.reason.is_empty());
    }
}

#[test]
fn a_service_is_read_as_it_was_and_may_have_a_port_without_number() {
    let model = a_service();
    let read = service("default/api", wire::Service::from(&model).encode_to_vec().into()).unwrap();
    assert_eq!(read, model);
}

#[test]
fn a_service_under_another_name_or_with_one_port_name_twice_is_refused() {
    let message = wire::Service::from(&a_service());
    let other = service("default/web", message.encode_to_vec().into()).unwrap_err();
    assert_eq!(other.field_path, "name");
    let mut twice = message;
    let mut again = twice.ports[1].clone();
    again.number = 81;
    twice.ports.push(again);
    let refusal = service("default/api", twice.encode_to_vec().into()).unwrap_err();
    assert_eq!(refusal.field_path, "ports[2].name");
}

#[test]
fn a_bundle_is_sorted_and_one_without_roots_is_refused() {
    let root = |n: u8| Bytes::copy_from_slice(&[0x30, n]);
    let model =
        TrustBundle { trust_domain: "mesh.test".parse().unwrap(), roots: vec![root(2), root(1), root(2)] };
    let mut message = wire::TrustBundle::from(&model);
    let read = trust_bundle("mesh.test", message.encode_to_vec().into()).unwrap();
    assert_eq!(read.roots, [root(1), root(2)]);
    message.roots[1] = Bytes::from_static(b"-----BEGIN");
    let refusal = trust_bundle("mesh.test", message.encode_to_vec().into()).unwrap_err();
    assert_eq!(refusal.field_path, "roots[1]");
    message.roots.clear();
    let refusal = trust_bundle("mesh.test", message.encode_to_vec().into()).unwrap_err();
    assert_eq!(refusal.field_path, "roots");
}

fn a_service() -> Service {
    let port = |name: Option<&str>, number| ServicePort {
        name: name.map(|name| name.parse().unwrap()),
        number,
        protocol: weft_model::Protocol::Grpc,
    };
    Service {
        key: "default/api".parse::<ServiceKey>().unwrap(),
        ports: vec![port(None, 0), port(Some("grpc"), 80)],
        labels: [("team".to_owned(), "a".to_owned())].into(),
        addresses: Default::default(),
        prefer: Some(weft_model::Prefer::Node),
    }
}

fn arbitrary_workload() -> impl Strategy<Value = Workload> {
    let ports = prop::collection::btree_set((prop::option::of("[a-z]{1,4}"), 1..=u16::MAX), 0..3);
    let services = prop::collection::btree_map(("[a-z]{1,3}", "[A-Za-z0-9._-]{1,8}x"), ports, 0..4);
    let addresses = prop::collection::btree_set(any::<[u8; 4]>(), 0..3);
    ("[ -)+-~]{1,20}", services, addresses, any::<(u16, u32)>(), 0..4u8).prop_map(
        |(id, services, addresses, (tunnel, weight), health)| Workload {
            id: format!("vm/{id}").parse::<InstanceId>().unwrap(),
            services: services
                .into_iter()
                .map(|((namespace, name), ports)| {
                    let port = |(name, number): (Option<String>, u16)| WorkloadPort {
                        name: name.map(|name| name.parse().unwrap()),
                        number,
                        protocol: weft_model::Protocol::Tcp,
                    };
                    let key = format!("{namespace}/{name}").parse().unwrap();
                    (key, ports.into_iter().map(port).collect())
                })
                .collect(),
            addresses: addresses
                .into_iter()
                .map(std::net::IpAddr::from)
                .filter(|address| !address.is_unspecified() && !address.is_multicast())
                .collect(),
            network: Network::default_network(),
            identity: None,
            tunnel: if tunnel == 0 { Tunnel::None } else { Tunnel::Port(tunnel) },
            captured: tunnel % 2 == 1,
            locality: Default::default(),
            node: None,
            weight,
            health: [Health::Unknown, Health::Healthy, Health::Draining, Health::Unhealthy]
                [usize::from(health)],
            labels: BTreeMap::new(),
            provenance: BTreeSet::new(),
        },
    )
}

proptest! {
    #[test]
    fn every_workload_survives_the_wire(model in arbitrary_workload()) {
        let read = workload(model.id.as_str(), encode(&model)).unwrap();
        prop_assert_eq!(read, model);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        // A name that fits whatever was read, so that the later checks are reached as well.
        let name = wire::Workload::decode(bytes.clone()).map(|w| w.id).unwrap_or_default();
        let _ = workload(&name, bytes.clone());
        let name = wire::Service::decode(bytes.clone()).map(|s| format!("{}/{}", s.namespace, s.name));
        let _ = service(&name.unwrap_or_default(), bytes.clone());
        let name = wire::TrustBundle::decode(bytes.clone()).map(|b| b.trust_domain).unwrap_or_default();
        let _ = trust_bundle(&name, bytes.clone());
        let _ = crate::address("default/10.0.0.1", bytes);
    }

    #[test]
    fn a_damaged_workload_is_refused_or_another_legal_one(at in 0..300usize, byte in any::<u8>()) {
        let model = a_workload();
        let mut bytes = encode(&model).to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(read) = workload(model.id.as_str(), bytes.into()) {
            prop_assert_eq!(&workload(read.id.as_str(), encode(&read)).unwrap().id, &read.id);
        }
    }
}
