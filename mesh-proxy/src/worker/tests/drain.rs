//! The end of a worker: what runs is finished, nothing new is taken, and the deadline holds.

use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::time::Instant;
use weft_identity::testkit::TestAuthority;
use weft_model::Protocol;

use super::kit::*;

async fn slow(millis: u64) -> std::net::SocketAddr {
    app(false, move |_: Request<Incoming>| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Response::new(Full::new(Bytes::from_static(b"done")))
    })
    .await
}

#[test]
fn a_draining_callee_finishes_its_requests_and_then_ends() {
    run(async {
        let pair = Pair::start(slow(300).await, Protocol::Http1);
        let upstream = pair.web.upstream();
        let running = tokio::task::spawn_local(async move { get(upstream, "api").await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = Instant::now();
        pair.api.shared.drain.drain(now, now + Duration::from_secs(10));
        let answer = running.await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        pair.api.task.await.unwrap().unwrap();
        assert!(now.elapsed() < Duration::from_secs(5), "it waited for its deadline");
        assert!(TcpStream::connect(pair.api.shared.bound.tunnel.unwrap()).await.is_err());
    });
}

#[test]
fn callers_of_a_draining_callee_move_on_without_a_failed_request() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let leaving = Proxy::start(&authority, API, callee(echo("leaving").await, Protocol::Http1));
        let staying = Proxy::start(&authority, API, callee(echo("staying").await, Protocol::Http1));
        let web = Proxy::start(&authority, WEB, caller(None));
        web.knows([api(
            Protocol::Http1,
            [endpoint("leaving", leaving.tunnel()), endpoint("staying", staying.tunnel())],
        )]);
        let mut moved = 0;
        for n in 0..60 {
            if n == 20 {
                let now = Instant::now();
                leaving.shared.drain.drain(now, now + Duration::from_secs(10));
            }
            let answers = futures::future::join_all((0..4).map(|_| get(web.upstream(), "api"))).await;
            for answer in answers {
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                moved += usize::from(n > 30 && answer.contains("x-name: staying"));
            }
        }
        assert_eq!(moved, 29 * 4);
        leaving.task.await.unwrap().unwrap();
    });
}

#[test]
fn what_is_open_at_the_deadline_is_cut() {
    run(async {
        let pair = Pair::start(slow(60_000).await, Protocol::Http1);
        let upstream = pair.web.upstream();
        let running = tokio::task::spawn_local(async move { get(upstream, "api").await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = Instant::now();
        pair.api.shared.drain.drain(now, now + Duration::from_millis(200));
        pair.api.task.await.unwrap().unwrap();
        assert!(now.elapsed() >= Duration::from_millis(200));
        running.abort();
    });
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    run(async {
        let pair = Pair::start(echo("one").await, Protocol::Http1);
        let mut idle = TcpStream::connect(pair.web.upstream()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut idle, b"GET / HTTP/1.1\r\nhost: api\r\n\r\n").await.unwrap();
        pair.web.record(0).await;
        let now = Instant::now();
        pair.web.shared.drain.drain(now, now + Duration::from_secs(10));
        pair.web.task.await.unwrap().unwrap();
        assert!(now.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_request_that_the_deadline_cuts_is_on_record_as_cut_by_this_proxy() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let mut settings = callee(slow(60_000).await, Protocol::Http1);
        settings.inbound[0].permissive = Some(free());
        let (shared, sockets) = prepare(&authority, authority.bundles(), API, settings);
        let shared = Arc::new(shared);
        let port = shared.bound.permissive[0].unwrap();
        // As in production: a thread of its own, whose tasks end with it.
        let serving = shared.clone();
        let worker = tokio::task::spawn_blocking(move || crate::worker::run(serving, 0, sockets));
        let mut client = TcpStream::connect(port).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut client, b"GET / HTTP/1.1\r\nhost: api\r\n\r\n")
            .await
            .unwrap();
        while metric(&shared, "weft_active") != ["1"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let now = Instant::now();
        shared.drain.drain(now, now + Duration::from_millis(100));
        worker.await.unwrap().unwrap();
        let requests = metric(&shared, "istio_requests_total");
        assert!(requests.iter().any(|line| line.contains(r#"response_flags="LH""#)), "{requests:?}");
    });
}
