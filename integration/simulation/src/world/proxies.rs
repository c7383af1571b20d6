//! What proxies do: starting, applying what comes, wanting more or less, saving.

use std::time::Duration;

use prost::Message as _;
use weft_proto::ResourceType;
use weft_proto::discovery::DeltaDiscoveryResponse;

use super::network::Receiver;
use super::{Host, World};
use crate::invariants::{
    Violation, nothing_lost, nothing_removed_used, nothing_resent, nothing_unsubscribed,
};
use crate::link::ToProxy;
use crate::queue::Event;
use crate::truth::{UNREADABLE, service_key};

/// What changed is saved so much later.
const SAVED_AFTER: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn start_proxy(&mut self, proxy: usize) {
        if self.proxies[proxy].up {
            return;
        }
        let (seed, chance) = (self.dice.people.next(), self.dice.people.unit());
        let wall = self.wall(Host::Proxy(proxy));
        let planes = self.planes.len();
        let it = &mut self.proxies[proxy];
        // One on disk that is not valid is none.
        it.leaf =
            it.leaf.filter(|leaf| weft_identity::validity(leaf.not_before, leaf.not_after, wall).is_ok());
        it.start(proxy, planes, seed, chance);
        let (run, restored) = (it.run, it.view.len());
        self.say(Host::Proxy(proxy), || format!("starts (process {run}), {restored} services restored"));
        self.after(Duration::ZERO, Event::Keep { proxy, run });
        self.after(Duration::from_millis(1), Event::Connect { proxy, run });
        self.note_reachable();
    }

    pub(super) fn on_to_proxy(&mut self, number: u64, message: ToProxy) -> Result<(), Violation> {
        match self.receiver(number) {
            Receiver::Nobody => Ok(()),
            Receiver::Later(at) => {
                self.queue.put(at, Event::ToProxy { link: number, message });
                Ok(())
            }
            Receiver::Proxy(proxy) => {
                let named = |violation: Violation| Violation {
                    what: format!("proxy {proxy}: {}", violation.what),
                    ..violation
                };
                self.apply(proxy, number, message).map_err(named)
            }
        }
    }

    fn apply(&mut self, proxy: usize, number: u64, message: ToProxy) -> Result<(), Violation> {
        let mut response =
            DeltaDiscoveryResponse::decode(message.bytes.as_slice()).expect("it was encoded here");
        let kind = ResourceType::from_url(&response.type_url).expect("a known type");
        self.figures.resources += response.resources.len() as u64;
        self.say(Host::Proxy(proxy), || brief(kind, &response));
        let incomplete = self.links.get(&number).is_some_and(|link| link.incomplete);
        let it = &mut self.proxies[proxy];
        nothing_resent::check(it, kind, &response, incomplete, self.idle)?;
        if it.old_version {
            response.resources.iter_mut().for_each(damage);
        }
        let applied = it.client.on_response(response.clone());
        self.figures.refused += applied.refused.len() as u64;
        for resource in &response.resources {
            let name = (kind, resource.name.clone());
            match applied.refused.iter().any(|refused| refused.name == resource.name) {
                true => {
                    it.refused.insert(name);
                }
                false => {
                    it.refused.remove(&name);
                    match it.takes(kind, resource) {
                        true => it.held.insert(name, resource.version.clone()),
                        false => it.held.remove(&name),
                    };
                }
            }
        }
        for name in &response.removed_resources {
            it.held.remove(&(kind, name.clone()));
            it.refused.remove(&(kind, name.clone()));
        }
        let news = !applied.updates.is_empty();
        for update in applied.updates {
            let lost = it.update(update);
            nothing_lost::check(&lost, &message.unfounded)?;
        }
        nothing_removed_used::note(it, kind, &response, &applied.request);
        nothing_removed_used::check(it)?;
        if news && !std::mem::replace(&mut it.saving, true) {
            let run = it.run;
            self.after(SAVED_AFTER, Event::Save { proxy, run });
        }
        self.send_up(number, vec![applied.request]);
        Ok(())
    }

    pub(super) fn on_save(&mut self, proxy: usize, run: u64) {
        let it = &mut self.proxies[proxy];
        if it.run == run && it.up {
            it.saving = false;
            it.saved = it.client.held();
        }
    }

    pub(super) fn on_want(&mut self, proxy: usize) -> Result<(), Violation> {
        if self.is_calm() {
            return Ok(());
        }
        let wait = self.dice.people.millis(100, 40_000);
        self.after(wait, Event::Want { proxy });
        let key = service_key(self.dice.people.below(self.plan.services + 1));
        let it = &mut self.proxies[proxy];
        let wants = !it.wanted.remove(&key);
        if wants {
            it.wanted.insert(key.clone());
        }
        if !it.up {
            return Ok(());
        }
        let requests = match wants {
            true => it.client.subscribe(key.clone()),
            false => {
                it.view.remove(&key);
                it.given_up.insert(key.clone());
                let requests = it.client.unsubscribe(&key);
                it.count_held();
                requests
            }
        };
        let link = it.link;
        nothing_unsubscribed::check(it)?;
        self.say(Host::Proxy(proxy), || format!("{} {key}", if wants { "wants" } else { "gives up" }));
        if let Some(link) = link {
            self.send_up(link, requests);
        }
        Ok(())
    }
}

/// What an old version can't read comes to it as bytes that nobody can.
fn damage(resource: &mut weft_proto::discovery::Resource) {
    let Some(body) = resource.resource.as_mut() else { return };
    let unreadable = body.type_url == ResourceType::Workload.url()
        && weft_proto::workload(&resource.name, body.value.clone()).is_ok_and(|one| one.weight == UNREADABLE);
    if unreadable {
        body.value = vec![0xff].into();
    }
}

fn brief(kind: ResourceType, response: &DeltaDiscoveryResponse) -> String {
    let names: Vec<&str> = response.resources.iter().map(|resource| resource.name.as_str()).collect();
    let (there, gone) = (names.join(" "), response.removed_resources.join(" "));
    format!("is sent {kind} [{there}], removed [{gone}], nonce {}", response.nonce)
}
