//! One request and its response on a stream.

use std::future::{Future, poll_fn};
use std::pin::Pin;

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;

use crate::http::body::RequestBody;
use crate::http::http2::upload::Upload;
use crate::http::http2::{Answer, Sender, StreamBytes};
use crate::http::incoming::Incoming;
use crate::tcp::bytes::Bytes as Io;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoResponse {
    /// The endpoint has seen nothing of the request.
    #[error(transparent)]
    Unsent(h2::Error),
    /// The stream or its connection ended.
    #[error(transparent)]
    Broken(h2::Error),
}

/// Sends a request and waits for its response. What a `CONNECT` opens is [`Incoming::Switched`].
pub(crate) fn send(
    sender: Sender,
    request: Request<RequestBody>,
) -> impl Future<Output = Result<Response<Incoming>, NoResponse>> {
    // Every request's future would be as large, of whichever kind its connection is.
    Box::pin(exchange(sender, request))
}

async fn exchange(
    mut sender: Sender,
    request: Request<RequestBody>,
) -> Result<Response<Incoming>, NoResponse> {
    poll_fn(|cx| sender.poll_ready(cx)).await.map_err(NoResponse::Unsent)?;
    let (mut head, body) = request.into_parts();
    let is_connect = head.method == Method::CONNECT;
    if let Some(length) = body.size_hint().exact()
        && (length > 0 || says_length(&head.method))
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let ends = body.is_end_stream() && !is_connect;
    let sent = sender.send_request(Request::from_parts(head, ()), ends);
    let (mut response, stream) = sent.map_err(NoResponse::Unsent)?;
    drop(sender);
    let (mut upload, bytes) = match is_connect {
        true => (None, Some(stream)),
        false => ((!ends).then(|| Upload::new(body, stream)), None),
    };
    let response = poll_fn(|cx| {
        // How it ends badly the response says as well.
        if upload.as_mut().is_some_and(|upload| upload.poll(cx).is_ready()) {
            upload = None;
        }
        Pin::new(&mut response).poll(cx)
    });
    let (head, stream) = response.await.map_err(NoResponse::Broken)?.into_parts();
    if let Some(mut upload) = upload {
        // Who reads the response may be slow; the endpoint may wait for the rest of the request all the same.
        tokio::task::spawn_local(async move { poll_fn(|cx| upload.poll(cx)).await });
    }
    let body = match bytes {
        Some(bytes) if head.status == StatusCode::OK => {
            Incoming::Switched(Io::Http2(Box::new(StreamBytes::new(bytes, stream))))
        }
        _ => Incoming::Http2(Answer::new(stream, &head.headers)),
    };
    Ok(Response::from_parts(head, body))
}

/// Whether a request without a body says so (RFC 9110 8.6).
fn says_length(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::CONNECT)
}
