//! Switches of protocols through a pair.

use std::net::SocketAddr;

use ::http::{Method, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::ext::Protocol as ConnectProtocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_model::Protocol;

use super::kit::LocalExec;
use super::kit::*;

/// Switches to whatever is asked for and repeats what comes in capitals; declines without the header.
async fn shouter() -> SocketAddr {
    app(false, |mut request: Request<Incoming>| async move {
        let Some(token) = request.headers().get("upgrade").cloned() else {
            return Response::new(Full::new(Bytes::from_static(b"nothing to switch to")));
        };
        if request.uri().path() == "/declined" {
            return Response::new(Full::new(Bytes::from_static(b"no")));
        }
        let seen = format!(
            "{} {} {:?}",
            request.method(),
            request.uri(),
            request.headers().get("sec-websocket-key")
        );
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::task::spawn_local(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            let mut all = Vec::new();
            io.read_to_end(&mut all).await.unwrap();
            io.write_all(&all.to_ascii_uppercase()).await.unwrap();
            io.shutdown().await.unwrap();
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", token)
            .header("x-seen", seen)
            .body(Full::new(Bytes::new()))
            .unwrap()
    })
    .await
}

const WISH: &str = "host: api\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n";

async fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn a_websocket_switches_through_a_pair_and_keeps_half_close() {
    run(async {
        let pair = Pair::start(shouter().await, Protocol::Http1);
        let mut stream = TcpStream::connect(pair.web.upstream()).await.unwrap();
        stream.write_all(format!("GET /chat?x=1 HTTP/1.1\r\n{WISH}").as_bytes()).await.unwrap();
        let head = head_of(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols"), "{head}");
        assert!(
            head.contains("upgrade: websocket") && head.contains(r#"x-seen: GET /chat?x=1 Some("abc")"#),
            "{head}"
        );
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HELLO");
        let record = pair.web.record(0).await;
        assert_eq!((record.status, record.bytes_received, record.bytes_sent), (101, 5, 5), "{record:?}");
        assert_eq!(pair.api.record(0).await.bytes_sent, 5);
    });
}

#[test]
fn a_switch_that_the_application_declines_is_an_ordinary_response() {
    run(async {
        let pair = Pair::start(shouter().await, Protocol::Http1);
        let wish = WISH.replace("connection: upgrade", "connection: upgrade, close");
        let answer = raw(pair.web.upstream(), &format!("GET /declined HTTP/1.1\r\n{wish}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("no"), "{answer}");
        assert!(!answer.contains("weft-"), "{answer}");
    });
}

#[test]
fn another_protocol_and_another_method_pass_too() {
    run(async {
        let pair = Pair::start(shouter().await, Protocol::Http1);
        let mut stream = TcpStream::connect(pair.web.upstream()).await.unwrap();
        let wish = "POST /exec HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: tcp\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(wish.as_bytes()).await.unwrap();
        let head = head_of(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101") && head.contains("x-seen: POST /exec"), "{head}");
    });
}

#[test]
fn an_extended_connect_of_an_http2_client_reaches_an_http1_application_as_an_upgrade() {
    run(async {
        let pair = Pair::start(shouter().await, Protocol::Http1);
        let stream = TcpStream::connect(pair.web.upstream()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(LocalExec, TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("http://api/chat")
            .extension(ConnectProtocol::from_static("websocket"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        assert!(
            response.headers()["x-seen"].to_str().unwrap().starts_with("GET /chat Some("),
            "{response:?}"
        );
        let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        io.write_all(b"hello").await.unwrap();
        io.shutdown().await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HELLO");
    });
}

#[test]
fn bytes_right_behind_the_switch_are_lost_on_neither_side() {
    run(async {
        let listener = tokio::net::TcpListener::bind(free()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                let read = stream.read(&mut buffer).await.unwrap();
                seen.extend_from_slice(&buffer[..read]);
            }
            let yes =
                b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nwelcome ";
            stream.write_all(yes).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            stream.write_all(&rest).await.unwrap();
        });
        let pair = Pair::start(address, Protocol::Http1);
        let mut stream = TcpStream::connect(pair.web.upstream()).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhello";
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("\r\n\r\nwelcome hello"), "{answer}");
    });
}
