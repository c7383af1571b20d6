//! Opaque bytes through a pair: server-first, half-close, `CONNECT`.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_model::Protocol;

use super::kit::*;
use crate::record::{RequestProtocol, ResponseFlag};

/// Greets, reads to the end, and says how much it read.
async fn greeter() -> SocketAddr {
    let listener = TcpListener::bind(free()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                stream.write_all(b"welcome\n").await.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(format!("{} bytes", all.len()).as_bytes()).await.unwrap();
            });
        }
    });
    address
}

async fn converse(to: SocketAddr, before: &str) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(before.as_bytes()).await.unwrap();
    if !before.is_empty() {
        let mut head = [0; 19];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\n\r\n");
    }
    let mut greeting = [0; 8];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"welcome\n");
    stream.write_all(&vec![7; 300_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "300000 bytes");
}

#[test]
fn a_server_that_speaks_first_and_answers_after_the_clients_end_works() {
    run(async {
        let pair = Pair::start(greeter().await, Protocol::Tcp);
        converse(pair.web.upstream(), "").await;
        for record in [pair.web.record(0).await, pair.api.record(0).await] {
            assert_eq!((record.protocol, record.flag), (RequestProtocol::Tcp, None), "{record:?}");
            assert_eq!((record.bytes_received, record.bytes_sent), (300_000, 20), "{record:?}");
        }
        assert_eq!(pair.api.record(0).await.source, Some(id(WEB)));
    });
}

#[test]
fn where_no_protocol_is_declared_a_silent_client_is_opaque_and_a_request_is_http() {
    run(async {
        let silent = Pair::start(greeter().await, Protocol::Detect);
        converse(silent.web.upstream(), "").await;
        let talking = Pair::start(echo("one").await, Protocol::Detect);
        let answer = get(talking.web.upstream(), "api").await;
        assert!(answer.contains("x-name: one"), "{answer}");
        assert_eq!(talking.web.record(0).await.protocol, RequestProtocol::Http1);
    });
}

#[test]
fn connect_on_the_http_port_opens_bytes_to_a_service() {
    run(async {
        let pair = Pair::start(greeter().await, Protocol::Tcp);
        let http = pair.web.shared.bound.http.unwrap();
        converse(http, "CONNECT api:8080 HTTP/1.1\r\nhost: api:8080\r\n\r\n").await;
    });
}

#[test]
fn a_dead_application_ends_the_connection_and_is_on_record() {
    run(async {
        let pair = Pair::start(nobody(), Protocol::Tcp);
        let mut stream = TcpStream::connect(pair.web.upstream()).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        // A reset or an end, by what was read of ours: nothing in any case.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
        let record = pair.web.record(0).await;
        assert_eq!(record.flag, Some(ResponseFlag::UpstreamConnectionFailure), "{}", record.detail);
        assert_eq!(pair.api.record(0).await.status, 503);
    });
}

#[test]
fn connect_on_an_upstreams_port_is_for_the_service_itself() {
    run(async {
        // A proxy as an application: it says 200 to CONNECT and repeats what comes.
        let app = app(false, |mut request: ::http::Request<hyper::body::Incoming>| async move {
            let seen = format!("{} {}", request.method(), request.uri());
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::task::spawn_local(async move {
                let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                let mut all = Vec::new();
                io.read_to_end(&mut all).await.unwrap();
                io.write_all(&all).await.unwrap();
                io.shutdown().await.unwrap();
            });
            let body = http_body_util::Empty::<::bytes::Bytes>::new();
            ::http::Response::builder().header("x-seen", seen).body(body).unwrap()
        })
        .await;
        let pair = Pair::start(app, Protocol::Http1);
        let mut stream = TcpStream::connect(pair.web.upstream()).await.unwrap();
        stream
            .write_all(b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\nhello")
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("x-seen: CONNECT example.com:443") && answer.ends_with("hello"), "{answer}");
    });
}

#[test]
fn a_reset_by_the_callers_side_reaches_the_application() {
    run(async {
        let listener = TcpListener::bind(free()).await.unwrap();
        let pair = Pair::start(listener.local_addr().unwrap(), Protocol::Tcp);
        let client = TcpStream::connect(pair.web.upstream()).await.unwrap();
        let (mut app, _) = listener.accept().await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        // The application goes on sending until it learns that nobody reads.
        let failed = loop {
            if let Err(error) = app.write_all(&[0; 4096]).await {
                break error;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        };
        assert!(
            matches!(failed.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe),
            "{failed}"
        );
        let record = pair.web.record(0).await;
        assert_eq!(record.flag, Some(ResponseFlag::DownstreamConnectionTermination), "{}", record.detail);
    });
}
