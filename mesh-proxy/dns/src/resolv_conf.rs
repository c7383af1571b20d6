//! The resolvers of the host: the lines `nameserver` of resolv.conf(5), and nothing else of it.
//!
//! Search lists and options are the application's own resolver's business: what comes here was already made of them.

use std::net::{IpAddr, SocketAddr};

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nameservers {
    /// In order, at port 53; three at most, as resolvers take them (MAXNS).
    pub servers: Vec<SocketAddr>,
    /// What stands behind `nameserver` and is no address.
    pub not_understood: Vec<String>,
}

const MOST: usize = 3;
const PORT: u16 = 53;

/// Reads the file's text.
pub fn nameservers(text: &str) -> Nameservers {
    let mut found = Nameservers::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let Some(word) = words.next() else { continue };
        match word.parse::<IpAddr>() {
            Ok(ip) if found.servers.len() < MOST => found.servers.push(SocketAddr::new(ip, PORT)),
            Ok(_) => {}
            Err(_) if found.not_understood.len() < MOST => found.not_understood.push(word.to_owned()),
            Err(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_resolvers_count_and_comments_do_not() {
        let text = "# nameserver 9.9.9.9\n; nameserver 9.9.9.9\nsearch a.svc b.svc\n  nameserver\t10.96.0.10  # kube\r\n\
                    nameserver fd00::a\nnameserver\nnameserver 1.1.1.1\nnameserver 8.8.8.8\noptions ndots:5\n";
        let found = nameservers(text);
        let servers: Vec<String> = found.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[fd00::a]:53", "1.1.1.1:53"]);
        assert!(found.not_understood.is_empty());
    }

    #[test]
    fn what_is_no_address_is_told_and_the_rest_is_used() {
        let found = nameservers("nameserver fe80::1%eth0\nnameserver resolver.example\nnameserver 1.1.1.1");
        assert_eq!(found.not_understood, ["fe80::1%eth0", "resolver.example"]);
        assert_eq!(found.servers, ["1.1.1.1:53".parse().unwrap()]);
    }
}
