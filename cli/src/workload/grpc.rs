//! A gRPC greeter on bare HTTP/2: framing and status trailers by hand, so that nothing hides what crosses the mesh.
//!
//! `weft.demo.v1.Greeter/Hello` (unary) and `/Count` (server streaming, 5 answers); any other method is UNIMPLEMENTED (12).

use std::convert::Infallible;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::task::JoinSet;

use super::Serve;

/// What is asked.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HelloRequest {
    /// Who is to be greeted.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// What is answered.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HelloReply {
    /// The greeting.
    #[prost(string, tag = "1")]
    pub(crate) message: String,
    /// The caller's identity as the greeter's proxy saw it.
    #[prost(string, tag = "2")]
    pub(crate) caller: String,
    /// Who greets.
    #[prost(string, tag = "3")]
    pub(crate) version: String,
}

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

pub(super) async fn serve(serve: Serve) -> Result<()> {
    let listener = super::listen(&serve).await?;
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            Some(_) = connections.join_next() => continue,
        };
        stream.set_nodelay(true)?;
        let serve = serve.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(serve.clone(), request));
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(serve: Serve, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let caller = super::http::caller(&head.headers).unwrap_or_default().to_owned();
    let asked: Option<HelloRequest> =
        body.collect().await.ok().and_then(|body| unframe(body.to_bytes()).ok());
    let reply =
        |message: String| HelloReply { message, caller: caller.clone(), version: serve.version.clone() };
    Ok(match (head.uri.path(), asked) {
        ("/weft.demo.v1.Greeter/Hello", Some(asked)) => {
            response(vec![reply(format!("hello {} from {}", asked.name, serve.name))], 0)
        }
        ("/weft.demo.v1.Greeter/Count", Some(asked)) => {
            response((1..=5).map(|n| reply(format!("{} {n}", asked.name))).collect(), 0)
        }
        // google.rpc.Code: INVALID_ARGUMENT, UNIMPLEMENTED
        (_, None) => response(vec![], 3),
        _ => response(vec![], 12),
    })
}

fn response(replies: Vec<HelloReply>, status: u16) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status));
    let mut frames: Vec<_> = replies.iter().map(|reply| Ok(Frame::data(frame(reply)))).collect();
    frames.push(Ok(Frame::trailers(trailers)));
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A message with gRPC's prefix: one byte "compressed", four bytes length.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}

/// The first message of a body.
pub(crate) fn unframe<M: Message + Default>(mut body: Bytes) -> Result<M> {
    if body.len() < 5 || body.get_u8() != 0 {
        bail!("no uncompressed gRPC message");
    }
    let length = body.get_u32() as usize;
    let message = body.get(..length).context("the message is cut off")?;
    Ok(M::decode(message)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framed_message_reads_back_and_a_cut_one_does_not() {
        let asked = HelloRequest { name: "weft".to_owned() };
        let framed = frame(&asked);
        assert_eq!(unframe::<HelloRequest>(framed.clone()).unwrap(), asked);
        assert!(unframe::<HelloRequest>(framed.slice(..framed.len() - 1)).is_err());
        assert!(unframe::<HelloRequest>(Bytes::new()).is_err());
    }
}
