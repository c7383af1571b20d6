//! Applications that write down what reaches them: over HTTP/1 every byte, over HTTP/2 every head.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What reached an application, request by request.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    whole: Requests,
    /// Those whose connection ended before they did.
    begun: Requests,
}

type Requests = Arc<Mutex<Vec<String>>>;

impl Seen {
    /// Takes the whole requests that were seen, without the good ones between the rows.
    pub(crate) fn take(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.whole.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter().filter(|request| !request.contains("/good")).collect()
    }

    /// What was begun and never ended, ever since the start: bodies are passed on as they come, so what is wrong behind
    /// a beginning is found when an application has that already. When it is noted depends on when its connection ends.
    pub(crate) fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn note(requests: &Requests, request: String) {
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
}

/// An HTTP/1 application that answers every request with 200 and `ok`. Ends with the test's runtime.
pub(crate) async fn http1() -> Result<(SocketAddr, Seen)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, seen) = (listener.local_addr()?, Seen::default());
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, noted.clone()));
        }
    });
    Ok((address, seen))
}

async fn answer(mut stream: TcpStream, seen: Seen) {
    let mut bytes = Vec::new();
    loop {
        let Some(length) = message(&bytes) else {
            let mut space = [0; 65_536];
            match stream.read(&mut space).await {
                Ok(n) if n > 0 => bytes.extend(space.get(..n).unwrap_or_default()),
                // What is no whole request is noted too: nothing may hide.
                _ if bytes.is_empty() => return,
                _ => return note(&seen.begun, plain(&bytes)),
            }
            continue;
        };
        note(&seen.whole, plain(bytes.get(..length).unwrap_or_default()));
        bytes.drain(..length);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// The length of the first request, once it is whole.
fn message(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
    let rest = bytes.get(head..)?;
    if text.contains("\r\ntransfer-encoding: chunked\r\n") {
        let last = rest
            .windows(3)
            .enumerate()
            .find(|(at, three)| *three == b"0\r\n" && (*at == 0 || rest.get(at - 2..*at) == Some(b"\r\n")))?;
        let trailers = rest.get(last.0 + 1..)?.windows(4).position(|four| four == b"\r\n\r\n")?;
        return Some(head + last.0 + 1 + trailers + 4);
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let whole = head + length.unwrap_or(0usize);
    (bytes.len() >= whole).then_some(whole)
}

/// One line for each part, without what differs from run to run, the fields in alphabetical order: request line,
/// fields, an empty line, body.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut fields: Vec<&str> = lines
        .filter(|line| !line.starts_with("x-forwarded-client-cert: ") && !line.starts_with("x-request-id: "))
        .collect();
    fields.sort_unstable();
    format!("{first}\n{}\n\n{body}", fields.join("\n"))
}

/// An HTTP/2 application: `/big` is 2 MiB, anything else `ok`.
pub(crate) async fn http2() -> Result<(SocketAddr, Seen)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, seen) = (listener.local_addr()?, Seen::default());
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let noted = noted.clone();
            let service = service_fn(move |request| respond(request, noted.clone()));
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok((address, seen))
}

async fn respond(request: Request<Incoming>, seen: Seen) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut fields: Vec<String> = request
        .headers()
        .iter()
        .filter(|(name, _)| *name != "x-forwarded-client-cert" && *name != "x-request-id")
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    fields.sort_unstable();
    note(&seen.whole, format!("{} {}\n{}", request.method(), request.uri(), fields.join("\n")));
    let big = request.uri().path() == "/big";
    let _body = request.into_body().collect().await;
    Ok(Response::new(Full::new(if big { vec![7; 2 << 20].into() } else { Bytes::from_static(b"ok") })))
}
