//! A scripted Consul: the list of services, health and agent/self, with blocking queries and with every fault we know.
//!
//! A few lines of HTTP/1.1 by hand, since a correct server library would refuse to send what is to be tested.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How the fake misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not.
    None,
    /// 403 to everything.
    Forbidden,
    /// There is no service but Consul's own.
    Empty,
    /// Lists and instances are empty, as for a token without rights on 1.8.
    EmptyDenied,
    /// The list is right, instances are empty: a token without rights on nodes.
    NodesHidden,
    /// 500 to everything.
    NoLeader,
    /// 500 as for an unknown datacenter.
    NoDatacenter,
    /// Nothing is answered.
    Hang,
    /// 200 with something else.
    Garbage,
    /// Garbage for the service `api` alone.
    GarbageForApi,
    /// A body without end.
    Huge,
    /// The connection ends in the middle of the body.
    Cut,
    /// The index is 0.
    IndexZero,
    /// There is no index.
    IndexMissing,
    /// A header that is not ASCII.
    OddHeader,
    /// The server that answers knows no leader.
    Lagging,
}

#[derive(Debug)]
struct State {
    services: BTreeMap<String, Vec<Value>>,
    index: u64,
    fault: Fault,
    requests: Vec<String>,
    /// The token sees only a part, and the server says so.
    filtered: bool,
}

/// A fake agent on a free port.
pub(crate) struct FakeConsul {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
    server: JoinSet<()>,
}

impl FakeConsul {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            services: BTreeMap::new(),
            index: 10,
            fault: Fault::None,
            requests: Vec::new(),
            filtered: false,
        };
        let mut fake = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
            changed: watch::Sender::new(()),
            server: JoinSet::new(),
        };
        fake.serve(listener);
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

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn write(&self, change: impl FnOnce(&mut State)) {
        {
            let mut state = self.state();
            change(&mut state);
            state.index += 1;
        }
        self.changed.send_replace(());
    }

    /// Registers or changes an instance, as it stands in an answer.
    pub(crate) fn put(&self, service: &str, id: &str, change: impl FnOnce(&mut Value)) {
        self.write(|state| {
            let instances = state.services.entry(service.to_owned()).or_default();
            let mut instance = instances
                .iter()
                .find(|entry| entry["Service"]["ID"] == id)
                .cloned()
                .unwrap_or_else(|| instance(service, id));
            change(&mut instance);
            instances.retain(|entry| entry["Service"]["ID"] != id);
            instances.push(instance);
        });
    }

    pub(crate) fn remove(&self, service: &str, id: &str) {
        self.write(|state| {
            if let Some(instances) = state.services.get_mut(service) {
                instances.retain(|entry| entry["Service"]["ID"] != id);
            }
            state.services.retain(|_, instances| !instances.is_empty());
        });
    }

    pub(crate) fn remove_service(&self, service: &str) {
        self.write(|state| drop(state.services.remove(service)));
    }

    /// Many services vanish in one write.
    pub(crate) fn remove_all(&self) {
        self.write(|state| state.services.clear());
    }

    /// Writes that change nothing, each of which wakes all blocking queries.
    pub(crate) fn churn(&self) {
        self.write(|_| {});
    }

    /// A restored server: the index is lower than before, the data are what they are.
    pub(crate) fn index_goes_back_to(&self, index: u64) {
        self.state().index = index;
        self.changed.send_replace(());
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.write(|state| state.fault = fault);
    }

    pub(crate) fn set_filtered(&self, filtered: bool) {
        self.state().filtered = filtered;
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

    pub(crate) fn count(&self) -> usize {
        self.state().requests.len()
    }
}

/// An instance as Consul shows a freshly registered one.
fn instance(service: &str, id: &str) -> Value {
    json!({
        "Node": {"Node": "node-1", "Address": "10.0.0.1", "Datacenter": "dc1", "TaggedAddresses": null},
        "Service": {
            "ID": id, "Service": service, "Tags": [], "Address": "", "Meta": null, "Port": 8080,
            "Weights": {"Passing": 1, "Warning": 1},
        },
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}],
    })
}

async fn connection(mut stream: TcpStream, state: Arc<Mutex<State>>, mut changed: watch::Receiver<()>) {
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
        let answer = answer(&target, &state, &mut changed).await;
        let Some((bytes, close)) = answer else {
            // Hangs, until the client gives up.
            let _ = stream.read(&mut [0; 1]).await;
            return;
        };
        if stream.write_all(&bytes).await.is_err() || close {
            return;
        }
    }
}

/// The answer's bytes and whether the connection ends after it; `None` is no answer.
async fn answer(
    target: &str,
    state: &Mutex<State>,
    changed: &mut watch::Receiver<()>,
) -> Option<(Vec<u8>, bool)> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: BTreeMap<&str, &str> =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    state.lock().unwrap().requests.push(target.to_owned());
    let asked: Option<u64> = query.get("index").and_then(|index| index.parse().ok());
    let wait = query.get("wait").and_then(|wait| wait.strip_suffix("ms")?.parse().ok()).unwrap_or(300_000);
    let deadline = Instant::now() + Duration::from_millis(wait);
    // A blocking query returns when the index is higher than the asked one: also from one of a former life it waits.
    while asked.is_some_and(|asked| {
        let state = state.lock().unwrap();
        asked >= state.index && matches!(state.fault, Fault::None | Fault::Empty)
    }) {
        if timeout_at(deadline, changed.changed()).await.is_err() {
            break;
        }
    }
    let state = state.lock().unwrap();
    render(path, &state)
}

fn render(path: &str, state: &State) -> Option<(Vec<u8>, bool)> {
    let fault = match (state.fault, path) {
        (Fault::GarbageForApi, "/v1/health/service/api") => Fault::Garbage,
        (Fault::GarbageForApi, _) => Fault::None,
        (fault, _) => fault,
    };
    let mut headers = vec![
        format!("X-Consul-Index: {}", state.index),
        "X-Consul-Knownleader: true".to_owned(),
        "X-Consul-Lastcontact: 0".to_owned(),
    ];
    let mut body = data(path, state, fault).to_string();
    let mut status = 200;
    match fault {
        Fault::Forbidden => (status, body) = (403, "Permission denied".to_owned()),
        Fault::NoLeader => (status, body) = (500, "No cluster leader".to_owned()),
        Fault::NoDatacenter => (status, body) = (500, "No path to datacenter".to_owned()),
        Fault::Hang => return None,
        Fault::Garbage => body = "<html>it works</html>".to_owned(),
        Fault::IndexZero => headers[0] = "X-Consul-Index: 0".to_owned(),
        Fault::IndexMissing => drop(headers.remove(0)),
        Fault::Lagging => headers[1] = "X-Consul-Knownleader: false".to_owned(),
        Fault::Huge => body = " ".repeat((32 << 20) + 1) + &body,
        _ => {}
    }
    if state.filtered {
        headers.push("X-Consul-Results-Filtered-By-ACLs: true".to_owned());
    }
    let length = if fault == Fault::Cut { body.len() + 100 } else { body.len() };
    let mut bytes = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{}\r\n",
        headers.join("\r\n")
    )
    .into_bytes();
    if fault == Fault::OddHeader {
        bytes.extend_from_slice(b"X-Consul-Default-Acl-Policy: \xff\xfe\r\nX-Cache: \xc3\xa4\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.as_bytes());
    Some((bytes, fault == Fault::Cut))
}

fn data(path: &str, state: &State, fault: Fault) -> Value {
    match path.strip_prefix("/v1/") {
        Some("catalog/services") if fault == Fault::EmptyDenied => json!({}),
        Some("catalog/services") => {
            let services = state.services.iter().filter(|_| fault != Fault::Empty);
            let names = services.map(|(name, _)| (name.clone(), json!([])));
            let own = (!state.filtered).then(|| ("consul".to_owned(), json!([])));
            Value::Object(names.chain(own).collect())
        }
        Some("agent/self") => json!({"Config": {"Datacenter": "dc1", "Version": "1.20.5"}}),
        Some(path) => {
            let name = path.strip_prefix("health/service/").unwrap_or("");
            let hidden = matches!(fault, Fault::Empty | Fault::EmptyDenied | Fault::NodesHidden);
            json!(state.services.get(name).filter(|_| !hidden).cloned().unwrap_or_default())
        }
        None => Value::Null,
    }
}
