//! The other direction: an endpoint that answers our client with hostile HTTP/2. Its caller gets 502, its connection is
//! dropped, everybody else goes on.

use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_integration::{Mesh, MeshPlan, Proxy, ProxyPlan, eventually, http1};

use crate::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, head, hello,
};
use crate::world::{good, memory};

/// What an endpoint does with every request.
struct Row {
    name: &'static str,
    /// Sent for each request, on its stream.
    first: fn(u32) -> Vec<u8>,
    /// Sent again and again after it.
    flood: Option<fn(u32) -> Vec<u8>>,
    /// What its caller gets: a status, or 0 where the response breaks off after its head.
    status: u16,
    /// What is counted of responses.
    kind: Option<&'static str>,
}

const fn row(name: &'static str, first: fn(u32) -> Vec<u8>, status: u16, kind: &'static str) -> Row {
    Row { name, first, flood: None, status, kind: Some(kind) }
}

const fn flood(
    name: &'static str,
    first: fn(u32) -> Vec<u8>,
    flood: fn(u32) -> Vec<u8>,
    status: u16,
    kind: &'static str,
) -> Row {
    Row { name, first, flood: Some(flood), status, kind: Some(kind) }
}

const OK: (&str, &str) = (":status", "200");

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

fn begun(stream: u32) -> Vec<u8> {
    head(stream, &[OK], 0)
}

const ROWS: [Row; 32] = [
    row(
        "a connection header",
        |stream| head(stream, &[OK, ("transfer-encoding", "chunked")], END_STREAM),
        502,
        "http2_message",
    ),
    row("no status", |stream| head(stream, &[("x", "y")], 0), 502, "http2_message"),
    row(
        "a status that is none",
        |stream| head(stream, &[(":status", "abc")], END_STREAM),
        502,
        "http2_framing",
    ),
    row("two statuses", |stream| head(stream, &[OK, (":status", "201")], END_STREAM), 502, "http2_message"),
    row("a path in a response", |stream| head(stream, &[OK, (":path", "/")], END_STREAM), 200, ""),
    row(
        "CR and LF in a value",
        |stream| head(stream, &[OK, ("x", "a\r\nb: c")], END_STREAM),
        502,
        "http2_framing",
    ),
    row("an upper-case name", |stream| head(stream, &[OK, ("X", "a")], END_STREAM), 502, "http2_framing"),
    row("a space before a value", |stream| head(stream, &[OK, ("x", " a")], END_STREAM), 502, "field_value"),
    row(
        "two lengths that differ",
        |stream| head(stream, &[OK, ("content-length", "1"), ("content-length", "2")], 0),
        502,
        "http2_message",
    ),
    row(
        "two lengths that are equal",
        |stream| head(stream, &[OK, ("content-length", "0"), ("content-length", "0")], END_STREAM),
        502,
        "content_length",
    ),
    row(
        "more than the length",
        |stream| {
            [head(stream, &[OK, ("content-length", "1")], 0), frame(DATA, END_STREAM, stream, b"abc")]
                .concat()
        },
        0,
        "http2_message",
    ),
    row(
        "less than the length",
        |stream| {
            [head(stream, &[OK, ("content-length", "9")], 0), frame(DATA, END_STREAM, stream, b"abc")]
                .concat()
        },
        0,
        "http2_message",
    ),
    row(
        "a head that is too large",
        |stream| head(stream, &[OK, ("x", &"y".repeat(70_000))], 0),
        502,
        "http2_message",
    ),
    row(
        "a head of four times the limit",
        |stream| {
            let long = "y".repeat(60_000);
            head(
                stream,
                &[OK, ("a", &long), ("b", &long), ("c", &long), ("d", &long), ("e", &long)],
                END_STREAM,
            )
        },
        502,
        "http2_continuation",
    ),
    row(
        "trailers with a connection header",
        |stream| {
            [begun(stream), frame(DATA, 0, stream, b"abc"), head(stream, &[("connection", "x")], END_STREAM)]
                .concat()
        },
        0,
        "http2_message",
    ),
    row(
        "trailers that do not end the stream",
        |stream| [begun(stream), frame(DATA, 0, stream, b"abc"), head(stream, &[("x", "y")], 0)].concat(),
        0,
        "http2_message",
    ),
    row(
        "a promise that was not allowed",
        |stream| frame(PUSH_PROMISE, END_HEADERS, stream, &[0, 0, 0, 2]),
        502,
        "http2_framing",
    ),
    row("DATA before the head", |stream| frame(DATA, END_STREAM, stream, b"abc"), 502, "http2_framing"),
    row("DATA on a stream of nobody", |_| frame(DATA, 0, 999, b"abc"), 502, "http2_framing"),
    row("a frame that is too long", |stream| frame(DATA, 0, stream, &[0; 16_385]), 502, "http2_framing"),
    row(
        "a header block that is none",
        |stream| frame(HEADERS, END_HEADERS, stream, &[0xff; 16]),
        502,
        "http2_framing",
    ),
    row(
        "HTTP/1 instead",
        |_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(),
        502,
        "http2_framing",
    ),
    flood("resets", nothing, |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]), 502, "http2_reset"),
    flood("PING", nothing, |_| frame(PING, 0, 0, &[0; 8]), 502, "http2_ping"),
    flood("SETTINGS", nothing, |_| frame(SETTINGS, 0, 0, &[]), 502, "http2_settings"),
    flood(
        "GOAWAY",
        nothing,
        |_| frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        502,
        "http2_goaway",
    ),
    flood("empty DATA", begun, |stream| frame(DATA, 0, stream, &[]), 0, "http2_empty_data"),
    flood(
        "informational heads",
        nothing,
        |stream| head(stream, &[(":status", "103")], 0),
        502,
        "http2_headers",
    ),
    flood(
        "CONTINUATION without end",
        |stream| frame(HEADERS, 0, stream, &block(&[OK])),
        |stream| frame(CONTINUATION, 0, stream, &[]),
        502,
        "http2_continuation",
    ),
    flood(
        "windows byte by byte",
        nothing,
        |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        502,
        "http2_window_update",
    ),
    flood("unknown frames", nothing, |_| frame(0xfa, 0, 0, &[]), 502, "http2_unknown_frame"),
    flood("PRIORITY", nothing, |stream| frame(2, 0, stream, &[0; 5]), 502, "http2_priority"),
];

#[tokio::test]
async fn a_hostile_endpoint_costs_its_callers_a_502_and_nobody_else_anything() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let (app, _) = crate::backend::http1().await?;
    let mut plan = ProxyPlan::new("web", "web").upstream_with("good", "plaintext = true\n");
    register(&mesh, "good", app.port(), "http1")?;
    let mut names = Vec::new();
    for (n, row) in ROWS.iter().enumerate() {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        names.push(format!("bad{n}"));
        let name = format!("bad{n}");
        register(&mesh, &name, listener.local_addr()?.port(), "http2")?;
        plan = plan.upstream_with(&name, "plaintext = true\n");
        tokio::spawn(serve(listener, row.first, row.flood));
    }
    // One attempt each, so that every row counts once, and no ejection.
    let web = mesh.proxy(plan.more("[retries]\nattempts = 0\n[outlier]\nconsecutive_failures = 0\n")).await?;
    web.ready().await?;
    eventually("the good one is answered", async || good(web.upstream("good")).await.map(Some)).await?;
    let mut wrong = Vec::new();
    for (row, name) in ROWS.iter().zip(&names) {
        if let Err(error) = run(&web, row, name).await {
            wrong.push(format!("{}: {error:#}", row.name));
        }
    }
    ensure!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(memory(&web)? < 150_000);
    Ok(())
}

async fn run(web: &Proxy, row: &Row, name: &str) -> Result<()> {
    let kind = row.kind.filter(|kind| !kind.is_empty());
    let label = format!("kind=\"{}\"", kind.unwrap_or_default());
    let count = async || web.metric("weft_malformed_responses_total", &[&label]).await;
    let before = count().await?;
    let request = Request::get("/x").header("host", name).body(Full::<Bytes>::default())?;
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), call(web, name, request)).await?;
    good(web.upstream("good")).await?;
    match (answer, row.status) {
        (Ok((status, _)), wanted) if wanted != 0 => ensure!(status == wanted, "{status} instead of {wanted}"),
        (Ok((status, body)), _) => anyhow::bail!("{status} and {body:?} instead of a broken response"),
        (Err(_broken), 0) => {}
        (Err(error), wanted) => return Err(error.context(format!("instead of {wanted}"))),
    }
    if kind.is_some() {
        let counted = async || Ok((count().await? - before >= 1.0).then_some(()));
        eventually("it is counted", counted).await?;
    }
    if row.flood.is_some() {
        eventually("the connection is dropped", async || {
            let open = web.metric("weft_upstream_connections", &[]).await?;
            ensure!(open <= 1.0 + ROWS.len() as f64, "{open}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

async fn call(web: &Proxy, name: &str, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
    let response = http1(web.upstream(name), request).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

fn register(mesh: &Mesh, name: &str, port: u16, protocol: &str) -> Result<()> {
    mesh.register(
        &format!("{name}.yaml"),
        &format!(
            "kind: Workload\nname: {name}-1\nservice: {name}\naddresses: [127.0.0.1]\nhealth: healthy\n\
             ports: [{{name: main, number: {port}, protocol: {protocol}}}]\n"
        ),
    )
}

type Part = fn(u32) -> Vec<u8>;

async fn serve(listener: TcpListener, first: Part, flood: Option<Part>) {
    let floods = Arc::new(tokio::sync::Semaphore::new(8));
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(permit) = floods.clone().acquire_owned().await else { return };
        tokio::spawn(async move {
            let _one = permit;
            // The proxy closes: that is what is expected of it.
            let _ended = answer(stream, first, flood).await;
        });
    }
}

/// Reads requests' heads and answers each.
async fn answer(mut stream: TcpStream, first: Part, flood: Option<Part>) -> Result<()> {
    stream.write_all(&hello(false)).await?;
    let mut bytes = vec![0; PREFACE.len()];
    stream.read_exact(&mut bytes).await?;
    loop {
        let mut start = [0; 9];
        stream.read_exact(&mut start).await?;
        let [a, b, c, kind, _, s0, s1, s2, s3] = start;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        if kind != HEADERS {
            continue;
        }
        let id = u32::from_be_bytes([s0, s1, s2, s3]);
        stream.write_all(&first(id)).await?;
        if let Some(piece) = flood {
            for _ in 0..400 {
                let many: Vec<u8> = (0..50).flat_map(|_| piece(id)).collect();
                stream.write_all(&many).await?;
            }
        }
    }
}
