//! The rules D1 to D21 of the delta protocol, one scripted exchange each.

mod names;
mod reconnects;
mod refusals;
mod requests;
mod sizes;

use std::collections::BTreeMap;

use prost::Message as _;
use weft_model::{Catalog, Entry, EntryKey, RegistryEvent, RegistryId, Workload};
use weft_proto::discovery::{Any, Status};
use weft_proto::mesh::v1::{ResourceError, ResourceErrors};
use weft_proto::{RESOURCE_ERRORS_URL, ResourceType as Type, TrustBundle};

use super::*;

/// A server with one stream.
struct World {
    catalog: Catalog,
    registry: RegistryId,
    bundles: Vec<TrustBundle>,
    published: Published,
    stream: Stream,
}

type Responses = Vec<DeltaDiscoveryResponse>;

impl World {
    fn new(workloads: &[(&str, &[&str])]) -> Self {
        let mut world = Self {
            catalog: Catalog::new(BTreeMap::new()),
            registry: "consul/dc1".parse().unwrap(),
            bundles: vec![bundle("mesh.test", 1)],
            published: Published::default(),
            stream: Stream::new(StreamSettings::default()),
        };
        world.publish(RegistryEvent::Upsert(Vec::new()));
        for (id, services) in workloads {
            world.set(id, services, 1);
        }
        world
    }

    fn publish(&mut self, event: RegistryEvent) -> Responses {
        let changes = self.catalog.apply(&self.registry, event);
        self.published = self.published.advance(&self.catalog.snapshot(), &changes, &self.bundles);
        self.stream.on_published(&self.published)
    }

    fn set(&mut self, id: &str, services: &[&str], weight: u32) -> Responses {
        self.publish(RegistryEvent::Upsert(vec![Entry::from(workload(id, services, weight))]))
    }

    fn remove(&mut self, id: &str) -> Responses {
        self.publish(RegistryEvent::Remove(vec![EntryKey::Workload(id.parse().unwrap())]))
    }

    fn set_bundles(&mut self, bundles: Vec<TrustBundle>) -> Responses {
        self.bundles = bundles;
        self.publish(RegistryEvent::Upsert(Vec::new()))
    }

    fn send(&mut self, request: DeltaDiscoveryRequest) -> Responses {
        self.stream.on_request(request, &self.published).unwrap()
    }

    fn fail(&mut self, request: DeltaDiscoveryRequest) -> StreamError {
        self.stream.on_request(request, &self.published).unwrap_err()
    }

    fn subscribe(&mut self, kind: Type, names: &[&str]) -> Responses {
        self.send(subscribe(kind, names))
    }

    fn unsubscribe(&mut self, kind: Type, names: &[&str]) -> Responses {
        self.send(DeltaDiscoveryRequest { resource_names_unsubscribe: owned(names), ..request(kind) })
    }

    fn ack(&mut self, response: &DeltaDiscoveryResponse) -> Responses {
        self.send(ack(response))
    }

    fn nack(&mut self, response: &DeltaDiscoveryResponse, names: &[&str]) -> Responses {
        let mut request = ack(response);
        let error = |name: &&str| ResourceError {
            resource_name: (*name).to_owned(),
            field_path: "weight".to_owned(),
            reason: "not understood".to_owned(),
        };
        let errors = ResourceErrors { errors: names.iter().map(error).collect() };
        request.error_detail = Some(Status {
            code: 3,
            message: "refused".to_owned(),
            details: vec![Any {
                type_url: RESOURCE_ERRORS_URL.to_owned(),
                value: errors.encode_to_vec().into(),
            }],
        });
        self.send(request)
    }

    /// Acknowledges everything until nothing comes any more.
    fn settle(&mut self, responses: Responses) {
        let mut open = std::collections::VecDeque::from(responses);
        while let Some(response) = open.pop_front() {
            open.extend(self.ack(&response));
        }
    }

    /// What a client of ours opens a stream with.
    fn listen(&mut self, services: &[&str]) -> Responses {
        let mut responses = self.subscribe(Type::TrustBundle, &["*"]);
        responses.extend(self.subscribe(Type::Workload, services));
        responses.extend(self.subscribe(Type::Service, services));
        responses
    }

    /// The same, with everything acknowledged.
    fn listening(&mut self, services: &[&str]) {
        for response in self.listen(services) {
            assert!(self.ack(&response).is_empty(), "an ACK needs no answer (D20)");
        }
        assert!(self.stream.status().in_sync);
    }

    /// The next process: another stream, and publications counted anew.
    fn restart(&mut self) {
        let (snapshot, all) = (self.catalog.snapshot(), all_of(&self.catalog));
        self.published = Published::default().advance(&snapshot, &all, &self.bundles);
        self.stream = Stream::new(StreamSettings::default());
    }

    /// The next process, which has not heard the registry yet and knows nothing of it. It says so to a new stream.
    fn restart_unheard(&mut self) {
        self.catalog = Catalog::new(BTreeMap::new());
        self.published = Published::unheard();
        self.stream = Stream::new(StreamSettings::default());
        self.publish(RegistryEvent::Upsert(Vec::new()));
    }

    fn all_heard(&mut self) -> Responses {
        self.published = std::mem::take(&mut self.published).all_heard();
        self.publish(RegistryEvent::Upsert(Vec::new()))
    }

    /// The client reconnects to the same process.
    fn restart_stream(&mut self) {
        self.stream = Stream::new(StreamSettings::default());
    }

    fn undecided(&self) -> Vec<usize> {
        self.stream.status().types.iter().map(|one| one.undecided).collect()
    }

    fn version(&self, kind: Type, name: &str) -> String {
        let resources = &self.published.resources;
        let resource = match kind {
            Type::TrustBundle => resources.bundle(name),
            Type::Workload => resources.workload(name),
            Type::Service => resources.service(name),
            Type::Address => return resources.address(name).unwrap().version.to_string(),
        };
        resource.unwrap().version.to_string()
    }
}

fn all_of(catalog: &Catalog) -> weft_model::Changes {
    let snapshot = catalog.snapshot();
    weft_model::Changes {
        services: snapshot.services().map(|service| service.key.clone()).collect(),
        workloads: snapshot.workloads().map(|workload| workload.id.clone()).collect(),
        urgent: false,
    }
}

fn workload(id: &str, services: &[&str], weight: u32) -> Workload {
    Workload {
        id: id.parse().unwrap(),
        services: services.iter().map(|name| (name.parse().unwrap(), Vec::new())).collect(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        network: weft_model::Network::default_network(),
        identity: None,
        tunnel: weft_model::Tunnel::Port(15008),
        captured: false,
        locality: Default::default(),
        node: None,
        weight,
        health: weft_model::Health::Healthy,
        labels: BTreeMap::new(),
        provenance: Default::default(),
    }
}

fn bundle(name: &str, root: u8) -> TrustBundle {
    TrustBundle { trust_domain: name.parse().unwrap(), roots: vec![vec![0x30, root].into()] }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn request(kind: Type) -> DeltaDiscoveryRequest {
    let id = "spiffe://mesh.test/ns/default/sa/web~web-1".to_owned();
    let node = Node { id, user_agent_name: "weft-proxy".to_owned(), ..Default::default() };
    DeltaDiscoveryRequest { node: Some(node), type_url: kind.url().to_owned(), ..Default::default() }
}

fn subscribe(kind: Type, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { resource_names_subscribe: owned(names), ..request(kind) }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}

/// `Type+name` for each resource and `Type-name` for each removal, in the order sent.
fn told(responses: &[DeltaDiscoveryResponse]) -> Vec<String> {
    let mut told = Vec::new();
    for response in responses {
        let kind = Type::from_url(&response.type_url).unwrap();
        told.extend(response.resources.iter().map(|resource| format!("{kind}+{}", resource.name)));
        told.extend(response.removed_resources.iter().map(|name| format!("{kind}-{name}")));
    }
    told
}
