//! The contract of registry adapters, on the scripted Nomad: with the event stream, and without it.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use std::time::Duration;

use serde_json::json;
use support::fake::{FakeNomad, Fault as Script};
use weft_model::Health;
use weft_registry::Registry;
use weft_registry::testkit::{Backend, Fault, Instance, Shown};
use weft_registry_nomad::{NomadRegistry, NomadSettings};

struct Scripted {
    fake: FakeNomad,
    down: bool,
}

impl Backend for Scripted {
    fn registry(&self) -> Box<dyn Registry> {
        let settings = NomadSettings {
            address: self.fake.url(),
            wait: Duration::from_secs(1),
            answer_timeout: Duration::from_millis(400),
            checks_every: Duration::from_secs(1),
            ..NomadSettings::default()
        };
        let (id, domain) = ("nomad/test".parse().unwrap(), "weft.test".parse().unwrap());
        Box::new(NomadRegistry::new(id, settings, domain).unwrap())
    }

    async fn put(&mut self, instance: Instance) {
        self.fake.put(instance.service, instance.name, |one| {
            one.registration["Port"] = json!(instance.port);
            let status = if instance.health == Health::Unhealthy { "failed" } else { "running" };
            one.allocation["ClientStatus"] = json!(status);
        });
    }

    async fn remove(&mut self, instance: Instance) {
        self.fake.remove(instance.name);
    }

    async fn fault(&mut self, fault: Fault) -> Shown {
        match fault {
            Fault::Down => {
                self.fake.go_down().await;
                self.down = true;
            }
            Fault::Denied => self.fake.set_fault(Script::Filtered),
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

mod with_the_event_stream {
    use super::*;

    async fn scripted() -> Scripted {
        support::init();
        Scripted { fake: FakeNomad::start(true).await, down: false }
    }

    weft_registry::contract_tests!(scripted);
}

mod without_the_event_stream {
    use super::*;

    async fn scripted() -> Scripted {
        support::init();
        Scripted { fake: FakeNomad::start(false).await, down: false }
    }

    weft_registry::contract_tests!(scripted);
}
