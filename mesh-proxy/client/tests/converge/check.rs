//! What holds when everything is delivered.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::Workload;
use weft_proto::mesh::v1 as wire;
use weft_proto::{Address, ResourceType};
use weft_xds::TypeStatus;

use super::World;

impl World {
    /// A server that has not heard everything shows what it has heard.
    pub(super) fn check_heard(&self) {
        let refused = self.refused(ResourceType::Workload);
        for key in &self.wanted {
            let name = key.to_string();
            if self.published.resources.service(&name).is_none()
                || self.refused(ResourceType::Service).contains(&name)
            {
                continue;
            }
            let held = self.services.get(key).and_then(Option::as_ref);
            let held = held.unwrap_or_else(|| panic!("{name} was heard and not sent"));
            for id in self.published.resources.members(&name).filter(|id| !refused.contains(id.as_ref())) {
                let held = held.values().find(|workload| workload.id.as_str() == id.as_ref());
                assert_eq!(held.map(|held| held.as_ref()), Some(&self.decoded(id)), "{id}");
            }
        }
    }

    pub(super) fn refused(&self, kind: ResourceType) -> BTreeSet<String> {
        let types = self.stream.status().types;
        let status = types.into_iter().find(|status| status.kind == kind.as_str()).unwrap();
        status.refused.into_iter().map(|refused| refused.name).collect()
    }

    /// Client state equals the server's view of its subscriptions.
    pub(super) fn check_converged(&self) {
        let refused_workloads = self.refused(ResourceType::Workload);
        let refused_services = self.refused(ResourceType::Service);
        let status = self.stream.status();
        let at_rest = |t: &TypeStatus| (t.waiting, t.undecided, t.in_flight_revision) == (0, 0, None);
        assert!(status.types.iter().all(at_rest), "{status:?}");
        assert_eq!(status.applied_revision, Some(self.published.revision.0));
        for key in &self.wanted {
            let name = key.to_string();
            if refused_services.contains(&name) {
                continue;
            }
            let expected: Option<Vec<Workload>> = self.published.resources.service(&name).map(|_| {
                let members = self.published.resources.members(&name);
                let members = members.filter(|id| !refused_workloads.contains(id.as_ref()));
                members.map(|id| self.decoded(id)).collect()
            });
            let held = self.services.get(key).unwrap_or_else(|| panic!("{name} was never answered"));
            let held: Option<Vec<Workload>> = held.as_ref().map(|workloads| {
                let good = workloads.values().filter(|w| !refused_workloads.contains(w.id.as_str()));
                good.map(|workload| workload.as_ref().clone()).collect()
            });
            assert_eq!(held, expected, "{name}");
        }
        if self.refused(ResourceType::TrustBundle).is_empty() {
            assert_eq!(self.bundles.as_ref(), Some(&self.bundle()));
        }
        self.check_held(&refused_workloads);
        self.check_addresses();
    }

    /// Whose an address is, is known as the catalog knows it.
    fn check_addresses(&self) {
        let refused = self.refused(ResourceType::Address);
        for address in self.wanted_addresses.iter().filter(|one| !refused.contains(&one.to_string())) {
            let held = self.addresses.get(address).unwrap_or_else(|| panic!("{address} was never answered"));
            let held = held.as_ref().map(|address| wire::Address::from(address.as_ref()));
            let owner = self.catalog.snapshot().owner(address);
            let expected =
                owner.map(|owner| wire::Address::from(&Address { address: address.clone(), owner }));
            assert_eq!(held, expected, "{address}");
        }
    }

    /// Nothing is held that the server does not show, and each at the server's version.
    fn check_held(&self, refused: &BTreeSet<String>) {
        let resources = &self.published.resources;
        let visible =
            self.wanted.iter().flat_map(|key| resources.members(&key.to_string()).collect::<Vec<_>>());
        let visible: BTreeMap<String, String> = visible
            .filter(|id| !refused.contains(id.as_ref()))
            .map(|id| (id.to_string(), resources.workload(id).unwrap().version.to_string()))
            .collect();
        let held = self.client.held().into_iter().filter(|resource| {
            let kind = ResourceType::from_url(&resource.resource.as_ref().unwrap().type_url);
            kind == Some(ResourceType::Workload) && !refused.contains(&resource.name)
        });
        let held: BTreeMap<String, String> = held.map(|resource| (resource.name, resource.version)).collect();
        assert_eq!(held, visible);
    }

    fn decoded(&self, id: &str) -> Workload {
        weft_proto::workload(id, self.published.resources.workload(id).unwrap().encoded.clone()).unwrap()
    }
}
