//! The contract of registry adapters, on real Consul 1.20.5 and 1.8.7 with ACLs on.
//!
//! Instances are registered on an external node, in the catalog: no agent puts back what a test takes away, and one
//! transaction can take all of them away at once.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use std::collections::BTreeMap;
use std::io::{Write, stderr};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use weft_model::Health;
use weft_registry::Registry;
use weft_registry::testkit::{Backend, Case, Fault, Instance, Outcome, Pace, Shown};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer, ConsulVersion};
use weft_registry_consul::{ConsulRegistry, ConsulSettings};

struct Real {
    server: ConsulServer,
    token_file: NamedTempFile,
    blind_token: String,
    wanted: BTreeMap<&'static str, Instance>,
    fault: Option<Fault>,
}

impl Real {
    async fn start(version: ConsulVersion) -> Self {
        support::init();
        let options = ConsulOptions { acl: true, persistent: true, ..ConsulOptions::default() };
        let server =
            ConsulServer::start(version, options).await.unwrap().expect("its binary was there before");
        let blind_token = server.make_token("blind", "key_prefix \"x\" { policy = \"read\" }").await.unwrap();
        let token_file = NamedTempFile::new().unwrap();
        std::fs::write(&token_file, server.management_token()).unwrap();
        Self { server, token_file, blind_token, wanted: BTreeMap::new(), fault: None }
    }

    fn can_write(&self) -> bool {
        !matches!(self.fault, Some(Fault::Down | Fault::Hang | Fault::Empty))
    }

    async fn write(&self, instance: Instance) {
        let status = if instance.health == Health::Unhealthy { "critical" } else { "passing" };
        let body = json!({
            "Node": "kit-node", "Address": "10.9.9.9",
            "Service": {"ID": instance.name, "Service": instance.service, "Port": instance.port},
            "Check": {"CheckID": instance.name, "Name": "kit", "Status": status, "ServiceID": instance.name},
        });
        self.server.put("catalog/register", &body).await.unwrap();
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.pid().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// What the catalog holds on our node: id and service.
    async fn held(&self) -> Vec<(String, String)> {
        let node = self.server.get("catalog/node/kit-node").await.unwrap();
        let services = node["Services"].as_object().cloned().unwrap_or_default();
        services
            .into_iter()
            .map(|(id, service)| (id, service["Service"].as_str().unwrap().to_owned()))
            .collect()
    }

    /// Takes instances away, all in one write.
    async fn delete(&self, instances: Vec<(String, String)>) {
        let one = |(id, service): (String, String)| json!({"Service": {"Verb": "delete", "Node": "kit-node", "Service": {"ID": id, "Service": service}}});
        let operations: Vec<Value> = instances.into_iter().map(one).collect();
        if !operations.is_empty() {
            self.server.put("txn", &Value::Array(operations)).await.unwrap();
        }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if self.fault == Some(Fault::Hang) {
            self.signal("-CONT");
        }
    }
}

impl Backend for Real {
    fn registry(&self) -> Box<dyn Registry> {
        let settings = ConsulSettings {
            address: self.server.address(),
            token_file: Some(self.token_file.path().to_owned()),
            wait: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(1),
            ..ConsulSettings::default()
        };
        let (id, domain) = ("consul/dc1".parse().unwrap(), "weft.test".parse().unwrap());
        Box::new(ConsulRegistry::new(id, settings, domain).unwrap())
    }

    async fn put(&mut self, instance: Instance) {
        self.wanted.insert(instance.name, instance);
        if self.can_write() {
            self.write(instance).await;
        }
    }

    async fn remove(&mut self, instance: Instance) {
        self.wanted.remove(instance.name);
        if self.can_write() {
            self.delete(vec![(instance.name.to_owned(), instance.service.to_owned())]).await;
        }
    }

    async fn fault(&mut self, fault: Fault) -> Shown {
        match fault {
            Fault::Down => self.server.kill().unwrap(),
            Fault::Denied => std::fs::write(&self.token_file, &self.blind_token).unwrap(),
            Fault::Hang => self.signal("-STOP"),
            Fault::Empty => self.delete(self.held().await).await,
            Fault::NotFound => return Shown::CannotShow("a real datacenter does not go; see tests/real.rs"),
            Fault::Garbage => {
                return Shown::CannotShow("a real Consul sends no garbage; see tests/contract_fake.rs");
            }
        }
        self.fault = Some(fault);
        Shown::Yes
    }

    async fn heal(&mut self) {
        match self.fault.take() {
            Some(Fault::Down) => self.server.restart().await.unwrap(),
            Some(Fault::Denied) => std::fs::write(&self.token_file, self.server.management_token()).unwrap(),
            Some(Fault::Hang) => self.signal("-CONT"),
            _ => {}
        }
        let gone =
            self.held().await.into_iter().filter(|held| !self.wanted.contains_key(held.0.as_str())).collect();
        self.delete(gone).await;
        for instance in self.wanted.values() {
            self.write(*instance).await;
        }
    }

    fn pace(&self) -> Pace {
        Pace { patience: Duration::from_secs(30), quiet: Duration::from_secs(2), ..Pace::default() }
    }
}

/// Runs all cases, a few at a time: most of a case is waiting.
async fn keeps_the_contract(version: ConsulVersion) {
    if version.binary().is_none() {
        // Says that it is skipped.
        assert!(ConsulServer::start(version, ConsulOptions::default()).await.unwrap().is_none());
        return;
    }
    let cases = futures::stream::iter(Case::ALL)
        .map(|case| async move { (case, case.run(&|| Real::start(version)).await) });
    let outcomes: Vec<(Case, Outcome)> = cases.buffer_unordered(4).collect().await;
    let mut failed = Vec::new();
    for (case, outcome) in &outcomes {
        if matches!(outcome, Outcome::CannotShow(_)) {
            // Straight to stderr: the harness shows what a passing test prints to nobody.
            let _ = writeln!(stderr(), "contract on Consul {}: {}: {outcome}", version.as_str(), case.name());
        }
        if matches!(outcome, Outcome::Failed(_)) {
            failed.push(format!("{}: {outcome}", case.name()));
        }
    }
    assert_eq!(outcomes.len(), Case::ALL.len());
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_real_consul_1_20_5() {
    keeps_the_contract(ConsulVersion::V1_20_5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_real_consul_1_8_7() {
    keeps_the_contract(ConsulVersion::V1_8_7).await;
}
