//! What is captured and where it goes: the one shape that the injector writes and the init container and the CNI plugin
//! read.
//!
//! It travels as JSON in the annotation [`ANNOTATION`](crate::ANNOTATION), with a version and without unknown keys: a
//! plugin that does not understand a key would otherwise set up less than was asked for. What is left out has its
//! default, so that the annotation of most pods is `{"version":1}`.

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// At most so many entries a list: a transaction has to fit into one message to the kernel.
pub const MAX_ENTRIES: usize = 1000;

/// The settings. Of what is both included and excluded, nothing is captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedirectSettings {
    /// The version of this shape.
    pub version: Version,
    /// Sockets of this user are never redirected: it is the proxy's.
    #[serde(default = "proxy_id", skip_serializing_if = "is_proxy_id")]
    pub proxy_uid: u32,
    /// Nor are sockets of this group; `None`: the user alone decides.
    #[serde(default = "proxy_group", skip_serializing_if = "is_proxy_group")]
    pub proxy_gid: Option<u32>,
    /// Where outbound TCP goes, on loopback.
    #[serde(default = "outbound_port", skip_serializing_if = "is_outbound_port")]
    pub outbound_port: u16,
    /// Where inbound TCP goes.
    #[serde(default = "inbound_port", skip_serializing_if = "is_inbound_port")]
    pub inbound_port: u16,
    /// The tunnel of other proxies: reached as it is.
    #[serde(default = "tunnel_port", skip_serializing_if = "is_tunnel_port")]
    pub tunnel_port: u16,
    /// Health and metrics: reached as they are.
    #[serde(default = "health_port", skip_serializing_if = "is_health_port")]
    pub health_port: u16,
    /// The proxy's admin port on loopback. Left alone, or the proxy would hand a stranger's connection to it.
    #[serde(default = "admin_port", skip_serializing_if = "is_admin_port")]
    pub admin_port: u16,
    /// Where DNS goes, over UDP and TCP, on loopback; `None`: DNS is not captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_port: Option<u16>,
    /// Inbound ports that are reached as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_inbound_ports: Vec<u16>,
    /// Destination ports that are reached as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_outbound_ports: Vec<u16>,
    /// Destinations that are reached as they are. DNS is captured all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_outbound_cidrs: Vec<Cidr>,
    /// Further users whose sockets are never redirected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_uids: Vec<u32>,
    /// Only these inbound ports are captured; `None`: all, an empty list: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_inbound_ports: Option<Vec<u16>>,
    /// Only these destination ports are captured; `None`: all, an empty list: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_outbound_ports: Option<Vec<u16>>,
    /// Only these destinations are captured; `None`: all, an empty list: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_outbound_cidrs: Option<Vec<Cidr>>,
    /// The address families that are captured.
    #[serde(default, skip_serializing_if = "Families::is_default")]
    pub families: Families,
}

/// The version of the settings' shape: 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Version;

impl TryFrom<u64> for Version {
    type Error = String;
    fn try_from(number: u64) -> Result<Self, String> {
        if number == 1 { Ok(Self) } else { Err(format!("version {number} is not understood; 1 is")) }
    }
}

impl From<Version> for u64 {
    fn from(_: Version) -> Self {
        1
    }
}

/// Address families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Families {
    /// IPv4 and IPv6.
    #[default]
    Both,
    /// IPv4 alone; IPv6 is left alone.
    Ipv4,
    /// IPv6 alone; IPv4 is left alone.
    Ipv6,
}

impl Families {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The settings' defaults, each with the test by which it is left out.
macro_rules! defaults {
    ($($name:ident $is:ident: $type:ty = $value:expr;)*) => {$(
        fn $name() -> $type {
            $value
        }
        // Serde asks by reference.
        fn $is(value: &$type) -> bool {
            *value == $value
        }
    )*};
}

defaults! {
    proxy_id is_proxy_id: u32 = 1337;
    proxy_group is_proxy_group: Option<u32> = Some(1337);
    outbound_port is_outbound_port: u16 = 15001;
    inbound_port is_inbound_port: u16 = 15006;
    tunnel_port is_tunnel_port: u16 = 15008;
    health_port is_health_port: u16 = 15021;
    admin_port is_admin_port: u16 = 15000;
}

impl Default for RedirectSettings {
    fn default() -> Self {
        Self {
            version: Version,
            proxy_uid: proxy_id(),
            proxy_gid: proxy_group(),
            outbound_port: outbound_port(),
            inbound_port: inbound_port(),
            tunnel_port: tunnel_port(),
            health_port: health_port(),
            admin_port: admin_port(),
            dns_port: None,
            exclude_inbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            exclude_outbound_cidrs: Vec::new(),
            exclude_uids: Vec::new(),
            include_inbound_ports: None,
            include_outbound_ports: None,
            include_outbound_cidrs: None,
            families: Families::Both,
        }
    }
}

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// They are not JSON of this shape.
    #[error("the redirect settings cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A value can't be.
    #[error("{field}: {reason}")]
    Wrong {
        /// The setting.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl RedirectSettings {
    /// Reads and validates what [`Self::annotation`] wrote.
    ///
    /// # Errors
    /// With the key that is wrong, or unknown.
    pub fn parse(json: &str) -> Result<Self, SettingsError> {
        let settings: Self = serde_json::from_str(json)?;
        settings.validate()?;
        Ok(settings)
    }

    /// As JSON: the version and whatever differs from the defaults.
    pub fn annotation(&self) -> String {
        serde_json::to_string(self).expect("numbers, texts and lists of them are JSON")
    }

    /// Whether rules can be made of them.
    ///
    /// # Errors
    /// With the first setting that is wrong.
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.validate_ports()?;
        if self.proxy_uid == 0 {
            return wrong(
                "proxy_uid",
                "root's traffic would never be captured; the proxy needs a user of its own",
            );
        }
        if self.proxy_gid == Some(0) {
            return wrong("proxy_gid", "the traffic of the group root would never be captured");
        }
        if self.dns_port.is_some() && self.exclude_outbound_ports.contains(&53) {
            return wrong(
                "exclude_outbound_ports",
                "53 is excluded and dns_port captures it: leave one of them out",
            );
        }
        let length = |list: &Option<Vec<u16>>| list.as_ref().map_or(0, Vec::len);
        for (field, entries) in [
            ("exclude_inbound_ports", self.exclude_inbound_ports.len()),
            ("exclude_outbound_ports", self.exclude_outbound_ports.len()),
            ("exclude_outbound_cidrs", self.exclude_outbound_cidrs.len()),
            ("exclude_uids", self.exclude_uids.len()),
            ("include_inbound_ports", length(&self.include_inbound_ports)),
            ("include_outbound_ports", length(&self.include_outbound_ports)),
            ("include_outbound_cidrs", self.include_outbound_cidrs.as_ref().map_or(0, Vec::len)),
        ] {
            if entries > MAX_ENTRIES {
                return wrong(field, format!("it has {entries} entries; at most {MAX_ENTRIES} are allowed"));
            }
        }
        Ok(())
    }

    /// The ports that the proxy listens on, by setting.
    pub(crate) fn own_ports(&self) -> impl Iterator<Item = (&'static str, u16)> {
        let always = [
            ("outbound_port", self.outbound_port),
            ("inbound_port", self.inbound_port),
            ("tunnel_port", self.tunnel_port),
            ("health_port", self.health_port),
            ("admin_port", self.admin_port),
        ];
        always.into_iter().chain(self.dns_port.map(|port| ("dns_port", port)))
    }

    fn validate_ports(&self) -> Result<(), SettingsError> {
        let own: Vec<_> = self.own_ports().collect();
        for (at, (field, port)) in own.iter().enumerate() {
            if *port == 0 {
                return wrong(field, "0 is no port");
            }
            if let Some((other, _)) = own.iter().take(at).find(|(_, taken)| taken == port) {
                return wrong(field, format!("{port} is also {other}"));
            }
        }
        let included = |list: &Option<Vec<u16>>| list.as_ref().is_some_and(|ports| ports.contains(&0));
        for (field, has_zero) in [
            ("exclude_inbound_ports", self.exclude_inbound_ports.contains(&0)),
            ("exclude_outbound_ports", self.exclude_outbound_ports.contains(&0)),
            ("include_inbound_ports", included(&self.include_inbound_ports)),
            ("include_outbound_ports", included(&self.include_outbound_ports)),
        ] {
            if has_zero {
                return wrong(field, "0 is no port");
            }
        }
        Ok(())
    }
}

fn wrong<T>(field: &'static str, reason: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError::Wrong { field, reason: reason.into() })
}

#[cfg(test)]
mod tests;
