//! Many streams over one connection, large bodies both ways at once, and trailers of requests.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weft_integration::{Answer, Mesh, MeshPlan, ProxyPlan};

use crate::world::{none_failed, shop_with};

/// One HTTP/2 connection; it ends with the test's runtime.
async fn connect<B>(address: std::net::SocketAddr) -> Result<SendRequest<B>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(TcpStream::connect(address).await?)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

#[tokio::test]
async fn half_of_a_hundred_streams_are_cancelled_and_the_others_are_answered() -> Result<()> {
    let shop = shop_with(MeshPlan::default(), &["v1"], "http2", "").await?;
    let load = shop.load();
    let sender = connect::<Full<Bytes>>(shop.web.upstream("api")).await?;
    let mut streams = JoinSet::new();
    for n in 0..100 {
        let mut sender = sender.clone();
        streams.spawn(async move {
            let request = Request::get(format!("http://api/slow/700?{n}")).body(Full::default())?;
            let answer = sender.send_request(request);
            if n % 2 == 0 {
                // Given up while it is in progress: the stream is reset.
                let early = tokio::time::timeout(Duration::from_millis(200), answer).await;
                anyhow::ensure!(early.is_err(), "stream {n} was answered too early");
                return Ok(None);
            }
            let body = answer.await?.into_body().collect().await?.to_bytes();
            Ok(Some((n, serde_json::from_slice::<Answer>(&body)?.path)))
        });
    }
    let mut answered = 0;
    while let Some(ended) = streams.join_next().await {
        if let Some((n, path)) = ended?? {
            assert_eq!(path, format!("/slow/700?{n}"));
            answered += 1;
        }
    }
    assert_eq!(answered, 50);
    let mut sender = sender;
    let again = sender.send_request(Request::get("http://api/").body(Full::default())?).await?;
    assert_eq!(again.status(), StatusCode::OK);
    none_failed(load, "cancelled streams").await?;
    Ok(())
}

const PIECE: usize = 64 << 10;
const PIECES: usize = 160;

#[tokio::test]
async fn ten_megabytes_go_up_and_down_one_http2_stream_at_once() -> Result<()> {
    let shop = shop_with(MeshPlan::default(), &["v1"], "http2", "").await?;
    let load = shop.load();
    let pieces = (0..PIECES).map(|n| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![n as u8; PIECE]))));
    let mut sender = connect(shop.web.upstream("api")).await?;
    let request = Request::post("http://api/echo").body(StreamBody::new(futures::stream::iter(pieces)))?;
    let mut body = sender.send_request(request).await?.into_body().into_data_stream();
    let mut at = 0;
    while let Some(data) = body.next().await {
        for byte in data? {
            assert_eq!(byte, (at / PIECE) as u8, "byte {at}");
            at += 1;
        }
    }
    assert_eq!(at, PIECE * PIECES);
    none_failed(load, "10 MB up and down").await?;
    Ok(())
}

#[tokio::test]
async fn ten_megabytes_go_up_and_down_one_tcp_connection_at_once() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let store = mesh.tcp_app("store").await?;
    let _callee = mesh.member(&store, "v1", "tcp").await?;
    let web = mesh.proxy(ProxyPlan::new("web", "web").upstream("store")).await?;
    web.ready().await?;
    let (from, mut to) = TcpStream::connect(web.upstream("store")).await?.into_split();
    const LINES: usize = 640;
    let writer = tokio::spawn(async move {
        for n in 0..LINES {
            to.write_all(format!("{n} {}\n", "y".repeat(16 << 10)).as_bytes()).await?;
        }
        to.shutdown().await
    });
    let mut lines = BufReader::with_capacity(1 << 16, from).lines();
    assert_eq!(lines.next_line().await?.as_deref(), Some("store v1 ready"));
    for n in 0..LINES {
        let line = lines.next_line().await?.with_context(|| format!("the stream ended at line {n}"))?;
        let wanted = format!("echo {n} ");
        assert!(line.starts_with(&wanted) && line.len() == wanted.len() + (16 << 10), "line {n}: {line:.40}");
    }
    assert_eq!(lines.next_line().await?, Some(format!("bye {LINES}")));
    assert_eq!(lines.next_line().await?, None);
    writer.await??;
    Ok(())
}

/// A body of five bytes with a trailer.
fn with_trailer() -> Result<impl Body<Data = Bytes, Error = std::io::Error> + Send + Unpin + 'static> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "cafe".parse()?);
    let frames = [Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)];
    Ok(StreamBody::new(futures::stream::iter(frames.map(Ok))))
}

#[tokio::test]
async fn trailers_of_an_http2_request_arrive_and_those_of_the_response_come_back() -> Result<()> {
    let shop = shop_with(MeshPlan::default(), &["v1"], "http2", "").await?;
    let mut sender = connect(shop.web.upstream("api")).await?;
    let request = |path: &str| {
        let uri = format!("http://api{path}");
        anyhow::Ok(Request::post(uri).header("te", "trailers").body(with_trailer()?)?)
    };
    let seen = sender.send_request(request("/")?).await?.into_body().collect().await?.to_bytes();
    let seen: Answer = serde_json::from_slice(&seen)?;
    assert_eq!((seen.body_bytes, seen.trailers.get("x-checksum").map(String::as_str)), (5, Some("cafe")));
    // The application echoes its request's body frame by frame, trailers as well.
    sender.ready().await?;
    let back = sender.send_request(request("/echo")?).await?.into_body().collect().await?;
    assert_eq!(back.trailers().and_then(|trailers| trailers.get("x-checksum")), Some(&"cafe".parse()?));
    assert_eq!(back.to_bytes(), "hello");
    Ok(())
}

#[tokio::test]
async fn trailers_of_an_http1_request_arrive() -> Result<()> {
    let shop = shop_with(MeshPlan::default(), &["v1"], "http1", "").await?;
    let stream = TokioIo::new(TcpStream::connect(shop.web.upstream("api")).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::post("/").header("host", "api").header("trailer", "x-checksum");
    let seen = sender.send_request(request.body(with_trailer()?)?).await?;
    let seen: Answer = serde_json::from_slice(&seen.into_body().collect().await?.to_bytes())?;
    assert_eq!((seen.body_bytes, seen.trailers.get("x-checksum").map(String::as_str)), (5, Some("cafe")));
    Ok(())
}
