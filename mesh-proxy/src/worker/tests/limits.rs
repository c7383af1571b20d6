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
        let callee = Proxy::start(&authority, API, callee(slow().await, Protocol::Http1));
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        let upstream = web.upstream();
        let busy = tokio::task::spawn_local(async move { get(upstream, "api").await });
        eventually(|| web.metric("weft_outbound_connections") == ["1"]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = get(upstream, "api").await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.ends_with("(OM)\n"), "{refused}");
        assert_eq!(web.refusals("connection", "connections"), 1);
        assert!(busy.await.unwrap().ends_with("done"), "the one that runs is not touched");
    });
}

#[test]
fn at_the_limit_an_idle_connection_makes_room() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let mut settings = caller(None);
        settings.limits.connections = 1;
        let web = Proxy::start(&authority, WEB, settings);
        let mut first = TcpStream::connect(web.upstream()).await.unwrap();
        eventually(|| web.metric("weft_outbound_connections") == ["1"]).await;
        let _second = TcpStream::connect(web.upstream()).await.unwrap();
        let mut nothing = Vec::new();
        let _ = first.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
        assert_eq!(web.refusals("connection", "connections"), 0);
    });
}

#[test]
fn requests_beyond_the_limit_are_refused_with_om_and_those_that_run_are_answered() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let callee = Proxy::start(&authority, API, callee(slow().await, Protocol::Http1));
        let mut settings = caller(None);
        settings.limits.requests = 3;
        let web = Proxy::start(&authority, WEB, settings);
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        for round in 1..=2 {
            let answers = futures::future::join_all((0..8).map(|_| get(web.upstream(), "api"))).await;
            let served = answers.iter().filter(|answer| answer.ends_with("done")).count();
            let refused =
                answers.iter().filter(|a| a.starts_with("HTTP/1.1 503") && a.contains("(OM)")).count();
            assert_eq!((served, refused), (3, 5), "{answers:?}");
            assert_eq!(web.refusals("request", "requests"), 5 * round, "places are given back");
        }
    });
}

#[test]
fn under_pressure_idle_connections_leave_new_ones_are_refused_and_a_request_that_runs_is_answered() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let callee = Proxy::start(&authority, API, callee(slow().await, Protocol::Http1));
        let web = Proxy::start(&authority, WEB, caller(None));
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        let upstream = web.upstream();
        let mut idle = TcpStream::connect(upstream).await.unwrap();
        let busy = tokio::task::spawn_local(async move { get(upstream, "api").await });
        eventually(|| callee.metric("weft_app_connections") == ["1"]).await;
        web.shared.overload.measured(850);
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "an idle one is closed");
        let refused = get(upstream, "api").await;
        assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("(OM)"), "{refused}");
        assert_eq!(web.refusals("connection", "memory"), 1);
        assert!(busy.await.unwrap().ends_with("done"));
        web.shared.overload.measured(100);
        assert!(get(upstream, "api").await.ends_with("done"), "everything is taken again");
    });
}

#[test]
fn at_full_pressure_a_request_on_an_open_connection_is_refused_and_may_go_elsewhere() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let full = Proxy::start(&authority, API, callee(echo("full").await, Protocol::Http1));
        let free = Proxy::start(&authority, API, callee(echo("free").await, Protocol::Http1));
        let web = Proxy::start(&authority, WEB, caller(None));
        let both = [endpoint("full", full.tunnel()), endpoint("free", free.tunnel())];
        web.knows([api(Protocol::Http1, both)]);
        let mut by_full = 0;
        for _ in 0..10 {
            by_full += usize::from(get(web.upstream(), "api").await.contains("x-name: full"));
        }
        assert!(by_full > 0, "both are used before");
        full.shared.overload.measured(990);
        for _ in 0..10 {
            let answer = get(web.upstream(), "api").await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-name: free"), "{answer}");
        }
        // Alone it says so, in the flag that the caller's proxy sees and its own record.
        web.shared.overload.measured(990);
        let answer = get(web.upstream(), "api").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    });
}

#[test]
fn a_limit_that_is_too_small_lets_the_first_ones_through() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let callee = Proxy::start(&authority, API, callee(slow().await, Protocol::Http1));
        let web = Proxy::always_taking(&authority, WEB, caller(None), 2);
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        // Known from here on to speak HTTP/1, so that who is refused is told so.
        assert!(get(web.upstream(), "api").await.ends_with("done"));
        web.shared.overload.measured(5000);
        for _ in 0..2 {
            let answers = futures::future::join_all((0..6).map(|_| get(web.upstream(), "api"))).await;
            let served = answers.iter().filter(|answer| answer.ends_with("done")).count();
            assert_eq!(served, 2, "{answers:?}");
        }
    });
}

#[test]
fn open_files_bound_the_connections() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let web = Proxy::with_files(&authority, WEB, caller(None), 4);
        let _open = [
            TcpStream::connect(web.upstream()).await.unwrap(),
            TcpStream::connect(web.upstream()).await.unwrap(),
        ];
        eventually(|| web.metric("weft_outbound_connections") == ["2"]).await;
        let mut third = TcpStream::connect(web.upstream()).await.unwrap();
        assert_eq!(third.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(web.refusals("connection", "files"), 1);
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
