//! Bounds: how many streams share a connection, and what happens beyond the limits.

use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use weft_identity::testkit::TestAuthority;
use weft_model::Protocol;

use super::kit::*;

async fn slow() -> std::net::SocketAddr {
    app(false, |_: Request<Incoming>| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Response::new(Full::new(Bytes::from_static(b"done")))
    })
    .await
}

#[test]
fn more_streams_than_one_connection_takes_open_another_and_none_fails() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let mut settings = callee(slow().await, Protocol::Http1);
        settings.limits.endpoint_connections = 500;
        let callee = Proxy::start(&authority, API, settings);
        let web = Proxy::start(&authority, WEB, caller(None));
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        let calls = (0..250).map(|_| get(web.upstream(), "api"));
        for answer in futures::future::join_all(calls).await {
            assert!(answer.ends_with("done"), "{answer}");
        }
        let open: usize = callee.metric("weft_tunnel_connections")[0].parse().unwrap();
        assert!((2..=4).contains(&open), "{open} connections");
    });
}

#[test]
fn a_connection_beyond_the_limit_is_closed_at_once_and_counted() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let mut settings = caller(None);
        settings.limits.connections = 1;
        let web = Proxy::start(&authority, WEB, settings);
        let first = TcpStream::connect(web.upstream()).await.unwrap();
        let mut second = TcpStream::connect(web.upstream()).await.unwrap();
        let mut nothing = Vec::new();
        let _ = second.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
        assert_eq!(web.metric("weft_limit_refusals_total"), ["1"]);
        drop(first);
    });
}

#[test]
fn requests_beyond_the_applications_connections_are_refused_and_not_queued() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let mut settings = callee(slow().await, Protocol::Http1);
        settings.limits.endpoint_connections = 2;
        let callee = Proxy::start(&authority, API, settings);
        let mut settings = caller(None);
        settings.retries.attempts = 0;
        let web = Proxy::start(&authority, WEB, settings);
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        let answers = futures::future::join_all((0..5).map(|_| get(web.upstream(), "api"))).await;
        let served = answers.iter().filter(|answer| answer.ends_with("done")).count();
        let refused = answers.iter().filter(|answer| answer.starts_with("HTTP/1.1 503")).count();
        assert_eq!((served, refused), (2, 3), "{answers:?}");
    });
}
