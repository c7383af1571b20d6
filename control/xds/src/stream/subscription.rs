//! One type on one stream: names, what the client holds of them, and which of them to look at again.
//!
//! `known` is what the client holds if it accepts what is under way. A change only marks names as `pending`; what to
//! say about a name is decided when there is room to say it (`respond.rs`), from the newest resources. So any number of
//! changes while a response is under way cost one entry a name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_proto::ResourceType;
use weft_proto::discovery::DeltaDiscoveryRequest;

use super::StreamSettings;
use super::error::{MAX_NAME, StreamError};
use super::in_flight::{InFlight, Refusal, Sent};
use crate::published::Changed;
use crate::resource_set::ResourceSet;
use crate::version::Version;

/// What a client knows of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It holds this version.
    Version(Version),
    /// It may hold any version, or none.
    Unsure,
    /// It was told that there is none.
    Absent,
}

/// Why a name is to be looked at. The greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// It may differ from what the client holds.
    Changed,
    /// The client asked for it: it gets an answer whatever it holds (D7).
    Asked,
}

/// A type's state.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) kind: ResourceType,
    pub(super) started: bool,
    pub(super) names: BTreeSet<Arc<str>>,
    // Of all `names` together.
    name_bytes: usize,
    pub(super) wildcard: bool,
    pub(super) known: HashMap<Arc<str>, Known>,
    pub(super) pending: BTreeMap<Arc<str>, Cause>,
    // Looked at and not known, while a registry was not heard yet. Apart from `pending`, so that a publication that
    // does not concern them does not look at them again.
    pub(super) undecided: BTreeMap<Arc<str>, Cause>,
    pub(super) refused: BTreeMap<Arc<str>, Refusal>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) sent_revision: Option<u64>,
    pub(super) acked_revision: Option<u64>,
    pub(super) applied_revision: Option<u64>,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            started: false,
            names: BTreeSet::new(),
            name_bytes: 0,
            wildcard: false,
            known: HashMap::new(),
            pending: BTreeMap::new(),
            undecided: BTreeMap::new(),
            refused: BTreeMap::new(),
            in_flight: None,
            sent_revision: None,
            acked_revision: None,
            applied_revision: None,
        }
    }

    /// Takes an ACK or NACK of the response in flight; any other nonce is stale and says nothing.
    pub(super) fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) {
        let Some(in_flight) = self.in_flight.take_if(|sent| sent.nonce == request.response_nonce) else {
            return;
        };
        self.acked_revision = Some(in_flight.revision);
        let Some(nack) = &request.error_detail else { return };
        for (sent, refusal) in in_flight.refused(nack) {
            // Unsubscribed, or subscribed anew, since it was sent: then it is nobody's or asked for again.
            if self.still_as_sent(&sent) {
                self.remember(sent.name.clone(), sent.before);
                self.refused.insert(sent.name, refusal);
            }
        }
    }

    /// What is known of a name is what the client holds if it accepts what is under way: so that must not be under way.
    pub(super) fn has_acknowledged(&self, name: &str, version: Version) -> bool {
        let under_way =
            self.in_flight.iter().flat_map(|response| &response.sent).any(|sent| *sent.name == *name);
        !under_way && self.known.get(name) == Some(&Known::Version(version))
    }

    fn still_as_sent(&self, sent: &Sent) -> bool {
        match (sent.now, self.known.get(&sent.name)) {
            // The absence of a workload, or of what only `*` covers, is not remembered.
            (Known::Absent, None) => self.kind == ResourceType::Workload || self.wildcard,
            (now, known) => known == Some(&now),
        }
    }

    /// Takes the changes of a request: subscribe, unsubscribe, and what the client holds from an earlier stream.
    pub(super) fn change(
        &mut self,
        request: DeltaDiscoveryRequest,
        resources: &ResourceSet,
        settings: &StreamSettings,
    ) -> Result<(), StreamError> {
        let first = !std::mem::replace(&mut self.started, true);
        // Before any of it is looked at: a message has room for a million names.
        if request.resource_names_subscribe.len() > settings.max_subscriptions {
            return Err(StreamError::TooManySubscriptions { limit: settings.max_subscriptions });
        }
        if request.initial_resource_versions.len() > settings.max_held {
            return Err(StreamError::TooManyHeld { limit: settings.max_held });
        }
        let names_nothing =
            request.resource_names_subscribe.is_empty() && request.resource_names_unsubscribe.is_empty();
        if first && names_nothing && self.kind == ResourceType::TrustBundle {
            self.subscribe("*", resources)?; // the legacy wildcard (D11)
        }
        for name in &request.resource_names_subscribe {
            self.subscribe(name, resources)?;
        }
        if self.names.len() > settings.max_subscriptions {
            return Err(StreamError::TooManySubscriptions { limit: settings.max_subscriptions });
        }
        if self.name_bytes > settings.max_name_bytes {
            return Err(StreamError::TooManyNameBytes { limit: settings.max_name_bytes });
        }
        for name in &request.resource_names_unsubscribe {
            self.unsubscribe(name);
        }
        if self.kind == ResourceType::Workload && !request.resource_names_unsubscribe.is_empty() {
            self.forget_unseen(resources);
        }
        if first {
            self.hold(request.initial_resource_versions)?;
        }
        Ok(())
    }

    fn subscribe(&mut self, name: &str, resources: &ResourceSet) -> Result<(), StreamError> {
        if name == "*" {
            if self.kind != ResourceType::TrustBundle {
                return Err(StreamError::Wildcard);
            }
            let cause = if self.wildcard { Cause::Asked } else { Cause::Changed };
            self.wildcard = true;
            resources.bundle_names().for_each(|name| self.mark(name, cause));
            return Ok(());
        }
        if name.len() > MAX_NAME {
            return Err(StreamError::NameTooLong(name.len()));
        }
        let name: Arc<str> = name.into();
        let again = !self.names.insert(name.clone());
        if !again {
            self.name_bytes += name.len();
        }
        if self.kind != ResourceType::Workload {
            // First of a type, this is weighed against `initial_resource_versions`.
            let cause = if again || self.known.contains_key(&name) { Cause::Asked } else { Cause::Changed };
            self.mark(&name, cause);
            return Ok(());
        }
        // What a new listing shares with another one is held already; a listing that is asked for again is sent again.
        let cause = if again { Cause::Asked } else { Cause::Changed };
        resources.members(&name).for_each(|member| self.mark(member, cause));
        Ok(())
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == "*" {
            self.wildcard = false;
            let names = &self.names;
            self.known.retain(|name, _| names.contains(name));
            self.pending.retain(|name, _| names.contains(name));
            self.refused.retain(|name, _| names.contains(name));
            return;
        }
        let Some(name) = self.names.take(name) else { return };
        self.name_bytes = self.name_bytes.saturating_sub(name.len());
        match self.kind {
            // Still covered by `*`: the one unsubscription that is answered (D9).
            ResourceType::TrustBundle if self.wildcard => self.mark(&name, Cause::Asked),
            ResourceType::TrustBundle | ResourceType::Service | ResourceType::Address => self.forget(&name),
            // Its workloads may be in other listings: they are looked at once all names are known.
            ResourceType::Workload => {}
        }
    }

    /// The client forgets the workloads that are in none of its listings, so this does too. Where the two sides may
    /// differ (a response under way, a refusal, a change not yet sent) what the client holds is open, so that it is told
    /// once more: that the workload is gone, or, if it wants it again by then, the workload.
    fn forget_unseen(&mut self, resources: &ResourceSet) {
        // Refused when it was new: the client has nothing of it.
        let (refused, known) = (self.refused.keys(), &self.known);
        let refused =
            refused.filter(|name| !known.contains_key(*name) && self.current(name, resources).is_none());
        let refused: Vec<Arc<str>> = refused.cloned().collect();
        refused.iter().for_each(|name| self.forget(name));
        let unseen: Vec<Arc<str>> =
            self.known.keys().filter(|name| self.current(name, resources).is_none()).cloned().collect();
        let under_way: BTreeSet<&Arc<str>> =
            self.in_flight.iter().flat_map(|response| &response.sent).map(|sent| &sent.name).collect();
        let open = |name: &Arc<str>| {
            under_way.contains(name)
                || self.refused.contains_key(name)
                || self.pending.contains_key(name)
                // Of which services the client holds it is not known here.
                || self.undecided.contains_key(name)
        };
        let (open, certain): (Vec<_>, Vec<_>) = unseen.into_iter().partition(open);
        certain.iter().for_each(|name| self.forget(name));
        for name in open {
            self.refused.remove(&name);
            self.mark(&name, Cause::Changed);
            self.known.insert(name, Known::Unsure);
        }
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.known.remove(name);
        self.pending.remove(name);
        self.undecided.remove(name);
        self.refused.remove(name);
    }

    /// D12, D13: what the client says it holds is neither sent again nor subscribed to by that.
    fn hold(&mut self, held: HashMap<String, String>) -> Result<(), StreamError> {
        for (name, version) in held {
            if name.len() > MAX_NAME {
                return Err(StreamError::NameTooLong(name.len()));
            }
            let name: Arc<str> = name.into();
            let of_interest =
                self.kind == ResourceType::Workload || self.wildcard || self.names.contains(&name);
            if of_interest {
                let known = version.parse().map_or(Known::Unsure, Known::Version);
                self.known.insert(name.clone(), known);
                self.mark(&name, Cause::Changed);
            }
        }
        Ok(())
    }

    /// Marks what one publication changed.
    pub(super) fn mark_changed(&mut self, changed: &Changed) {
        let names = match self.kind {
            ResourceType::TrustBundle => &changed.bundles,
            ResourceType::Service => &changed.services,
            ResourceType::Address if self.names.is_empty() => return,
            ResourceType::Address => {
                for address in &changed.addresses {
                    if let Some(name) = self.names.get(address.to_string().as_str()).cloned() {
                        self.mark(&name, Cause::Changed);
                    }
                }
                return;
            }
            ResourceType::Workload => {
                for workload in &changed.workloads {
                    let listed = workload.services.iter().any(|service| self.names.contains(service));
                    if listed || self.known.contains_key(&workload.name) {
                        self.mark(&workload.name, Cause::Changed);
                    }
                }
                return;
            }
        };
        for name in names {
            if self.wildcard || self.names.contains(name) {
                self.mark(name, Cause::Changed);
            }
        }
    }

    /// Marks all that this client may see: after more publications than are remembered.
    pub(super) fn mark_all(&mut self, resources: &ResourceSet) {
        let mut names: Vec<Arc<str>> = self.known.keys().cloned().collect();
        match self.kind {
            ResourceType::Workload => {
                names.extend(self.names.iter().flat_map(|name| resources.members(name)).cloned());
            }
            ResourceType::Service | ResourceType::Address => names.extend(self.names.iter().cloned()),
            ResourceType::TrustBundle => {
                names.extend(self.names.iter().cloned());
                if self.wildcard {
                    names.extend(resources.bundle_names().cloned());
                }
            }
        }
        names.iter().for_each(|name| self.mark(name, Cause::Changed));
    }

    /// Everything was heard: what was not known can be answered now.
    pub(super) fn decide_the_undecided(&mut self) {
        for (name, cause) in std::mem::take(&mut self.undecided) {
            self.mark(&name, cause);
        }
    }

    pub(super) fn mark(&mut self, name: &Arc<str>, cause: Cause) {
        let cause = self.undecided.remove(name).map_or(cause, |before| before.max(cause));
        let noted = self.pending.entry(name.clone()).or_insert(cause);
        *noted = cause.max(*noted);
    }
}
