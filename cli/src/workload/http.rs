//! An HTTP service that answers with what it saw.
//!
//! Paths: `/` (any method) answers a JSON object; `/relay` calls the upstream it was given and nests its answer;
//! `/echo` sends the body back as it comes; `/status/CODE`; `/slow/MS`; `/close` answers and closes; an `Upgrade: echo` or
//! `Upgrade: websocket` request is granted and its bytes are echoed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::Serve;

/// `weft workload http`.
#[derive(Debug, clap::Args, Clone)]
pub(crate) struct Args {
    #[command(flatten)]
    serve: Serve,
    /// The base URL that /relay calls, as its proxy's upstream listener: http://127.0.0.1:9001
    #[arg(long)]
    upstream: Option<String>,
}

type Body = BoxBody<Bytes, hyper::Error>;

pub(super) async fn serve(args: Args) -> Result<()> {
    let listener = super::listen(&args.serve).await?;
    // One for all relayed calls, so that they share connections as those of a real application do. It speaks plain HTTP,
    // to its proxy: in an image without any root certificates it would not be made otherwise.
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            Some(_) = connections.join_next() => continue,
        };
        stream.set_nodelay(true)?;
        let (args, client) = (args.clone(), client.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| answer(args.clone(), client.clone(), request));
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that breaks its connection is its own business.
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    args: Args,
    client: reqwest::Client,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if request.headers().contains_key(UPGRADE) {
        return Ok(upgrade(request));
    }
    Ok(match steps.as_slice() {
        ["echo"] => {
            let headers = request.headers().get(CONTENT_TYPE).cloned();
            let mut response = Response::new(request.into_body().boxed());
            if let Some(kind) = headers {
                response.headers_mut().insert(CONTENT_TYPE, kind);
            }
            response
        }
        ["relay"] => relay(&args, &client).await,
        ["status", code] => {
            let code = code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
            text(code.unwrap_or(StatusCode::BAD_REQUEST), "as you wish\n")
        }
        ["slow", wait] => {
            tokio::time::sleep(Duration::from_millis(wait.parse().unwrap_or(0).min(60_000))).await;
            what_it_saw(&args, request).await
        }
        ["close"] => {
            let mut response = what_it_saw(&args, request).await;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
        _ => what_it_saw(&args, request).await,
    })
}

async fn what_it_saw(args: &Args, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap_or_default();
    let trailers = body.trailers().map(texts);
    let length = body.to_bytes().len();
    json(&serde_json::json!({
        "name": args.serve.name,
        "version": args.serve.version,
        "protocol": format!("{:?}", head.version),
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map_or("/", |path| path.as_str()),
        "caller": caller(&head.headers),
        "body_bytes": length,
        "headers": texts(&head.headers),
        "trailers": trailers.unwrap_or_default(),
    }))
}

fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// The caller's identity as this workload's proxy proved it: the URI of `x-forwarded-client-cert`.
pub(super) fn caller(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("x-forwarded-client-cert")?.to_str().ok()?;
    value.split([';', ',']).find_map(|part| part.strip_prefix("URI="))
}

async fn relay(args: &Args, client: &reqwest::Client) -> Response<Body> {
    let Some(upstream) = &args.upstream else {
        return text(StatusCode::NOT_FOUND, "this workload was given no --upstream\n");
    };
    let called = async { client.get(upstream).send().await?.json::<serde_json::Value>().await };
    match called.await {
        Ok(answer) => json(&serde_json::json!({
            "name": args.serve.name, "version": args.serve.version, "upstream": answer,
        })),
        Err(error) => text(StatusCode::BAD_GATEWAY, &format!("{error}\n")),
    }
}

/// Grants the upgrade and echoes what comes, until the other side has closed its half.
fn upgrade(mut request: Request<Incoming>) -> Response<Body> {
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, "");
    if let Some(protocol) = request.headers().get(UPGRADE) {
        response.headers_mut().insert(UPGRADE, protocol.clone());
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    let upgraded = hyper::upgrade::on(&mut request);
    // Ends with its connection, and with the process.
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    });
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, &format!("{value}\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_identity_is_the_uri_of_the_forwarded_certificate() {
        let mut headers = HeaderMap::new();
        let value = "By=spiffe://t/ns/a/sa/b;Hash=00;URI=spiffe://t/ns/a/sa/web";
        headers.insert("x-forwarded-client-cert", HeaderValue::from_static(value));
        assert_eq!(caller(&headers), Some("spiffe://t/ns/a/sa/web"));
        assert_eq!(caller(&HeaderMap::new()), None);
    }
}
