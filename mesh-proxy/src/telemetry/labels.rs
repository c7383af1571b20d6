//! The labels of a request's or connection's series: Istio's standard ones, so that dashboards work unchanged.
//!
//! Compared by value here; text is made at the scrape. Instances are not among the labels: their number has no bound,
//! `destination_workload` is the service account. What is not known is `unknown`, as in Istio.

use std::fmt::Write;
use std::sync::Arc;

use weft_model::SpiffeId;

use crate::record::{Destination, Record, Reporter, RequestProtocol, ResponseFlag};
use crate::settings::WorkloadSettings;

/// One label set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Labels {
    pub(super) reporter: Reporter,
    pub(super) source: Option<SpiffeId>,
    /// Without its workload.
    pub(super) destination: Option<Arc<Destination>>,
    pub(super) protocol: RequestProtocol,
    pub(super) status: u16,
    pub(super) grpc_status: Option<u16>,
    pub(super) flag: Option<ResponseFlag>,
    pub(super) mtls: Option<bool>,
    /// Stands for all label sets beyond the bound.
    pub(super) overflow: bool,
}

impl Labels {
    /// The labels of a finished request or connection.
    pub(super) fn of(record: &Record) -> Self {
        let tcp = record.protocol == RequestProtocol::Tcp;
        Self {
            reporter: record.reporter,
            source: record.source.clone(),
            destination: record.destination.as_deref().map(without_workload),
            protocol: record.protocol,
            status: if tcp { 0 } else { record.status },
            grpc_status: record.grpc_status,
            flag: record.flag,
            mtls: record.mtls,
            overflow: false,
        }
    }

    /// The labels of a TCP connection that was opened just now.
    pub(super) fn of_opened(
        reporter: Reporter,
        source: Option<&SpiffeId>,
        destination: Option<&Arc<Destination>>,
        mtls: Option<bool>,
    ) -> Self {
        Self {
            reporter,
            source: source.cloned(),
            destination: destination.map(|destination| without_workload(destination)),
            protocol: RequestProtocol::Tcp,
            status: 0,
            grpc_status: None,
            flag: None,
            mtls,
            overflow: false,
        }
    }

    /// What counts for these labels once the bound is reached.
    pub(super) fn overflow(&self) -> Self {
        Self {
            reporter: self.reporter,
            source: None,
            destination: None,
            protocol: self.protocol,
            status: 0,
            grpc_status: None,
            flag: None,
            mtls: None,
            overflow: true,
        }
    }

    /// `name="value",…` without braces. `own` is what this process's workload is called.
    pub(super) fn text(&self, own: &WorkloadSettings) -> String {
        let mut text = Text(String::with_capacity(1024));
        text.label("reporter", self.reporter.as_str());
        let at_source = self.reporter == Reporter::Source;
        let (app, version) = if at_source { (own.app.as_str(), own.version.as_str()) } else { ("", "") };
        text.party("source", self.source.as_ref(), app, version);
        let destination = self.destination.as_deref();
        let (app, version) = destination.map_or(("", ""), |to| (&*to.app, &*to.version));
        text.party("destination", destination.and_then(|to| to.identity.as_ref()), app, version);
        self.service(&mut text);
        text.label("request_protocol", self.protocol.as_str());
        if self.protocol != RequestProtocol::Tcp {
            text.label("response_code", &self.status.to_string());
            let grpc_status = self.grpc_status.map_or(String::new(), |status| status.to_string());
            text.label_or_empty("grpc_response_status", &grpc_status);
        }
        text.label("response_flags", self.flag.map_or("-", ResponseFlag::as_str));
        let security = match self.mtls {
            Some(true) => "mutual_tls",
            Some(false) => "none",
            None => "unknown",
        };
        text.label("connection_security_policy", security);
        text.0
    }

    fn service(&self, text: &mut Text) {
        let key = self.destination.as_deref().map(|to| &to.service);
        let host = match key {
            Some(key) => format!("{}.{}.mesh", key.name, key.namespace),
            None if self.overflow => "overflow".to_owned(),
            None => String::new(),
        };
        text.label("destination_service", &host);
        text.label("destination_service_name", key.map_or("", |key| key.name.as_str()));
        text.label("destination_service_namespace", key.map_or("", |key| key.namespace.as_str()));
    }
}

/// Instances are left out: see the module's header.
fn without_workload(destination: &Destination) -> Arc<Destination> {
    Arc::new(Destination { workload: None, ..destination.clone() })
}

struct Text(String);

impl Text {
    /// The labels of one side of the call, from its identity and what its workload is called.
    fn party(&mut self, side: &str, identity: Option<&SpiffeId>, app: &str, version: &str) {
        let (namespace, account) = identity.and_then(SpiffeId::service_account).unwrap_or_default();
        self.label(&format!("{side}_workload"), account);
        self.label(&format!("{side}_workload_namespace"), namespace);
        self.label(&format!("{side}_principal"), identity.map_or("", SpiffeId::as_str));
        self.label(&format!("{side}_app"), if app.is_empty() { account } else { app });
        self.label(&format!("{side}_version"), version);
        self.label(&format!("{side}_cluster"), "");
        self.label(&format!("{side}_canonical_service"), if app.is_empty() { account } else { app });
        self.label(&format!("{side}_canonical_revision"), version);
    }

    fn label(&mut self, name: &str, value: &str) {
        self.label_or_empty(name, if value.is_empty() { "unknown" } else { value });
    }

    fn label_or_empty(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        // Writing to a String can't fail.
        _ = write!(self.0, "{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}
