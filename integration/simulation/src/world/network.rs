//! What streams do: opening, carrying messages in order, breaking.

use std::collections::VecDeque;
use std::time::Duration;

use prost::Message as _;
use weft_proto::ResourceType;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use weft_xds::{Stream, StreamSettings};

use super::{Host, World};
use crate::invariants::nothing_lost;
use crate::link::{Link, ToProxy};
use crate::queue::Event;

/// An open that is not answered ends after this.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// A peer that answers no ping is gone after this.
const UNANSWERED: Duration = Duration::from_secs(40);
/// A stream ends so long after its client's certificate.
const GRACE: Duration = Duration::from_secs(5);

impl World {
    fn latency(&mut self) -> Duration {
        // Most are quick and some are not.
        let most = if self.dice.network.percent(5) { 2_000_000 } else { 60_000 };
        Duration::from_micros(self.dice.network.between(100, most))
    }

    pub(super) fn on_connect(&mut self, proxy: usize, run: u64) {
        if self.proxies[proxy].run != run || !self.proxies[proxy].up || self.proxies[proxy].link.is_some() {
            return;
        }
        let plane = self.proxies[proxy].reconnect.endpoint();
        let requests = self.proxies[proxy].client.on_connected();
        let since = self.now;
        let wait = match () {
            () if self.blocked(Host::Proxy(proxy), Host::Plane(plane)) => Some(OPEN_WITHIN),
            () if self.planes[plane].running.is_none() || !self.may_connect(proxy, plane) => {
                Some(self.latency())
            }
            () => None,
        };
        if let Some(wait) = wait {
            return self.after(wait, Event::NotConnected { proxy, run, since });
        }
        let settings = StreamSettings { max_response: self.plan.max_response, ..StreamSettings::default() };
        let link = Link {
            proxy,
            plane,
            opened: self.now,
            stream: Stream::new(settings),
            started: false,
            incomplete: false,
            waiting: VecDeque::new(),
            broken: false,
            proxy_knows: false,
            plane_knows: false,
            last_up: self.now,
            last_down: self.now,
        };
        let number = self.next_link;
        self.next_link += 1;
        self.links.insert(number, link);
        self.figures.streams += 1;
        self.proxies[proxy].link = Some(number);
        self.proxies[proxy].given_up.clear();
        self.say(Host::Proxy(proxy), || format!("opens stream {number} to control {plane}"));
        let lapse = self.lapses(proxy, plane);
        self.after(lapse, Event::Lapse { link: number });
        self.send_up(number, requests);
    }

    /// A certificate that the control plane's clock calls valid.
    fn may_connect(&self, proxy: usize, plane: usize) -> bool {
        let wall = self.wall(Host::Plane(plane));
        let leaf = self.proxies[proxy].leaf;
        leaf.is_some_and(|leaf| weft_identity::validity(leaf.not_before, leaf.not_after, wall).is_ok())
    }

    fn lapses(&self, proxy: usize, plane: usize) -> Duration {
        let end = self.proxies[proxy].leaf.map(|leaf| leaf.not_after + GRACE);
        let wall = self.wall(Host::Plane(plane));
        end.and_then(|end| end.duration_since(wall).ok()).unwrap_or_default()
    }

    pub(super) fn on_not_connected(&mut self, proxy: usize, run: u64, since: Duration) {
        if self.proxies[proxy].run == run && self.proxies[proxy].up {
            self.pause(proxy, false, since);
        }
    }

    /// The stream is over, or there was none: again after a pause.
    fn pause(&mut self, proxy: usize, was_open: bool, since: Duration) {
        let chance = self.dice.network.next() as u32;
        let lived = self.now - since;
        let it = &mut self.proxies[proxy];
        it.client.on_disconnected();
        let (wait, run) = (it.reconnect.after(was_open, lived, chance), it.run);
        self.say(Host::Proxy(proxy), || format!("has no stream; tries again in {:.3} s", wait.as_secs_f64()));
        self.after(wait, Event::Connect { proxy, run });
    }

    pub(super) fn send_up(&mut self, number: u64, requests: Vec<DeltaDiscoveryRequest>) {
        for request in requests {
            let latency = self.latency();
            let Some(link) = self.links.get_mut(&number) else { return };
            link.last_up = link.last_up.max(self.now + latency);
            let (at, bytes) = (link.last_up, request.encode_to_vec());
            self.queue.put(at, Event::ToPlane { link: number, bytes });
        }
    }

    /// When the partition that a message runs into is over: it is sent again then.
    fn held_up(&self, link: &Link) -> Option<Duration> {
        let partition = self.partition.as_ref()?;
        self.blocked(Host::Proxy(link.proxy), Host::Plane(link.plane)).then_some(partition.until)
    }

    pub(super) fn on_to_plane(&mut self, number: u64, bytes: Vec<u8>) {
        let Some(link) = self.links.get(&number).filter(|link| !link.broken) else { return };
        if let Some(at) = self.held_up(link) {
            if let Some(link) = self.links.get_mut(&number) {
                link.last_up = link.last_up.max(at);
            }
            return self.queue.put(at, Event::ToPlane { link: number, bytes });
        }
        let request = DeltaDiscoveryRequest::decode(bytes.as_slice()).expect("it was encoded here");
        let serving = self.planes[link.plane].running.as_ref().is_some_and(|running| running.serving);
        let Some(link) = self.links.get_mut(&number) else { return };
        if !serving {
            return link.waiting.push_back(request);
        }
        self.on_request(number, request);
    }

    pub(super) fn serve_waiting(&mut self, plane: usize) {
        let links: Vec<u64> =
            self.links.iter().filter(|(_, link)| link.plane == plane).map(|(number, _)| *number).collect();
        for number in links {
            let waiting = self.links.get_mut(&number).map(|link| std::mem::take(&mut link.waiting));
            waiting.into_iter().flatten().for_each(|request| self.on_request(number, request));
        }
    }

    fn on_request(&mut self, number: u64, request: DeltaDiscoveryRequest) {
        let Some(link) = self.links.get_mut(&number).filter(|link| !link.broken) else { return };
        let plane = link.plane;
        let Some(running) = &self.planes[plane].running else { return };
        link.incomplete |= !link.started && !running.ingestion.published().is_complete();
        link.started = true;
        match link.stream.on_request(request, running.ingestion.published()) {
            Ok(responses) => self.send_down(number, responses),
            Err(error) => panic!("the control plane ended a stream of our own client: {error}"),
        }
    }

    pub(super) fn send_published(&mut self, plane: usize) {
        let links: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| link.plane == plane && link.started && !link.broken)
            // A connection that takes nothing is not pulled: its stream looks at publications when it does again.
            .filter(|(_, link)| self.held_up(link).is_none())
            .map(|(number, _)| *number)
            .collect();
        for number in links {
            let Some(running) = &self.planes[plane].running else { return };
            let Some(link) = self.links.get_mut(&number) else { continue };
            let responses = link.stream.on_published(running.ingestion.published());
            self.send_down(number, responses);
        }
    }

    fn send_down(&mut self, number: u64, responses: Vec<DeltaDiscoveryResponse>) {
        for response in responses {
            let latency = self.latency();
            let Some(link) = self.links.get_mut(&number) else { return };
            let Some(running) = &self.planes[link.plane].running else { return };
            let kind = ResourceType::from_url(&response.type_url).expect("a known type");
            let unfounded = nothing_lost::unfounded(&self.truths, &running.shown, kind, &response);
            link.last_down = link.last_down.max(self.now + latency);
            let message = ToProxy { bytes: response.encode_to_vec(), unfounded };
            self.queue.put(link.last_down, Event::ToProxy { link: number, message });
        }
    }

    /// Whether a response has to wait, and if not, for whom it is.
    pub(super) fn receiver(&mut self, number: u64) -> Receiver {
        let Some(link) = self.links.get(&number).filter(|link| !link.broken) else { return Receiver::Nobody };
        let (at, proxy) = (self.held_up(link), link.proxy);
        match (at, self.links.get_mut(&number)) {
            (Some(at), Some(link)) => {
                link.last_down = link.last_down.max(at);
                Receiver::Later(at)
            }
            _ => Receiver::Proxy(proxy),
        }
    }

    /// What is under way is lost; each end learns of it when it does.
    pub(super) fn break_link(&mut self, number: u64, why: &str) {
        let Some(link) = self.links.get_mut(&number).filter(|link| !link.broken) else { return };
        link.broken = true;
        let (proxy, plane) = (link.proxy, link.plane);
        self.say(Host::Plane(plane), || format!("stream {number} of proxy {proxy} breaks: {why}"));
        let (up, down) = (self.latency(), self.latency());
        self.after(up, Event::PlaneLoses { link: number });
        self.after(down, Event::ProxyLoses { link: number });
    }

    pub(super) fn on_proxy_loses(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.proxy_knows = true;
        let (proxy, opened, over) = (link.proxy, link.opened, link.plane_knows);
        if over {
            self.links.remove(&number);
        }
        if self.proxies[proxy].link == Some(number) {
            self.proxies[proxy].link = None;
            self.pause(proxy, true, opened);
        }
    }

    pub(super) fn on_plane_loses(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.plane_knows = true;
        if link.proxy_knows {
            self.links.remove(&number);
        }
    }

    /// Streams across a partition end by their pings, where it lasts.
    pub(super) fn watch_partition(&mut self, partition: u64) {
        let across: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| self.blocked(Host::Proxy(link.proxy), Host::Plane(link.plane)))
            .map(|(number, _)| *number)
            .collect();
        for link in across {
            self.after(UNANSWERED, Event::Unanswered { link, partition });
        }
    }

    pub(super) fn on_unanswered(&mut self, link: u64, partition: u64) {
        if self.partition.as_ref().is_some_and(|now| now.number == partition) {
            self.break_link(link, "nobody answers its pings");
        }
    }
}

/// For whom a response is.
pub(super) enum Receiver {
    /// The stream is broken.
    Nobody,
    /// It is held up until then.
    Later(Duration),
    Proxy(usize),
}
