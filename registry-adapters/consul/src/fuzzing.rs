//! The way from Consul's answers to events without a Consul: the door for the fuzz targets.
//!
//! The same decoding, conversion and view as in `watch.rs`; only the transport and its clocks are missing.

use std::collections::{BTreeSet, HashMap};

use weft_model::{RegistryEvent, RegistryId, TrustDomain, Workload};
use weft_registry::Problem;

use crate::answer::HealthEntry;
use crate::convert::{Context, convert};
use crate::view::{Sight, Target, View};

/// A datacenter of which only answers are seen.
#[derive(Debug)]
pub struct Answers {
    context: Context,
    view: View,
}

impl Answers {
    /// Nothing answered yet.
    pub fn new(registry: RegistryId, trust_domain: TrustDomain) -> Self {
        Self { context: Context { registry, trust_domain }, view: View::new([None]) }
    }

    /// Takes a list of services. `false`: it is not one.
    pub fn list(&mut self, json: &[u8], filtered: bool, told: bool) -> (bool, Option<RegistryEvent>) {
        let Ok(list) = serde_json::from_slice::<HashMap<String, Vec<String>>>(json) else {
            return (false, None);
        };
        let names: BTreeSet<&str> = list.keys().map(String::as_str).collect();
        let listed = self.view.on_list(&None, &names, Sight::of_list(&names, filtered, &None, told));
        (true, self.view.on_gone(&listed.gone))
    }

    /// Takes the instances of a service. `false`: the answer or the name is none.
    pub fn instances(&mut self, name: &str, json: &[u8], all: bool) -> (bool, Option<RegistryEvent>) {
        let Ok(name) = name.parse() else { return (false, None) };
        let Ok(entries) = serde_json::from_slice::<Vec<HealthEntry>>(json) else { return (false, None) };
        let target = Target { namespace: None, name };
        let converted = convert(&self.context, &entries, self.view.last(&target), 1);
        let event = match all {
            true => self.view.on_instances(&target, converted, true),
            false => self.view.on_some_instances(&target, converted, true),
        };
        (true, event)
    }

    /// What is held of a service.
    pub fn held(&self, name: &str) -> Vec<Workload> {
        name.parse().map_or(Vec::new(), |name| self.view.last(&Target { namespace: None, name }).to_vec())
    }

    /// Everything, as a first listing would say it.
    pub fn all(&self) -> RegistryEvent {
        self.view.all()
    }

    /// What is wrong with single objects.
    pub fn problems(&self) -> Vec<Problem> {
        self.view.problems()
    }
}
