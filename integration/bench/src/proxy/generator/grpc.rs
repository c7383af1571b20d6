//! gRPC calls: several at a time share one HTTP/2 connection; status, message and trailer are compared.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderValue, TE};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::proxy::backend::{ASKED, BODY, message};

/// One caller's place on a connection.
#[derive(Clone)]
pub(super) struct Client {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    asked: Bytes,
    answered: Bytes,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self { address, sender: connect(address).await?, asked: message(ASKED), answered: message(BODY) })
    }

    pub(super) async fn again(&mut self) -> Result<()> {
        self.sender = connect(self.address).await?;
        Ok(())
    }

    pub(super) async fn exchange(&mut self) -> Result<()> {
        let mut request = Request::new(Full::new(self.asked.clone()));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = "http://bench.weft/weft.bench.v1.Bench/Ask".parse()?;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        let body = response.into_body().collect().await?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        ensure!(status.is_some_and(|status| status == "0"), "grpc-status {status:?}");
        ensure!(body.to_bytes() == self.answered, "not the right message");
        Ok(())
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // Ends when the last of its callers is dropped.
    tokio::spawn(connection);
    Ok(sender)
}
