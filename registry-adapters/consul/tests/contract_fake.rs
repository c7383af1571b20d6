//! The contract of registry adapters, on the scripted Consul.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::fake::{FakeConsul, Fault as Script};
use weft_model::Health;
use weft_registry::Registry;
use weft_registry::testkit::{Backend, Fault, Instance, Shown};
use weft_registry_consul::{ConsulRegistry, ConsulSettings};

struct Scripted {
    fake: FakeConsul,
    down: bool,
}

async fn scripted() -> Scripted {
    support::init();
    Scripted { fake: FakeConsul::start().await, down: false }
}

impl Backend for Scripted {
    fn registry(&self) -> Box<dyn Registry> {
        let settings = ConsulSettings {
            address: self.fake.url(),
            wait: Duration::from_secs(1),
            answer_timeout: Duration::from_millis(400),
            ..ConsulSettings::default()
        };
        let (id, domain) = ("consul/dc1".parse().unwrap(), "weft.test".parse().unwrap());
        Box::new(ConsulRegistry::new(id, settings, domain).unwrap())
    }

    async fn put(&mut self, instance: Instance) {
        self.fake.put(instance.service, instance.name, |entry| {
            entry["Service"]["Port"] = json!(instance.port);
            let status = if instance.health == Health::Unhealthy { "critical" } else { "passing" };
            entry["Checks"][0]["Status"] = json!(status);
        });
    }

    async fn remove(&mut self, instance: Instance) {
        self.fake.remove(instance.service, instance.name);
    }

    async fn fault(&mut self, fault: Fault) -> Shown {
        match fault {
            Fault::Down => {
                self.fake.go_down().await;
                self.down = true;
            }
            Fault::Denied => self.fake.set_fault(Script::EmptyDenied),
            Fault::NotFound => self.fake.set_fault(Script::NoDatacenter),
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
        u64::try_from(self.fake.count()).ok()
    }
}

weft_registry::contract_tests!(scripted);
