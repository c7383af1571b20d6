//! The contract of registry adapters, on a real API server with etcd.

#![allow(clippy::unwrap_used, reason = "what is not as expected here fails the test")]

mod support;

use std::collections::BTreeMap;
use std::io::{Write, stderr};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};
use support::{objects, real};
use weft_model::Health;
use weft_registry::Registry;
use weft_registry::testkit::{Backend, Case, Fault, Instance, Outcome, Pace, Shown};
use weft_registry_kubernetes::KubernetesRegistry;
use weft_registry_kubernetes::testkit::{ApiServer, User};

struct Real {
    server: ApiServer,
    wanted: BTreeMap<&'static str, Instance>,
    fault: Option<Fault>,
}

impl Real {
    async fn start() -> Self {
        let server = ApiServer::start().await.unwrap().expect("its binaries were there before");
        real::prepare(&server, "kit").await;
        Self { server, wanted: BTreeMap::new(), fault: None }
    }

    fn can_write(&self) -> bool {
        !matches!(self.fault, Some(Fault::Down | Fault::Hang | Fault::Empty))
    }

    /// Each instance has a slice of its own, since it has a port of its own.
    async fn write(&self, instance: Instance) {
        let Instance { service, name, port, health } = instance;
        let ip = format!("10.1.0.{}", port % 200);
        real::put_service(&self.server, "kit", service, 80).await;
        let uid = real::put_pod(&self.server, "kit", name, &ip).await;
        let mut slice =
            objects::slice("kit", name, service, port, &[(name, &ip, health != Health::Unhealthy)]);
        slice["endpoints"][0]["targetRef"]["uid"] = json!(uid);
        self.server.put(&real::slices("kit"), &slice).await.unwrap();
    }

    async fn delete(&self, name: &str) {
        self.server.delete(&format!("{}/{name}", real::slices("kit"))).await.unwrap();
        self.server.delete(&format!("/api/v1/namespaces/kit/pods/{name}")).await.unwrap();
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.pid().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Backend for Real {
    fn registry(&self) -> Box<dyn Registry> {
        let (id, domain) = ("kubernetes/prod".parse().unwrap(), "weft.test".parse().unwrap());
        let settings = self.server.settings(User::Weft).unwrap();
        Box::new(KubernetesRegistry::new(id, settings, domain).unwrap())
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
            self.delete(instance.name).await;
        }
    }

    async fn fault(&mut self, fault: Fault) -> Shown {
        match fault {
            Fault::Down => self.server.kill(),
            Fault::Denied => real::forbid(&self.server).await,
            Fault::Hang => self.signal("-STOP"),
            Fault::Empty => {
                // Single deletions are never doubted; a server that lost its data is.
                self.server.set_aside().unwrap();
                self.server.restart().await.unwrap();
                real::prepare(&self.server, "kit").await;
            }
            Fault::NotFound => {
                return Shown::CannotShow("a real server has these kinds; see tests/contract_fake.rs");
            }
            Fault::Garbage => {
                return Shown::CannotShow("a real server sends no garbage; see tests/contract_fake.rs");
            }
        }
        self.fault = Some(fault);
        Shown::Yes
    }

    async fn heal(&mut self) {
        match self.fault.take() {
            Some(Fault::Down) => self.server.restart().await.unwrap(),
            Some(Fault::Denied) => real::allow(&self.server).await,
            Some(Fault::Hang) => self.signal("-CONT"),
            Some(Fault::Empty) => {
                self.server.bring_back().unwrap();
                self.server.restart().await.unwrap();
            }
            _ => {}
        }
        let held = self.server.send(Method::GET, &real::slices("kit"), &Value::Null).await.unwrap();
        for slice in held["items"].as_array().unwrap() {
            let name = slice["metadata"]["name"].as_str().unwrap();
            if !self.wanted.contains_key(name) {
                self.delete(name).await;
            }
        }
        for instance in self.wanted.values() {
            self.write(*instance).await;
        }
    }

    fn pace(&self) -> Pace {
        Pace { patience: Duration::from_secs(40), quiet: Duration::from_secs(2), ..Pace::default() }
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        if self.fault == Some(Fault::Hang) {
            self.signal("-CONT");
        }
    }
}

/// Runs all cases, a few at a time: most of a case is waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_a_real_api_server() {
    if !ApiServer::is_there() {
        // Says that it is skipped.
        assert!(ApiServer::start().await.unwrap().is_none());
        return;
    }
    let cases = futures::stream::iter(Case::ALL)
        .map(|case| async move { (case, Box::pin(case.run(&Real::start)).await) });
    let outcomes: Vec<(Case, Outcome)> = cases.buffer_unordered(2).collect().await;
    let mut failed = Vec::new();
    for (case, outcome) in &outcomes {
        if matches!(outcome, Outcome::CannotShow(_)) {
            // Straight to stderr: the harness shows what a passing test prints to nobody.
            let _ = writeln!(stderr(), "contract on Kubernetes: {}: {outcome}", case.name());
        }
        if matches!(outcome, Outcome::Failed(_)) {
            failed.push(format!("{}: {outcome}", case.name()));
        }
    }
    assert_eq!(outcomes.len(), Case::ALL.len());
    assert!(failed.is_empty(), "{failed:#?}");
}
