//! One client's stream: what it asked for, what it holds, what to send next. Sans-IO.
//!
//! The types are independent subscriptions (D1 of the delta protocol's rules in `docs/xds.md`); what ties them
//! together is the order in which they are sent, and that a service waits for its workloads. The server calls
//! [`Stream::on_request`] and [`Stream::on_published`] and sends what they return; nothing is ever queued here, a newer
//! publication replaces the one that waits. What a publication leaves undecided is set aside by name, and said as soon
//! as it is decided.

mod error;
mod in_flight;
mod respond;
mod status;
mod subscription;

#[cfg(test)]
mod tests;

pub use error::StreamError;
pub use status::{RefusedResource, StreamStatus, TypeStatus};

use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use weft_proto::{NodeId, ResourceType};

use crate::published::Published;
use crate::version::Version;
use subscription::Subscription;

/// Limits of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSettings {
    /// Names that a client may subscribe to, a type.
    pub max_subscriptions: usize,
    /// Bytes of all these names, a type.
    pub max_name_bytes: usize,
    /// Entries of `initial_resource_versions`.
    pub max_held: usize,
    /// A response is closed when it is about this large, in bytes; what is left follows after the ACK. gRPC's limit
    /// for a message is 4 MiB.
    pub max_response: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        // 10,000 names of 100 bytes; what a client holds is bounded by the size of a message besides.
        Self { max_subscriptions: 10_000, max_name_bytes: 1 << 20, max_held: 65_536, max_response: 1 << 20 }
    }
}

/// The state of one stream.
#[derive(Debug)]
pub struct Stream {
    settings: StreamSettings,
    node: Option<(NodeId, String)>,
    bundles: Subscription,
    workloads: Subscription,
    services: Subscription,
    addresses: Subscription,
    // The publication that was looked at last, and its revision.
    sequence: u64,
    revision: u64,
    nonces: u64,
}

impl Stream {
    /// A stream on which nothing has been said yet.
    pub fn new(settings: StreamSettings) -> Self {
        Self {
            settings,
            node: None,
            bundles: Subscription::new(ResourceType::TrustBundle),
            workloads: Subscription::new(ResourceType::Workload),
            services: Subscription::new(ResourceType::Service),
            addresses: Subscription::new(ResourceType::Address),
            sequence: 0,
            revision: 0,
            nonces: 0,
        }
    }

    /// Who is at the other end, once it has said so. The server holds it against the client certificate before it
    /// sends anything.
    pub fn node(&self) -> Option<&NodeId> {
        self.node.as_ref().map(|(id, _)| id)
    }

    /// Takes a request and returns the responses to send, in order.
    ///
    /// # Errors
    /// When the request breaks the protocol or a limit: the server ends the stream with [`StreamError::code`].
    pub fn on_request(
        &mut self,
        request: DeltaDiscoveryRequest,
        published: &Published,
    ) -> Result<Vec<DeltaDiscoveryResponse>, StreamError> {
        if self.node.is_none() {
            self.meet(request.node.as_ref())?;
        }
        self.catch_up(published);
        let settings = self.settings;
        let subscription = match ResourceType::from_url(&request.type_url) {
            Some(ResourceType::TrustBundle) => &mut self.bundles,
            Some(ResourceType::Workload) => &mut self.workloads,
            Some(ResourceType::Service) => &mut self.services,
            Some(ResourceType::Address) => &mut self.addresses,
            None if request.type_url.is_empty() => return Err(StreamError::EmptyTypeUrl),
            None => return Err(StreamError::UnknownType(error::cut(&request.type_url))),
        };
        // A request can do all of these at once, and a stale nonce does not make the rest of it stale (D3, D4).
        subscription.acknowledge(&request);
        subscription.change(request, &published.resources, &settings)?;
        Ok(self.flush(published))
    }

    /// Takes note of a publication and returns the responses to send, in order.
    pub fn on_published(&mut self, published: &Published) -> Vec<DeltaDiscoveryResponse> {
        if self.node.is_none() {
            return Vec::new();
        }
        self.catch_up(published);
        self.flush(published)
    }

    /// Whether the client has everything that concerns it and is known here.
    pub fn in_sync(&self) -> bool {
        self.subscriptions().into_iter().all(Subscription::in_sync)
    }

    /// What an operator wants to know of this stream.
    pub fn status(&self) -> StreamStatus {
        let types = self.subscriptions().map(Subscription::status);
        StreamStatus {
            node: self.node.as_ref().map(|(id, _)| id.to_string()),
            user_agent: self.node.as_ref().map(|(_, agent)| agent.clone()),
            in_sync: self.in_sync(),
            applied_revision: types
                .iter()
                .filter(|t| t.subscribed > 0)
                .filter_map(|t| t.applied_revision)
                .min(),
            seen_revision: self.revision,
            types: types.into(),
        }
    }

    /// Whether the client has acknowledged, and not refused, this version of a resource.
    pub fn has_acknowledged(&self, kind: ResourceType, name: &str, version: Version) -> bool {
        match kind {
            ResourceType::TrustBundle => &self.bundles,
            ResourceType::Workload => &self.workloads,
            ResourceType::Service => &self.services,
            ResourceType::Address => &self.addresses,
        }
        .has_acknowledged(name, version)
    }

    fn subscriptions(&self) -> [&Subscription; 4] {
        [&self.bundles, &self.workloads, &self.services, &self.addresses]
    }

    /// Only the first request must carry the node (D2).
    fn meet(&mut self, node: Option<&Node>) -> Result<(), StreamError> {
        let node = node.ok_or(StreamError::NodeMissing)?;
        let id = node.id.parse().map_err(StreamError::Node)?;
        let agent = format!("{} {}", node.user_agent_name, node.user_agent_version);
        self.node = Some((id, error::cut(agent.trim())));
        Ok(())
    }

    /// Marks what changed since the last call for a look.
    fn catch_up(&mut self, published: &Published) {
        let subscriptions = [&mut self.bundles, &mut self.workloads, &mut self.services, &mut self.addresses];
        match published.since(self.sequence) {
            Some(log) => {
                let changes: Vec<_> = log.collect();
                for subscription in subscriptions {
                    changes.iter().for_each(|changed| subscription.mark_changed(changed));
                }
            }
            None => {
                for subscription in subscriptions {
                    subscription.mark_all(&published.resources);
                }
            }
        }
        if published.is_complete() {
            for subscription in [&mut self.workloads, &mut self.services, &mut self.addresses] {
                subscription.decide_the_undecided();
            }
        }
        self.sequence = published.sequence();
        self.revision = published.revision.0;
    }

    /// Roots before the endpoints that they verify, endpoints before the service that makes them reachable.
    fn flush(&mut self, published: &Published) -> Vec<DeltaDiscoveryResponse> {
        let Self { bundles, workloads, services, addresses, nonces, settings, .. } = self;
        let mut nonce = || {
            *nonces += 1;
            nonces.to_string()
        };
        let limit = settings.max_response;
        let mut responses = Vec::new();
        responses.extend(bundles.next_response(published, limit, &mut nonce, |_| false));
        responses.extend(workloads.next_response(published, limit, &mut nonce, |_| false));
        // Sent before on the same stream is applied before, so what waits for an ACK holds nothing back.
        let unlisted = |service: &str| workloads.owes_members_of(service, &published.resources);
        responses.extend(services.next_response(published, limit, &mut nonce, unlisted));
        responses.extend(addresses.next_response(published, limit, &mut nonce, |_| false));
        responses
    }
}
