//! What the fake answers: lists in pages, watches, refusals.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Fault, KINDS, State};

pub(super) async fn connection(
    mut stream: TcpStream,
    state: Arc<Mutex<State>>,
    changed: watch::Receiver<()>,
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(read) => buffer.extend_from_slice(&chunk[..read]),
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let token = head.lines().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
        let asked = Asked::read(&target, token);
        state.lock().unwrap().requests.push(target);
        if answer(&mut stream, &asked, &state, changed.clone()).await.is_err() {
            return;
        }
    }
}

/// A request, taken apart.
struct Asked {
    kind: &'static str,
    namespace: Option<String>,
    query: BTreeMap<String, String>,
    token: Option<String>,
}

impl Asked {
    fn read(target: &str, token: Option<String>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let kind = KINDS.into_iter().find(|kind| path.ends_with(kind)).unwrap_or("none");
        let namespace = path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/'));
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let decoded = |text: &str| text.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
        Self {
            kind,
            namespace: namespace.map(|(namespace, _)| namespace.to_owned()),
            query: query.map(|(key, value)| (key.to_owned(), decoded(value))).collect(),
            token,
        }
    }

    fn get(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }

    /// Whether an object is within what was asked for. Of selectors, one `key=value` is understood.
    fn wants(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let here = self.namespace.as_deref().is_none_or(|name| metadata["namespace"] == name);
        let label = self.get("labelSelector").split_once('=');
        here && label.is_none_or(|(key, value)| metadata["labels"][key] == value)
    }
}

async fn answer(
    stream: &mut TcpStream,
    asked: &Asked,
    state: &Mutex<State>,
    changed: watch::Receiver<()>,
) -> std::io::Result<()> {
    let late = match state.lock().unwrap().fault {
        Fault::Late(time) => time,
        _ => Duration::ZERO,
    };
    tokio::time::sleep(late).await;
    let refusal = refusal(asked, &state.lock().unwrap());
    match refusal {
        Some(None) => {
            // Hangs, until the client gives up.
            let _ = stream.read(&mut [0; 1]).await;
            Err(std::io::Error::other("hung up"))
        }
        Some(Some((status, headers, body))) => send(stream, status, &headers, &body).await,
        None if asked.get("watch") == "true" => watched(stream, asked, state, changed).await,
        None => {
            let page = page(asked, &state.lock().unwrap());
            send(stream, 200, "", &page.to_string()).await
        }
    }
}

/// An answer that is no success, or none at all.
#[allow(clippy::option_option, reason = "no refusal, no answer, an answer")]
fn refusal(asked: &Asked, state: &State) -> Option<Option<(u16, String, String)>> {
    let status = |code: u16, message: &str| {
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message})
            .to_string()
    };
    let say = |code: u16, message: &str| Some(Some((code, String::new(), status(code, message))));
    if state.token.is_some() && state.token != asked.token {
        return say(401, "Unauthorized");
    }
    let streamed = asked.get("sendInitialEvents") == "true";
    let version: u64 = asked.get("resourceVersion").parse().unwrap_or(0);
    match &state.fault {
        Fault::Forbidden(None) => say(403, "it is forbidden"),
        Fault::Forbidden(Some(kind)) if *kind == asked.kind => say(403, &format!("{kind} is forbidden")),
        Fault::Unauthorized => say(401, "Unauthorized"),
        Fault::NotFound => say(404, "the server could not find the requested resource"),
        Fault::Busy(seconds) => Some(Some((
            429,
            format!("Retry-After: {seconds}\r\n"),
            "Too many requests, please try again later.\n".into(),
        ))),
        Fault::Broken(kind) if *kind == asked.kind => say(503, "it is starting"),
        Fault::Hang => Some(None),
        Fault::Garbage => Some(Some((200, String::new(), "<html>it works</html>".into()))),
        _ if streamed && !state.streams => {
            say(422, "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
        }
        _ if version > state.version => {
            say(504, &format!("Too large resource version: {version}, current: {}", state.version))
        }
        _ => None,
    }
}

/// A page of a list; the token is how many were sent.
fn page(asked: &Asked, state: &State) -> Value {
    let all: Vec<&Value> = there(asked, state).collect();
    let from: usize = asked.get("continue").parse().unwrap_or(0);
    let to = (from + asked.get("limit").parse::<usize>().unwrap_or(500)).min(all.len());
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    if to < all.len() {
        metadata["continue"] = json!(to.to_string());
    }
    json!({"kind": "List", "metadata": metadata, "items": &all[from..to]})
}

fn there<'a>(asked: &'a Asked, state: &'a State) -> impl Iterator<Item = &'a Value> {
    let objects = state.objects.get(asked.kind).into_iter().flat_map(BTreeMap::values);
    objects.filter(|object| state.fault != Fault::Empty && asked.wants(object))
}

async fn watched(
    stream: &mut TcpStream,
    asked: &Asked,
    state: &Mutex<State>,
    mut changed: watch::Receiver<()>,
) -> std::io::Result<()> {
    let seconds: u64 = asked.get("timeoutSeconds").parse().unwrap_or(290);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    let life = state.lock().unwrap().life;
    let mut seen: u64 = asked.get("resourceVersion").parse().unwrap_or(0);
    if asked.get("sendInitialEvents") == "true" {
        let (first, version) = initial(asked, &state.lock().unwrap());
        seen = version;
        for line in first {
            chunk(stream, &format!("{line}\n")).await?;
        }
    }
    loop {
        let (lines, ends) = news(asked, &state.lock().unwrap(), &mut seen, life);
        for line in lines {
            chunk(stream, &format!("{line}\n")).await?;
        }
        if ends {
            break;
        }
        if timeout_at(deadline, changed.changed()).await.is_err() {
            if state.lock().unwrap().fault == Fault::Hang {
                std::future::pending::<()>().await;
            }
            break;
        }
    }
    stream.write_all(b"0\r\n\r\n").await
}

/// All there is, and the mark of its end.
fn initial(asked: &Asked, state: &State) -> (Vec<Value>, u64) {
    let mut lines: Vec<Value> =
        there(asked, state).map(|object| json!({"type": "ADDED", "object": object})).collect();
    lines.push(
        json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": state.version.to_string(),
        "annotations": {"k8s.io/initial-events-end": "true"}}}}),
    );
    (lines, state.version)
}

/// What happened since `seen`, and whether the watch ends with it.
fn news(asked: &Asked, state: &State, seen: &mut u64, life: u64) -> (Vec<String>, bool) {
    let ends = state.life != life;
    match state.fault {
        // One that hangs sends nothing, and is not closed either.
        Fault::Hang => return (Vec::new(), ends),
        Fault::GarbageInWatches => return (vec!["<html>".to_owned()], true),
        _ => {}
    }
    if *seen < state.oldest {
        let status = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
        return (vec![json!({"type": "ERROR", "object": status}).to_string()], true);
    }
    let from = std::mem::replace(seen, state.version.max(*seen));
    let since = state.log.iter().filter(|(version, kind, line)| {
        *version > from && *kind == asked.kind && asked.wants(&line["object"])
    });
    (since.map(|(_, _, line)| line.to_string()).collect(), ends)
}

async fn chunk(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await
}

async fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}
