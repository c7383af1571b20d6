//! A scripted API server: lists in pages, watches with bookmarks and streamed lists, and every fault we know.
//!
//! A few lines of HTTP/1.1 by hand, since a correct server library would refuse to send what is to be tested.

mod answer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
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
    /// Everything is answered, so long after it was asked.
    Late(Duration),
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
                connections.spawn(answer::connection(stream, state.clone(), changed.subscribe()));
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

    /// As if etcd had been lost and filled again meanwhile: an object is gone, and no watch tells.
    pub(crate) fn lose(&self, kind: &'static str, key: &str) {
        self.write(|state| drop(state.objects.get_mut(kind).unwrap().remove(key)));
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
