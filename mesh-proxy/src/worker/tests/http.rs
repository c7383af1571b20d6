//! Requests and responses through a pair of proxies.

use ::http::{HeaderMap, Request, Response, StatusCode, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::{Protocol, Tunnel};

use super::kit::LocalExec;
use super::kit::*;
use crate::record::{Reporter, RequestProtocol, ResponseFlag};

#[test]
fn an_http1_request_travels_through_a_pair_with_the_callers_identity() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let answer = get(pair.web.upstream(), "api").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("x-name: one"), "{answer}");
        assert!(answer.contains("URI=spiffe://weft.test/ns/default/sa/web"), "{answer}");
        assert!(answer.contains("By=spiffe://weft.test/ns/default/sa/api;Hash="), "{answer}");
        assert!(answer.contains(r#""host": "api""#), "{answer}");
        assert!(answer.contains("x-request-id"), "{answer}");
        assert!(!answer.contains("weft-"), "something of ours remains: {answer}");

        let source = pair.web.record(0).await;
        assert_eq!((source.reporter, source.status, source.flag), (Reporter::Source, 200, None));
        assert_eq!((source.protocol, source.mtls), (RequestProtocol::Http1, Some(true)));
        assert_eq!(source.destination.as_ref().unwrap().workload, Some("file/api-1".parse().unwrap()));
        let callee = pair.api.record(0).await;
        assert_eq!((callee.reporter, callee.status), (Reporter::Destination, 200));
        assert_eq!((callee.protocol, callee.source), (RequestProtocol::Http1, Some(id(WEB))));
        assert_eq!(callee.request_id, source.request_id);
    });
}

#[test]
fn an_application_cannot_forge_identity_or_the_headers_of_the_proxies() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let forged = "GET / HTTP/1.1\r\nhost: api\r\nx-forwarded-client-cert: URI=spiffe://weft.test/ns/default/sa/admin\r\n\
            weft-port: 1\r\nweft-unsent: 1\r\nconnection: close, x-gone\r\nx-gone: 1\r\n\r\n";
        let answer = raw(pair.web.upstream(), forged).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(!answer.contains("sa/admin") && !answer.contains("x-gone"), "{answer}");
    });
}

#[test]
fn bodies_with_a_length_and_chunked_ones_pass_both_ways_on_one_connection() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let both = "POST /a HTTP/1.1\r\nhost: api\r\ncontent-length: 5\r\n\r\nhello\
            POST /b HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
        let answer = raw(pair.web.upstream(), both).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert!(answer.contains("\r\n\r\nhello") && answer.ends_with("abcdefg"), "{answer}");
        let first = pair.web.record(0).await;
        assert_eq!((first.bytes_received, first.bytes_sent), (5, 5));
    });
}

#[test]
fn a_client_that_expects_100_continue_gets_it_before_it_sends_the_body() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let mut stream = TcpStream::connect(pair.web.upstream()).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: api\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(b"body").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("body"), "{answer}");
    });
}

#[test]
fn a_large_body_streams_through() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let body = "x".repeat(3 << 20);
        let request = format!(
            "PUT / HTTP/1.1\r\nhost: api\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let stream = TcpStream::connect(pair.web.upstream()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let sending = async { writer.write_all(format!("{request}{body}").as_bytes()).await };
        let mut answer = Vec::new();
        let (sent, read) = tokio::join!(sending, reader.read_to_end(&mut answer));
        sent.unwrap();
        read.unwrap();
        assert!(answer.ends_with(body.as_bytes()), "{} bytes came back", answer.len());
        assert_eq!(pair.web.record(0).await.bytes_sent, 3 << 20);
    });
}

/// A gRPC-like application: one message and a status in the trailers.
async fn grpc_app() -> std::net::SocketAddr {
    app(true, |request: Request<Incoming>| async move {
        let message = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        let frames = [Ok(Frame::data(message)), Ok(Frame::trailers(trailers))];
        Response::builder()
            .header("content-type", "application/grpc")
            .body(StreamBody::new(futures::stream::iter(frames)))
            .unwrap()
    })
    .await
}

async fn grpc_call(to: std::net::SocketAddr) -> (Response<()>, Bytes, Option<HeaderMap>) {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(LocalExec, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    let request = Request::post("http://api/pkg.Service/Method")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(b"message")))
        .unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (Response::from_parts(head, ()), body.to_bytes(), trailers)
}

#[test]
fn grpc_keeps_its_trailers_and_its_status_is_on_record() {
    run(async {
        let pair = Pair::start(grpc_app().await, Protocol::Grpc);
        let (head, body, trailers) = grpc_call(pair.web.upstream()).await;
        assert_eq!((head.status(), head.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(&body[..], b"message");
        assert_eq!(trailers.unwrap()["grpc-status"], "5");
        for record in [pair.web.record(0).await, pair.api.record(0).await] {
            assert_eq!((record.protocol, record.grpc_status), (RequestProtocol::Grpc, Some(5)), "{record:?}");
        }
    });
}

#[test]
fn a_failure_of_the_proxy_reaches_a_grpc_caller_as_a_status() {
    run(async {
        let pair = Pair::start(nobody(), Protocol::Grpc);
        let (head, _, _) = grpc_call(pair.web.upstream()).await;
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(head.headers()["grpc-status"], "14");
        let record = pair.web.record(0).await;
        assert_eq!(
            (record.flag, record.grpc_status),
            (Some(ResponseFlag::UpstreamConnectionFailure), Some(14))
        );
    });
}

#[test]
fn the_http_port_routes_by_host_and_refuses_names_outside_the_mesh() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let http = pair.web.shared.bound.http.unwrap();
        for host in ["api", "api.default", "api.default.mesh", &format!("api:{}", http.port())] {
            let answer = get(http, host).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{host}: {answer}");
        }
        let answer = get(http, "example.com.au").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert_eq!(pair.web.record(4).await.flag, Some(ResponseFlag::NoRoute));
        let wrong_port = get(http, "api:9").await;
        assert!(wrong_port.starts_with("HTTP/1.1 404") && wrong_port.contains("no port 9"), "{wrong_port}");
    });
}

#[test]
fn malformed_requests_get_400() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "not http at all\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        ] {
            let bad = bad.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            let answer = raw(pair.web.upstream(), &bad).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{bad:?}: {answer}");
        }
    });
}

#[test]
fn an_endpoint_without_a_proxy_is_called_in_plaintext_only_with_leave() {
    run(async {
        let app = echo("outside").await;
        let pair = Pair::start(app, Protocol::Http1);
        let mut outside = endpoint("outside", app);
        outside.tunnel = Tunnel::None;
        let mut service = api(Protocol::Http1, [outside]);
        let plain = std::sync::Arc::make_mut(&mut service.endpoints[0]);
        plain.ports[0].number = app.port();
        pair.web.knows([service.clone()]);
        let refused = get(pair.web.upstream(), "api").await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("outside the mesh"), "{refused}");

        let authority = weft_identity::testkit::TestAuthority::new("weft.test");
        let mut settings = caller(None);
        settings.upstream[0].plaintext = true;
        let lenient = Proxy::start(&authority, WEB, settings);
        lenient.knows([service]);
        let answer = get(lenient.upstream(), "api").await;
        assert!(
            answer.contains("x-name: outside") && !answer.contains("x-forwarded-client-cert"),
            "{answer}"
        );
        assert_eq!(lenient.record(0).await.mtls, Some(false));
    });
}

#[test]
fn many_requests_share_one_connection_between_the_proxies() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let calls = (0..50).map(|_| get(pair.web.upstream(), "api"));
        for answer in futures::future::join_all(calls).await {
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        }
        assert_eq!(pair.api.metric("weft_tunnel_connections"), ["1"]);
    });
}

#[test]
fn an_http1_caller_reaches_an_http2_application_and_options_star_passes() {
    run(async {
        let app = app(true, |request: Request<Incoming>| async move {
            let seen = format!("{:?} {} {}", request.version(), request.method(), request.uri());
            Response::new(Full::new(Bytes::from(seen)))
        })
        .await;
        let pair = Pair::start(app, Protocol::Http2);
        let answer = get(pair.web.upstream(), "api").await;
        assert!(answer.ends_with("HTTP/2.0 GET http://api/path?q=1"), "{answer}");

        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let answer =
            raw(pair.web.upstream(), "OPTIONS * HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let head =
            raw(pair.web.upstream(), "HEAD / HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
        let old = raw(pair.web.upstream(), "GET / HTTP/1.0\r\n\r\n").await;
        assert!(old.contains(" 200 OK\r\n") && old.contains(r#""host": "api""#), "{old}");
    });
}

#[test]
fn a_proxy_that_speaks_hbone_only_gets_requests_inside_a_connect_stream() {
    run(async {
        let app = echo("behind hbone").await;
        let authority = weft_identity::testkit::TestAuthority::new("weft.test");
        let web = Proxy::start(&authority, WEB, caller(None));
        let tunnel = hbone(&authority, app).await;
        web.knows([api(Protocol::Http1, [endpoint("api-1", tunnel)])]);
        for _ in 0..3 {
            let answer = get(web.upstream(), "api").await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains("x-name: behind hbone"),
                "{answer}"
            );
            assert!(!answer.contains("weft-"), "{answer}");
        }
        assert_eq!(web.record(0).await.mtls, Some(true));
    });
}

/// Another project's proxy: mTLS with ALPN `h2`, CONNECT and nothing else.
async fn hbone(
    authority: &weft_identity::testkit::TestAuthority,
    app: std::net::SocketAddr,
) -> std::net::SocketAddr {
    let source = weft_identity::SvidSource::new();
    source.set(authority.svid(API), authority.bundles());
    let credentials = source.current().unwrap();
    let config =
        credentials.server_config(&[weft_identity::ALPN_HBONE], weft_identity::ClientAuth::Required).unwrap();
    let listener = tokio::net::TcpListener::bind(free()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |mut request: Request<Incoming>| async move {
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("CONNECT", "127.0.0.1:8080")
        );
        let mut app = TcpStream::connect(app).await.unwrap();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::task::spawn_local(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut app).await;
        });
        Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<Bytes>::new()))
    };
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tokio_rustls::TlsAcceptor::from(config.clone()).accept(stream).await.unwrap();
            let service = hyper::service::service_fn(serve);
            let builder = hyper::server::conn::http2::Builder::new(LocalExec);
            tokio::task::spawn_local(
                async move { builder.serve_connection(TokioIo::new(tls), service).await },
            );
        }
    });
    address
}

#[test]
fn a_permissive_port_takes_plaintext_callers_without_an_identity() {
    run(async {
        let authority = weft_identity::testkit::TestAuthority::new("weft.test");
        let mut settings = callee(echo("one").await, Protocol::Detect);
        settings.inbound[0].permissive = Some(free());
        let proxy = Proxy::start(&authority, API, settings);
        let port = proxy.shared.bound.permissive[0].unwrap();
        let forged = "GET / HTTP/1.1\r\nhost: api\r\nx-forwarded-client-cert: URI=spiffe://weft.test/x\r\nconnection: close\r\n\r\n";
        let answer = raw(port, forged).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-name: one"), "{answer}");
        assert!(!answer.contains("spiffe://"), "{answer}");
        let record = proxy.record(0).await;
        assert_eq!((record.source, record.mtls), (None, Some(false)));
    });
}

#[test]
fn the_futures_of_a_request_stay_small() {
    // One of each is allocated a request; growth here is memory and copying for everybody.
    let (source, destination) = (crate::outbound::future_size(), crate::inbound::future_size());
    assert!(source < 3 * 1024 && destination < 3 * 1024, "{source} and {destination} bytes");
}
