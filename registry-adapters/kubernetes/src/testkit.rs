//! A real API server with its etcd for tests: started on free ports, killed with its value.
//!
//! No controller, no scheduler, no node: objects are what the test writes, which is all that an adapter reads. The binaries
//! come from the environment (`WEFT_KUBERNETES`, a directory, and `WEFT_ETCD`) or from the cache of test tools; where one is
//! missing, [`ApiServer::start`] says so loudly and returns `None`, since a machine without it must still be able to run
//! the other tests.

mod process;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{AsyncBufReadExt, StreamExt};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weft_registry::testkit::real;

use crate::settings::KubernetesSettings;
use process::{Ports, Running};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// May do everything.
    Admin,
    /// May do what the test gives to the user `weft`; nothing at first.
    Weft,
}

impl User {
    fn token(self) -> &'static str {
        match self {
            Self::Admin => "token-of-admin",
            Self::Weft => "token-of-weft",
        }
    }
}

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    directory: TempDir,
    tools: Tools,
    ports: Ports,
    etcd: Option<Running>,
    server: Option<Running>,
}

/// The binaries.
#[derive(Debug, Clone)]
struct Tools {
    etcd: PathBuf,
    server: PathBuf,
}

impl Tools {
    fn find() -> Option<Self> {
        let server = real::tool("WEFT_KUBERNETES", "kubernetes-1.37.2")?;
        let etcd = real::tool("WEFT_ETCD", "etcd-3.6.16/etcd")?;
        let tools = Self { etcd, server: server.join("kube-apiserver") };
        (tools.etcd.is_file() && tools.server.is_file()).then_some(tools)
    }
}

impl ApiServer {
    /// Whether there are binaries to start.
    pub fn is_there() -> bool {
        Tools::find().is_some()
    }

    /// Starts both and waits until the server is ready. `None`, and a line on stderr, where a binary is missing.
    ///
    /// # Errors
    /// When it does not start, or is not ready after a minute.
    pub async fn start() -> io::Result<Option<Self>> {
        let Some(tools) = Tools::find() else {
            real::skipped_on("Kubernetes");
            return Ok(None);
        };
        real::ran_on("Kubernetes");
        let mut tries = 1;
        loop {
            match Self::start_once(&tools).await {
                // Somebody took a port between our look and its use.
                Err(error) if tries < 5 && error.to_string().contains("address already in use") => tries += 1,
                started => return started.map(Some),
            }
        }
    }

    async fn start_once(tools: &Tools) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        process::write_files(directory.path(), [User::Admin.token(), User::Weft.token()])?;
        let (tools, ports) = (tools.clone(), Ports::free()?);
        let mut server = Self { directory, tools, ports, etcd: None, server: None };
        server.restart().await?;
        Ok(server)
    }

    /// Settings of a registry that reads it as this user, as quick as a test wants.
    ///
    /// # Errors
    /// When the kubeconfig can't be written.
    pub fn settings(&self, user: User) -> io::Result<KubernetesSettings> {
        let path = self.directory.path().join(format!("{user:?}.kubeconfig"));
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.ports.server), "certificate-authority": "ca.pem"}}],
            "users": [{"name": "test", "user": {"token": user.token()}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        // By a rename: many ask, and nobody reads half of it.
        let mut draft = tempfile::NamedTempFile::new_in(self.directory.path())?;
        draft.write_all(text.to_string().as_bytes())?;
        draft.persist(&path)?;
        Ok(KubernetesSettings {
            kubeconfig: Some(path),
            watch: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(1),
            ..KubernetesSettings::default()
        })
    }

    /// Sends a request with all rights. A body that is no object is none.
    ///
    /// # Errors
    /// When the answer is no success; the error holds it.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> io::Result<Value> {
        let content =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_object() { body.to_string() } else { String::new() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .body(body.into_bytes())
            .map_err(io::Error::other)?;
        self.client().await?.request(request).await.map_err(io::Error::other)
    }

    /// The lines of an answer that goes on, as of a watch, each when it comes.
    ///
    /// # Errors
    /// When there is no such answer.
    pub async fn lines(&self, path: &str) -> io::Result<BoxStream<'static, io::Result<String>>> {
        let request = http::Request::get(path).body(Vec::new()).map_err(io::Error::other)?;
        let answer = self.client().await?.request_stream(request).await.map_err(io::Error::other)?;
        Ok(answer.lines().boxed())
    }

    /// Makes an object, or changes it to be this one as far as a merge patch does; its status too. `path` is the list's.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn put(&self, path: &str, object: &Value) -> io::Result<()> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let own = format!("{path}/{name}");
        if self.send(Method::POST, path, object).await.is_err() {
            self.send(Method::PATCH, &own, object).await?;
        }
        if object["status"].is_object() {
            let status = json!({"status": object["status"]});
            self.send(Method::PATCH, &format!("{own}/status"), &status).await?;
        }
        Ok(())
    }

    /// Deletes an object at once; one that is not there is fine.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn delete(&self, path: &str) -> io::Result<()> {
        let at_once = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        match self.send(Method::DELETE, path, &at_once).await {
            Err(error) if error.to_string().contains("not found") => Ok(()),
            done => done.map(drop),
        }
    }

    /// The server's process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Running::pid)
    }

    /// Kills the server without warning; etcd and what it holds stay.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Kills both, and puts all data aside: the next life begins empty, and its versions begin anew.
    ///
    /// # Errors
    /// When the data can't be moved.
    pub fn set_aside(&mut self) -> io::Result<()> {
        (self.server, self.etcd) = (None, None);
        fs::rename(self.directory.path().join("etcd"), self.directory.path().join("aside"))
    }

    /// Kills both, and puts the data that were set aside in the place of what there is, as a restored backup.
    ///
    /// # Errors
    /// When the data can't be moved.
    pub fn bring_back(&mut self) -> io::Result<()> {
        (self.server, self.etcd) = (None, None);
        fs::remove_dir_all(self.directory.path().join("etcd"))?;
        fs::rename(self.directory.path().join("aside"), self.directory.path().join("etcd"))
    }

    /// Starts what does not run, on the same ports, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> io::Result<()> {
        let directory = self.directory.path().to_owned();
        if self.etcd.is_none() {
            self.etcd = Some(process::etcd(&self.tools.etcd, &directory, self.ports)?);
        }
        if self.server.is_none() {
            self.server = Some(process::server(&self.tools.server, &directory, self.ports)?);
        }
        self.until_ready(&directory).await
    }

    async fn client(&self) -> io::Result<Client> {
        crate::connect(&self.settings(User::Admin)?).await.map_err(io::Error::other)
    }

    /// Ready is: it says so, and the namespace `default`, which it makes itself, is there.
    async fn until_ready(&mut self, directory: &Path) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let client = self.client().await?;
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(io::Error::other)?;
            let last = match client.request_text(request).await {
                Ok(text) if text == "ok" => {
                    match self.send(Method::GET, "/api/v1/namespaces/default", &Value::Null).await {
                        Ok(_) => return Ok(()),
                        Err(error) => error.to_string(),
                    }
                }
                Ok(text) => text,
                Err(error) => error.to_string(),
            };
            let ended = |process: &mut Option<Running>| process.as_mut().is_none_or(Running::has_ended);
            let log = match (ended(&mut self.etcd), ended(&mut self.server)) {
                (true, _) => Some("etcd.log"),
                (false, true) => Some("server.log"),
                _ => (Instant::now() > deadline).then_some("server.log"),
            };
            if let Some(log) = log {
                let log = fs::read_to_string(directory.join(log)).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                return Err(io::Error::other(format!("it is not ready: {last}\n{}", tail.join("\n"))));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
