//! gRPC as thin as it goes: one TLS connection with HTTP/2 on it, whose bytes are counted, and messages on its streams.
//!
//! Not tonic: hundreds of clients share one core with nothing else to do, and what counts is what comes over the wire.
//! Payload is what is in DATA frames; framed is all of HTTP/2 before encryption; raw is what TCP carries.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use prost::Message;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes that came in on one connection.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) payload: AtomicU64,
    pub(super) framed: Arc<AtomicU64>,
    pub(super) raw: Arc<AtomicU64>,
    /// Resources and removals in the responses.
    pub(super) resources: AtomicU64,
}

/// [`Counts`] at one moment, or the difference of two.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(super) struct Bytes4 {
    pub(super) payload: u64,
    pub(super) framed: u64,
    pub(super) raw: u64,
    pub(super) resources: u64,
}

impl Counts {
    pub(super) fn now(&self) -> Bytes4 {
        Bytes4 {
            payload: self.payload.load(Relaxed),
            framed: self.framed.load(Relaxed),
            raw: self.raw.load(Relaxed),
            resources: self.resources.load(Relaxed),
        }
    }
}

impl Bytes4 {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            payload: self.payload - before.payload,
            framed: self.framed - before.framed,
            raw: self.raw - before.raw,
            resources: self.resources - before.resources,
        }
    }
}

/// Passes bytes on and counts those that come in.
pub(super) struct Counted<S> {
    inner: S,
    count: Arc<AtomicU64>,
}

pub(super) type Io = Counted<TlsStream<Counted<TcpStream>>>;

/// Connects, shakes hands, and opens HTTP/2.
pub(super) async fn connect(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    counts: &Counts,
) -> Result<(SendRequest<Bytes>, Connection<Io, Bytes>)> {
    let tcp = TcpStream::connect(address).await.context("connecting")?;
    tcp.set_nodelay(true)?;
    let tcp = Counted { inner: tcp, count: Arc::clone(&counts.raw) };
    let name = ServerName::IpAddress(address.ip().into());
    let tls = TlsConnector::from(tls).connect(name, tcp).await.context("the TLS handshake")?;
    let io = Counted { inner: tls, count: Arc::clone(&counts.framed) };
    let mut builder = h2::client::Builder::new();
    // As the proxy's own client: a whole first state fits.
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
    builder.handshake(io).await.context("the HTTP/2 preface")
}

/// Opens a call of `path`.
pub(super) fn call(
    send: &mut SendRequest<Bytes>,
    path: &'static str,
) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>)> {
    let request = Request::post(format!("http://weft{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    Ok(send.send_request(request, false)?)
}

/// Sends one message.
pub(super) fn send(stream: &mut SendStream<Bytes>, message: &impl Message, end: bool) -> Result<()> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length)?);
    message.encode(&mut frame)?;
    Ok(stream.send_data(frame.freeze(), end)?)
}

/// The messages of a response.
pub(super) struct Messages {
    body: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    pub(super) fn of(response: http::Response<RecvStream>) -> Result<Self> {
        let (head, body) = response.into_parts();
        ensure!(head.status == 200, "status {}", head.status);
        if let Some(status) = head.headers.get("grpc-status").filter(|status| *status != "0") {
            bail!("grpc-status {status:?}: {:?}", head.headers.get("grpc-message"));
        }
        Ok(Self { body, buffer: BytesMut::new() })
    }

    /// The next message; an end of the stream is an error that says why. Cancel safe.
    pub(super) async fn next(&mut self, counts: &Counts) -> Result<Bytes> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let Some(data) = self.body.data().await else {
                let trailers = self.body.trailers().await?;
                bail!("the stream ended: {trailers:?}");
            };
            let data = data?;
            counts.payload.fetch_add(data.len() as u64, Relaxed);
            self.body.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>> {
        let Some(head) = self.buffer.first_chunk::<5>() else { return Ok(None) };
        let [compressed, a, b, c, d] = *head;
        ensure!(compressed == 0, "a compressed message was not asked for");
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.count.fetch_add((buffer.filled().len() - before) as u64, Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buffer)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
