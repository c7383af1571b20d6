//! What to say on a subscription now, decided from the newest resources.
//!
//! One response under way at most. Of each marked name it is decided here whether the client learns of a version, of an
//! absence, or of nothing; or that nobody can know yet.

use std::sync::Arc;

use weft_proto::ResourceType;
use weft_proto::discovery::DeltaDiscoveryResponse;

use super::in_flight::{InFlight, Refusal, Sent};
use super::status::{RefusedResource, TypeStatus};
use super::subscription::{Cause, Known, Subscription};
use crate::published::Published;
use crate::resource::Resource;
use crate::resource_set::ResourceSet;

impl Subscription {
    /// Whether a workload of `service` is still to be sent to a client that listens to them.
    pub(super) fn owes_members_of(&self, service: &str, resources: &ResourceSet) -> bool {
        self.names.contains(service)
            && !self.pending.is_empty()
            && resources.members(service).any(|member| self.pending.contains_key(member))
    }

    /// The next response, where there is something to say and nothing under way.
    pub(super) fn next_response(
        &mut self,
        published: &Published,
        limit: usize,
        nonce: &mut impl FnMut() -> String,
        held_back: impl Fn(&str) -> bool,
    ) -> Option<DeltaDiscoveryResponse> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut response = DeltaDiscoveryResponse::default();
        let (mut sent, mut room, mut room_for_removals) = (Vec::new(), limit, limit);
        let mut pending = std::mem::take(&mut self.pending);
        let mut looked_at = 0_usize;
        pending.retain(|name, cause| {
            // What is sent is bounded by the response; this bounds what is looked at for it, so that a client with a
            // great many names costs no other client a turn. The rest is looked at after the ACK.
            if looked_at >= LOOKED_AT && !sent.is_empty() {
                return true;
            }
            looked_at += 1;
            if held_back(name) {
                return true;
            }
            let now = match self.decide(name, *cause, published) {
                Verdict::Nothing => return false,
                Verdict::Undecided => {
                    self.undecided.insert(name.clone(), *cause);
                    return false;
                }
                // At least one, however large.
                Verdict::Send(resource) if resource.cost() > room && !sent.is_empty() => return true,
                Verdict::Send(resource) => {
                    room = room.saturating_sub(resource.cost());
                    response.resources.push(resource.to_wire(self.kind));
                    Known::Version(resource.version)
                }
                // With room of their own: they are small, and until they are known calls fail.
                Verdict::Remove if room_for_removals == 0 => return true,
                Verdict::Remove => {
                    room_for_removals = room_for_removals.saturating_sub(name.len() + 4);
                    response.removed_resources.push(name.as_ref().to_owned());
                    Known::Absent
                }
            };
            sent.push(self.note(name.clone(), now));
            false
        });
        self.pending = pending;
        if sent.is_empty() {
            if self.pending.is_empty() {
                self.applied_revision = Some(published.revision.0);
            }
            return None;
        }
        response.system_version_info = published.revision.0.to_string();
        self.kind.url().clone_into(&mut response.type_url);
        response.nonce = nonce();
        self.sent_revision = Some(published.revision.0);
        self.in_flight =
            Some(InFlight { nonce: response.nonce.clone(), revision: published.revision.0, sent });
        Some(response)
    }

    fn decide(&mut self, name: &Arc<str>, cause: Cause, published: &Published) -> Verdict {
        let current = self.current(name, &published.resources);
        let now = current.as_ref().map_or(Known::Absent, |resource| Known::Version(resource.version));
        let known = self.known.get(name).copied();
        let asked = cause == Cause::Asked;
        if known == Some(now) && !asked {
            self.refused.remove(name);
            return Verdict::Nothing;
        }
        if !asked && self.refused.get(name).is_some_and(|refusal| refusal.what == now) {
            return Verdict::Nothing;
        }
        if current.is_none() {
            // What was refused is not there any more; where the client held nothing before it, nothing is said of that.
            self.refused.remove(name);
        }
        match current {
            Some(resource) => Verdict::Send(resource),
            // Nobody asked for a workload by its name, so the absence of an unknown one is no news.
            None if known.is_none() && !self.names.contains(name) && !asked => Verdict::Nothing,
            None if known.is_none() && self.kind == ResourceType::Workload => Verdict::Nothing,
            None if published.is_undecided(self.kind, name) => Verdict::Undecided,
            None => Verdict::Remove,
        }
    }

    fn note(&mut self, name: Arc<str>, now: Known) -> Sent {
        self.refused.remove(&name);
        let before = self.known.get(&name).copied();
        self.remember(name.clone(), Some(now));
        Sent { name, now, before }
    }

    pub(super) fn remember(&mut self, name: Arc<str>, known: Option<Known>) {
        let asked_for = self.kind != ResourceType::Workload && self.names.contains(&name);
        match known {
            Some(Known::Absent) if !asked_for => self.known.remove(&name),
            Some(known) => self.known.insert(name, known),
            None => self.known.remove(&name),
        };
    }

    /// The resource of a name as this client may see it now.
    pub(super) fn current(&self, name: &str, resources: &ResourceSet) -> Option<Arc<Resource>> {
        match self.kind {
            ResourceType::TrustBundle if self.wildcard || self.names.contains(name) => {
                resources.bundle(name).cloned()
            }
            ResourceType::Service if self.names.contains(name) => resources.service(name).cloned(),
            ResourceType::Address if self.names.contains(name) => resources.address(name),
            ResourceType::TrustBundle | ResourceType::Service | ResourceType::Address => None,
            ResourceType::Workload => {
                let listed = |service: &Arc<str>| self.names.contains(service);
                let seen = resources.services_of(name).iter().any(listed);
                resources.workload(name).filter(|_| seen).cloned()
            }
        }
    }

    /// Whether the client has everything of this type that concerns it and is known here.
    pub(super) fn in_sync(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_none() && self.refused.is_empty()
    }

    pub(super) fn status(&self) -> TypeStatus {
        let refused = |(name, refusal): (&Arc<str>, &Refusal)| RefusedResource {
            name: name.as_ref().to_owned(),
            version: match refusal.what {
                Known::Version(version) => Some(version.to_string()),
                Known::Unsure | Known::Absent => None,
            },
            field_path: refusal.field_path.clone(),
            reason: refusal.reason.clone(),
        };
        TypeStatus {
            kind: self.kind.as_str(),
            subscribed: self.names.len() + usize::from(self.wildcard),
            held: self.known.values().filter(|known| **known != Known::Absent).count(),
            waiting: self.pending.len(),
            undecided: self.undecided.len(),
            in_flight_revision: self.in_flight.as_ref().map(|sent| sent.revision),
            sent_revision: self.sent_revision,
            acked_revision: self.acked_revision,
            applied_revision: self.applied_revision,
            refused: self.refused.iter().map(refused).collect(),
        }
    }
}

/// Names that are looked at for one response that has something to say: some milliseconds. A response of small
/// resources has about as many.
const LOOKED_AT: usize = 10_000;

/// What to say of a name.
enum Verdict {
    Nothing,
    /// It may be in a registry that was not heard yet.
    Undecided,
    Send(Arc<Resource>),
    Remove,
}
