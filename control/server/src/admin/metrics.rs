//! `/metrics`: the Prometheus text format.
//!
//! [`TABLE`] is every metric there is; a metric that is not in it can't be written, and `docs/operations.md` is
//! held against it by a test.

use std::fmt::Write;
use std::time::SystemTime;

use weft_registry::{State, UnixMillis};

use super::Admin;
use crate::clock::unix_ms;
use crate::counters::{Histogram, Reasons};
use crate::readiness::Phase;

/// A metric's name, type and meaning.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
}

const fn metric(name: &'static str, kind: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, help }
}

/// All of them, in the order they are written.
pub(super) const TABLE: &[Metric] = &[
    metric("weft_control_ready", "gauge", "1 while proxies are served."),
    metric(
        "weft_control_revision",
        "gauge",
        "Revision of the published state; starts anew with the process.",
    ),
    metric("weft_control_services", "gauge", "Services of the mesh."),
    metric("weft_control_workloads", "gauge", "Workloads of the mesh."),
    metric("weft_control_registry_state", "gauge", "1 for the state that a registry is in."),
    metric(
        "weft_control_registry_staleness_seconds",
        "gauge",
        "For how long a registry has not confirmed what is known; 0 while synced.",
    ),
    metric("weft_control_registry_entries", "gauge", "Entries of a registry that are held."),
    metric("weft_control_registry_events_total", "counter", "Changes that a registry reported."),
    metric(
        "weft_control_registry_problems",
        "gauge",
        "Objects of a registry that can't be used as they are.",
    ),
    metric(
        "weft_control_registry_held",
        "gauge",
        "Workloads that a registry's last listing lacked and that are kept until it is confirmed.",
    ),
    metric("weft_control_proxies", "gauge", "Connected proxies."),
    metric("weft_control_streams_total", "counter", "Discovery streams opened."),
    metric(
        "weft_control_streams_refused_total",
        "counter",
        "Discovery streams refused or ended for what the client did, by the reason.",
    ),
    metric("weft_control_connections", "gauge", "Connections of proxies, by how far they are known."),
    metric(
        "weft_control_connections_refused_total",
        "counter",
        "Connections of proxies that were refused or ended, by the reason.",
    ),
    metric("weft_control_ca_issued_total", "counter", "Certificates issued, by what proved the identity."),
    metric("weft_control_ca_refused_total", "counter", "Certificate requests refused, by the reason."),
    metric("weft_control_ca_sign_seconds", "histogram", "Time to sign a certificate."),
    metric(
        "weft_control_proxy_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the first of the connected proxies' certificates expires.",
    ),
    metric("weft_control_responses_total", "counter", "Discovery responses sent."),
    metric("weft_control_resources_sent_total", "counter", "Resources in them."),
    metric("weft_control_removals_sent_total", "counter", "Removals in them."),
    metric("weft_control_acks_total", "counter", "Responses that proxies acknowledged."),
    metric("weft_control_nacks_total", "counter", "Responses in which proxies refused a resource."),
    metric(
        "weft_control_convergence_seconds",
        "histogram",
        "From a registry's event to a proxy's acknowledgement.",
    ),
    metric(
        "weft_control_certificate_expiry_timestamp_seconds",
        "gauge",
        "When a certificate expires: own, issuing, root.",
    ),
    metric(
        "weft_control_injections_total",
        "counter",
        "Pods that the webhook was asked about, by the answer.",
    ),
    metric("weft_control_injection_seconds", "histogram", "Time to answer for a pod."),
    metric("weft_control_tasks", "gauge", "Tasks that have not ended: one that only grows is a leak."),
];

/// The whole page.
pub(super) fn render(admin: &Admin) -> String {
    let mut page = Page::default();
    mesh(&mut page, admin);
    registries(&mut page, admin);
    proxies(&mut page, admin);
    connections(&mut page, admin);
    authority(&mut page, admin);
    certificates(&mut page, admin);
    page.reasons("weft_control_injections_total", "verdict", &admin.counters.injections);
    page.histogram("weft_control_injection_seconds", &admin.counters.injecting);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        page.one("weft_control_tasks", runtime.metrics().num_alive_tasks() as f64);
    }
    page.text
}

fn mesh(page: &mut Page, admin: &Admin) {
    let state = admin.published.state.borrow().clone();
    let ready = *admin.phase.borrow() == Phase::Serving;
    page.one("weft_control_ready", f64::from(u8::from(ready)));
    page.one("weft_control_revision", state.snapshot.revision.0 as f64);
    page.one("weft_control_services", state.snapshot.service_count() as f64);
    page.one("weft_control_workloads", state.snapshot.workload_count() as f64);
}

fn registries(page: &mut Page, admin: &Admin) {
    let reports = admin.published.reports.borrow().clone();
    let now = UnixMillis::now();
    let states = [State::Syncing, State::Synced, State::Stale, State::Denied, State::NotFound];
    page.family("weft_control_registry_state");
    for (id, report) in reports.iter() {
        for state in states {
            let labels = format!("registry=\"{id}\",state=\"{state}\"");
            page.sample(
                "weft_control_registry_state",
                &labels,
                f64::from(u8::from(report.freshness.state == state)),
            );
        }
    }
    let mut each = |name, value: &dyn Fn(&crate::publish::RegistryReport) -> f64| {
        page.family(name);
        reports
            .iter()
            .for_each(|(id, report)| page.sample(name, &format!("registry=\"{id}\""), value(report)));
    };
    each("weft_control_registry_staleness_seconds", &|report| report.freshness.staleness(now).as_secs_f64());
    each("weft_control_registry_entries", &|report| report.entries as f64);
    each("weft_control_registry_events_total", &|report| report.events as f64);
    each("weft_control_registry_problems", &|report| report.freshness.problems.len() as f64);
    each("weft_control_registry_held", &|report| {
        report.freshness.held_reset.map_or(0, |held| held.would_drop) as f64
    });
}

fn proxies(page: &mut Page, admin: &Admin) {
    let counters = &admin.counters;
    page.one("weft_control_proxies", admin.proxies.count() as f64);
    for (name, counter) in [
        ("weft_control_streams_total", &counters.streams),
        ("weft_control_responses_total", &counters.responses),
        ("weft_control_resources_sent_total", &counters.resources),
        ("weft_control_removals_sent_total", &counters.removals),
        ("weft_control_acks_total", &counters.acks),
        ("weft_control_nacks_total", &counters.nacks),
    ] {
        page.one(name, counter.get() as f64);
    }
    page.reasons("weft_control_streams_refused_total", "reason", &counters.refused_streams);
    page.histogram("weft_control_convergence_seconds", &counters.convergence);
}

fn connections(page: &mut Page, admin: &Admin) {
    let connections = &admin.seen.connections;
    let name = "weft_control_connections";
    page.family(name);
    for (kind, count) in connections.open() {
        page.sample(name, &format!("kind=\"{kind}\""), count as f64);
    }
    page.reasons("weft_control_connections_refused_total", "reason", connections.refused());
}

fn authority(page: &mut Page, admin: &Admin) {
    let counts = &admin.seen.counts;
    page.reasons("weft_control_ca_issued_total", "attestor", &counts.issued);
    page.reasons("weft_control_ca_refused_total", "reason", &counts.refused);
    page.histogram("weft_control_ca_sign_seconds", &counts.signing);
}

fn certificates(page: &mut Page, admin: &Admin) {
    let name = "weft_control_certificate_expiry_timestamp_seconds";
    page.family(name);
    let mut expiry = |of: &str, at: SystemTime| page.sample(name, of, unix_ms(at) as f64 / 1000.0);
    if let Some(own) = admin.identity.current() {
        expiry("certificate=\"own\"", own.svid.not_after());
    }
    expiry("certificate=\"issuing\"", admin.authority.issuing_not_after());
    for (n, at) in admin.authority.roots_not_after().into_iter().enumerate() {
        expiry(&format!("certificate=\"root\",number=\"{}\"", n + 1), at);
    }
    let name = "weft_control_proxy_certificate_expiry_timestamp_seconds";
    page.family(name);
    if let Some(first) = admin.proxies.first_expiry() {
        page.sample(name, "", unix_ms(first) as f64 / 1000.0);
    }
}

/// The text so far. Label values need no escaping: they are numbers and names of letters, digits, `-._/`.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// The head of a metric. What is not in the table is left out, which the test finds.
    fn family(&mut self, name: &str) {
        if let Some(Metric { name, kind, help }) = TABLE.iter().find(|metric| metric.name == name) {
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        let _ = writeln!(self.text, "{name}{open}{labels}{close} {value}");
    }

    fn reasons(&mut self, name: &str, label: &str, reasons: &Reasons) {
        self.family(name);
        for (reason, count) in reasons.iter() {
            self.sample(name, &format!("{label}=\"{reason}\""), count as f64);
        }
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        self.family(name);
        let bucket = format!("{name}_bucket");
        for (bound, count) in histogram.cumulative() {
            self.sample(&bucket, &format!("le=\"{bound}\""), count as f64);
        }
        let (count, sum) = histogram.count_and_sum();
        self.sample(&bucket, "le=\"+Inf\"", count as f64);
        self.sample(&format!("{name}_sum"), "", sum);
        self.sample(&format!("{name}_count"), "", count as f64);
    }

    fn one(&mut self, name: &str, value: f64) {
        self.family(name);
        self.sample(name, "", value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_and_none_is_there_twice() {
        for (n, metric) in TABLE.iter().enumerate() {
            assert!(metric.name.starts_with("weft_control_"), "{}", metric.name);
            assert_eq!(metric.kind == "counter", metric.name.ends_with("_total"), "{}", metric.name);
            assert!(TABLE[..n].iter().all(|other| other.name != metric.name), "{}", metric.name);
        }
    }

    #[test]
    fn the_guide_for_operators_lists_exactly_these_metrics() {
        let guide = include_str!("../../../../docs/operations.md");
        for Metric { name, kind, help } in TABLE {
            let row = format!("| `{name}` | {kind} | {help} |");
            assert!(guide.lines().any(|line| line == row), "docs/operations.md has no line {row}");
        }
        let section = guide.split("## Metrics\n").nth(1).and_then(|rest| rest.split("### weft-proxy").next());
        let listed = section.unwrap().lines().filter(|line| line.starts_with("| `weft_control_"));
        assert_eq!(listed.count(), TABLE.len(), "docs/operations.md lists a metric that there is not");
    }
}
