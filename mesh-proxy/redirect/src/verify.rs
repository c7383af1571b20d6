//! Whether outbound traffic is captured, seen from an application: without any privilege.
//!
//! A CNI plugin sets the rules up before a pod's containers start, but a pod may have started on a node where the plugin
//! was not yet, or not any more. Reading the rules takes NET_ADMIN; a connection takes nothing: who listens where the
//! proxy will, and connects to an address of documentation (RFC 5737, RFC 3849), meets itself if and only if the rules
//! are there. All rules come in one transaction, so outbound stands for inbound too. Where settings capture nothing
//! outbound, nothing can be seen from here, and that is what is said.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;

use crate::ruleset::Family;
use crate::{Cidr, Families, RedirectSettings};

/// How long a connection that nobody captures may take to fail.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was seen, of IPv4 and of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is captured.
    Captured,
    /// It is not to be captured, so there is nothing to see.
    NotWanted,
    /// There is no route, so there is no traffic.
    NoRoute,
}

/// What was seen of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// IPv4.
    pub ipv4: Seen,
    /// IPv6.
    pub ipv6: Seen,
}

/// Why it is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Traffic goes past the proxy.
    #[error(
        "outbound traffic is not captured: a connection to {destination} did not arrive at {listener} ({reason}). The rules are missing in this pod: was weft-cni on its node before the pod?"
    )]
    NotCaptured {
        /// Where it went.
        destination: SocketAddr,
        /// Where it should have arrived.
        listener: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The proxy's own traffic is never captured.
    #[error("this runs as the proxy's user or group, whose traffic is never captured: run it as another")]
    AsTheProxy,
    /// Nothing can be tried.
    #[error("listening on {listener}: {reason} (this runs before the proxy, not beside it)")]
    Listening {
        /// Where.
        listener: SocketAddr,
        /// Why not.
        reason: io::Error,
    },
    /// The settings leave no destination that could be tried.
    #[error("every address that could be tried is excluded")]
    NothingToTry,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "outbound IPv4 {}, IPv6 {}", self.ipv4, self.ipv6)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Captured => "is captured",
            Self::NotWanted => "is not to be captured",
            Self::NoRoute => "has no route",
        })
    }
}

/// Looks whether outbound traffic is captured as the settings say.
///
/// # Errors
/// Where it is not, or cannot be tried.
pub fn verify(settings: &RedirectSettings) -> Result<Verified, VerifyError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid == settings.proxy_uid || Some(gid) == settings.proxy_gid || settings.exclude_uids.contains(&uid) {
        return Err(VerifyError::AsTheProxy);
    }
    Ok(Verified { ipv4: family(settings, Family::Ipv4)?, ipv6: family(settings, Family::Ipv6)? })
}

fn family(settings: &RedirectSettings, family: Family) -> Result<Seen, VerifyError> {
    let (other, loopback): (_, IpAddr) = match family {
        Family::Ipv4 => (Families::Ipv6, Ipv4Addr::LOCALHOST.into()),
        Family::Ipv6 => (Families::Ipv4, Ipv6Addr::LOCALHOST.into()),
    };
    let Some(port) = port(settings).filter(|_| settings.families != other) else {
        return Ok(Seen::NotWanted);
    };
    let addresses = match candidates(settings, family) {
        Some(addresses) => addresses,
        None => return Ok(Seen::NotWanted),
    };
    let excluded =
        |address: &IpAddr| settings.exclude_outbound_cidrs.iter().any(|cidr| covers(*cidr, *address));
    let address =
        addresses.into_iter().find(|address| !excluded(address)).ok_or(VerifyError::NothingToTry)?;
    attempt(SocketAddr::new(loopback, settings.outbound_port), SocketAddr::new(address, port))
}

fn attempt(at: SocketAddr, destination: SocketAddr) -> Result<Seen, VerifyError> {
    let listener = match TcpListener::bind(at) {
        Ok(listener) => listener,
        // The family is switched off in this namespace.
        Err(error) if matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => {
            return Ok(Seen::NoRoute);
        }
        Err(reason) => return Err(VerifyError::Listening { listener: at, reason }),
    };
    let missed = |reason: String| VerifyError::NotCaptured { destination, listener: at, reason };
    let stream = match TcpStream::connect_timeout(&destination, PATIENCE) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::NetworkUnreachable => return Ok(Seen::NoRoute),
        Err(error) => return Err(missed(error.to_string())),
    };
    // It is connected, so if it came here it waits here.
    listener.set_nonblocking(true).map_err(|reason| VerifyError::Listening { listener: at, reason })?;
    let (accepted, peer) = listener.accept().map_err(|_| missed("somebody else answered".to_owned()))?;
    let original = match at {
        SocketAddr::V4(_) => sockopt::ip_original_dst(&accepted).map(SocketAddr::from),
        SocketAddr::V6(_) => sockopt::ipv6_original_dst(&accepted).map(SocketAddr::from),
    };
    match original {
        Ok(original) if original == destination && stream.local_addr().ok() == Some(peer) => {
            Ok(Seen::Captured)
        }
        Ok(original) => Err(missed(format!("what arrived was for {original}"))),
        Err(error) => Err(missed(format!("what arrived has no original destination: {error}"))),
    }
}

/// A port that is captured.
fn port(settings: &RedirectSettings) -> Option<u16> {
    let excluded = &settings.exclude_outbound_ports;
    // 53 may be captured for DNS and go elsewhere.
    let wanted = |port: &u16| *port != 53 && !excluded.contains(port);
    match &settings.include_outbound_ports {
        Some(only) => only.iter().copied().find(wanted),
        // 9 is discard: where it is not captured, nobody answers.
        None => (9..=u16::MAX).find(wanted),
    }
}

/// Addresses of this family that are captured unless excluded; `None` where none is.
fn candidates(settings: &RedirectSettings, family: Family) -> Option<Vec<IpAddr>> {
    if let Some(only) = &settings.include_outbound_cidrs {
        let of_family = only.iter().filter(|cidr| cidr.is_ipv4() == (family == Family::Ipv4));
        let inside: Vec<_> = of_family.flat_map(|cidr| cidr.some_addresses()).collect();
        return (!inside.is_empty()).then_some(inside);
    }
    Some(match family {
        Family::Ipv4 => [[192, 0, 2, 1], [198, 51, 100, 1], [203, 0, 113, 1]]
            .map(|four| Ipv4Addr::from(four).into())
            .into(),
        Family::Ipv6 => {
            [[0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], [0x3fff, 0, 0, 0, 0, 0, 0, 1]] // RFC 9637 for the second
                .map(|eight: [u16; 8]| Ipv6Addr::from(eight).into())
                .into()
        }
    })
}

fn covers(cidr: Cidr, address: IpAddr) -> bool {
    let (first, last) = cidr.bounds();
    cidr.is_ipv4() == address.is_ipv4()
        && (first..=last).contains(&match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> RedirectSettings {
        RedirectSettings::parse(json).unwrap()
    }

    #[test]
    fn a_port_is_tried_that_is_captured() {
        assert_eq!(port(&settings(r#"{"version":1}"#)), Some(9));
        assert_eq!(port(&settings(r#"{"version":1,"exclude_outbound_ports":[9,10]}"#)), Some(11));
        let only = r#"{"version":1,"include_outbound_ports":[53,80,443],"exclude_outbound_ports":[80]}"#;
        assert_eq!(port(&settings(only)), Some(443));
        assert_eq!(port(&settings(r#"{"version":1,"include_outbound_ports":[]}"#)), None);
    }

    #[test]
    fn what_is_not_to_be_captured_is_not_tried() {
        let none = settings(r#"{"version":1,"include_outbound_ports":[]}"#);
        assert_eq!(verify(&none).unwrap(), Verified { ipv4: Seen::NotWanted, ipv6: Seen::NotWanted });
        let other = settings(r#"{"version":1,"include_outbound_cidrs":["fd00::/8"],"families":"ipv4"}"#);
        assert_eq!(verify(&other).unwrap(), Verified { ipv4: Seen::NotWanted, ipv6: Seen::NotWanted });
    }

    #[test]
    fn an_address_is_tried_that_is_included_and_not_excluded() {
        let only = settings(r#"{"version":1,"include_outbound_cidrs":["10.1.2.3","10.0.0.0/24"]}"#);
        let tried = candidates(&only, Family::Ipv4).unwrap();
        assert!(
            tried.contains(&IpAddr::from([10, 1, 2, 3])) && tried.contains(&IpAddr::from([10, 0, 0, 255]))
        );
        assert_eq!(candidates(&only, Family::Ipv6), None);
        let all = settings(r#"{"version":1,"exclude_outbound_cidrs":["0.0.0.0/0"]}"#);
        assert!(matches!(family(&all, Family::Ipv4), Err(VerifyError::NothingToTry)));
    }

    #[test]
    fn the_proxys_own_user_sees_nothing() {
        let uid = rustix::process::geteuid().as_raw();
        let own = RedirectSettings { proxy_uid: uid, ..RedirectSettings::default() };
        assert!(matches!(verify(&own), Err(VerifyError::AsTheProxy)));
    }
}
