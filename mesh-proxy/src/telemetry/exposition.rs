//! Prometheus' text format, version 0.0.4.
//!
//! One table names every metric with its type and help, and the text is written along that table: what is not in
//! it is not exposed. Series are sorted, so that equal state is equal text.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::counters::{Count, Counters, DnsOutcome, Level, Message, Refused};
use super::series::{BUCKETS, Cell, Histogram, SeriesTable};
use crate::record::RequestProtocol;

/// What the shell knows at the moment of a scrape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    /// Until the current SVID expires; `None` without one. Zero when it has.
    pub(crate) svid_left: Option<Duration>,
    pub(crate) control_connected: bool,
    pub(crate) config_revision: u64,
    pub(crate) config_services: usize,
    pub(crate) services_on_demand: usize,
    pub(crate) ready: bool,
    pub(crate) draining: bool,
    pub(crate) svid_failures: u64,
    pub(crate) overload: u8,
    pub(crate) memory: u64,
    pub(crate) memory_limit: u64,
    pub(crate) version: &'static str,
    /// Tasks that have not ended, by runtime.
    pub(crate) tasks: Vec<(String, usize)>,
}

/// A metric, as the documentation lists it.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) help: &'static str,
}

const fn metric(name: &'static str, kind: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, help }
}

/// Metrics with a series for each label set of requests and connections.
const TRAFFIC: [Metric; 8] = [
    metric("istio_requests_total", "counter", "Requests that ended."),
    metric(
        "istio_request_duration_milliseconds",
        "histogram",
        "Time from a request's head to the last byte of its response.",
    ),
    metric("istio_request_bytes", "histogram", "Bytes of request bodies."),
    metric("istio_response_bytes", "histogram", "Bytes of response bodies."),
    metric("istio_tcp_connections_opened_total", "counter", "TCP connections that were opened."),
    metric("istio_tcp_connections_closed_total", "counter", "TCP connections that ended."),
    metric(
        "istio_tcp_received_bytes_total",
        "counter",
        "Bytes from clients over TCP connections that ended.",
    ),
    metric("istio_tcp_sent_bytes_total", "counter", "Bytes to clients over TCP connections that ended."),
];

/// Metrics of the process.
const PROCESS: [Metric; 19] = [
    metric(
        "weft_limit_refusals_total",
        "counter",
        "Connections, handshakes and requests that were refused because a limit was reached, by the limit.",
    ),
    metric("weft_dns_queries_total", "counter", "DNS queries of the local application, by how they ended."),
    metric(
        "weft_overload_level",
        "gauge",
        "0; 1 while new connections are refused; 2 while requests are too.",
    ),
    metric("weft_memory_bytes", "gauge", "Memory that the process holds."),
    metric("weft_memory_limit_bytes", "gauge", "The limit that load is shed by."),
    metric("weft_handshakes_refused_total", "counter", "TLS handshakes that failed, by the reason."),
    metric(
        "weft_malformed_requests_total",
        "counter",
        "Requests that were refused as malformed, by the kind.",
    ),
    metric(
        "weft_malformed_responses_total",
        "counter",
        "Responses that were refused as malformed, by the kind.",
    ),
    metric(
        "weft_access_log_dropped_total",
        "counter",
        "Access log lines dropped because the output was too slow.",
    ),
    metric(
        "weft_svid_expires_seconds",
        "gauge",
        "Seconds until the certificate expires; 0 when it has or there is none.",
    ),
    metric("weft_svid_failures_total", "counter", "Attempts to obtain or renew the certificate that failed."),
    metric("weft_control_connected", "gauge", "1 while connected to a control plane."),
    metric("weft_config_revision", "gauge", "Changes of the configuration since the start."),
    metric("weft_config_services", "gauge", "Services that are known."),
    metric(
        "weft_services_on_demand",
        "gauge",
        "Services that are subscribed to because a request named them.",
    ),
    metric("weft_ready", "gauge", "1 while ready."),
    metric("weft_draining", "gauge", "1 while draining."),
    metric("weft_tasks", "gauge", "Tasks that have not ended, by runtime: one that only grows is a leak."),
    metric("weft_build_info", "gauge", "1; the label is the version."),
];

/// Every metric there is, for the documentation.
pub(crate) fn metrics() -> Vec<Metric> {
    let counts = Count::ALL.map(|(_, name, help)| metric(name, "counter", help));
    let levels = Level::ALL.map(|(_, name, help)| metric(name, "gauge", help));
    [TRAFFIC.as_slice(), &counts, &levels, &PROCESS].concat()
}

/// All of it as text.
pub(super) fn write(series: &SeriesTable, counters: &Counters, dropped: u64, observed: &Observed) -> String {
    let mut out = String::with_capacity(16 * 1024);
    traffic(&mut out, series);
    for (count, name, help) in Count::ALL {
        head(&mut out, &metric(name, "counter", help));
        line(&mut out, name, "", &counters.count(count));
    }
    for (level, name, help) in Level::ALL {
        head(&mut out, &metric(name, "gauge", help));
        line(&mut out, name, "", &counters.level(level));
    }
    for metric in &PROCESS {
        head(&mut out, metric);
        process(&mut out, metric.name, counters, dropped, observed);
    }
    out
}

fn process(out: &mut String, name: &str, counters: &Counters, dropped: u64, observed: &Observed) {
    let value = match name {
        "weft_handshakes_refused_total" => {
            for ((reporter, reason), n) in counters.refusals() {
                line(out, name, &format!("reporter=\"{reporter}\",reason=\"{reason}\""), &n);
            }
            return;
        }
        "weft_malformed_requests_total" => return malformed(out, name, counters, Message::Request),
        "weft_malformed_responses_total" => return malformed(out, name, counters, Message::Response),
        "weft_limit_refusals_total" => {
            for (refused, of, limit) in Refused::ALL {
                let labels = format!("of=\"{of}\",limit=\"{limit}\"");
                line(out, name, &labels, &counters.by_limit(refused));
            }
            return;
        }
        "weft_dns_queries_total" => {
            for (outcome, label) in DnsOutcome::ALL {
                line(out, name, &format!("outcome=\"{label}\""), &counters.dns_of(outcome));
            }
            return;
        }
        "weft_tasks" => {
            let tasks = observed.tasks.iter();
            return tasks.for_each(|(runtime, n)| line(out, name, &format!("runtime=\"{runtime}\""), n));
        }
        "weft_build_info" => return line(out, name, &format!("version=\"{}\"", observed.version), &1),
        "weft_access_log_dropped_total" => dropped,
        "weft_svid_expires_seconds" => observed.svid_left.unwrap_or_default().as_secs(),
        "weft_svid_failures_total" => observed.svid_failures,
        "weft_control_connected" => observed.control_connected.into(),
        "weft_config_revision" => observed.config_revision,
        "weft_config_services" => observed.config_services as u64,
        "weft_services_on_demand" => observed.services_on_demand as u64,
        "weft_ready" => observed.ready.into(),
        "weft_draining" => observed.draining.into(),
        "weft_overload_level" => observed.overload.into(),
        "weft_memory_bytes" => observed.memory,
        "weft_memory_limit_bytes" => observed.memory_limit,
        _ => return,
    };
    line(out, name, "", &value);
}

fn malformed(out: &mut String, name: &str, counters: &Counters, message: Message) {
    for (kind, n) in counters.malformed_of(message) {
        line(out, name, &format!("kind=\"{}\"", kind.as_str()), &n);
    }
}

/// One label set, as text, with the cells of all threads.
struct Row {
    labels: String,
    tcp: bool,
    cells: Vec<Arc<Cell>>,
}

fn traffic(out: &mut String, series: &SeriesTable) {
    let row = |(labels, cells): (super::labels::Labels, _)| Row {
        labels: labels.text(&series.own),
        tcp: labels.protocol == RequestProtocol::Tcp,
        cells,
    };
    let mut rows: Vec<Row> = series.collect().into_iter().map(row).collect();
    rows.sort_by(|a, b| a.labels.cmp(&b.labels));
    for metric in &TRAFFIC {
        head(out, metric);
        for row in rows.iter().filter(|row| row.tcp == metric.name.starts_with("istio_tcp_")) {
            row.write(out, metric.name);
        }
    }
}

impl Row {
    fn write(&self, out: &mut String, name: &str) {
        let sum = |value: fn(&Cell) -> u64| self.cells.iter().map(|cell| value(cell)).sum::<u64>();
        let value = match name {
            "istio_request_duration_milliseconds" => {
                return self.histogram(out, name, |cell| &cell.duration_ms);
            }
            "istio_request_bytes" => return self.histogram(out, name, |cell| &cell.received),
            "istio_response_bytes" => return self.histogram(out, name, |cell| &cell.sent),
            "istio_tcp_connections_opened_total" => sum(|cell| cell.opened.get()),
            "istio_tcp_received_bytes_total" => sum(|cell| cell.received.sum_thousandths.get() / 1000),
            "istio_tcp_sent_bytes_total" => sum(|cell| cell.sent.sum_thousandths.get() / 1000),
            _ => sum(|cell| cell.ended.get()),
        };
        line(out, name, &self.labels, &value);
    }

    fn histogram(&self, out: &mut String, name: &str, part: fn(&Cell) -> &Histogram) {
        let mut so_far = 0;
        for bucket in 0..=BUCKETS.len() {
            let counts = self.cells.iter().filter_map(|cell| part(cell).counts.get(bucket));
            so_far += counts.map(super::series::Single::get).sum::<u64>();
            let bound = BUCKETS.get(bucket).map_or("+Inf".to_owned(), f64::to_string);
            line(out, &format!("{name}_bucket"), &format!("{},le=\"{bound}\"", self.labels), &so_far);
        }
        let thousandths: u64 = self.cells.iter().map(|cell| part(cell).sum_thousandths.get()).sum();
        line(out, &format!("{name}_sum"), &self.labels, &(thousandths as f64 / 1000.0));
        line(out, &format!("{name}_count"), &self.labels, &so_far);
    }
}

// Writing to a String can't fail.
fn head(out: &mut String, metric: &Metric) {
    let Metric { name, kind, help } = metric;
    _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: &dyn std::fmt::Display) {
    _ = if labels.is_empty() {
        writeln!(out, "{name} {value}")
    } else {
        writeln!(out, "{name}{{{labels}}} {value}")
    };
}
