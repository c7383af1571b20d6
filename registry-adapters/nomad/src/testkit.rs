//! A real Nomad agent for tests: started on free ports, taken away with its value, with all that its jobs left.
//!
//! Each port is a setting, so agents of several tests run side by side; in network namespaces of their own they make a
//! cluster. The binary comes from the environment (`WEFT_NOMAD`) or from the cache of test tools; where there is none,
//! [`NomadServer::start`] says so loudly and returns `None`, since a machine without it must still be able to run the other tests.

mod config;
mod remains;

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weft_registry::testkit::real;

use config::Ports;

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct NomadOptions {
    /// Its name; nodes have to have different ones.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its datacenter.
    pub datacenter: String,
    /// The node's `meta`.
    pub meta: Vec<(String, String)>,
    /// The address that it and its allocations' ports have.
    pub address: Ipv4Addr,
    /// The network namespace, by its name in `ip netns`, in which it and its jobs run.
    pub network: Option<String>,
    /// Whether it is a server.
    pub server: bool,
    /// Whether it runs jobs: of the server at this address, `host:port` of its RPC port, or of itself.
    pub client: bool,
    /// The RPC address of another server that it belongs to.
    pub joins: Option<String>,
    /// ACLs on: what no token allows is denied.
    pub acl: bool,
    /// TLS with client certificates required, for everything: CA, certificate and key (PEM files).
    pub tls: Option<[PathBuf; 3]>,
    /// The issuer in workload identity tokens.
    pub issuer: Option<String>,
    /// `limits.http_max_conns_per_client`; Nomad's default is 100.
    pub max_connections: Option<u32>,
}

impl Default for NomadOptions {
    fn default() -> Self {
        Self {
            name: "node-1".to_owned(),
            region: "global".to_owned(),
            datacenter: "dc1".to_owned(),
            meta: Vec::new(),
            address: Ipv4Addr::LOCALHOST,
            network: None,
            server: true,
            client: true,
            joins: None,
            acl: false,
            tls: None,
            issuer: None,
            max_connections: None,
        }
    }
}

/// A running agent.
#[derive(Debug)]
pub struct NomadServer {
    options: NomadOptions,
    binary: PathBuf,
    directory: TempDir,
    ports: Ports,
    process: Option<Child>,
    http: reqwest::Client,
    token: Option<String>,
}

impl NomadServer {
    /// The agent's binary, where there is one.
    pub fn binary() -> Option<PathBuf> {
        real::tool("WEFT_NOMAD", "nomad-1.10.0/nomad")
    }

    /// Starts an agent and waits until it is ready: a server has a leader, a client a node that is ready. `None`, and a line on
    /// stderr, where the binary is missing.
    ///
    /// # Errors
    /// When it does not start, or is not ready after a minute.
    pub async fn start(options: NomadOptions) -> io::Result<Option<Self>> {
        let Some(binary) = Self::binary() else {
            real::skipped_on("Nomad 1.10.0");
            return Ok(None);
        };
        real::ran_on("Nomad 1.10.0");
        let mut tries = 1;
        loop {
            match Self::start_once(&options, &binary).await {
                // Somebody took a port between our look and Nomad's.
                Err(error) if tries < 5 && error.to_string().contains("address already in use") => tries += 1,
                started => return started.map(Some),
            }
        }
    }

    async fn start_once(options: &NomadOptions, binary: &Path) -> io::Result<Self> {
        // Tasks that run as other users have to come to their own directories in it.
        let passable = fs::Permissions::from_mode(0o711);
        let directory =
            tempfile::Builder::new().prefix("weft-nomad-").permissions(passable.clone()).tempdir()?;
        fs::create_dir(directory.path().join("data"))?;
        fs::set_permissions(directory.path().join("data"), passable)?;
        let ports = Ports::free(options.network.is_none())?;
        let agent = config::agent(options, ports, directory.path());
        fs::write(directory.path().join("agent.json"), agent.to_string())?;
        let mut server = Self {
            http: config::http(options)?,
            options: options.clone(),
            binary: binary.to_owned(),
            directory,
            ports,
            process: None,
            token: None,
        };
        server.spawn()?;
        server.until_ready().await?;
        if options.acl && options.server {
            server.bootstrap_acl().await?;
        }
        Ok(server)
    }

    /// The address of its HTTP API.
    pub fn address(&self) -> String {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.options.address, self.ports.http)
    }

    /// The address of its RPC, for clients of it.
    pub fn rpc_address(&self) -> String {
        format!("{}:{}", self.options.address, self.ports.rpc)
    }

    /// The token that may do everything, where ACLs are on.
    pub fn management_token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Uses this token from now on: of an agent that is a client, its server's.
    pub fn use_token(&mut self, token: Option<&str>) {
        self.token = token.map(str::to_owned);
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Its directory; allocations are in `data/alloc/ID`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// GETs `/v1/PATH` with all rights.
    ///
    /// # Errors
    /// When it does not answer with success; the error holds the answer.
    pub async fn get(&self, path: &str) -> io::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// POSTs to `/v1/PATH` with all rights.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &str, body: &Value) -> io::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// DELETEs `/v1/PATH` with all rights.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete(&self, path: &str) -> io::Result<Value> {
        self.send(Method::DELETE, path, None).await
    }

    /// The job that a text in HCL is, as the server reads it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn parse(&self, hcl: &str) -> io::Result<Value> {
        self.post("jobs/parse", &json!({"JobHCL": hcl, "Canonicalize": true})).await
    }

    /// Registers a job (JSON).
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn run(&self, job: &Value) -> io::Result<Value> {
        self.post("jobs", &json!({"Job": job})).await
    }

    /// Makes an ACL token with a policy in Nomad's HCL and returns its secret.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn make_token(&self, name: &str, rules: &str) -> io::Result<String> {
        self.post(&format!("acl/policy/{name}"), &json!({"Name": name, "Rules": rules})).await?;
        let token = json!({"Name": name, "Type": "client", "Policies": [name]});
        secret(&self.post("acl/token", &token).await?)
    }

    /// Kills it without warning. Its jobs' processes live on, as they do when an agent dies.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// Starts it again on the same ports and with what it knew, after [`Self::kill`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.spawn()?;
        self.until_ready().await
    }

    fn spawn(&mut self) -> io::Result<()> {
        let directory = self.directory.path();
        let log = fs::OpenOptions::new().create(true).append(true).open(directory.join("log"))?;
        let mut command = match &self.options.network {
            Some(network) => {
                // Not `ip netns exec`, whose mounts end with the agent: those of its allocations' namespaces have to outlive it.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{network}")).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        command.arg("agent").arg("-config").arg(directory.join("agent.json"));
        // With it the agent reads the machine's own bundle for a cloud that is not there, and ends.
        command.env_remove("AWS_CA_BUNDLE");
        self.process = Some(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    async fn bootstrap_acl(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.post("acl/bootstrap", &Value::Null).await {
                Ok(token) => {
                    self.token = Some(secret(&token)?);
                    return Ok(());
                }
                // The leader is there a moment before its authority.
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> io::Result<Value> {
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.address()));
        if let Some(token) = &self.token {
            request = request.header("X-Nomad-Token", token);
        }
        if let Some(body) = body.filter(|body| !body.is_null()) {
            request = request.body(body.to_string());
        }
        let answer = request.timeout(Duration::from_secs(10)).send().await.map_err(io::Error::other)?;
        let status = answer.status();
        let text = answer.text().await.map_err(io::Error::other)?;
        if !status.is_success() {
            return Err(io::Error::other(format!("{status}: {text}")));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = match self.readiness().await {
                Ok(None) => return Ok(()),
                Ok(Some(missing)) => missing,
                Err(error) => error.to_string(),
            };
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                return Err(io::Error::other(format!("Nomad is not ready: {last}\n{}", tail.join("\n"))));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// What is missing. An agent that was started again knows its node from before, so a leader is waited for as well.
    async fn readiness(&self) -> io::Result<Option<String>> {
        let leader = self.get("status/leader").await?;
        if leader.as_str().is_none_or(str::is_empty) {
            return Ok(Some("there is no leader".to_owned()));
        }
        // Asking for a member's own health needs no rights; a node's own state does, with ACLs on.
        let health = self.get("agent/health").await?;
        for (wanted, part) in [(self.options.server, "server"), (self.options.client, "client")] {
            if wanted && health[part]["ok"] != json!(true) {
                return Ok(Some(health.to_string()));
            }
        }
        if !self.options.client || self.options.acl && self.token.is_none() {
            return Ok(None);
        }
        let nodes = self.get("nodes").await?;
        let mine =
            nodes.as_array().into_iter().flatten().find(|node| node["Name"] == json!(self.options.name));
        Ok(mine.is_none_or(|node| node["Status"] != json!("ready")).then(|| nodes.to_string()))
    }
}

impl Drop for NomadServer {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the directory goes with the value.
        let _ = self.kill();
        remains::take_away(self.directory.path());
    }
}

fn secret(token: &Value) -> io::Result<String> {
    let secret = token["SecretID"].as_str().map(str::to_owned);
    secret.ok_or_else(|| io::Error::other("the token has no SecretID"))
}

const PATIENCE: Duration = Duration::from_secs(60);
