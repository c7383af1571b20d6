//! The resource types of the mesh and their type URLs.
//!
//! The order is the order on a stream: roots before the endpoints they verify, endpoints before the service that
//! makes them reachable. An address names a service or carries its workloads, so it comes last.

use std::fmt;

/// A type that can be subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// `weft.mesh.v1.TrustBundle`, by trust domain or `*`.
    TrustBundle,
    /// `weft.mesh.v1.Workload`, by service.
    Workload,
    /// `weft.mesh.v1.Service`, by `namespace/name`.
    Service,
    /// `weft.mesh.v1.Address`, by `network/address`.
    Address,
}

impl ResourceType {
    /// Every type, in the order of a stream.
    pub const ALL: [Self; 4] = [Self::TrustBundle, Self::Workload, Self::Service, Self::Address];

    /// The type's URL.
    pub fn url(self) -> &'static str {
        match self {
            Self::TrustBundle => "type.googleapis.com/weft.mesh.v1.TrustBundle",
            Self::Workload => "type.googleapis.com/weft.mesh.v1.Workload",
            Self::Service => "type.googleapis.com/weft.mesh.v1.Service",
            Self::Address => "type.googleapis.com/weft.mesh.v1.Address",
        }
    }

    /// The type of a URL, if it is one of ours.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.url() == url)
    }

    /// The message's short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TrustBundle => "TrustBundle",
            Self::Workload => "Workload",
            Self::Service => "Service",
            Self::Address => "Address",
        }
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The type URL of `weft.mesh.v1.ResourceErrors`, the detail of a NACK.
pub const RESOURCE_ERRORS_URL: &str = "type.googleapis.com/weft.mesh.v1.ResourceErrors";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_back_to_its_type_and_an_unknown_one_to_none() {
        for known in ResourceType::ALL {
            assert_eq!(ResourceType::from_url(known.url()), Some(known));
        }
        assert_eq!(ResourceType::from_url(""), None);
        assert_eq!(ResourceType::from_url("type.googleapis.com/envoy.config.cluster.v3.Cluster"), None);
    }
}
