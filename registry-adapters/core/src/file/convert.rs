//! From a document's fields to a service or a workload of the model.
//!
//! It goes on after a problem, so that the user sees all of an object's problems at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_saphyr::Spanned;
use weft_model::{
    Entry, InstanceId, KeySyntax, Metadata, Namespace, Network, NetworkAddress, Provenance, Service,
    ServiceKey, ServiceName, ServicePort, Severity, Workload, WorkloadPort,
};

use super::decode::{Context, place};
use super::document::{Document, Kind, Port};
use crate::error::Problem;

/// The conversion of one document.
pub(super) struct Converting<'a> {
    file: &'a str,
    /// The file's line that the document's line 1 is.
    first_line: u64,
    /// The line that stands for the whole document.
    line: u64,
    context: &'a Context,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Converting<'a> {
    pub(super) fn new(file: &'a str, first_line: u64, line: u64, context: &'a Context) -> Self {
        Self { file, first_line, line, context, problems: Vec::new() }
    }

    /// The document as an entry; `None` with at least one problem that says why.
    pub(super) fn entry(&mut self, document: Document) -> Option<Entry> {
        let entry = match document.kind {
            Some(Kind::Service) => self.service(document).map(Entry::Service),
            Some(Kind::Workload) => self.workload(document).map(Entry::from),
            None => self.missing("kind", "Service or Workload"),
        };
        entry.filter(|_| self.problems.iter().all(|problem| problem.severity == Severity::Warning))
    }

    fn service(&mut self, document: Document) -> Option<Service> {
        self.refuse_fields_of_a_workload(&document);
        let ports = self.ports(document.ports.as_ref(), |port| ServicePort {
            name: port.name.clone(),
            number: port.number.map_or(0, |number| number.0),
            protocol: port.protocol.map(|protocol| protocol.0).unwrap_or_default(),
        });
        let addresses = match document.addresses {
            Some(_) => self.addresses(&document),
            None => Vec::new(),
        };
        let name = document.name.or_else(|| self.missing("name", "the service's name, or namespace/name"))?;
        let network = Network::default_network();
        let addresses =
            addresses.into_iter().map(|ip| NetworkAddress { network: network.clone(), ip }).collect();
        match name.value.parse::<ServiceKey>() {
            Ok(key) => Some(Service {
                key,
                ports,
                labels: document.labels.unwrap_or_default(),
                addresses,
                prefer: document.prefer.map(|prefer| prefer.value),
            }),
            Err(invalid) => self.wrong(&name, "name", &invalid.to_string()),
        }
    }

    fn workload(&mut self, document: Document) -> Option<Workload> {
        if let Some(prefer) = &document.prefer {
            self.wrong::<(), _>(prefer, "prefer", "a Workload has no such field; it belongs in its Service");
        }
        let metadata = self.metadata(&document);
        let ports = self.ports(document.ports.as_ref(), |port| WorkloadPort {
            name: port.name.clone(),
            number: port.number.map_or(0, |number| number.0),
            protocol: port
                .protocol
                .map(|protocol| protocol.0)
                .or_else(|| metadata.protocol_for(port.name.as_ref()))
                .unwrap_or_default(),
        });
        self.require_port_numbers(document.ports.as_ref());
        let addresses = self.addresses(&document);
        let id = self.instance_id(document.name.as_ref());
        let service = match metadata.service() {
            None if document.metadata.contains_key("service") => None,
            None => self.missing("service", "the name of the service that the workload belongs to"),
            Some(service) => Some(service),
        };
        let (id, service) = (id?, service?);
        let mut labels = document.labels.unwrap_or_default();
        labels.extend(metadata.labels().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let key = ServiceKey::new(metadata.namespace().clone(), service.clone());
        Some(Workload {
            id,
            services: BTreeMap::from([(key, ports)]),
            addresses,
            network: metadata.network().cloned().unwrap_or_else(Network::default_network),
            identity: Some(metadata.identity_or(service)),
            tunnel: metadata.tunnel().unwrap_or_default(),
            captured: metadata.proxy().redirected,
            locality: metadata.locality().cloned().unwrap_or_default(),
            node: metadata.node().cloned(),
            weight: metadata.weight().unwrap_or(Workload::DEFAULT_WEIGHT),
            health: document.health.map(|health| health.value).unwrap_or_default(),
            labels,
            provenance: BTreeSet::from([self.provenance()]),
        })
    }

    fn metadata(&mut self, document: &Document) -> Metadata {
        let pairs = document.metadata.iter().map(|(key, value)| (key.as_str(), value.value.as_str()));
        let domain = &self.context.trust_domain;
        let (metadata, problems) =
            Metadata::parse(KeySyntax::Bare, pairs, domain, &Namespace::default_namespace());
        for problem in problems {
            let line = document.metadata.get(&problem.key).map_or(self.line, |value| self.line_of(value));
            let severity = problem.severity;
            let message = format!("{:?} is not valid; expected {}", problem.value, problem.expected);
            let reported = Problem::error(self.file, message).at_line(line).in_field(problem.key);
            self.problems.push(Problem { severity, ..reported });
        }
        metadata
    }

    /// `file/REGISTRY/NAME`: names are unique within the registry, over all of its files.
    fn instance_id(&mut self, name: Option<&Spanned<String>>) -> Option<InstanceId> {
        let Some(name) = name else {
            return self.missing("name", "a name that is unique in this registry");
        };
        if let Err(invalid) = name.value.parse::<ServiceName>() {
            return self.wrong(name, "name", &format!("{:?} is no name: {}", name.value, invalid.reason));
        }
        match format!("file/{}/{}", self.context.registry.name(), name.value).parse() {
            Ok(id) => Some(id),
            Err(invalid) => self.wrong(name, "name", &invalid.to_string()),
        }
    }

    fn addresses(&mut self, document: &Document) -> Vec<IpAddr> {
        let Some(written) = &document.addresses else {
            self.missing::<()>("addresses", "at least one address");
            return Vec::new();
        };
        let mut addresses = Vec::new();
        for (i, address) in written.value.iter().enumerate() {
            if addresses.contains(&address.0) {
                self.wrong::<(), _>(written, &format!("addresses[{i}]"), "the same address is there twice");
            }
            addresses.push(address.0);
        }
        if addresses.is_empty() {
            self.wrong::<(), _>(written, "addresses", "it is empty; expected at least one address");
        }
        addresses
    }

    /// The ports, sorted. Names join a service's ports to its workloads', so none is there twice.
    fn ports<P: Ord>(
        &mut self,
        written: Option<&Spanned<Vec<Port>>>,
        convert: impl Fn(&Port) -> P,
    ) -> Vec<P> {
        let Some(written) = written else { return Vec::new() };
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        for (i, port) in written.value.iter().enumerate() {
            if !names.insert(port.name.as_ref()) {
                let message = match &port.name {
                    Some(name) => format!("the name {name} is there twice"),
                    None => "it is missing; only a port that is alone may have none".to_owned(),
                };
                self.wrong::<(), _>(written, &format!("ports[{i}].name"), &message);
            }
            if port.number.is_some_and(|number| !numbers.insert(number.0)) {
                self.wrong::<(), _>(written, &format!("ports[{i}].number"), "the same number is there twice");
            }
        }
        let mut ports: Vec<P> = written.value.iter().map(convert).collect();
        ports.sort();
        ports
    }

    fn require_port_numbers(&mut self, written: Option<&Spanned<Vec<Port>>>) {
        let Some(written) = written else { return };
        for (i, _) in written.value.iter().enumerate().filter(|(_, port)| port.number.is_none()) {
            self.wrong::<(), _>(written, &format!("ports[{i}].number"), "it is missing; expected 1 to 65535");
        }
    }

    fn refuse_fields_of_a_workload(&mut self, document: &Document) {
        let own = [("health", document.health.as_ref().map(|value| self.line_of(value)))];
        let metadata = document.metadata.iter().map(|(key, value)| (key.as_str(), Some(self.line_of(value))));
        let there: Vec<(&str, u64)> =
            own.into_iter().chain(metadata).filter_map(|(field, line)| Some((field, line?))).collect();
        for (field, line) in there {
            let message =
                "a Service has no such field; known are kind, name, ports, addresses, labels, prefer";
            self.problems.push(Problem::error(self.file, message).at_line(line).in_field(field));
        }
    }

    fn provenance(&self) -> Provenance {
        Provenance {
            registry: self.context.registry.clone(),
            object: place(self.file, self.line),
            // Set when it is compared with what is already there.
            since_unix_ms: 0,
        }
    }

    fn missing<T>(&mut self, field: &str, expected: &str) -> Option<T> {
        let message = format!("it is missing; expected {expected}");
        self.problems.push(Problem::error(self.file, message).at_line(self.line).in_field(field));
        None
    }

    fn wrong<T, V>(&mut self, value: &Spanned<V>, field: &str, message: &str) -> Option<T> {
        let line = self.line_of(value);
        self.problems.push(Problem::error(self.file, message).at_line(line).in_field(field));
        None
    }

    fn line_of<V>(&self, value: &Spanned<V>) -> u64 {
        match value.referenced.line() {
            0 => self.line,
            line => self.first_line + line - 1,
        }
    }
}
