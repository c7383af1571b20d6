//! What is tried again elsewhere, and what is not.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use weft_identity::testkit::TestAuthority;
use weft_model::Protocol;

use super::kit::*;
use crate::record::ResponseFlag;

const POST: &str = "POST / HTTP/1.1\r\nhost: api\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";

#[test]
fn a_dead_endpoint_costs_retries_and_no_failed_request() {
    run(async {
        let pair = Pair::start(echo("alive").await, Protocol::Http1);
        pair.web.knows([api(
            Protocol::Http1,
            [endpoint("dead", nobody()), endpoint("alive", pair.api.tunnel())],
        )]);
        for _ in 0..20 {
            let answer = raw(pair.web.upstream(), POST).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        }
        let mut retries = 0;
        for n in 0..20 {
            retries += pair.web.record(n).await.retries;
        }
        // The first failure shows that nobody is there; then no request tries it any more.
        assert_eq!(retries, 1);
    });
}

#[test]
fn a_callee_whose_application_is_down_sends_the_request_elsewhere_with_its_body() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let down = Proxy::start(&authority, API, callee(nobody(), Protocol::Http1));
        let up = Proxy::start(&authority, API, callee(echo("up").await, Protocol::Http1));
        let web = Proxy::start(&authority, WEB, caller(None));
        web.knows([api(Protocol::Http1, [endpoint("down", down.tunnel()), endpoint("up", up.tunnel())])]);
        for _ in 0..20 {
            let answer = raw(web.upstream(), POST).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        }
        assert_eq!(down.record(0).await.flag, Some(ResponseFlag::UpstreamConnectionFailure));
    });
}

#[test]
fn without_another_endpoint_the_failure_says_what_was_tried() {
    run(async {
        let dead = nobody();
        let pair = Pair::start(echo("unused").await, Protocol::Http1);
        pair.web.knows([api(Protocol::Http1, [endpoint("dead", dead)])]);
        let answer = get(pair.web.upstream(), "api").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(&dead.to_string()), "{answer}");
        let record = pair.web.record(0).await;
        assert_eq!((record.flag, record.retries), (Some(ResponseFlag::UpstreamConnectionFailure), 2));
    });
}

#[test]
fn what_may_have_been_worked_on_is_not_sent_twice() {
    run(async {
        // An application that reads the request and closes without an answer.
        let listener = TcpListener::bind(free()).await.unwrap();
        let app = listener.local_addr().unwrap();
        let seen = Rc::new(Cell::new(0));
        let count = seen.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let mut buffer = [0; 1024];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
            }
        });
        let pair = Pair::start(app, Protocol::Http1);
        let answer = raw(pair.web.upstream(), POST).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert_eq!(seen.get(), 1);
        assert_eq!(pair.api.record(0).await.flag, Some(ResponseFlag::UpstreamConnectionTermination));
    });
}

#[test]
fn a_connection_that_the_application_closed_while_it_waited_is_replaced_unseen() {
    run(async {
        let app = app(false, |_: Request<Incoming>| async {
            Response::builder()
                .header("connection", "close")
                .body(Full::new(Bytes::from_static(b"ok")))
                .unwrap()
        })
        .await;
        let pair = Pair::start(app, Protocol::Http1);
        for _ in 0..5 {
            let answer = raw(pair.web.upstream(), POST).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    });
}

#[test]
fn a_request_that_takes_too_long_is_given_up_with_504() {
    run(async {
        let app = app(false, |_: Request<Incoming>| async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Response::new(Full::new(Bytes::new()))
        })
        .await;
        let authority = TestAuthority::new("weft.test");
        let callee = Proxy::start(&authority, API, callee(app, Protocol::Http1));
        let mut settings = caller(None);
        settings.timeouts.request = Some(Duration::from_millis(50));
        let web = Proxy::start(&authority, WEB, settings);
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        let answer = get(web.upstream(), "api").await;
        assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
        assert_eq!(web.record(0).await.flag, Some(ResponseFlag::UpstreamTimeout));
        // The stream was reset, so the callee knows that nobody waits any more.
        assert_eq!(callee.record(0).await.flag, Some(ResponseFlag::DownstreamConnectionTermination));
    });
}

#[test]
fn a_stream_that_the_callee_refuses_goes_elsewhere_with_its_body() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let up = Proxy::start(&authority, API, callee(echo("up").await, Protocol::Http1));
        let web = Proxy::start(&authority, WEB, caller(None));
        let refused = Rc::new(Cell::new(0));
        let refusing = refuser(&authority, refused.clone()).await;
        web.knows([api(Protocol::Http1, [endpoint("refusing", refusing), endpoint("up", up.tunnel())])]);
        for _ in 0..30 {
            let answer = raw(web.upstream(), POST).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
        }
        assert!(refused.get() > 0, "the refusing one was never tried");
    });
}

/// A proxy that accepts connections and refuses each stream, after it has read the body's first bytes.
async fn refuser(authority: &TestAuthority, refused: Rc<Cell<u32>>) -> std::net::SocketAddr {
    let source = weft_identity::SvidSource::new();
    source.set(authority.svid(API), authority.bundles());
    let credentials = source.current().unwrap();
    let config =
        credentials.server_config(&[weft_identity::ALPN_WEFT], weft_identity::ClientAuth::Required).unwrap();
    let listener = TcpListener::bind(free()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tokio_rustls::TlsAcceptor::from(config.clone()).accept(stream).await.unwrap();
            let refused = refused.clone();
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(tls).await.unwrap();
                while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                    refused.set(refused.get() + 1);
                    let _ = futures::future::poll_immediate(request.body_mut().data()).await;
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                }
            });
        }
    });
    address
}

#[test]
fn a_renewed_certificate_takes_effect_without_a_failed_request() {
    run(async {
        let authority = TestAuthority::new("weft.test");
        let callee = Proxy::start(&authority, API, callee(echo("one").await, Protocol::Http1));
        let web = Proxy::start(&authority, WEB, caller(None));
        web.knows([api(Protocol::Http1, [endpoint("api-1", callee.tunnel())])]);
        for n in 0..40 {
            if n % 10 == 5 {
                web.shared.svids.set_svid(authority.svid(WEB));
                callee.shared.svids.set_svid(authority.svid(API));
            }
            let answers = futures::future::join_all((0..4).map(|_| raw(web.upstream(), POST))).await;
            assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200")), "{answers:?}");
        }
        // Old connections are let go as soon as their streams have ended.
        loop {
            if callee.metric("weft_tunnel_connections") == ["1"] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}
