//! The application behind the proxies: HTTP/1.1 with 1 KiB for every request, or gRPC with a message of that size.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::proxy::scenario::Wire;

/// What every request is answered with.
pub(crate) const BODY: &[u8] = &[b'w'; 1024];
/// What every gRPC call asks.
pub(crate) const ASKED: &[u8] = &[b'q'; 64];

/// `weft-bench backend`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// What to speak.
    #[arg(long, value_enum)]
    wire: Wire,
}

/// Serves until the process is ended.
pub(crate) async fn serve(args: Args) -> Result<()> {
    let listener = TcpListener::bind(args.listen).await?;
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            Some(_) = connections.join_next() => continue,
        };
        stream.set_nodelay(true)?;
        match args.wire {
            Wire::Http1 => connections.spawn(http1(stream)),
            Wire::Grpc => connections.spawn(grpc(stream)),
        };
    }
}

async fn http1(stream: TcpStream) -> hyper::Result<()> {
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(BODY))))
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
}

async fn grpc(stream: TcpStream) -> hyper::Result<()> {
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.serve_connection(TokioIo::new(stream), service_fn(call)).await
}

type Frames = stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>;

/// A request that is not what was asked gets another status, which the generator counts as failed.
async fn call(request: Request<Incoming>) -> Result<Response<StreamBody<Frames>>, Infallible> {
    let asked = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let good = asked.is_ok_and(|asked| asked == message(ASKED));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(if good { "0" } else { "3" }));
    let frames = [Ok(Frame::data(message(BODY))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

/// A message with gRPC's prefix: one byte "not compressed", four bytes length.
pub(crate) fn message(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], length.as_slice(), content].concat().into()
}
