//! Which addresses a cluster has: a pure function of its slot.
//!
//! Up to sixteen clusters share a machine. A slot is taken by making the link `weft<slot>` on the host, which the kernel
//! lets only one do; it is free again when the cluster's namespace goes, whoever ended it. Each slot has its own pods,
//! services and link, so that routes never meet. IPv6 stands beside IPv4 where the machine has it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// How many clusters may be at once: IPv4 gives each a /16 for its services.
pub(crate) const SLOTS: u8 = 16;

/// The addresses of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Which of the sixteen.
    pub slot: u8,
    /// Whether IPv6 stands beside IPv4.
    pub dual: bool,
}

impl Network {
    /// The host's end of the link, and what keeps others off the slot.
    pub fn link(self) -> String {
        format!("weft{}", self.slot)
    }

    /// The pods' addresses.
    pub fn pods(self) -> String {
        format!("10.244.{}.0/24", self.slot)
    }

    /// The services' addresses.
    pub fn services(self) -> String {
        format!("10.{}.0.0/16", 96 + self.slot)
    }

    /// The node's, on the bridge of its pods; the API server is there.
    pub fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.slot, 1)
    }

    /// The first that a pod may have.
    pub(crate) fn first_pod(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.slot, 10)
    }

    /// The service `kubernetes`.
    pub(crate) fn api_service(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.slot, 0, 1)
    }

    /// The cluster's DNS.
    pub fn dns(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 96 + self.slot, 0, 10)
    }

    /// The host, as pods reach it.
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 245, self.slot, 1)
    }

    /// The node's end of the link.
    pub(crate) fn far(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 245, self.slot, 2)
    }

    /// A network of a unique local prefix, `weft` in ASCII and the slot.
    fn six(self, net: u16, last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0x6566, 0x7400 + u16::from(self.slot), net, 0, 0, 0, last)
    }

    /// The pods' IPv6 addresses.
    pub fn pods_six(self) -> String {
        format!("{}/64", self.six(1, 0))
    }

    /// The services' IPv6 addresses.
    pub fn services_six(self) -> String {
        format!("{}/112", self.six(2, 0))
    }

    /// The node's IPv6 address.
    pub fn node_six(self) -> Ipv6Addr {
        self.six(1, 1)
    }

    /// The first that a pod may have.
    pub(crate) fn first_pod_six(self) -> Ipv6Addr {
        self.six(1, 0x10)
    }

    /// The host's IPv6 address, as pods reach it.
    pub fn host_six(self) -> Ipv6Addr {
        self.six(0, 1)
    }

    /// The node's end of the link.
    pub(crate) fn far_six(self) -> Ipv6Addr {
        self.six(0, 2)
    }

    /// `four`, and `six` where there is IPv6, as Kubernetes' settings have pairs.
    pub(crate) fn pair(self, four: &str, six: &str) -> String {
        if self.dual { format!("{four},{six}") } else { four.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_slots_share_an_address() {
        let all = |slot| {
            let n = Network { slot, dual: true };
            [n.link(), n.pods(), n.services(), n.host().to_string(), n.pods_six(), n.services_six()]
        };
        let mut seen: Vec<String> = (0..SLOTS).flat_map(all).collect();
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn the_last_slot_is_inside_the_private_ranges() {
        let last = Network { slot: SLOTS - 1, dual: true };
        assert_eq!(last.services(), "10.111.0.0/16");
        assert_eq!(last.services_six(), "fd77:6566:740f:2::/112");
        assert_eq!(last.node_six().to_string(), "fd77:6566:740f:1::1");
    }
}
