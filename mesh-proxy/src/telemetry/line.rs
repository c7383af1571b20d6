//! A record as a line of the access log.
//!
//! Text is Envoy's default line, then the caller's and the callee's identity and, where this proxy made the failure, why.
//! JSON has the same under names. Nothing that a client sends can add a line or break the JSON.

use std::io::Write;

use http::HeaderValue;
use serde::Serialize;

use crate::record::{Record, RequestProtocol};
use crate::settings::AccessLogFormat;

/// Appends the line with its line end.
pub(super) fn write(out: &mut Vec<u8>, record: &Record, format: AccessLogFormat) {
    let fields = Fields::of(record);
    // Writing to a Vec can't fail.
    _ = match format {
        AccessLogFormat::Text => fields.text(out),
        AccessLogFormat::Json => serde_json::to_writer(&mut *out, &fields).map_err(Into::into),
    };
    out.push(b'\n');
}

/// The line's fields under the names of the JSON form.
#[derive(Serialize)]
struct Fields {
    start_time: String,
    reporter: &'static str,
    method: String,
    path: String,
    protocol: &'static str,
    response_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u16>,
    response_flags: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    response_details: String,
    bytes_received: u64,
    bytes_sent: u64,
    duration_ms: f64,
    retries: u32,
    user_agent: Option<String>,
    request_id: Option<String>,
    authority: Option<String>,
    upstream_host: Option<String>,
    downstream_address: Option<String>,
    source: Option<String>,
    destination: Option<String>,
    destination_service: Option<String>,
    destination_workload: Option<String>,
    mtls: Option<bool>,
}

impl Fields {
    fn of(record: &Record) -> Self {
        let tcp = record.protocol == RequestProtocol::Tcp;
        let destination = record.destination.as_deref();
        Self {
            start_time: humantime::format_rfc3339_millis(record.started).to_string(),
            reporter: record.reporter.as_str(),
            method: if tcp { "-".to_owned() } else { record.method.to_string() },
            path: if tcp { "-".to_owned() } else { path(&record.uri) },
            protocol: protocol(record.protocol),
            // A tunnel's CONNECT has a status of its own, between the proxies; the connection in it has none.
            response_code: if tcp { 0 } else { record.status },
            grpc_status: record.grpc_status,
            response_flags: record.flag.map_or("-", crate::record::ResponseFlag::as_str),
            response_details: record.detail.clone(),
            bytes_received: record.bytes_received,
            bytes_sent: record.bytes_sent,
            duration_ms: (record.duration.as_secs_f64() * 1_000_000.0).round() / 1000.0,
            retries: record.retries,
            user_agent: record.user_agent.as_ref().map(header),
            request_id: record.request_id.as_ref().map(header),
            authority: record.authority.as_ref().map(header),
            upstream_host: record.upstream.map(|address| address.to_string()),
            downstream_address: record.downstream.map(|address| address.to_string()),
            source: record.source.as_ref().map(ToString::to_string),
            destination: destination.and_then(|to| to.identity.as_ref()).map(ToString::to_string),
            destination_service: destination.map(|to| to.service.to_string()),
            destination_workload: destination.and_then(|to| to.workload.as_ref()).map(ToString::to_string),
            mtls: record.mtls,
        }
    }

    fn text(&self, out: &mut Vec<u8>) -> std::io::Result<()> {
        write!(
            out,
            "[{}] {} {} {} {} {} {} {:.0} {} {} {} {} {} {} {}",
            self.start_time,
            quoted(Some(&format!("{} {} {}", self.method, self.path, self.protocol))),
            self.response_code,
            self.response_flags,
            self.bytes_received,
            self.bytes_sent,
            self.retries,
            self.duration_ms,
            quoted(self.user_agent.as_deref()),
            quoted(self.request_id.as_deref()),
            quoted(self.authority.as_deref()),
            quoted(self.upstream_host.as_deref()),
            self.reporter,
            quoted(self.source.as_deref()),
            quoted(self.destination.as_deref()),
        )?;
        if let Some(status) = self.grpc_status {
            write!(out, " grpc={status}")?;
        }
        if !self.response_details.is_empty() {
            write!(out, " {}", quoted(Some(&self.response_details)))?;
        }
        Ok(())
    }
}

fn protocol(protocol: RequestProtocol) -> &'static str {
    match protocol {
        RequestProtocol::Http1 => "HTTP/1.1",
        RequestProtocol::Http2 => "HTTP/2",
        RequestProtocol::Grpc => "gRPC",
        RequestProtocol::Tcp => "TCP",
    }
}

fn path(uri: &http::Uri) -> String {
    uri.path_and_query().map_or_else(|| uri.to_string(), ToString::to_string)
}

fn header(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// `"text"` with quotes, backslashes and control characters escaped; `"-"` for nothing.
fn quoted(text: Option<&str>) -> String {
    let Some(text) = text else { return "\"-\"".to_owned() };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.extend(c.escape_default()),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
