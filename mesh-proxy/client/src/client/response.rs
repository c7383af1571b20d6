//! One response: each resource read on its own, then the updates of the services that it touched.

use std::collections::HashSet;

use weft_proto::discovery::{DeltaDiscoveryResponse, Resource};
use weft_proto::{InvalidResource, ResourceType};

use super::holdings::{Holdings, Touched};
use super::{Applied, Client, Update, request};

impl Client {
    /// Takes a response.
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Applied {
        let DeltaDiscoveryResponse { resources, removed_resources, type_url, nonce, .. } = response;
        let (updates, refused) = match ResourceType::from_url(&type_url) {
            Some(kind) => self.holdings.apply(kind, resources, &removed_resources),
            None => {
                (Vec::new(), vec![invalid("", format!("resources of type {type_url:?} were not asked for"))])
            }
        };
        let request = request::answer(type_url, nonce, &refused);
        Applied { updates, refused, request }
    }
}

impl Holdings {
    fn apply(
        &mut self,
        kind: ResourceType,
        resources: Vec<Resource>,
        removed: &[String],
    ) -> (Vec<Update>, Vec<InvalidResource>) {
        let (mut touched, mut refused) = (Touched::default(), Vec::new());
        let repeated = repeated(&resources);
        for resource in resources {
            let name = resource.name.clone();
            let read = match repeated.contains(&name) {
                true => Err(invalid(&name, "the response has this name twice".to_owned())),
                false => self.put(kind, resource, &mut touched),
            };
            refused.extend(read.err());
        }
        for name in removed {
            self.remove(kind, name, &mut touched);
        }
        // Once for each name, also where it came twice.
        refused.dedup_by(|one, other| one.name == other.name);
        (self.updates(&touched), refused)
    }

    pub(super) fn restore(&mut self, resources: Vec<Resource>) -> (Vec<Update>, Vec<InvalidResource>) {
        let (mut touched, mut refused) = (Touched::default(), Vec::new());
        let kind = |resource: &Resource| {
            let url = resource.resource.as_ref().map_or("", |body| body.type_url.as_str());
            ResourceType::from_url(url)
        };
        // A workload of no wanted service is not kept, so that the services come first.
        let (services, others): (Vec<_>, Vec<_>) =
            resources.into_iter().partition(|resource| kind(resource) == Some(ResourceType::Service));
        for resource in services.into_iter().chain(others) {
            let Some(kind) = kind(&resource) else {
                refused.push(invalid(&resource.name, "it has a type that is not known".to_owned()));
                continue;
            };
            match kind {
                ResourceType::Service => _ = resource.name.parse().map(|key| self.want(key)),
                ResourceType::Address => _ = resource.name.parse().map(|address| self.want_address(address)),
                ResourceType::TrustBundle | ResourceType::Workload => {}
            }
            refused.extend(self.put(kind, resource, &mut touched).err());
        }
        (self.updates(&touched), refused)
    }

    fn updates(&self, touched: &Touched) -> Vec<Update> {
        let bundles = touched.bundles.then(|| Update::Bundles(self.bundles()));
        let services = touched.services.iter().filter_map(|key| self.update(key));
        let addresses = touched.addresses.iter().filter_map(|address| self.address_update(address));
        bundles.into_iter().chain(services).chain(addresses).collect()
    }
}

/// The same name twice in one response leaves open which one is meant.
fn repeated(resources: &[Resource]) -> HashSet<String> {
    let mut seen = HashSet::with_capacity(resources.len());
    resources
        .iter()
        .filter(|resource| !seen.insert(&resource.name))
        .map(|resource| resource.name.clone())
        .collect()
}

pub(super) fn invalid(name: &str, reason: String) -> InvalidResource {
    InvalidResource { name: name.to_owned(), field_path: String::new(), reason }
}
