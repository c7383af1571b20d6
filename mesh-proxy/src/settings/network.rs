//! Settings of what listens where: tunnel, application ports, upstreams, HTTP port, admin.
//!
//! Port 0 asks for a free port; `ports.json` in the state directory says which it became.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use weft_model::{PortName, Protocol, ServiceKey};

/// `[workload]`: names in telemetry. The identity comes from the certificate, never from here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WorkloadSettings {
    /// This instance's name in the control plane's list of proxies. Default: host name and a random suffix
    /// that is kept in the state directory.
    pub(crate) name: Option<String>,
    /// Label `app` of the local workload.
    pub(crate) app: String,
    /// Label `version` of the local workload.
    pub(crate) version: String,
}

/// `[tunnel]`: where other proxies reach this one. It listens where there is at least one `[[inbound]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TunnelSettings {
    /// Address of the mTLS listener.
    pub(crate) listen: SocketAddr,
    /// Addresses that a `CONNECT` authority may name, beside the one that the connection arrived at and loopback.
    pub(crate) addresses: Vec<IpAddr>,
}

/// `[[inbound]]`: a port of the local application.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InboundSettings {
    /// The service that the port belongs to, for telemetry: `name` or `namespace/name`.
    pub(crate) service: ServiceKey,
    /// The port as it is registered.
    pub(crate) port: u16,
    /// Where the application listens. Default: `port` on 127.0.0.1.
    pub(crate) app: Option<SocketAddr>,
    /// What the application speaks. `detect`: what the caller's application spoke.
    #[serde(default, deserialize_with = "protocol")]
    pub(crate) protocol: Protocol,
    /// A plaintext listener beside the tunnel, for callers outside the mesh. They have no identity.
    #[serde(default)]
    pub(crate) permissive: Option<SocketAddr>,
}

impl InboundSettings {
    /// Where the application listens.
    pub(crate) fn app_address(&self) -> SocketAddr {
        self.app.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port))
    }
}

/// `[[upstream]]`: a local port that leads to one service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamSettings {
    /// The service: `name` or `namespace/name`.
    pub(crate) service: ServiceKey,
    /// Which of its ports, by name or number. Default: its only one, or the first.
    #[serde(default)]
    pub(crate) port: Option<PortRef>,
    /// The local address.
    pub(crate) listen: SocketAddr,
    /// What is spoken, where the registry does not say or is wrong.
    #[serde(default, deserialize_with = "optional_protocol")]
    pub(crate) protocol: Option<Protocol>,
    /// Whether endpoints without a proxy may be called, in plaintext.
    #[serde(default)]
    pub(crate) plaintext: bool,
}

/// A port of a service, as a user names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PortRef {
    /// By name.
    Name(PortName),
    /// By number.
    Number(u16),
    /// As it was called at a virtual address: by number, or, where the service's ports have none, the one that is meant.
    /// Not to be written in settings.
    Called(u16),
}

/// `[http]`: the local port that leads to any service, by `Host` or `:authority`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSettings {
    /// The local address.
    pub(crate) listen: SocketAddr,
    /// Whether endpoints without a proxy may be called, in plaintext.
    pub(crate) plaintext: bool,
}

/// `[admin]`: readiness, metrics, dump, log level, drain. It has no access control of its own: keep it on loopback.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminSettings {
    /// The local address.
    pub(crate) listen: SocketAddr,
}

/// `[ready]`: when `/ready` says yes.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReadySettings {
    /// How long a declared upstream of which nothing is known makes the proxy wait. Counted from the first stream to a
    /// control plane, or from the start where a last known good state was restored.
    #[serde(deserialize_with = "weft_process::settings::duration")]
    pub(crate) upstream_deadline: Duration,
}

impl Default for ReadySettings {
    fn default() -> Self {
        Self { upstream_deadline: Duration::from_secs(10) }
    }
}

impl Default for TunnelSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 15008), addresses: Vec::new() }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15001), plaintext: false }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000) }
    }
}

/// Reads a protocol by the model's own parser, which knows `http` and Kubernetes' values too.
fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn optional_protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Protocol>, D::Error> {
    protocol(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = PortRef;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a port name or a number from 1 to 65535")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<PortRef, E> {
                match u16::try_from(number) {
                    Ok(number) if number != 0 => Ok(PortRef::Number(number)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                }
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<PortRef, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<PortRef, E> {
                match text.parse::<u64>() {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => text.parse().map(PortRef::Name).map_err(E::custom),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
