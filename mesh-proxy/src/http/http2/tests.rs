//! Streams against a server that does as it is told, and one that does nothing.

use std::cell::Cell;
use std::rc::Rc;

use ::bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::connection::{builder, drive};
use super::exchange::{NoResponse, send};
use super::*;
use crate::http::body::RequestBody;
use crate::http::incoming::Incoming;

/// A connection, and its other end.
async fn connected() -> (Sender, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (sender, connection) = builder(1 << 16).handshake(near).await.unwrap();
    let (limit, streams) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(1)));
    tokio::task::spawn_local(drive(connection, limit, streams));
    (sender, far)
}

fn get() -> Request<RequestBody> {
    Request::get("http://api/x").body(RequestBody::Empty).unwrap()
}

/// Serves each stream with `answer`.
fn serve(far: DuplexStream, answer: impl Fn(SendResponse<Bytes>) + 'static) {
    tokio::task::spawn_local(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((_request, respond))) = connection.accept().await {
            answer(respond);
        }
    });
}

/// What is read of a response that is reset after its first bytes, and that said its length or did not.
async fn reset_with(
    reason: Reason,
    length: Option<&'static str>,
) -> Result<Bytes, crate::http::body::BodyError> {
    let (sender, far) = connected().await;
    serve(far, move |mut respond| {
        let mut response = Response::new(());
        response.headers_mut().extend(length.map(|length| (CONTENT_LENGTH, length.parse().unwrap())));
        let mut stream = respond.send_response(response, false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        tokio::task::spawn_local(async move {
            // The data is to leave first.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            stream.send_reset(reason);
        });
    });
    let response = send(sender, get()).await.unwrap();
    response.into_body().collect().await.map(http_body_util::Collected::to_bytes)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_response_that_is_reset_in_the_middle_is_not_taken_for_whole() {
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::REFUSED_STREAM] {
        let error = reset_with(reason, None).await.unwrap_err();
        assert_eq!(error.reason(), reason);
    }
    // The other side's complaint is not ours about our caller.
    let complaint = reset_with(Reason::PROTOCOL_ERROR, None).await;
    assert_eq!(complaint.unwrap_err().reason(), Reason::INTERNAL_ERROR);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_response_that_is_reset_without_an_error_is_whole_unless_its_length_says_otherwise() {
    for length in [None, Some("4")] {
        assert_eq!(reset_with(Reason::NO_ERROR, length).await.unwrap(), "half");
    }
    let shorter = reset_with(Reason::NO_ERROR, Some("5")).await;
    assert_eq!(shorter.unwrap_err().reason(), Reason::INTERNAL_ERROR);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_response_with_a_length_says_how_much_is_left() {
    let (sender, far) = connected().await;
    serve(far, |mut respond| {
        let response = Response::builder().header("content-length", "4").body(()).unwrap();
        let mut stream = respond.send_response(response, false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), true).unwrap();
    });
    let mut body = send(sender, get()).await.unwrap().into_body();
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(4));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert!(http_body::Body::is_end_stream(&body));
    assert!(body.frame().await.is_none());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_answers_no_ping_is_given_up_and_its_streams_fail() {
    let (sender, mut far) = connected().await;
    tokio::task::spawn_local(async move {
        // SETTINGS, and then not a word more.
        far.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut space = [0; 1024];
        while far.read(&mut space).await.is_ok_and(|read| read > 0) {}
    });
    let start = tokio::time::Instant::now();
    assert!(matches!(send(sender, get()).await, Err(NoResponse::Broken(_))));
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn after_goaway_nothing_is_sent_and_that_is_said() {
    let (sender, far) = connected().await;
    tokio::task::spawn_local(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        connection.graceful_shutdown();
        while let Some(Ok(_)) = connection.accept().await {}
    });
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(matches!(send(sender, get()).await, Err(NoResponse::Unsent(_))));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_connect_opens_carries_bytes_both_ways_and_ends_half_by_half() {
    let (sender, far) = connected().await;
    tokio::task::spawn_local(async move {
        let mut connection = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let mut to: h2::SendStream<Bytes> = respond.send_response(Response::new(()), false).unwrap();
            tokio::task::spawn_local(async move {
                let mut from = request.into_body();
                while let Some(Ok(data)) = from.data().await {
                    from.flow_control().release_capacity(data.len()).unwrap();
                    to.send_data(data, false).unwrap();
                }
                to.send_data(Bytes::new(), true).unwrap();
            });
        }
    });
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = "10.0.0.1:80".parse().unwrap();
    let Incoming::Switched(mut io) = send(sender, request).await.unwrap().into_body() else {
        panic!("it is no stream of bytes")
    };
    // More than a window.
    let sent = vec![7; 1 << 20];
    let (mut from, mut to) = tokio::io::split(&mut io);
    let writing = async {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    };
    let mut echoed = Vec::new();
    let (read, ()) = tokio::join!(from.read_to_end(&mut echoed), writing);
    assert_eq!(read.unwrap(), sent.len());
    assert_eq!(echoed, sent);
}
