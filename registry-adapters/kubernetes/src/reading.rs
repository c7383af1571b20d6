//! What this registry makes of one object, for who looks at objects before a cluster has them. The decisions are those of
//! `convert.rs`; nothing is decided here.

use serde_json::{Value, json};
use weft_model::{Network, RegistryId, Service, TrustDomain};
use weft_registry::Problem;

use crate::convert::{self, Context};
use crate::object::{Kind, Object, decode_page};

/// One Service, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReading {
    /// As callers see it; `None` where it is left out of the mesh.
    pub service: Option<Service>,
    /// What is odd about it.
    pub problems: Vec<Problem>,
}

/// Reads a Service as the registry does.
///
/// # Errors
/// With a sentence, when it is not what Kubernetes would answer.
pub fn read_service(object: &Value) -> Result<ServiceReading, String> {
    let list = json!({"kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": [object]});
    let page = decode_page(Kind::Services, list.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let context = Context {
        registry: "kubernetes/read".parse::<RegistryId>().map_err(|error| error.to_string())?,
        trust_domain: "cluster.local".parse::<TrustDomain>().map_err(|error| error.to_string())?,
        network: Network::default_network(),
    };
    let Some(Object::Service(service)) = page.objects.into_iter().next() else {
        return Err("it has no namespace or no name".to_owned());
    };
    let (declared, problems) = convert::service(&context, &service, None);
    Ok(ServiceReading { service: declared.and_then(|declared| declared.declaration), problems })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_as_the_registry_reads_it() {
        let object = json!({"metadata": {"name": "api", "namespace": "shop"}, "spec": {
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "grpc-admin", "port": 9000}, {"name": "x", "port": 80}, {"name": "y", "port": 80}],
        }});
        let reading = read_service(&object).unwrap();
        let ports = reading.service.unwrap().ports;
        assert_eq!((ports.len(), ports[0].protocol.as_str()), (2, "grpc"));
        assert_eq!(reading.problems.len(), 1, "{:?}", reading.problems);
        let wrong = json!({"metadata": {"name": "api", "namespace": "shop", "annotations": {"weft.dev/protocol": "x"}}});
        assert_eq!(read_service(&wrong).unwrap().service, None);
    }
}
