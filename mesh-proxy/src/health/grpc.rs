//! `grpc.health.v1.Health/Check` over HTTP/2 without TLS (grpc/doc/health-checking.md), as a kubelet asks it.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use prost::Message;

use super::ask;

/// A status is two bytes; more than this is no answer to the question.
const LARGEST_ANSWER: usize = 4096;
/// Of `grpc.health.v1.HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// OK if the server says that `service` is serving.
pub(super) async fn check(service: &str, address: SocketAddr) -> Result<StatusCode, String> {
    let failed = |error: h2::Error| format!("asking {address} by gRPC: {error}");
    let stream = ask::connect(address).await?;
    let mut handshake = client::Builder::new();
    let handshake = handshake.max_header_list_size(16 * 1024).enable_push(false).handshake(stream);
    let (sender, connection) = handshake.await.map_err(failed)?;
    let driven = async {
        // Why it ended is what the stream says.
        _ = connection.await;
        std::future::pending::<()>().await;
    };
    let (head, body, trailers) = tokio::select! {
        answer = call(sender, service, address) => answer.map_err(failed)?,
        () = driven => return Err(String::new()),
    };
    judge(&head, &body, trailers.as_ref())
}

/// The response's head, body and trailers.
async fn call(
    sender: client::SendRequest<Bytes>,
    service: &str,
    address: SocketAddr,
) -> Result<(http::response::Parts, Bytes, Option<HeaderMap>), h2::Error> {
    let mut sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(request(address), false)?;
    body.send_data(message(service), true)?;
    let (head, mut stream) = response.await?.into_parts();
    let mut read = BytesMut::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        if read.len() + piece.len() > LARGEST_ANSWER {
            return Ok((head, Bytes::new(), None));
        }
        read.put(piece);
    }
    Ok((head, read.freeze(), stream.trailers().await?))
}

fn request(address: SocketAddr) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    let uri = Uri::builder().scheme("http").authority(address.to_string());
    // An address is always a legal authority.
    *request.uri_mut() = uri.path_and_query("/grpc.health.v1.Health/Check").build().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(USER_AGENT, HeaderValue::from_static(ask::AGENT));
    request
}

/// A message with gRPC's prefix: not compressed, and its length.
fn message(service: &str) -> Bytes {
    let message = CheckRequest { service: service.to_owned() }.encode_to_vec();
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

/// What the answer means.
fn judge(
    head: &http::response::Parts,
    body: &[u8],
    trailers: Option<&HeaderMap>,
) -> Result<StatusCode, String> {
    if head.status != StatusCode::OK {
        return Err(format!("the application answers {}, which is not gRPC's", head.status.as_u16()));
    }
    // Where there is no message, the status is in the head.
    let status = trailers.and_then(|trailers| trailers.get("grpc-status"));
    let status = status.or_else(|| head.headers.get("grpc-status")).map(HeaderValue::as_bytes);
    match status {
        Some(b"0") => {}
        Some(b"12") => return Err("the application has no gRPC health service".to_owned()),
        Some(b"5") => return Err("the application does not know the service".to_owned()),
        Some(other) => {
            let shown: String = String::from_utf8_lossy(other).chars().take(10).collect();
            return Err(format!("the application answers with gRPC status {shown:?}"));
        }
        None => return Err("the application's answer has no gRPC status".to_owned()),
    }
    let message = body.split_first_chunk::<5>().filter(|(prefix, _)| prefix[0] == 0).map(|(_, rest)| rest);
    let answer = message.and_then(|message| CheckResponse::decode(message).ok());
    match answer.ok_or("the application's answer can't be read")?.status {
        SERVING => Ok(StatusCode::OK),
        other => Err(format!("the application is not serving (status {other})")),
    }
}
