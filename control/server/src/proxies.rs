//! The proxies that are connected now: who, from where, since when, and the state of each one's stream.
//!
//! A stream is shared between its connection, which drives it, and the admin endpoint, which asks for its status;
//! the lock is held for one step and never across an await. Leaving is a drop, so nobody stays listed after its
//! connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use weft_ca::transport::PeerIdentity;
use weft_control_api::{ProxyDump, ProxyStatus, ProxySync, Refusal, TypeStatus};
use weft_model::RegistryId;
use weft_proto::NodeId;
use weft_xds::{Stream, StreamStatus};

use crate::clock::unix_ms;

/// A stream that its connection and the admin endpoint share.
pub(crate) type SharedStream = Arc<Mutex<Stream>>;

/// Takes the lock. A step that panicked has ended its connection; its last state can still be looked at.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All connected proxies. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies(Arc<Mutex<Connected>>);

#[derive(Debug, Default)]
struct Connected {
    next: u64,
    // By number: after a broken connection the same proxy may be here twice for a moment.
    streams: BTreeMap<u64, Connection>,
}

#[derive(Debug, Clone)]
struct Connection {
    node: NodeId,
    address: SocketAddr,
    since: SystemTime,
    /// The end of the certificate that it came with.
    not_after: Option<SystemTime>,
    stream: SharedStream,
}

/// A proxy's place among the connected; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Presence {
    proxies: Proxies,
    number: u64,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(gone) = lock(&self.proxies.0).streams.remove(&self.number) {
            tracing::info!(proxy = %gone.node, remote = %gone.address, "a proxy is disconnected");
        }
    }
}

impl Proxies {
    /// Lists a proxy for as long as the result lives.
    pub(crate) fn enter(&self, node: NodeId, peer: &PeerIdentity, stream: SharedStream) -> Presence {
        let (address, not_after) = (peer.remote, peer.not_after);
        let mut connected = lock(&self.0);
        let number = connected.next;
        connected.next += 1;
        let since = SystemTime::now();
        connected.streams.insert(number, Connection { node, address, since, not_after, stream });
        Presence { proxies: self.clone(), number }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0).streams.len()
    }

    /// The end of the first of their certificates.
    pub(crate) fn first_expiry(&self) -> Option<SystemTime> {
        lock(&self.0).streams.values().filter_map(|connection| connection.not_after).min()
    }

    /// Each one's status, by name. `unheard`: the registries that undecided names wait for.
    pub(crate) fn statuses(&self, unheard: &[RegistryId]) -> Vec<ProxyStatus> {
        let mut statuses: Vec<ProxyStatus> = self
            .connections()
            .iter()
            .map(|connection| connection.status(&lock(&connection.stream).status(), unheard))
            .collect();
        statuses.sort_by(|a, b| (&a.name, a.connected_unix_ms).cmp(&(&b.name, b.connected_unix_ms)));
        statuses
    }

    /// All that is known of the one of this name; of the newest where it is connected twice.
    pub(crate) fn dump(&self, name: &str, unheard: &[RegistryId]) -> Option<ProxyDump> {
        let connection = self.connections().into_iter().rev().find(|one| one.node.to_string() == name)?;
        let status = lock(&connection.stream).status();
        Some(ProxyDump {
            proxy: connection.status(&status, unheard),
            types: status.types.iter().map(type_status).collect(),
        })
    }

    /// The names of those whose stream does not have a property.
    pub(crate) fn without(&self, has: impl Fn(&Stream) -> bool) -> Vec<String> {
        let mut names: Vec<String> = self
            .connections()
            .iter()
            .filter(|connection| !has(&lock(&connection.stream)))
            .map(|connection| connection.node.to_string())
            .collect();
        names.sort();
        names
    }

    fn connections(&self) -> Vec<Connection> {
        lock(&self.0).streams.values().cloned().collect()
    }
}

impl Connection {
    fn status(&self, status: &StreamStatus, unheard: &[RegistryId]) -> ProxyStatus {
        let refused = status.types.iter().any(|one| !one.refused.is_empty());
        let sync = match (status.in_sync, refused) {
            (_, true) => ProxySync::Refused,
            (true, false) => ProxySync::InSync,
            (false, false) => ProxySync::Behind,
        };
        ProxyStatus {
            name: self.node.to_string(),
            identity: self.node.spiffe_id().to_string(),
            instance: self.node.instance().to_owned(),
            address: self.address,
            user_agent: status.user_agent.clone().unwrap_or_default(),
            connected_unix_ms: unix_ms(self.since),
            applied_revision: status.applied_revision,
            sync,
            reasons: status.types.iter().flat_map(|one| reasons(one, unheard)).collect(),
            subscriptions: status
                .types
                .iter()
                .find(|one| one.kind == "Service")
                .map_or(0, |one| one.subscribed),
        }
    }
}

/// Why a type is not in sync, or not all that there may be, a sentence each.
fn reasons(status: &weft_xds::TypeStatus, unheard: &[RegistryId]) -> Vec<String> {
    let kind = status.kind;
    let mut reasons = Vec::new();
    for refused in &status.refused {
        let field =
            if refused.field_path.is_empty() { String::new() } else { format!("{}: ", refused.field_path) };
        reasons.push(format!("it refused {kind} {}: {field}{}", refused.name, refused.reason));
    }
    if let Some(revision) = status.in_flight_revision {
        reasons.push(format!("{kind} of revision {revision} is not acknowledged"));
    }
    if status.waiting > 0 {
        reasons.push(format!("{} of {kind} are to be sent", status.waiting));
    }
    if status.undecided > 0 {
        let registries = unheard.iter().map(RegistryId::as_str).collect::<Vec<_>>().join(", ");
        let of = if registries.is_empty() { "a registry" } else { &registries };
        reasons.push(format!("{} of {kind} are undecided until {of} is heard", status.undecided));
    }
    reasons
}

fn type_status(status: &weft_xds::TypeStatus) -> TypeStatus {
    let refusal = |refused: &weft_xds::RefusedResource| Refusal {
        resource: refused.name.clone(),
        field_path: refused.field_path.clone(),
        reason: refused.reason.clone(),
    };
    TypeStatus {
        resource_type: status.kind.to_owned(),
        subscribed: status.subscribed,
        held: status.held,
        waiting: status.waiting,
        in_flight_revision: status.in_flight_revision,
        sent_revision: status.sent_revision,
        acked_revision: status.acked_revision,
        refused: status.refused.iter().map(refusal).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_xds::{RefusedResource, StreamSettings};

    fn enter(proxies: &Proxies, name: &str) -> Presence {
        let stream = Arc::new(Mutex::new(Stream::new(StreamSettings::default())));
        let peer = PeerIdentity {
            id: None,
            not_after: None,
            remote: "127.0.0.1:1".parse().unwrap(),
            connection: weft_ca::transport::Handle::new(false),
        };
        proxies.enter(name.parse().unwrap(), &peer, stream)
    }

    #[test]
    fn a_proxy_is_listed_until_its_connection_ends() {
        let proxies = Proxies::default();
        let _other = enter(&proxies, "spiffe://td/ns/a/sa/z~1");
        let presence = enter(&proxies, "spiffe://td/ns/a/sa/b~1");
        let names: Vec<String> = proxies.statuses(&[]).into_iter().map(|status| status.name).collect();
        assert_eq!(names, ["spiffe://td/ns/a/sa/b~1", "spiffe://td/ns/a/sa/z~1"]);
        assert!(proxies.dump("spiffe://td/ns/a/sa/b~1", &[]).is_some());
        drop(presence);
        assert_eq!(proxies.count(), 1);
        assert!(proxies.dump("spiffe://td/ns/a/sa/b~1", &[]).is_none());
    }

    #[test]
    fn the_old_connection_of_a_proxy_that_came_back_takes_nothing_along() {
        let proxies = Proxies::default();
        let old = enter(&proxies, "spiffe://td/ns/a/sa/b~1");
        let _new = enter(&proxies, "spiffe://td/ns/a/sa/b~1");
        drop(old);
        assert_eq!(proxies.count(), 1);
    }

    #[test]
    fn a_refusal_is_told_with_its_field() {
        let refused = RefusedResource {
            name: "default/api".to_owned(),
            version: None,
            field_path: "ports[0].number".to_owned(),
            reason: "0 is no port".to_owned(),
        };
        let status = weft_xds::TypeStatus {
            kind: "Service",
            subscribed: 1,
            held: 0,
            waiting: 2,
            undecided: 3,
            in_flight_revision: Some(7),
            sent_revision: None,
            acked_revision: None,
            applied_revision: None,
            refused: vec![refused],
        };
        assert_eq!(
            reasons(&status, &["consul/dc1".parse().unwrap()]),
            [
                "it refused Service default/api: ports[0].number: 0 is no port",
                "Service of revision 7 is not acknowledged",
                "2 of Service are to be sent",
                "3 of Service are undecided until consul/dc1 is heard"
            ]
        );
    }
}
