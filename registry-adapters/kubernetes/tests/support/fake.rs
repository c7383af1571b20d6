//! A scripted API server: lists in pages, watches with bookmarks and streamed lists, and every fault we know.
//!
//! A few lines of HTTP/1.1 by hand, since a correct server library would refuse to send what is to be tested.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use weft_registry_kubernetes::KubernetesSettings;

/// How the fake misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not.
    None,
    /// 403 for this kind, or for all.
    Forbidden(Option<&'static str>),
    /// 401 to everything.
    Unauthorized,
    /// 404 to everything.
    NotFound,
    /// 429 to everything, with so many seconds to wait.
    Busy(u32),
    /// 503 for this kind.
    Broken(&'static str),
    /// Nothing is answered, also in watches that are open.
    Hang,
    /// 200 with something else.
    Garbage,
    /// Watches answer and send garbage.
    GarbageInWatches,
    /// There is nothing, and what was is forgotten.
    Empty,
}

struct State {
    /// By kind, then `namespace/name`.
    objects: BTreeMap<&'static str, BTreeMap<String, Value>>,
    /// What happened: version, kind, line.
    log: Vec<(u64, &'static str, Value)>,
    version: u64,
    /// Watches from before this get 410.
    oldest: u64,
    fault: Fault,
    /// Whether lists can be streamed.
    streams: bool,
    requests: Vec<String>,
    /// What open watches compare: another number ends them.
    life: u64,
    token: Option<String>,
}

/// A fake API server on a free port.
pub(crate) struct FakeApi {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
    server: JoinSet<()>,
    pub(crate) directory: TempDir,
}

const KINDS: [&str; 5] = ["services", "endpointslices", "pods", "nodes", "namespaces"];

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            objects: KINDS.iter().map(|kind| (*kind, BTreeMap::new())).collect(),
            log: Vec::new(),
            version: 100,
            oldest: 0,
            fault: Fault::None,
            streams: true,
            requests: Vec::new(),
            life: 0,
            token: None,
        };
        let mut fake = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
            changed: watch::Sender::new(()),
            server: JoinSet::new(),
            directory: tempfile::tempdir().unwrap(),
        };
        fake.serve(listener);
        fake.write_kubeconfig("token-1");
        fake
    }

    fn serve(&mut self, listener: TcpListener) {
        let (state, changed) = (self.state.clone(), self.changed.clone());
        self.server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, state.clone(), changed.subscribe()));
            }
        });
    }

    /// Settings that fit it, and are as quick as a test wants.
    pub(crate) fn settings(&self) -> KubernetesSettings {
        KubernetesSettings {
            kubeconfig: Some(self.directory.path().join("config")),
            watch: Duration::from_secs(1),
            answer_timeout: Duration::from_millis(400),
            ..KubernetesSettings::default()
        }
    }

    pub(crate) fn write_kubeconfig(&self, token: &str) {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "fake", "user": {"token": token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        });
        std::fs::write(self.directory.path().join("config"), text.to_string()).unwrap();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    /// Makes or changes an object.
    pub(crate) fn put(&self, kind: &'static str, mut object: Value) {
        self.write(|state| {
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            let had = state.objects.get_mut(kind).unwrap().insert(key(&object), object.clone());
            let what = if had.is_some() { "MODIFIED" } else { "ADDED" };
            state.log.push((state.version, kind, json!({"type": what, "object": object})));
        });
    }

    /// Changes an object that is there.
    pub(crate) fn change(&self, kind: &'static str, key: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.state().objects[kind][key].clone();
        change(&mut object);
        self.put(kind, object);
    }

    pub(crate) fn delete(&self, kind: &'static str, key: &str) {
        self.write(|state| {
            let Some(mut object) = state.objects.get_mut(kind).unwrap().remove(key) else { return };
            state.version += 1;
            object["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.log.push((state.version, kind, json!({"type": "DELETED", "object": object})));
        });
    }

    /// Forgets what happened: a watch that is taken up again gets 410, and open ones end.
    pub(crate) fn compact(&self) {
        self.write(|state| {
            state.version += 1;
            state.oldest = state.version;
            state.log.clear();
            state.life += 1;
        });
    }

    /// Ends all open watches.
    pub(crate) fn end_watches(&self) {
        self.write(|state| state.life += 1);
    }

    /// As if etcd had been restored from an older copy: versions begin again, and objects are what they are.
    pub(crate) fn version_goes_back_to(&self, version: u64) {
        self.write(|state| {
            (state.version, state.oldest, state.life) = (version, 0, state.life + 1);
            state.log.clear();
        });
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.write(|state| {
            // A server that hangs does not close anything, and after that nothing is the same.
            if fault != Fault::Hang {
                state.life += 1;
            }
            if fault == Fault::Empty || state.fault == Fault::Empty {
                state.version += 1;
                state.oldest = state.version;
                state.log.clear();
            }
            state.fault = fault;
        });
    }

    pub(crate) fn set_streams(&self, streams: bool) {
        self.state().streams = streams;
    }

    /// Only this token is let in.
    pub(crate) fn require_token(&self, token: &str) {
        self.write(|state| {
            state.token = Some(format!("Bearer {token}"));
            state.life += 1;
        });
    }

    /// The process dies: connections are reset, new ones refused.
    pub(crate) async fn go_down(&mut self) {
        self.server.shutdown().await;
    }

    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serve(listener);
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    pub(crate) fn count(&self, with: &str) -> usize {
        self.state().requests.iter().filter(|request| request.contains(with)).count()
    }
}

fn key(object: &Value) -> String {
    let metadata = &object["metadata"];
    let (namespace, name) =
        (metadata["namespace"].as_str().unwrap_or(""), metadata["name"].as_str().unwrap());
    format!("{namespace}/{name}")
}

async fn connection(mut stream: TcpStream, state: Arc<Mutex<State>>, changed: watch::Receiver<()>) {
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
    let mut first = Vec::new();
    if asked.get("sendInitialEvents") == "true" {
        let state = state.lock().unwrap();
        first.extend(there(asked, &state).map(|object| json!({"type": "ADDED", "object": object})));
        first.push(
            json!({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": state.version.to_string(),
            "annotations": {"k8s.io/initial-events-end": "true"}}}}),
        );
        seen = state.version;
    }
    for line in first {
        chunk(stream, &format!("{line}\n")).await?;
    }
    loop {
        let (lines, ends) = {
            let state = state.lock().unwrap();
            let mut lines: Vec<String> = Vec::new();
            let too_old = seen < state.oldest;
            if too_old {
                let status = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"});
                lines.push(json!({"type": "ERROR", "object": status}).to_string());
            }
            let from = seen;
            for (version, kind, line) in
                state.log.iter().filter(|(version, _, _)| *version > from && !too_old)
            {
                if *kind == asked.kind && asked.wants(&line["object"]) {
                    lines.push(line.to_string());
                }
                seen = *version;
            }
            if state.fault == Fault::GarbageInWatches {
                lines = vec!["<html>".to_owned()];
            }
            // One that hangs sends nothing, and is not closed either.
            if state.fault == Fault::Hang {
                lines.clear();
            }
            (lines, too_old || state.life != life || state.fault == Fault::GarbageInWatches)
        };
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
