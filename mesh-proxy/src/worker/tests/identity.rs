//! Who may talk to whom: every refusal, on both sides, with its reason on record.

use ::http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use weft_identity::testkit::TestAuthority;
use weft_identity::{ALPN_HBONE, ALPN_WEFT, TrustBundles};
use weft_model::Protocol;

use super::kit::LocalExec;
use super::kit::*;
use crate::record::ResponseFlag;

#[test]
fn an_endpoint_with_another_identity_than_the_control_plane_says_gets_nothing() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let mut other = endpoint("api-1", pair.api.tunnel());
        other.identity = Some(id("/ns/default/sa/bank"));
        pair.web.knows([api(Protocol::Http1, [other])]);
        let answer = get(pair.web.upstream(), "api").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let record = pair.web.record(0).await;
        assert_eq!(record.flag, Some(ResponseFlag::UpstreamIdentity), "{}", record.detail);
        assert!(record.detail.contains("sa/bank"), "{}", record.detail);
        let refusals = pair.web.metric("weft_handshakes_refused_total");
        assert!(
            refusals.iter().any(|line| line.contains("source") && line.contains("wrong_id")),
            "{refusals:?}"
        );
    });
}

#[test]
fn a_caller_of_another_trust_domain_is_refused_and_the_request_never_leaves() {
    run(async {
        let ours = TestAuthority::new("weft.test");
        let theirs = TestAuthority::new("evil.test");
        let callee = Proxy::start(&ours, API, callee(echo("one").await, Protocol::Http1));
        // It trusts us; we do not trust it.
        let bundles = TrustBundles::from_iter([ours.bundle(), theirs.bundle()]);
        let web = Proxy::trusting(&theirs, bundles, WEB, caller(None));
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        let answer = get(web.upstream(), "api").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        let record = web.record(0).await;
        assert_eq!(record.flag, Some(ResponseFlag::UpstreamIdentity), "{}", record.detail);
        let refusals = callee.metric("weft_handshakes_refused_total");
        let counted = |line: &String| line.contains("destination") && line.contains("foreign_trust_domain");
        assert!(refusals.iter().any(counted), "{refusals:?}");
    });
}

#[test]
fn a_caller_that_loses_its_trust_domain_is_refused_on_its_open_connection() {
    run(async {
        let ours = TestAuthority::new("weft.test");
        let theirs = TestAuthority::new("friend.test");
        let both = TrustBundles::from_iter([ours.bundle(), theirs.bundle()]);
        let callee = Proxy::trusting(&ours, both.clone(), API, callee(echo("one").await, Protocol::Http1));
        let web = Proxy::trusting(&theirs, both, WEB, caller(None));
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        let allowed = get(web.upstream(), "api").await;
        assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");
        callee.shared.svids.set_bundles(ours.bundles());
        let refused = get(web.upstream(), "api").await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
        assert_eq!(callee.record(1).await.flag, Some(ResponseFlag::Unauthorized));
    });
}

/// A client of the tunnel that can say anything.
async fn send(
    pair: &Pair,
    alpn: &[u8],
    request: Request<Empty<bytes::Bytes>>,
) -> ::http::Response<hyper::body::Incoming> {
    let credentials = pair.web.shared.svids.current().unwrap();
    let config = credentials.client_config(&id(API), &[alpn]).unwrap();
    let tcp = TcpStream::connect(pair.api.tunnel()).await.unwrap();
    let name = ServerName::try_from("0.0.0.0").unwrap();
    let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(LocalExec, TokioIo::new(tls)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender.send_request(request).await.unwrap()
}

fn connect(authority: &str) -> Request<Empty<bytes::Bytes>> {
    Request::builder().method(Method::CONNECT).uri(authority).body(Empty::new()).unwrap()
}

#[test]
fn the_tunnel_is_no_open_proxy() {
    run(async {
        let app = echo("one").await;
        let pair = Pair::start(app, Protocol::Http1);
        for (authority, status) in [
            ("127.0.0.1:8080", StatusCode::OK),
            // A port of this host that is not registered, another host, a name, and this proxy itself.
            (&format!("127.0.0.1:{}", app.port())[..], StatusCode::BAD_REQUEST),
            ("10.0.0.1:8080", StatusCode::BAD_REQUEST),
            ("localhost:8080", StatusCode::BAD_REQUEST),
            (&pair.api.tunnel().to_string(), StatusCode::BAD_REQUEST),
        ] {
            let response = send(&pair, ALPN_HBONE, connect(authority)).await;
            assert_eq!(response.status(), status, "{authority}");
        }
    });
}

#[test]
fn requests_need_our_own_alpn_and_a_registered_port() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let request =
            |port: &str| Request::get("http://api/").header("weft-port", port).body(Empty::new()).unwrap();
        assert_eq!(send(&pair, ALPN_WEFT, request("8080")).await.status(), StatusCode::OK);
        assert_eq!(send(&pair, ALPN_HBONE, request("8080")).await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(send(&pair, ALPN_WEFT, request("22")).await.status(), StatusCode::NOT_FOUND);
        let no_port = Request::get("http://api/").body(Empty::new()).unwrap();
        assert_eq!(send(&pair, ALPN_WEFT, no_port).await.status(), StatusCode::NOT_FOUND);
    });
}
