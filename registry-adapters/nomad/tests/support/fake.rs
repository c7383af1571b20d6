//! A scripted Nomad: services, allocations, jobs, nodes, checks and the event stream, with blocking queries and with every fault
//! we know.
//!
//! A few lines of HTTP/1.1 by hand, since a correct server library would refuse to send what is to be tested.

#![allow(dead_code, reason = "each test file uses a part")]

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
    /// Lists of all namespaces are silently empty, 403 to who asks for one: a token that lost its rights.
    Filtered,
    /// There is nothing.
    Empty,
    /// 404 to everything.
    NotFound,
    /// 500 to everything.
    NoLeader,
    /// Nothing is answered.
    Hang,
    /// 200 with something else.
    Garbage,
}

/// An instance of a service, with the allocation that it is.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    /// As `/v1/service/NAME` shows it.
    pub(crate) registration: Value,
    /// As `/v1/allocations` shows it.
    pub(crate) allocation: Value,
    /// Its job.
    pub(crate) job: Value,
    /// As its node shows them.
    pub(crate) checks: Value,
}

#[derive(Debug)]
struct State {
    instances: BTreeMap<String, Instance>,
    nodes: Vec<Value>,
    index: u64,
    fault: Fault,
    requests: Vec<String>,
    streams: bool,
    events: Vec<Value>,
}

/// A fake agent on a free port.
pub(crate) struct FakeNomad {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
    server: JoinSet<()>,
}

impl FakeNomad {
    /// `streams`: whether the token may have the event stream.
    pub(crate) async fn start(streams: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = json!({"ID": NODE, "Name": "node-1", "Datacenter": "dc1", "NodePool": "default", "NodeClass": "", "Status": "ready"});
        let state = State {
            instances: BTreeMap::new(),
            nodes: vec![node],
            index: 10,
            fault: Fault::None,
            requests: Vec::new(),
            streams,
            events: Vec::new(),
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

    /// Registers or changes an instance.
    pub(crate) fn put(&self, service: &str, name: &str, change: impl FnOnce(&mut Instance)) {
        self.write(|state| {
            let mut one = state.instances.get(name).cloned().unwrap_or_else(|| instance(service, name));
            change(&mut one);
            state.events.push(event(&one));
            state.instances.insert(name.to_owned(), one);
        });
    }

    pub(crate) fn remove(&self, name: &str) {
        self.write(|state| {
            if let Some(one) = state.instances.remove(name) {
                state.events.push(event(&one));
            }
        });
    }

    pub(crate) fn change_node(&self, change: impl FnOnce(&mut Value)) {
        self.write(|state| change(&mut state.nodes[0]));
    }

    /// A restored server: the index is lower than before, the data are what they are.
    pub(crate) fn index_goes_back_to(&self, index: u64) {
        self.state().index = index;
        self.changed.send_replace(());
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.write(|state| state.fault = fault);
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
}

/// An instance as Nomad shows a healthy one without checks.
fn instance(service: &str, name: &str) -> Instance {
    let alloc = allocation_id(name);
    Instance {
        registration: json!({
            "ID": format!("_nomad-task-{alloc}-group-{name}-{service}-http"), "ServiceName": service, "Namespace": "default",
            "NodeID": NODE, "Datacenter": "dc1", "JobID": name, "AllocID": alloc, "Tags": [], "Address": "10.0.0.1", "Port": 8080,
        }),
        allocation: json!({
            "ID": alloc, "Name": format!("{name}.{name}[0]"), "Namespace": "default", "NodeID": NODE, "NodeName": "node-1",
            "JobID": name, "JobVersion": 0, "TaskGroup": name, "DesiredStatus": "run", "ClientStatus": "running",
            "DeploymentStatus": null,
            "AllocatedResources": {"Shared": {"Ports": [{"Label": "http", "Value": 8080, "To": 0, "HostIP": "10.0.0.1"}]}},
        }),
        job: json!({
            "ID": name, "ParentID": "", "Meta": null,
            "TaskGroups": [{"Name": name, "Meta": null, "Services": [{"Name": service, "Checks": null}], "Tasks": [{"Name": "app", "Services": null}]}],
        }),
        checks: json!({}),
    }
}

/// An allocation's id that follows from a name.
pub(crate) fn allocation_id(name: &str) -> String {
    let sum = name.bytes().fold(1u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    format!("{:08x}-1111-4111-8111-{:012x}", sum & 0xffff_ffff, sum & 0xffff_ffff_ffff)
}

fn event(one: &Instance) -> Value {
    json!({"Topic": "Service", "Type": "ServiceRegistration", "Payload": {"Service": one.registration}})
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
        state.lock().unwrap().requests.push(target.clone());
        let healthy = matches!(state.lock().unwrap().fault, Fault::None | Fault::Empty);
        if target.starts_with("/v1/event/stream") && healthy && state.lock().unwrap().streams {
            return events(stream, state, changed).await;
        }
        let Some(bytes) = answer(&target, &state, &mut changed).await else {
            // Hangs, until the client gives up.
            let _ = stream.read(&mut [0; 1]).await;
            return;
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// The event stream, from now on, until a fault.
async fn events(mut stream: TcpStream, state: Arc<Mutex<State>>, mut changed: watch::Receiver<()>) {
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut sent = state.lock().unwrap().events.len();
    if stream.write_all(head).await.is_err() {
        return;
    }
    loop {
        let (new, fault) = {
            let state = state.lock().unwrap();
            (state.events[sent..].to_vec(), state.fault)
        };
        if !matches!(fault, Fault::None | Fault::Empty) {
            return;
        }
        sent += new.len();
        let line = if new.is_empty() {
            "{}\n".to_owned()
        } else {
            format!("{}\n", json!({"Index": 1, "Events": new}))
        };
        if stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await.is_err() {
            return;
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// The answer's bytes; `None` is no answer.
async fn answer(target: &str, state: &Mutex<State>, changed: &mut watch::Receiver<()>) -> Option<Vec<u8>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: BTreeMap<&str, &str> =
        query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
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
    render(path, &query, &state)
}

fn render(path: &str, query: &BTreeMap<&str, &str>, state: &State) -> Option<Vec<u8>> {
    let (mut status, mut body) = match data(path, state) {
        Some(value) => (200, value.to_string()),
        None => (404, "not found".to_owned()),
    };
    let everything = matches!(query.get("namespace").copied(), Some("*" | "%2A"));
    match state.fault {
        Fault::Forbidden => (status, body) = (403, "Permission denied".to_owned()),
        Fault::Filtered if everything => (status, body) = (200, "[]".to_owned()),
        Fault::Filtered => (status, body) = (403, "Permission denied".to_owned()),
        Fault::NotFound => (status, body) = (404, "not found".to_owned()),
        Fault::NoLeader => (status, body) = (500, "No cluster leader".to_owned()),
        Fault::Hang => return None,
        Fault::Garbage => body = "<html>it works</html>".to_owned(),
        Fault::None | Fault::Empty => {}
    }
    if path.starts_with("/v1/event/stream") && status == 200 {
        (status, body) = (403, "Permission denied".to_owned());
    }
    let (index, length) = (state.index, body.len());
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nX-Nomad-Index: {index}\r\n\
         X-Nomad-KnownLeader: true\r\n\r\n"
    );
    Some([head.as_bytes(), body.as_bytes()].concat())
}

fn data(path: &str, state: &State) -> Option<Value> {
    let empty = state.fault == Fault::Empty;
    let instances = || state.instances.values().filter(|_| !empty);
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    Some(match parts.as_slice() {
        ["services"] => {
            let names: std::collections::BTreeSet<&str> =
                instances().filter_map(|one| one.registration["ServiceName"].as_str()).collect();
            let services: Vec<Value> =
                names.iter().map(|name| json!({"ServiceName": name, "Tags": []})).collect();
            if services.is_empty() {
                json!([])
            } else {
                json!([{"Namespace": "default", "Services": services}])
            }
        }
        ["service", name] => {
            json!(
                instances()
                    .map(|one| &one.registration)
                    .filter(|one| one["ServiceName"] == *name)
                    .collect::<Vec<_>>()
            )
        }
        ["allocations"] => json!(instances().map(|one| &one.allocation).collect::<Vec<_>>()),
        ["allocation", id] => {
            let one = state.instances.values().find(|one| one.allocation["ID"] == *id)?;
            let mut whole = one.allocation.clone();
            whole["Job"] = one.job.clone();
            whole
        }
        ["client", "allocation", id, "checks"] => {
            state.instances.values().find(|one| one.allocation["ID"] == *id)?.checks.clone()
        }
        ["nodes"] => json!(state.nodes),
        ["node", _] => json!({"Meta": {"zone": "a"}}),
        _ => return None,
    })
}

const NODE: &str = "70c00785-8238-4ad7-8d32-d14b843f6b63";
