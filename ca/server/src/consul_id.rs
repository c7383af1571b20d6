//! The name in a Consul Connect leaf: `spiffe://<uuid>.consul/ns/<namespace>/dc/<datacenter>/svc/<service>`.
//!
//! Only services: an agent's, a gateway's or a server's leaf has another form and proves no service. So has a service
//! in an admin partition other than the default one (`/ap/…`), of which nothing here knows whose it is.

use std::str::FromStr;

use weft_model::{InvalidName, Namespace, ServiceKey, ServiceName, SpiffeId, TrustDomain};

/// A Consul service, as its leaf names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulServiceId {
    /// The Connect CA's trust domain.
    pub trust_domain: TrustDomain,
    /// The datacenter.
    pub datacenter: String,
    /// Namespace and name. Consul without namespaces says `default`.
    pub service: ServiceKey,
}

/// Why an id is not a Consul service's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAConsulService {
    /// Another form.
    #[error("{0} is not the id of a Consul service (/ns/<namespace>/dc/<datacenter>/svc/<service>)")]
    Form(SpiffeId),
    /// The form is right but a part is not a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl TryFrom<&SpiffeId> for ConsulServiceId {
    type Error = NotAConsulService;
    fn try_from(id: &SpiffeId) -> Result<Self, NotAConsulService> {
        let segments: Vec<_> = id.path().split('/').collect();
        let ["", "ns", namespace, "dc", datacenter, "svc", service] = segments.as_slice() else {
            return Err(NotAConsulService::Form(id.clone()));
        };
        let service = ServiceKey::new(Namespace::from_str(namespace)?, ServiceName::from_str(service)?);
        Ok(Self { trust_domain: id.trust_domain(), datacenter: (*datacenter).to_owned(), service })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<ConsulServiceId, NotAConsulService> {
        ConsulServiceId::try_from(&format!("spiffe://1111-2222.consul{path}").parse::<SpiffeId>().unwrap())
    }

    #[test]
    fn a_service_is_read_with_its_namespace_and_datacenter() {
        let id = parse("/ns/shop/dc/dc1/svc/web").unwrap();
        assert_eq!((id.datacenter.as_str(), id.service.to_string().as_str()), ("dc1", "shop/web"));
        assert_eq!(id.trust_domain.as_str(), "1111-2222.consul");
    }

    #[test]
    fn agents_gateways_servers_and_partitions_are_no_services() {
        for other in [
            "/agent/client/dc/dc1/id/node1",
            "/gateway/mesh/dc/dc1",
            "/agent/server/dc/dc1",
            "/ap/team/ns/default/dc/dc1/svc/web",
            "/ns/default/dc/dc1/svc/web/x",
            "/ns/default/dc/dc1",
        ] {
            assert!(matches!(parse(other), Err(NotAConsulService::Form(_))), "{other} was accepted");
        }
    }
}
