//! Golden text of the metrics and of the access log, and the bound on series.

use std::time::{Duration, SystemTime};

use super::*;
use crate::record::{RequestProtocol, ResponseFlag};
use crate::settings::{AccessLogFormat, AccessLogMode, AccessLogOutput};

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.access_log.mode = AccessLogMode::Off;
    settings.workload.app = "shop".to_owned();
    settings.workload.version = "v3".to_owned();
    settings
}

fn destination() -> Arc<Destination> {
    Arc::new(Destination {
        service: "shop/api".parse().unwrap(),
        workload: Some("file/local/api/1".parse().unwrap()),
        identity: Some("spiffe://weft.test/ns/shop/sa/api".parse().unwrap()),
        app: "".into(),
        version: "v1".into(),
    })
}

fn record() -> Record {
    Record {
        reporter: Reporter::Source,
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        duration: Duration::from_micros(1_500),
        method: http::Method::GET,
        uri: "/a?b=1".parse().unwrap(),
        authority: Some(http::HeaderValue::from_static("api")),
        request_id: None,
        user_agent: Some(http::HeaderValue::from_static("curl \"x\"")),
        protocol: RequestProtocol::Http1,
        status: 200,
        grpc_status: None,
        flag: None,
        detail: String::new(),
        source: Some("spiffe://weft.test/ns/shop/sa/web".parse().unwrap()),
        destination: Some(destination()),
        upstream: Some("10.0.0.1:15008".parse().unwrap()),
        downstream: Some("127.0.0.1:40000".parse().unwrap()),
        bytes_received: 0,
        bytes_sent: 700,
        retries: 0,
        mtls: Some(true),
    }
}

/// The lines of the exposition that start with `prefix`.
fn lines(telemetry: &Telemetry, prefix: &str) -> Vec<String> {
    let text = telemetry.exposition(&Observed::default());
    text.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

const WEB_TO_API: &str = "reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"shop\",\
    source_principal=\"spiffe://weft.test/ns/shop/sa/web\",source_app=\"shop\",source_version=\"v3\",\
    source_cluster=\"unknown\",source_canonical_service=\"shop\",source_canonical_revision=\"v3\",\
    destination_workload=\"api\",destination_workload_namespace=\"shop\",\
    destination_principal=\"spiffe://weft.test/ns/shop/sa/api\",destination_app=\"api\",destination_version=\"v1\",\
    destination_cluster=\"unknown\",destination_canonical_service=\"api\",destination_canonical_revision=\"v1\",\
    destination_service=\"api.shop.mesh\",destination_service_name=\"api\",destination_service_namespace=\"shop\"";

#[test]
fn a_request_is_counted_under_istios_names_and_labels() {
    let telemetry = Telemetry::new(&settings()).unwrap();
    telemetry.record(&record());
    telemetry.record(&record());
    let labels = format!(
        "{WEB_TO_API},request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\",\
         response_flags=\"-\",connection_security_policy=\"mutual_tls\""
    );
    assert_eq!(lines(&telemetry, "istio_requests_total"), [format!("istio_requests_total{{{labels}}} 2")]);
    let duration = "istio_request_duration_milliseconds";
    let buckets = lines(&telemetry, &format!("{duration}_bucket"));
    assert_eq!(buckets[1], format!("{duration}_bucket{{{labels},le=\"1\"}} 0"));
    assert_eq!(buckets[2], format!("{duration}_bucket{{{labels},le=\"5\"}} 2"));
    assert_eq!(buckets[19], format!("{duration}_bucket{{{labels},le=\"+Inf\"}} 2"));
    assert_eq!(lines(&telemetry, &format!("{duration}_sum")), [format!("{duration}_sum{{{labels}}} 3")]);
    assert_eq!(
        lines(&telemetry, "istio_response_bytes_sum"),
        [format!("istio_response_bytes_sum{{{labels}}} 1400")]
    );
    assert_eq!(lines(&telemetry, "istio_tcp_connections_closed_total{"), Vec::<String>::new());
}

#[test]
fn a_tcp_connection_is_counted_when_it_opens_and_when_it_ends() {
    let telemetry = Telemetry::new(&settings()).unwrap();
    let tcp = Record { protocol: RequestProtocol::Tcp, status: 0, bytes_received: 3, ..record() };
    telemetry.tcp_opened(tcp.reporter, tcp.source.as_ref(), tcp.destination.as_ref(), tcp.mtls);
    telemetry.record(&tcp);
    telemetry.tcp_opened(tcp.reporter, tcp.source.as_ref(), tcp.destination.as_ref(), tcp.mtls);
    let labels = format!(
        "{WEB_TO_API},request_protocol=\"tcp\",response_flags=\"-\",connection_security_policy=\"mutual_tls\""
    );
    for (name, value) in
        [("connections_opened", 2), ("connections_closed", 1), ("received_bytes", 3), ("sent_bytes", 700)]
    {
        let name = format!("istio_tcp_{name}_total");
        assert_eq!(lines(&telemetry, &name), [format!("{name}{{{labels}}} {value}")]);
    }
    assert_eq!(lines(&telemetry, "istio_requests_total{"), Vec::<String>::new());
}

#[test]
fn equal_labels_in_other_allocations_and_other_threads_are_one_series() {
    let telemetry = Telemetry::new(&settings()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|_| telemetry.record(&record())));
        }
    });
    let lines = lines(&telemetry, "istio_requests_total{");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].ends_with(" 4000"), "{}", lines[0]);
}

#[test]
fn label_sets_beyond_the_bound_are_counted_as_overflow() {
    let mut settings = settings();
    settings.metrics.max_series = 2;
    let telemetry = Telemetry::new(&settings).unwrap();
    for status in 200..210 {
        telemetry.record(&Record { status, ..record() });
    }
    let lines = lines(&telemetry, "istio_requests_total{");
    assert_eq!(lines.len(), 3);
    let overflow = lines.iter().find(|line| line.contains("destination_service=\"overflow\"")).unwrap();
    assert!(overflow.ends_with(" 8"), "{overflow}");
}

#[test]
fn a_label_value_cannot_break_the_text() {
    let telemetry = Telemetry::new(&settings()).unwrap();
    let evil = Destination { version: "a\"b\\c\nd".into(), ..Destination::clone(&destination()) };
    telemetry.record(&Record { destination: Some(Arc::new(evil)), ..record() });
    let lines = lines(&telemetry, "istio_requests_total{");
    assert!(lines[0].contains(r#"destination_version="a\"b\\c\nd""#), "{}", lines[0]);
}

#[test]
fn every_line_belongs_to_a_metric_of_the_table_and_every_metric_has_its_type() {
    let telemetry = Telemetry::new(&settings()).unwrap();
    telemetry.record(&record());
    telemetry.record(&Record { protocol: RequestProtocol::Tcp, ..record() });
    telemetry.handshake_refused(
        Reporter::Destination,
        RefusalReason::NoCertificate,
        "127.0.0.1:1".parse().unwrap(),
        &"x",
    );
    telemetry.malformed(Message::Request, Malformed::Chunk, None, "x");
    telemetry.rise(Level::Active);
    let text = telemetry.exposition(&Observed { version: "1.0", ..Observed::default() });
    let table = metrics();
    for metric in &table {
        assert!(text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind)), "{}", metric.name);
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(table.iter().any(|metric| metric.name == name || metric.name == base), "{line}");
    }
    assert!(
        text.contains(
            "weft_handshakes_refused_total{reporter=\"destination\",reason=\"no_certificate\"} 1\n"
        )
    );
    assert!(text.contains("weft_malformed_requests_total{kind=\"chunk\"} 1\n"));
    assert!(text.contains("weft_active 1\n"));
}

fn line_of(record: &Record, format: AccessLogFormat) -> String {
    let mut out = Vec::new();
    line::write(&mut out, record, format);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_text_line_reads_like_envoys_with_identities_and_the_reason() {
    let failed = Record {
        status: 503,
        flag: Some(ResponseFlag::UpstreamConnectionFailure),
        detail: "10.0.0.1:15008: connection refused".to_owned(),
        retries: 2,
        ..record()
    };
    assert_eq!(
        line_of(&failed, AccessLogFormat::Text),
        "[2027-01-15T08:00:00.000Z] \"GET /a?b=1 HTTP/1.1\" 503 UF 0 700 2 2 \"curl \\\"x\\\"\" \"-\" \"api\" \
         \"10.0.0.1:15008\" source \"spiffe://weft.test/ns/shop/sa/web\" \"spiffe://weft.test/ns/shop/sa/api\" \
         \"10.0.0.1:15008: connection refused\"\n"
    );
}

#[test]
fn a_tcp_line_has_no_status_also_where_its_tunnel_was_answered_with_one() {
    let tcp = Record { protocol: RequestProtocol::Tcp, status: 200, user_agent: None, ..record() };
    let text = line_of(&tcp, AccessLogFormat::Text);
    assert!(text.contains(" \"- - TCP\" 0 - 0 700 "), "{text}");
    let object: serde_json::Value = serde_json::from_str(&line_of(&tcp, AccessLogFormat::Json)).unwrap();
    assert_eq!(object["response_code"], 0);
    let telemetry = Telemetry::new(&settings()).unwrap();
    telemetry.record(&tcp);
    let closed = lines(&telemetry, "istio_tcp_connections_closed_total{");
    assert_eq!(closed.len(), 1);
    assert!(!closed[0].contains("response_code"), "{}", closed[0]);
}

#[test]
fn a_json_line_is_one_object_whatever_the_client_sent() {
    let value = http::HeaderValue::from_bytes(b"a\xffb\"\tc").unwrap();
    let line = line_of(&Record { user_agent: Some(value), ..record() }, AccessLogFormat::Json);
    assert_eq!(line.matches('\n').count(), 1);
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["destination_service"], "shop/api");
    assert_eq!(object["duration_ms"], 1.5);
    assert_eq!(object["user_agent"], "a\u{fffd}b\"\tc");
    assert_eq!(object["mtls"], true);
}

#[test]
fn the_mode_errors_writes_failures_only_and_dropping_the_log_writes_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mut settings = settings();
    settings.access_log.mode = AccessLogMode::Errors;
    settings.access_log.output = AccessLogOutput::File(path.clone());
    let telemetry = Telemetry::new(&settings).unwrap();
    telemetry.record(&record());
    telemetry.record(&Record { status: 404, flag: Some(ResponseFlag::NoRoute), ..record() });
    telemetry.record(&Record { grpc_status: Some(5), ..record() });
    telemetry.record(&Record { grpc_status: Some(0), ..record() });
    drop(telemetry);
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().count(), 2, "{written}");
    assert!(written.contains(" 404 NR "), "{written}");
}
