//! A table of rules as a value: sets, chains, and in each chain what is matched and what is done.
//!
//! It has exactly the matches that the [plan](crate::plan) needs, so each has one text and one encoding, and a rule that
//! cannot be encoded cannot be written. Sets are named, so that a long list is one lookup and not one rule an entry.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// The sets that rules look into.
    pub sets: Vec<Set>,
    /// The chains, each on a hook of its own.
    pub chains: Vec<Chain>,
}

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name in the table.
    pub name: &'static str,
    /// What is in it.
    pub elements: Elements,
}

/// What a set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// Ports.
    Ports(BTreeSet<u16>),
    /// User ids.
    Users(BTreeSet<u32>),
    /// Addresses of one family: ranges that neither overlap nor touch, sorted.
    Addresses(Family, Vec<RangeInclusive<u128>>),
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// A chain on a hook; what no rule decides is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name in the table.
    pub name: &'static str,
    /// What its rules may do.
    pub kind: ChainKind,
    /// Where it stands.
    pub hook: Hook,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// What a chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Address translation: sees the first packet of each connection.
    Nat,
    /// Before connection tracking: sees every packet.
    Raw,
}

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What this namespace sends.
    Output,
    /// What arrives at it.
    Prerouting,
}

/// If everything matches, the action is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What has to hold.
    pub matches: Vec<Match>,
    /// What is done then.
    pub action: Action,
}

/// A condition on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// It is of this family.
    Family(Family),
    /// The socket's user.
    User(u32),
    /// The socket's group.
    Group(u32),
    /// The socket's user is in this set.
    UserIn(&'static str),
    /// It leaves by loopback: it is for this namespace's own addresses.
    Outgoing(Interface),
    /// It came in by loopback, or not.
    Incoming(Interface),
    /// Its port.
    Port(Ports),
    /// Its destination.
    Destination(Addresses),
    /// It opens a TCP connection.
    Opening,
}

/// Loopback, or anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// `lo`.
    Loopback,
    /// Any but `lo`.
    NotLoopback,
}

/// A condition on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Of this protocol; others do not match.
    pub protocol: Protocol,
    /// The source's port and not the destination's.
    pub source: bool,
    /// What is asked of it.
    pub test: Test<u16>,
}

/// A condition on the destination address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Of this family; the other does not match.
    pub family: Family,
    /// Its set.
    pub set: &'static str,
    /// It is not in the set.
    pub outside: bool,
}

/// What is asked of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test<T> {
    /// It is this one.
    Is(T),
    /// It is in the set.
    In(&'static str),
    /// It is not in the set.
    NotIn(&'static str),
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What is done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It goes on as it is.
    Accept,
    /// It goes to this port: on loopback where it is sent here, on the interface's address where it arrives.
    Redirect(u16),
    /// Its flow is not tracked, so nothing translates it.
    NoTrack,
}

impl Chain {
    /// Its place among the chains of its hook.
    pub fn priority(&self) -> i32 {
        match self.kind {
            // Linux, include/uapi/linux/netfilter_ipv4.h: NF_IP_PRI_NAT_DST and NF_IP_PRI_RAW.
            ChainKind::Nat => -100,
            ChainKind::Raw => -300,
        }
    }

    /// Its type in nf_tables.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            ChainKind::Nat => "nat",
            ChainKind::Raw => "filter",
        }
    }
}
