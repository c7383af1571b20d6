//! What events do to the configuration, the identity and the disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_identity::testkit::TestAuthority;
use weft_model::{AddressOwner, NetworkAddress, Service, ServiceKey};
use weft_proto::Address;
use weft_xds_client::{Command, Members};

use super::*;
use crate::config::{KnownAddress, KnownService, Owner};

struct Fixture {
    shared: Shared,
    state: StateDir,
    status: watch::Sender<MeshStatus>,
    changed: Notify,
    _directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let shared = Shared::for_tests("[[upstream]]\nservice = 'api'\nlisten = '127.0.0.1:0'");
    let state = StateDir::open(directory.path()).unwrap();
    let status = watch::Sender::new(MeshStatus::default());
    Fixture { shared, state, status, changed: Notify::new(), _directory: directory }
}

impl Fixture {
    fn take(&self, event: Event) {
        take(event, &self.status, &self.shared, &self.state, &self.changed);
    }

    fn known(&self, name: &str) -> Option<KnownService> {
        self.shared.config.load().services.get(&key(name)).cloned()
    }
}

fn key(name: &str) -> ServiceKey {
    name.parse().unwrap()
}

fn present(name: &str) -> Event {
    let service = Service {
        key: key(name),
        ports: Vec::new(),
        labels: BTreeMap::new(),
        addresses: Default::default(),
        prefer: None,
    };
    Event::Update(Update::ServicePresent { service: Arc::new(service), workloads: Members::new() })
}

fn address(ip: &str) -> NetworkAddress {
    format!("default/{ip}").parse().unwrap()
}

fn owned(ip: &str) -> Event {
    let owned = Address { address: address(ip), owner: AddressOwner::Service(key("api")) };
    Event::Update(Update::AddressOwned(Arc::new(owned)))
}

fn bundles(of: &[&TestAuthority]) -> Event {
    let bundle = |authority: &&TestAuthority| {
        let bundle = authority.bundle();
        let roots = bundle.roots.iter().map(|root| Bytes::copy_from_slice(root)).collect();
        weft_proto::TrustBundle { trust_domain: bundle.trust_domain, roots }
    };
    Event::Update(Update::Bundles(of.iter().map(bundle).collect()))
}

#[test]
fn a_lost_control_plane_changes_the_status_and_nothing_else() {
    let fixture = fixture();
    assert!(fixture.status.borrow().answering_since.is_none());
    fixture.take(Event::Connected);
    let first = fixture.status.borrow().answering_since;
    fixture.take(present("api"));
    fixture.take(Event::Disconnected("gone".to_owned()));
    fixture.take(Event::Connected);
    assert!(first.is_some() && fixture.status.borrow().answering_since == first, "the first one counts");
    fixture.take(Event::Disconnected("gone".to_owned()));
    assert!(matches!(fixture.known("api"), Some(KnownService::Present(_))));
    let status = fixture.status.borrow().clone();
    assert!(!status.connected && status.last_error == "gone");
}

#[test]
fn an_answer_to_a_subscription_that_was_given_up_is_dropped() {
    let fixture = fixture();
    fixture.take(present("other"));
    assert!(fixture.known("other").is_none());
    assert!(fixture.shared.demand.want(&key("other")));
    fixture.take(present("other"));
    assert!(fixture.known("other").is_some());
}

#[test]
fn absence_is_known() {
    let fixture = fixture();
    fixture.take(present("api"));
    fixture.take(Event::Update(Update::ServiceAbsent(key("api"))));
    assert!(matches!(fixture.known("api"), Some(KnownService::Absent)));
}

#[test]
fn new_bundles_are_trusted_and_saved() {
    let fixture = fixture();
    let (own, other) = (TestAuthority::new("weft.test"), TestAuthority::new("other.test"));
    fixture.shared.svids.set(own.svid("/ns/default/sa/web"), own.bundles());
    fixture.take(bundles(&[&own, &other]));
    let trusted = fixture.shared.svids.current().unwrap().bundles.clone();
    assert_eq!(trusted.0.len(), 2);
    let again = SvidSource::new();
    crate::identity::restore(&fixture.state, &again);
    again.set_svid(own.svid("/ns/default/sa/web"));
    assert_eq!(*again.current().unwrap().bundles, *trusted);
}

#[test]
fn bundles_without_the_own_trust_domain_are_refused() {
    let fixture = fixture();
    let (own, other) = (TestAuthority::new("weft.test"), TestAuthority::new("other.test"));
    fixture.shared.svids.set(own.svid("/ns/default/sa/web"), own.bundles());
    fixture.take(bundles(&[&other]));
    assert_eq!(*fixture.shared.svids.current().unwrap().bundles, own.bundles());
}

#[tokio::test]
async fn subscriptions_follow_what_is_wanted() {
    let fixture = fixture();
    fixture.shared.config.publish(ProxyConfig {
        revision: 1,
        services: imbl::HashMap::unit(key("restored"), KnownService::Absent),
        addresses: imbl::HashMap::unit(address("10.0.0.9"), KnownAddress::Free),
        place: Default::default(),
    });
    let held = [present("restored"), owned("10.0.0.9")].map(|event| match event {
        Event::Update(update) => update,
        other => panic!("{other:?}"),
    });
    let (commands, mut receiver) = mpsc::channel(8);
    let drive = async {
        let mut next = async || receiver.recv().await.unwrap();
        assert!(matches!(next().await, Command::Unsubscribe(gone) if gone == key("restored")));
        assert!(matches!(next().await, Command::UnsubscribeAddress(gone) if gone == address("10.0.0.9")));
        assert!(matches!(next().await, Command::Subscribe(new) if new == key("api")));
        assert!(fixture.known("restored").is_none());
        fixture.shared.demand.want(&key("more"));
        assert!(matches!(next().await, Command::Subscribe(new) if new == key("more")));
        assert!(fixture.shared.config.load().addresses.is_empty());
        fixture.shared.addresses.want(&address("10.0.0.1"));
        assert!(matches!(next().await, Command::SubscribeAddress(new) if new == address("10.0.0.1")));
    };
    tokio::select! {
        () = subscribe::keep(&fixture.shared, Subscribed::of(&held), commands, &fixture.changed) => panic!("it ended"),
        () = drive => {}
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_the_same_identity_and_one_of_another_id_is_noticed() {
    let fixture = fixture();
    let (svids, authority) = (&fixture.shared.svids, TestAuthority::new("weft.test"));
    svids.set(authority.svid("/ns/default/sa/web"), authority.bundles());
    let first = own_id(svids, |_| true).await;
    let mut other = std::pin::pin!(own_id(svids, |now| *now != first));
    svids.set_svid(authority.svid("/ns/default/sa/web"));
    assert!(futures::poll!(&mut other).is_pending());
    svids.set_svid(authority.svid("/ns/default/sa/front"));
    assert_eq!(other.await.path(), "/ns/default/sa/front");
}

#[tokio::test]
async fn what_nobody_wants_any_more_is_forgotten_also_where_the_client_does_not_hold_it() {
    let fixture = fixture();
    fixture.take(present("api"));
    let services = fixture.shared.config.load().services.update(key("absent"), KnownService::Absent);
    fixture.shared.config.publish(ProxyConfig {
        place: Default::default(),
        revision: 5,
        services,
        ..ProxyConfig::default()
    });
    let (commands, mut receiver) = mpsc::channel(8);
    tokio::select! {
        () = subscribe::keep(&fixture.shared, Subscribed::default(), commands, &fixture.changed) => panic!("it ended"),
        command = receiver.recv() => assert!(matches!(command, Some(Command::Subscribe(api)) if api == key("api"))),
    }
    assert!(fixture.known("absent").is_none() && fixture.known("api").is_some());
}

#[test]
fn whose_an_address_is_is_known_while_somebody_wants_to_know() {
    let fixture = fixture();
    let known = || fixture.shared.config.load().addresses.get(&address("10.0.0.1")).cloned();
    fixture.take(owned("10.0.0.1"));
    assert!(known().is_none(), "an answer to a question that was given up");
    fixture.shared.addresses.want(&address("10.0.0.1"));
    fixture.take(owned("10.0.0.1"));
    assert!(matches!(known(), Some(KnownAddress::Owned(Owner::Service(api))) if api == key("api")));
    fixture.take(Event::Update(Update::AddressFree(address("10.0.0.1"))));
    assert!(matches!(known(), Some(KnownAddress::Free)));
}

#[test]
fn the_own_workload_says_where_this_proxy_is_and_the_disk_remembers_it_by_its_address() {
    let text = "locality.addresses = '10.0.0.7'";
    let fixture = Fixture { shared: Shared::for_tests(text), ..fixture() };
    assert!(fixture.shared.addresses.wants(&address("10.0.0.7")), "it is asked for from the start");
    let mut own: weft_model::Workload = serde_json::from_value(serde_json::json!({
        "id": "pod/own", "services": {}, "addresses": ["10.0.0.7"], "network": "default", "identity": null,
        "tunnel": {"port": 15008}, "locality": "eu/a", "node": "kubernetes/prod/n1", "weight": 100,
        "health": "healthy", "labels": {}, "provenance": [],
    }))
    .unwrap();
    let take = |own: &weft_model::Workload| {
        let owner = AddressOwner::Workloads(vec![Arc::new(own.clone())]);
        let owned = Address { address: address("10.0.0.7"), owner };
        fixture.take(Event::Update(Update::AddressOwned(Arc::new(owned))));
        fixture.shared.config.load().place.clone()
    };
    let place = take(&own);
    assert_eq!((place.locality.to_string(), place.node.clone()), ("eu/a".to_owned(), own.node.clone()));
    own.health = weft_model::Health::Draining;
    assert!(Arc::ptr_eq(&take(&own), &place), "no balancer starts over for that");
    fixture.take(Event::Update(Update::AddressFree(address("10.0.0.7"))));
    assert_eq!(fixture.shared.config.load().place, place);
}
