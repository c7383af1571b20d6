//! The core: desired subscriptions, held resources, and what a response makes of them.
//!
//! A resource that can't be understood is refused alone, with the path of the field; its last good state stays and the
//! rest of the response is used. Updates are per service and whole: nobody behind this has to put pieces together.

mod addresses;
mod holdings;
mod request;
mod response;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use weft_model::{InstanceId, NetworkAddress, Service, ServiceKey, Workload};
use weft_proto::discovery::{DeltaDiscoveryRequest, Node, Resource};
use weft_proto::{Address, InvalidResource, ResourceType, TrustBundle};

use holdings::Holdings;

/// The workloads of a service. Shared with what the client holds: to be told of one of a thousand costs as much as of
/// one of two.
pub type Members = imbl::OrdMap<InstanceId, Arc<Workload>>;

/// What changed for the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// A service exists: it, and all its workloads. An unchanged workload is the same `Arc`.
    ServicePresent {
        /// The service.
        service: Arc<Service>,
        /// Its workloads.
        workloads: Members,
    },
    /// There is no service of this name, now. It stays subscribed to.
    ServiceAbsent(ServiceKey),
    /// Somebody has this address.
    AddressOwned(Arc<Address>),
    /// Nobody that is known has this address, now. It stays subscribed to.
    AddressFree(NetworkAddress),
    /// All trust bundles that there are.
    Bundles(Vec<TrustBundle>),
}

/// What came of a response.
#[derive(Debug)]
pub struct Applied {
    /// What changed, one update a service or address.
    pub updates: Vec<Update>,
    /// What was refused; the server learns it from `request`.
    pub refused: Vec<InvalidResource>,
    /// The ACK or NACK to send.
    pub request: DeltaDiscoveryRequest,
}

/// A client of the delta protocol.
#[derive(Debug)]
pub struct Client {
    node: Node,
    holdings: Holdings,
    connected: bool,
}

impl Client {
    /// A client that wants and holds nothing but trust bundles.
    pub fn new(node_id: &str, user_agent: &str) -> Self {
        let (name, version) = user_agent.split_once('/').unwrap_or((user_agent, ""));
        let node = Node {
            id: node_id.to_owned(),
            user_agent_name: name.to_owned(),
            user_agent_version: version.to_owned(),
            ..Default::default()
        };
        Self { node, holdings: Holdings::default(), connected: false }
    }

    /// Wants a service. Returns the requests to send, where a stream is open; the next stream asks by itself.
    pub fn subscribe(&mut self, service: ServiceKey) -> Vec<DeltaDiscoveryRequest> {
        let name = service.to_string();
        if !self.holdings.want(service) || !self.connected {
            return Vec::new();
        }
        // Workloads first: the server then holds the service back until it has sent them.
        [ResourceType::Workload, ResourceType::Service]
            .map(|kind| request::subscribe(kind, vec![name.clone()]))
            .into()
    }

    /// Wants a service no more. What is held of it is forgotten; no update of it follows.
    pub fn unsubscribe(&mut self, service: &ServiceKey) -> Vec<DeltaDiscoveryRequest> {
        if !self.holdings.forget(service) || !self.connected {
            return Vec::new();
        }
        [ResourceType::Service, ResourceType::Workload]
            .map(|kind| request::unsubscribe(kind, vec![service.to_string()]))
            .into()
    }

    /// Wants to know whose an address is.
    pub fn subscribe_address(&mut self, address: NetworkAddress) -> Vec<DeltaDiscoveryRequest> {
        let name = address.to_string();
        if !self.holdings.want_address(address) || !self.connected {
            return Vec::new();
        }
        vec![request::subscribe(ResourceType::Address, vec![name])]
    }

    /// Wants to know it no more.
    pub fn unsubscribe_address(&mut self, address: &NetworkAddress) -> Vec<DeltaDiscoveryRequest> {
        if !self.holdings.forget_address(address) || !self.connected {
            return Vec::new();
        }
        vec![request::unsubscribe(ResourceType::Address, vec![address.to_string()])]
    }

    /// The requests that open a stream: everything that is wanted, and the versions of what is held.
    pub fn on_connected(&mut self) -> Vec<DeltaDiscoveryRequest> {
        self.connected = true;
        let services: Vec<String> = self.holdings.wanted().map(ServiceKey::to_string).collect();
        let addresses: Vec<String> =
            self.holdings.wanted_addresses().map(NetworkAddress::to_string).collect();
        let names = |kind| match kind {
            ResourceType::TrustBundle => vec!["*".to_owned()],
            ResourceType::Workload | ResourceType::Service => services.clone(),
            ResourceType::Address => addresses.clone(),
        };
        // An older control plane doesn't know addresses and ends the stream: only who captures asks for them.
        let kinds = ResourceType::ALL.into_iter();
        let asked = kinds.filter(|kind| *kind != ResourceType::Address || !addresses.is_empty());
        let mut requests: Vec<DeltaDiscoveryRequest> = asked
            .map(|kind| DeltaDiscoveryRequest {
                initial_resource_versions: self.holdings.versions(kind),
                ..request::subscribe(kind, names(kind))
            })
            .collect();
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// The stream is gone. What is held stays.
    pub fn on_disconnected(&mut self) {
        self.connected = false;
    }

    /// Everything that is held, encoded, to be kept over a restart.
    pub fn held(&self) -> Vec<Resource> {
        self.holdings.resources()
    }

    /// Takes over what [`held`](Self::held) gave, in an earlier process. Its services and addresses are wanted from now on. What is
    /// not understood is left out and returned.
    pub fn restore(&mut self, resources: Vec<Resource>) -> (Vec<Update>, Vec<InvalidResource>) {
        self.holdings.restore(resources)
    }
}
