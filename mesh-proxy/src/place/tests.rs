//! What a proxy takes for its own place.

use weft_model::Tunnel;

use super::*;
use crate::config::{Endpoint, ServiceConfig};

fn settings(text: &str) -> Settings {
    Settings::from_toml(text)
}

fn known(address: &str, places: &[(&str, Option<&str>)]) -> ProxyConfig {
    let endpoint = |(n, (locality, node)): (usize, &(&str, Option<&str>))| {
        Arc::new(Endpoint {
            id: format!("pod/{n}").parse().unwrap(),
            addresses: Vec::new(),
            ports: Vec::new(),
            identity: None,
            tunnel: Tunnel::None,
            captured: false,
            weight: 100,
            health: Default::default(),
            locality: locality.parse().unwrap(),
            node: node.map(|node| node.parse().unwrap()),
            app: "".into(),
            version: "".into(),
        })
    };
    let endpoints = places.iter().enumerate().map(endpoint).collect();
    let itself = ServiceConfig { key: "api".parse().unwrap(), ports: Vec::new(), endpoints, prefer: None };
    let owner = KnownAddress::Owned(Owner::Itself(Arc::new(itself)));
    let addresses = imbl::HashMap::unit(address.parse().unwrap(), owner);
    ProxyConfig { addresses, ..ProxyConfig::default() }
}

fn told(settings: &Settings, config: ProxyConfig) -> (String, Option<String>) {
    let place = placed(config, settings).place;
    (place.locality.to_string(), place.node.as_ref().map(ToString::to_string))
}

const NODE: &str = "kubernetes/prod/n1";

#[test]
fn a_proxy_is_where_the_workload_of_its_address_is_and_what_is_set_holds() {
    let here = [("eu/a", Some(NODE))];
    let of = |text: &str| told(&settings(text), known("default/10.0.0.1", &here));
    assert_eq!(of("locality.addresses = '10.0.0.1'"), ("eu/a".into(), Some(NODE.into())));
    assert_eq!(of("locality.addresses = 'fd00::1,10.0.0.1'"), ("eu/a".into(), Some(NODE.into())));
    assert_eq!(of(""), (String::new(), None), "it was not told who it is");
    assert_eq!(of("locality.addresses = '10.0.0.2'"), (String::new(), None));
    let west = "locality.addresses = '10.0.0.1'\ncapture.network = 'west'";
    assert_eq!(of(west), (String::new(), None), "the same address in another network is another's");
    assert_eq!(of("locality = {addresses = '10.0.0.1', self = 'us'}"), ("us".into(), Some(NODE.into())));
    assert_eq!(of("locality = {self = 'us', node = 'host-1'}"), ("us".into(), Some("host-1".into())));
}

#[test]
fn an_address_of_workloads_in_several_places_says_nothing() {
    let settings = settings("locality.addresses = '10.0.0.1'");
    let two = [("eu/a", Some(NODE)), ("eu/b", Some(NODE))];
    assert_eq!(told(&settings, known("default/10.0.0.1", &two)), (String::new(), None));
    let same = [("eu/a", Some(NODE)), ("eu/a", Some(NODE))];
    assert_eq!(told(&settings, known("default/10.0.0.1", &same)).0, "eu/a");
}

#[test]
fn a_place_that_was_known_stays_and_is_the_same_arc_while_nothing_else_is_said() {
    let settings = settings("locality.addresses = '10.0.0.1'");
    let config = placed(known("default/10.0.0.1", &[("eu/a", Some(NODE))]), &settings);
    let before = config.place.clone();
    let again = placed(config.clone(), &settings);
    assert!(Arc::ptr_eq(&again.place, &before));
    let free = ProxyConfig { addresses: imbl::HashMap::new(), ..config };
    assert!(Arc::ptr_eq(&placed(free, &settings).place, &before), "a workload does not move");
}

#[test]
fn addresses_that_are_none_are_refused() {
    let error = figment::Figment::from(figment::providers::Serialized::defaults(
        serde_json::json!({"locality": {"addresses": "10.0.0.1,x"}}),
    ))
    .extract::<Settings>()
    .unwrap_err()
    .to_string();
    assert!(error.contains("\"x\" is no IP address"), "{error}");
}
