//! Clients of the tests: plain hyper connections, so that a test sees every byte's effect.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tokio::net::TcpStream;

/// What an HTTP application of the tests answers.
#[derive(Debug, Clone, Deserialize)]
pub struct Answer {
    /// Its service.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The HTTP version that reached it.
    pub protocol: String,
    /// The method that reached it.
    pub method: String,
    /// Path and query that reached it.
    pub path: String,
    /// The caller's SPIFFE id, as its proxy proved it.
    pub caller: Option<String>,
    /// Length of the body that reached it.
    pub body_bytes: usize,
    /// Every header that reached it.
    pub headers: std::collections::BTreeMap<String, String>,
    /// Every trailer that reached it.
    #[serde(default)]
    pub trailers: std::collections::BTreeMap<String, String>,
}

/// One GET over a fresh HTTP/1.1 connection.
///
/// # Errors
/// When the answer is not 200 and an [`Answer`].
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let request = Request::get(path).header("host", "test").body(Full::default())?;
    read(http1(address, request).await?).await
}

async fn read(response: Response<Incoming>) -> Result<Answer> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != 200 {
        bail!("{status}: {}", String::from_utf8_lossy(&body));
    }
    serde_json::from_slice(&body).with_context(|| String::from_utf8_lossy(&body).into_owned())
}

/// One request over a fresh HTTP/1.1 connection, which may be upgraded.
///
/// # Errors
/// When there is no response.
pub async fn http1(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the connection, and with the test's runtime.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

/// One request over a fresh HTTP/2 connection (prior knowledge).
///
/// # Errors
/// When there is no response.
pub async fn http2(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
