//! The contract of registry adapters, on the scripted API server.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use support::fake::{FakeApi, Fault as Script};
use support::objects;
use weft_model::Health;
use weft_registry::Registry;
use weft_registry::testkit::{Backend, Fault, Instance, Shown};
use weft_registry_kubernetes::KubernetesRegistry;

struct Scripted {
    fake: FakeApi,
    down: bool,
}

async fn scripted() -> Scripted {
    Scripted { fake: FakeApi::start().await, down: false }
}

impl Backend for Scripted {
    fn registry(&self) -> Box<dyn Registry> {
        let (id, domain) = ("kubernetes/prod".parse().unwrap(), "weft.test".parse().unwrap());
        Box::new(KubernetesRegistry::new(id, self.fake.settings(), domain).unwrap())
    }

    /// Each instance has a slice of its own, since it has a port of its own.
    async fn put(&mut self, instance: Instance) {
        let Instance { service, name, port, health } = instance;
        let ip = format!("10.1.0.{}", port % 200);
        let pods = [(name, ip.as_str(), health != Health::Unhealthy)];
        self.fake.put("services", objects::service("kit", service, 80));
        self.fake.put("pods", objects::pod("kit", name, &ip));
        self.fake.put("endpointslices", objects::slice("kit", name, service, port, &pods));
    }

    async fn remove(&mut self, instance: Instance) {
        self.fake.delete("endpointslices", &format!("kit/{}", instance.name));
        self.fake.delete("pods", &format!("kit/{}", instance.name));
    }

    async fn fault(&mut self, fault: Fault) -> Shown {
        match fault {
            Fault::Down => {
                self.fake.go_down().await;
                self.down = true;
            }
            Fault::Denied => self.fake.set_fault(Script::Forbidden(None)),
            Fault::NotFound => self.fake.set_fault(Script::NotFound),
            Fault::Garbage => self.fake.set_fault(Script::Garbage),
            Fault::Hang => self.fake.set_fault(Script::Hang),
            Fault::Empty => self.fake.set_fault(Script::Empty),
        }
        Shown::Yes
    }

    async fn heal(&mut self) {
        if std::mem::take(&mut self.down) {
            self.fake.come_back().await;
        }
        self.fake.set_fault(Script::None);
    }

    fn requests(&self) -> Option<u64> {
        u64::try_from(self.fake.requests().len()).ok()
    }
}

weft_registry::contract_tests!(scripted);
