//! The rules as `nft` reads them: for people, who can hold them against `nft list table inet weft`.

use std::fmt;

use crate::TABLE;
use crate::cidr::range_text;
use crate::ruleset::{
    Action, Addresses, Chain, Elements, Family, Hook, Interface, Match, Ports, Protocol, Rule, Ruleset, Set,
    Test,
};

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        let sets = self.sets.iter().map(ToString::to_string);
        let parts: Vec<String> = sets.chain(self.chains.iter().map(ToString::to_string)).collect();
        writeln!(f, "{}}}", parts.join("\n"))
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tset {} {{", self.name)?;
        writeln!(f, "\t\ttype {}", self.elements.type_name())?;
        if matches!(self.elements, Elements::Addresses(..)) {
            writeln!(f, "\t\tflags interval")?;
        }
        writeln!(f, "\t\telements = {{ {} }}", self.elements.texts().join(", "))?;
        writeln!(f, "\t}}")
    }
}

impl Elements {
    /// The type of a set of them, as `nft` names it.
    fn type_name(&self) -> &'static str {
        match self {
            Self::Ports(_) => "inet_service",
            Self::Users(_) => "uid",
            Self::Addresses(Family::Ipv4, _) => "ipv4_addr",
            Self::Addresses(Family::Ipv6, _) => "ipv6_addr",
        }
    }

    /// Each element.
    pub(crate) fn texts(&self) -> Vec<String> {
        match self {
            Self::Ports(ports) => ports.iter().map(ToString::to_string).collect(),
            Self::Users(users) => users.iter().map(ToString::to_string).collect(),
            Self::Addresses(family, ranges) => {
                ranges.iter().map(|range| range_text(range, *family == Family::Ipv4)).collect()
            }
        }
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, hook, priority) = (self.type_name(), self.hook, self.priority());
        writeln!(f, "\tchain {} {{", self.name)?;
        writeln!(f, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;")?;
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Output => "output",
            Self::Prerouting => "prerouting",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        match self.action {
            Action::Accept => f.write_str("accept"),
            Action::Redirect(port) => write!(f, "redirect to :{port}"),
            Action::NoTrack => f.write_str("notrack"),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(Family::Ipv4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::Ipv6) => f.write_str("meta nfproto ipv6"),
            Self::User(user) => write!(f, "meta skuid {user}"),
            Self::Group(group) => write!(f, "meta skgid {group}"),
            Self::UserIn(set) => write!(f, "meta skuid @{set}"),
            Self::Outgoing(interface) => write!(f, "oifname {interface}"),
            Self::Incoming(interface) => write!(f, "iifname {interface}"),
            Self::Port(ports) => ports.fmt(f),
            Self::Destination(addresses) => addresses.fmt(f),
            Self::Opening => f.write_str("tcp flags & (fin | syn | rst | ack) == syn"),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "\"lo\"",
            Self::NotLoopback => "!= \"lo\"",
        })
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol} {} ", if self.source { "sport" } else { "dport" })?;
        match self.test {
            Test::Is(port) => write!(f, "{port}"),
            Test::In(set) => write!(f, "@{set}"),
            Test::NotIn(set) => write!(f, "!= @{set}"),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        };
        write!(f, "{family} daddr {}@{}", if self.outside { "!= " } else { "" }, self.set)
    }
}
