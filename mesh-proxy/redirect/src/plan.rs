//! From settings to rules.
//!
//! One order decides everything: what is never captured (the proxy's own, loopback, excluded) leaves first, what is left
//! is captured. Only a packet that opens a connection is ever redirected: what is open when the rules come stays as it is,
//! although connection tracking then sees it for the first time. The pod's own addresses are reached directly (they leave
//! by loopback), so an application's call to its own service goes to the proxy, and the proxy's call back to the pod does
//! not come round again.

use crate::cidr::merged;
use crate::ruleset::{
    Action, Addresses, Chain, ChainKind, Elements, Family, Hook, Interface, Match, Ports, Protocol, Rule,
    Ruleset, Set, Test,
};
use crate::{Cidr, Families, RedirectSettings};

const DNS: u16 = 53;

impl RedirectSettings {
    /// The rules for these settings, whether or not they are [valid](Self::validate).
    pub fn ruleset(&self) -> Ruleset {
        let mut plan = Plan { settings: self, sets: Vec::new() };
        let mut chains = vec![
            chain("output", ChainKind::Nat, Hook::Output, plan.output()),
            chain("prerouting", ChainKind::Nat, Hook::Prerouting, plan.prerouting()),
        ];
        if self.dns_port.is_some() {
            chains.push(chain("output_raw", ChainKind::Raw, Hook::Output, plan.output_raw()));
            chains.push(chain("prerouting_raw", ChainKind::Raw, Hook::Prerouting, prerouting_raw()));
        }
        Ruleset { sets: plan.sets, chains }
    }

    /// The families that are captured.
    fn captured(&self) -> impl Iterator<Item = Family> {
        let families = self.families;
        [(Family::Ipv4, Families::Ipv6), (Family::Ipv6, Families::Ipv4)]
            .into_iter()
            .filter_map(move |(family, only_other)| (families != only_other).then_some(family))
    }
}

struct Plan<'a> {
    settings: &'a RedirectSettings,
    sets: Vec<Set>,
}

impl Plan<'_> {
    fn output(&mut self) -> Vec<Rule> {
        let settings = self.settings;
        let mut rules = self.never();
        rules.extend(self.proxys_own().map(|own| accept(&[own])));
        if let Some(set) = self.set("exclude_uids", users(&settings.exclude_uids)) {
            rules.push(accept(&[Match::UserIn(set)]));
        }
        rules.push(accept(&[Match::Outgoing(Interface::Loopback)]));
        if let Some(set) = self.set("exclude_outbound_ports", ports(&settings.exclude_outbound_ports)) {
            rules.push(accept(&[to_tcp(Test::In(set))]));
        }
        if let Some(port) = settings.dns_port {
            rules.push(redirect(&[to(Protocol::Udp, Test::Is(DNS))], port));
            rules.push(redirect(&[to_tcp(Test::Is(DNS)), Match::Opening], port));
        }
        rules.extend(self.destinations(
            ["exclude_outbound_ipv4", "exclude_outbound_ipv6"],
            &settings.exclude_outbound_cidrs,
            false,
        ));
        let nothing = settings.include_outbound_ports.as_ref().is_some_and(Vec::is_empty)
            || settings.include_outbound_cidrs.as_ref().is_some_and(Vec::is_empty);
        if nothing {
            return rules;
        }
        if let Some(only) = &settings.include_outbound_ports {
            rules.extend(self.only_ports("include_outbound_ports", only));
        }
        if let Some(only) = &settings.include_outbound_cidrs {
            rules.extend(self.destinations(["include_outbound_ipv4", "include_outbound_ipv6"], only, true));
        }
        rules.push(redirect(&[Match::Opening], settings.outbound_port));
        rules
    }

    fn prerouting(&mut self) -> Vec<Rule> {
        let settings = self.settings;
        let mut rules = self.never();
        rules.push(accept(&[Match::Incoming(Interface::Loopback)]));
        let own: Vec<u16> = settings.own_ports().map(|(_, port)| port).collect();
        // The listeners on loopback stay out of reach from outside; the others are reached as they are.
        if let Some(set) = self.set("proxy_ports", ports(&own)) {
            rules.push(accept(&[to_tcp(Test::In(set))]));
        }
        if let Some(set) = self.set("exclude_inbound_ports", ports(&settings.exclude_inbound_ports)) {
            rules.push(accept(&[to_tcp(Test::In(set))]));
        }
        match &settings.include_inbound_ports {
            Some(none) if none.is_empty() => return rules,
            Some(only) => rules.extend(self.only_ports("include_inbound_ports", only)),
            None => {}
        }
        rules.push(redirect(&[Match::Opening], settings.inbound_port));
        rules
    }

    /// The proxy's own questions to a resolver are not tracked: one that comes from a source port that an application
    /// used a moment ago would be taken for that application's flow, and led back to the proxy.
    fn output_raw(&self) -> Vec<Rule> {
        let question = to(Protocol::Udp, Test::Is(DNS));
        let untracked = |own| Rule { matches: vec![own, question], action: Action::NoTrack };
        self.proxys_own().map(untracked).collect()
    }

    fn proxys_own(&self) -> impl Iterator<Item = Match> + use<> {
        let user = Match::User(self.settings.proxy_uid);
        [user].into_iter().chain(self.settings.proxy_gid.map(Match::Group))
    }

    /// What a family that is not captured needs.
    fn never(&self) -> Vec<Rule> {
        let other = match self.settings.families {
            Families::Both => return Vec::new(),
            Families::Ipv4 => Family::Ipv6,
            Families::Ipv6 => Family::Ipv4,
        };
        vec![accept(&[Match::Family(other)])]
    }

    fn only_ports(&mut self, name: &'static str, only: &[u16]) -> Option<Rule> {
        let set = self.set(name, ports(only))?;
        Some(accept(&[to_tcp(Test::NotIn(set))]))
    }

    /// Accepts what is in these blocks, or, with `outside`, what is not. A family without a block has no rule in the
    /// first case and is accepted whole in the second.
    fn destinations(&mut self, names: [&'static str; 2], cidrs: &[Cidr], outside: bool) -> Vec<Rule> {
        let mut rules = Vec::new();
        for family in self.settings.captured() {
            let (name, ipv4) = match family {
                Family::Ipv4 => (names[0], true),
                Family::Ipv6 => (names[1], false),
            };
            let bounds = cidrs.iter().filter(|cidr| cidr.is_ipv4() == ipv4).map(|cidr| cidr.bounds());
            match self.set(name, Elements::Addresses(family, merged(bounds))) {
                Some(set) => rules.push(accept(&[Match::Destination(Addresses { family, set, outside })])),
                None if outside => rules.push(accept(&[Match::Family(family)])),
                None => {}
            }
        }
        rules
    }

    /// Defines a set, unless nothing would be in it.
    fn set(&mut self, name: &'static str, elements: Elements) -> Option<&'static str> {
        if elements.is_empty() {
            return None;
        }
        self.sets.push(Set { name, elements });
        Some(name)
    }
}

/// The answers to the questions that are not tracked.
fn prerouting_raw() -> Vec<Rule> {
    let answer = Ports { protocol: Protocol::Udp, source: true, test: Test::Is(DNS) };
    let matches = vec![Match::Incoming(Interface::NotLoopback), Match::Port(answer)];
    vec![Rule { matches, action: Action::NoTrack }]
}

impl Elements {
    fn is_empty(&self) -> bool {
        match self {
            Self::Ports(ports) => ports.is_empty(),
            Self::Users(users) => users.is_empty(),
            Self::Addresses(_, ranges) => ranges.is_empty(),
        }
    }
}

fn ports(ports: &[u16]) -> Elements {
    Elements::Ports(ports.iter().copied().collect())
}

fn users(users: &[u32]) -> Elements {
    Elements::Users(users.iter().copied().collect())
}

fn chain(name: &'static str, kind: ChainKind, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain { name, kind, hook, rules }
}

fn to(protocol: Protocol, test: Test<u16>) -> Match {
    Match::Port(Ports { protocol, source: false, test })
}

fn to_tcp(test: Test<u16>) -> Match {
    to(Protocol::Tcp, test)
}

fn accept(matches: &[Match]) -> Rule {
    Rule { matches: matches.to_vec(), action: Action::Accept }
}

fn redirect(matches: &[Match], port: u16) -> Rule {
    Rule { matches: matches.to_vec(), action: Action::Redirect(port) }
}
