//! Connect roots read from a real Consul, over the client of the Consul adapter.

use futures::FutureExt;
use futures::future::BoxFuture;
use rustls_pki_types::CertificateDer;
use weft_identity::certificates_from_pem;
use weft_registry_consul::ConsulClient;

use crate::authority::describe;
use crate::consul::{ConnectRoots, ConnectRootsError, ConnectTrust};

impl ConnectRoots for ConsulClient {
    fn connect_trust(&self) -> BoxFuture<'_, Result<ConnectTrust, ConnectRootsError>> {
        async {
            let asked = futures::try_join!(self.connect_trust_domain(), self.connect_ca_roots());
            let (trust_domain, roots) = asked.map_err(|error| ConnectRootsError(describe(&error)))?;
            let trust_domain = trust_domain.parse().map_err(|error| ConnectRootsError(describe(&error)))?;
            let roots = roots.iter().map(|pem| certificates(pem)).collect::<Result<Vec<_>, _>>()?.concat();
            Ok(ConnectTrust { trust_domain, roots })
        }
        .boxed()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConnectRootsError> {
    let text = std::str::from_utf8(pem).map_err(|_| ConnectRootsError("a root is not text".to_owned()))?;
    certificates_from_pem(text).map_err(|error| ConnectRootsError(error.to_string()))
}
