//! Single messages: each row is sent whole and byte by byte, into both entrances.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, PADDED, PING, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, frame, head, hello,
};
use crate::world::{Entrance, World};

/// What is sent after the greeting; the text is the port to name to a proxy.
type Bytes = Box<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// One message (or what is none), and what comes of it.
struct Row {
    name: &'static str,
    bytes: Bytes,
    outcome: Outcome,
    /// The kind that is counted, or nothing is.
    kind: Option<&'static str>,
    /// What the application saw.
    app: Option<&'static str>,
}

const CONNECTION_ERROR: Outcome = Outcome::GoAway(1);
const STREAM_ERROR: Outcome = Outcome::Reset(1);
const BAD: Outcome = Outcome::Status(400);
const MESSAGE: Option<&str> = Some("http2_message");
const FRAMING: Option<&str> = Some("http2_framing");

fn row(
    name: &'static str,
    bytes: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    outcome: Outcome,
    kind: Option<&'static str>,
) -> Row {
    Row { name, bytes: Box::new(bytes), outcome, kind, app: None }
}

/// A GET of `/x`, with these pseudo-headers in place of its own and these fields besides.
fn get(
    pseudo: &'static [(&'static str, &'static str)],
    fields: &'static [(&'static str, &'static str)],
) -> impl Fn(&str) -> Vec<u8> {
    move |port| request(port, pseudo, fields, END_STREAM)
}

fn request(port: &str, pseudo: &[(&str, &str)], fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":authority", "api"), (":path", "/x")] {
        if !pseudo.iter().any(|(other, _)| *other == name) {
            all.push((name, value));
        }
    }
    // An empty name takes a pseudo-header away.
    all.extend(pseudo.iter().filter(|(_, value)| *value != "-"));
    all.extend(fields);
    all.push(("weft-port", port));
    head(1, &all, flags)
}

fn post(length: &'static str, bodies: &'static [(&'static [u8], u8)]) -> impl Fn(&str) -> Vec<u8> {
    move |port| {
        let mut bytes = request(port, &[(":method", "POST")], &[("content-length", length)], 0);
        for (body, flags) in bodies {
            bytes.extend(frame(DATA, *flags, 1, body));
        }
        bytes
    }
}

fn fields() -> Vec<Row> {
    vec![
        row("connection", get(&[], &[("connection", "x")]), STREAM_ERROR, MESSAGE),
        row("keep-alive", get(&[], &[("keep-alive", "5")]), STREAM_ERROR, MESSAGE),
        row("proxy-connection", get(&[], &[("proxy-connection", "x")]), STREAM_ERROR, MESSAGE),
        row("transfer-encoding", get(&[], &[("transfer-encoding", "chunked")]), STREAM_ERROR, MESSAGE),
        row("upgrade", get(&[], &[("upgrade", "websocket")]), STREAM_ERROR, MESSAGE),
        row("te other than trailers", get(&[], &[("te", "gzip")]), STREAM_ERROR, MESSAGE),
        row("CR and LF in a value", get(&[], &[("x", "a\r\nhost: b")]), CONNECTION_ERROR, FRAMING),
        row("LF in a value", get(&[], &[("x", "a\nb")]), CONNECTION_ERROR, FRAMING),
        row("NUL in a value", get(&[], &[("x", "a\0b")]), CONNECTION_ERROR, FRAMING),
        row("CR and LF in a name", get(&[], &[("x\r\ny", "a")]), CONNECTION_ERROR, FRAMING),
        row("a colon in a name", get(&[], &[("x:y", "a")]), CONNECTION_ERROR, FRAMING),
        row("a space in a name", get(&[], &[("x y", "a")]), CONNECTION_ERROR, FRAMING),
        row("an empty name", get(&[], &[("", "a")]), CONNECTION_ERROR, FRAMING),
        row("an upper-case name", get(&[], &[("X-A", "a")]), CONNECTION_ERROR, FRAMING),
        row("a space before a value", get(&[], &[("x", " a")]), BAD, Some("field_value")),
        row("a tab after a value", get(&[], &[("x", "a\t")]), BAD, Some("field_value")),
    ]
}

fn pseudo() -> Vec<Row> {
    let after: &[(&str, &str)] = &[("x", "y"), (":path", "/y")];
    vec![
        row("a pseudo-header after a field", get(&[(":path", "-")], after), STREAM_ERROR, MESSAGE),
        row("two paths", get(&[(":path", "/a"), (":path", "/b")], &[]), STREAM_ERROR, MESSAGE),
        row("two methods", get(&[(":method", "GET"), (":method", "PUT")], &[]), STREAM_ERROR, MESSAGE),
        row("two authorities", get(&[(":authority", "a"), (":authority", "b")], &[]), STREAM_ERROR, MESSAGE),
        row("an unknown pseudo-header", get(&[(":x", "y")], &[]), CONNECTION_ERROR, FRAMING),
        row("a status in a request", get(&[(":status", "200")], &[]), STREAM_ERROR, MESSAGE),
        row("no method", get(&[(":method", "-")], &[]), STREAM_ERROR, MESSAGE),
        row("no scheme", get(&[(":scheme", "-")], &[]), STREAM_ERROR, MESSAGE),
        row("no path", get(&[(":path", "-")], &[]), STREAM_ERROR, MESSAGE),
        row("an empty path", get(&[(":path", "")], &[]), STREAM_ERROR, MESSAGE),
        row("a path without a slash", get(&[(":path", "x/y")], &[]), STREAM_ERROR, MESSAGE),
        row("a path that is a URI", get(&[(":path", "http://b/x")], &[]), STREAM_ERROR, MESSAGE),
        row("a path of a query", get(&[(":path", "?x")], &[]), BAD, Some("target")),
        row("a star that is not for OPTIONS", get(&[(":path", "*")], &[]), BAD, Some("target")),
        row("a space in the path", get(&[(":path", "/a b")], &[]), STREAM_ERROR, MESSAGE),
        row("CR and LF in the path", get(&[(":path", "/a\r\nx: y")], &[]), STREAM_ERROR, MESSAGE),
        row("NUL in the path", get(&[(":path", "/a\0")], &[]), STREAM_ERROR, MESSAGE),
        row("another scheme", get(&[(":scheme", "ftp")], &[]), BAD, Some("target")),
        row("a scheme that is none", get(&[(":scheme", "h ttp")], &[]), STREAM_ERROR, MESSAGE),
        row("a user in the authority", get(&[(":authority", "user@api")], &[]), BAD, Some("host")),
        row("a space in the authority", get(&[(":authority", "a pi")], &[]), STREAM_ERROR, MESSAGE),
        row("CR and LF in the authority", get(&[(":authority", "api\r\nx: y")], &[]), STREAM_ERROR, MESSAGE),
        row("an empty authority", get(&[(":authority", "")], &[]), STREAM_ERROR, MESSAGE),
        row("no authority and no host", get(&[(":authority", "-")], &[]), BAD, Some("host")),
        row("a host that differs", get(&[], &[("host", "other")]), BAD, Some("host")),
        row("two hosts", get(&[(":authority", "-")], &[("host", "a"), ("host", "a")]), BAD, Some("host")),
        row(
            "CR and LF in the method",
            get(&[(":method", "GET / HTTP/1.1\r\nx: y")], &[]),
            CONNECTION_ERROR,
            FRAMING,
        ),
        row("a space in the method", get(&[(":method", "GE T")], &[]), CONNECTION_ERROR, FRAMING),
    ]
}

fn connects() -> Vec<Row> {
    let connect = (":method", "CONNECT");
    let odd: [(&str, &'static [(&str, &str)]); 3] = [
        ("CONNECT with a path", &[(":method", "CONNECT"), (":scheme", "-")]),
        ("CONNECT with a scheme", &[(":method", "CONNECT"), (":path", "-")]),
        ("a protocol without CONNECT", &[(":protocol", "websocket")]),
    ];
    let mut rows: Vec<Row> =
        odd.into_iter().map(|(name, pseudo)| row(name, get(pseudo, &[]), STREAM_ERROR, MESSAGE)).collect();
    let smuggle = move |port: &str| request(port, &[connect, (":protocol", "a\r\nx: y")], &[], 0);
    rows.push(row("CR and LF in the protocol", smuggle, BAD, MESSAGE));
    rows
}

fn bodies() -> Vec<Row> {
    let end = END_STREAM;
    let late: &'static [(&'static [u8], u8)] = &[(b"abc", 0), (b"de", END_STREAM)];
    let trailers = |fields: &'static [(&'static str, &'static str)], flags: u8| {
        move |port: &str| {
            let mut bytes = request(port, &[(":method", "POST")], &[], 0);
            bytes.extend(frame(DATA, 0, 1, b"abc"));
            bytes.extend(head(1, fields, flags));
            bytes
        }
    };
    vec![
        row("a length that is no number", post("x", &[(b"", END_STREAM)]), STREAM_ERROR, MESSAGE),
        row("a length with a sign", post("+3", &[(b"abc", END_STREAM)]), STREAM_ERROR, MESSAGE),
        row(
            "a length that overflows",
            post("18446744073709551616", &[(b"abc", END_STREAM)]),
            STREAM_ERROR,
            MESSAGE,
        ),
        row("a list of lengths", post("3, 3", &[(b"abc", END_STREAM)]), STREAM_ERROR, MESSAGE),
        row("a length and no body", get(&[], &[("content-length", "3")]), STREAM_ERROR, MESSAGE),
        row(
            "two lengths that differ",
            get(&[], &[("content-length", "0"), ("content-length", "1")]),
            STREAM_ERROR,
            MESSAGE,
        ),
        row(
            "two lengths that are equal",
            get(&[], &[("content-length", "0"), ("content-length", "0")]),
            BAD,
            Some("content_length"),
        ),
        row("more than the length", post("4", late), STREAM_ERROR, MESSAGE),
        row("trailers that do not end the stream", trailers(&[("x", "y")], 0), STREAM_ERROR, MESSAGE),
        row(
            "trailers with a connection header",
            trailers(&[("transfer-encoding", "chunked")], end),
            STREAM_ERROR,
            MESSAGE,
        ),
    ]
}

/// Frames that break the protocol of the connection.
fn framing() -> Vec<Row> {
    let open = |port: &str| request(port, &[(":method", "POST")], &[], 0);
    let connection: Vec<(&str, Vec<u8>, u32)> = vec![
        ("DATA on no stream", frame(DATA, 0, 0, b"x"), 1),
        ("DATA on a stream that is not open", frame(DATA, 0, 3, b"x"), 1),
        ("a head on an even stream", head(2, &[(":method", "GET")], END_STREAM), 1),
        ("CONTINUATION without a head", frame(CONTINUATION, END_HEADERS, 1, &[]), 1),
        (
            "another frame between head and CONTINUATION",
            [frame(HEADERS, 0, 1, &[]), frame(PING, 0, 0, &[0; 8])].concat(),
            1,
        ),
        ("a PUSH_PROMISE of a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), 1),
        ("padding longer than the frame", frame(DATA, PADDED, 1, &[200, 0]), 1),
        ("SETTINGS with half a setting", frame(SETTINGS, 0, 0, &[0; 5]), 1),
        ("a window of more than 2^31 bytes", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]), 1),
        ("a PING of four bytes", frame(PING, 0, 0, &[0; 4]), 1),
        ("an increment of 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), 1),
        ("a connection window that overflows", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), 3),
        ("RST_STREAM of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), 1),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 5, &[0; 4]), 1),
        ("a header block that is none", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 16]), 1),
        ("a reference beyond the table", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xfe]), 1),
        (
            "a table of more than was allowed",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x3f, 0xe1, 0xff, 0x03]),
            1,
        ),
    ];
    let mut rows: Vec<Row> = connection
        .into_iter()
        .map(|(name, bytes, code)| row(name, move |_: &str| bytes.clone(), Outcome::GoAway(code), FRAMING))
        .collect();
    let too_long = |_: &str| frame(DATA, 0, 1, &[0; 16_385]);
    rows.push(row("a frame that is too long", too_long, Outcome::GoAway(6), FRAMING));
    let on_itself = |port: &str| {
        let mut payload = vec![0, 0, 0, 1, 0];
        payload.extend(block(&[(":method", "GET"), ("weft-port", port)]));
        frame(HEADERS, END_HEADERS | END_STREAM | 0x20, 1, &payload)
    };
    rows.push(row("a stream that depends on itself", on_itself, STREAM_ERROR, MESSAGE));
    let overflow =
        move |port: &str| [open(port), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat();
    rows.push(row("a stream's window that overflows", overflow, Outcome::Reset(3), None));
    rows
}

/// What is legal, and what the application gets of it.
fn legal() -> Vec<Row> {
    let ok = |name, bytes: Bytes, app| Row {
        name,
        bytes,
        outcome: Outcome::Status(200),
        kind: None,
        app: Some(app),
    };
    vec![
        ok("a plain request", Box::new(get(&[], &[])), "GET /x HTTP/1.1\nhost: api\n\n"),
        ok(
            "a host that is the authority",
            Box::new(get(&[], &[("host", "API")])),
            "GET /x HTTP/1.1\nhost: api\n\n",
        ),
        ok(
            "a host alone",
            Box::new(get(&[(":authority", "-")], &[("host", "api")])),
            "GET /x HTTP/1.1\nhost: api\n\n",
        ),
        ok(
            "a cookie in crumbs",
            Box::new(get(&[], &[("cookie", "a=1"), ("cookie", "b=2")])),
            "GET /x HTTP/1.1\ncookie: a=1; b=2\nhost: api\n\n",
        ),
        ok(
            "headers of the mesh's own, and a claimed identity",
            Box::new(get(
                &[],
                &[("weft-proto", "h2"), ("weft-x", "y"), ("x-forwarded-client-cert", "URI=spiffe://x/y")],
            )),
            "GET /x HTTP/1.1\nhost: api\n\n",
        ),
        ok(
            "te: trailers",
            Box::new(get(&[], &[("te", "trailers")])),
            "GET /x HTTP/1.1\nhost: api\nte: trailers\n\n",
        ),
        ok(
            "a body with its length",
            Box::new(post("5", &[(b"abc", 0), (b"de", END_STREAM)])),
            "POST /x HTTP/1.1\ncontent-length: 5\nhost: api\n\nabcde",
        ),
        ok(
            "padding is not the application's",
            Box::new(post("3", &[(b"\x04abc\0\0\0\0", END_STREAM | PADDED)])),
            "POST /x HTTP/1.1\ncontent-length: 3\nhost: api\n\nabc",
        ),
    ]
}

/// Sends a row in pieces and compares all that comes of it. `before` is what was counted until now.
async fn run(world: &World, row: &Row, entrance: Entrance, piece: usize, before: &mut Counts) -> Result<()> {
    let port = world.port();
    let bytes = [hello(true), (row.bytes)(&port)].concat();
    let mut raw = world.enter(entrance).await?;
    for piece in bytes.chunks(piece) {
        if raw.send(piece).await.is_err() {
            break;
        }
    }
    let outcome = raw.outcome(1).await?;
    ensure!(outcome == row.outcome, "{outcome:?} instead of {:?}", row.outcome);
    drop(raw);
    world.good().await?;
    let after = world.counts(entrance).await?;
    let mut wanted = std::mem::replace(before, after.clone());
    if let Some(kind) = row.kind {
        *wanted.entry(kind.to_owned()).or_default() += 1.0;
    }
    ensure!(after == wanted, "counted: {after:?} instead of {wanted:?}");
    let saw = world.seen(entrance);
    let wanted: Vec<&str> = row.app.into_iter().collect();
    ensure!(saw == wanted, "the application saw {saw:?}");
    Ok(())
}

/// Whether it is the beginning of a row of [`bodies`] before what is wrong with that.
fn may_begin(begun: &str) -> bool {
    let bodies = [
        ("POST /x HTTP/1.1\nhost: api\ntransfer-encoding: chunked\n\n", "3\r\nabc\r\n"),
        ("POST /x HTTP/1.1\ncontent-length: 4\nhost: api\n\n", "abc"),
    ];
    bodies.iter().any(|(head, body)| begun.strip_prefix(head).is_some_and(|begun| body.starts_with(begun)))
}

type Counts = BTreeMap<String, f64>;

/// Each row at once and byte by byte.
async fn all(world: &World, rows: Vec<Row>, entrances: &[Entrance]) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for entrance in entrances.iter().copied() {
        let mut before = world.counts(entrance).await?;
        for row in &rows {
            for piece in [usize::MAX, 1] {
                if let Err(error) = run(world, row, entrance, piece, &mut before).await {
                    wrong.push(format!("{} ({entrance:?}, pieces of {piece}): {error:#}", row.name));
                }
            }
        }
    }
    Ok(wrong)
}

#[tokio::test]
async fn malformed_messages_are_refused_counted_and_never_at_the_application() -> Result<()> {
    let world = World::start("").await?;
    let mut wrong = Vec::new();
    for rows in [legal(), fields(), pseudo(), connects(), bodies(), framing()] {
        wrong.extend(all(&world, rows, &[Entrance::Upstream, Entrance::Tunnel]).await?);
    }
    wrong.extend(world.seen.begun().into_iter().filter(|begun| !may_begin(begun)));
    ensure!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn an_http2_application_is_spared_the_same() -> Result<()> {
    let world = World::start("").await?;
    let crumbs = Row {
        name: "crumbs, a host and headers of the mesh's own",
        bytes: Box::new(get(
            &[],
            &[("host", "api"), ("cookie", "a=1"), ("cookie", "b=2"), ("weft-proto", "h1")],
        )),
        outcome: Outcome::Status(200),
        kind: None,
        app: Some("GET http://api/x\ncookie: a=1; b=2"),
    };
    let mut wrong = Vec::new();
    for rows in [vec![crumbs], fields(), pseudo(), connects()] {
        wrong.extend(all(&world, rows, &[Entrance::Http2]).await?);
    }
    ensure!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
