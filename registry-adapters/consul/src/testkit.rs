//! A real Consul agent for tests: started on free ports, killed with its value.
//!
//! Each port is a setting, so agents of several tests and versions run side by side. The binary comes from the environment
//! (`WEFT_CONSUL_1_20_5`, `WEFT_CONSUL_1_8_7`) or from the cache of test tools; where there is none, [`ConsulServer::start`]
//! says so loudly and returns `None`, since a machine without it must still be able to run the other tests.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weft_registry::testkit::real;

/// The versions that are tested: the oldest and the newest that we serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsulVersion {
    /// 1.20.5.
    V1_20_5,
    /// 1.8.7.
    V1_8_7,
}

impl ConsulVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V1_20_5, Self::V1_8_7];

    /// The number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_20_5 => "1.20.5",
            Self::V1_8_7 => "1.8.7",
        }
    }

    /// The agent's binary, where there is one.
    pub fn binary(self) -> Option<PathBuf> {
        let variable = match self {
            Self::V1_20_5 => "WEFT_CONSUL_1_20_5",
            Self::V1_8_7 => "WEFT_CONSUL_1_8_7",
        };
        real::tool(variable, &format!("consul-{}/consul", self.as_str()))
    }
}

/// How an agent is started.
#[derive(Debug, Clone, Default)]
pub struct ConsulOptions {
    /// Its datacenter; `dc1` where it is absent.
    pub datacenter: Option<String>,
    /// ACLs on, and what no token allows is denied.
    pub acl: bool,
    /// The state survives [`ConsulServer::restart`]. Starts slower.
    pub persistent: bool,
    /// HTTPS beside HTTP, with client certificates required: CA, certificate and key (PEM files).
    pub tls: Option<[PathBuf; 3]>,
    /// `limits.http_max_conns_per_client`; Consul's default is 200.
    pub max_connections: Option<u32>,
}

/// A running agent that is server and leader.
#[derive(Debug)]
pub struct ConsulServer {
    version: ConsulVersion,
    options: ConsulOptions,
    directory: TempDir,
    http_port: u16,
    https_port: u16,
    process: Option<Child>,
    http: reqwest::Client,
}

impl ConsulServer {
    /// Starts an agent and waits for its leader. `None`, and a line on stderr, where the binary is missing.
    ///
    /// # Errors
    /// When it does not start, or has no leader after a minute.
    pub async fn start(version: ConsulVersion, options: ConsulOptions) -> io::Result<Option<Self>> {
        let Some(binary) = version.binary() else {
            real::skipped_on(&format!("Consul {}", version.as_str()));
            return Ok(None);
        };
        real::ran_on(&format!("Consul {}", version.as_str()));
        let mut tries = 1;
        loop {
            match Self::start_once(version, &options, &binary).await {
                // Somebody took a port between our look and Consul's.
                Err(error) if tries < 5 && error.to_string().contains("address already in use") => tries += 1,
                started => return started.map(Some),
            }
        }
    }

    async fn start_once(version: ConsulVersion, options: &ConsulOptions, binary: &Path) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let ports = free_ports()?;
        fs::write(directory.path().join("agent.json"), config(version, options, ports).to_string())?;
        let http =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).build().map_err(io::Error::other)?;
        let process = Some(spawn(binary, options.persistent, directory.path())?);
        let [http_port, https_port, ..] = ports;
        let mut server =
            Self { version, options: options.clone(), directory, http_port, https_port, process, http };
        server.until_ready().await?;
        Ok(server)
    }

    /// Which version runs.
    pub fn version(&self) -> ConsulVersion {
        self.version
    }

    /// The address of its HTTP API.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The address of its HTTPS API, where it has one.
    pub fn https_address(&self) -> String {
        format!("https://127.0.0.1:{}", self.https_port)
    }

    /// The token that may do everything, where ACLs are on.
    pub fn management_token(&self) -> &'static str {
        MANAGEMENT_TOKEN
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// PUTs to the API with all rights: `agent/service/register`.
    ///
    /// # Errors
    /// When it does not answer with success; the error holds the answer.
    pub async fn put(&self, path: &str, body: &Value) -> io::Result<Value> {
        self.send(self.http.put(self.url(path)).json(body)).await
    }

    /// GETs from the API with all rights.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn get(&self, path: &str) -> io::Result<Value> {
        self.send(self.http.get(self.url(path))).await
    }

    /// Makes an ACL token with a policy in Consul's HCL and returns its secret.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn make_token(&self, name: &str, rules: &str) -> io::Result<String> {
        self.put("acl/policy", &json!({"Name": name, "Rules": rules})).await?;
        let token = self.put("acl/token", &json!({"Policies": [{"Name": name}]})).await?;
        token["SecretID"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| io::Error::other("the token has no SecretID"))
    }

    /// Kills it without warning.
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

    /// Starts it again on the same ports, after [`Self::kill`]. What it knew is gone unless it is persistent.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        let binary = self.version.binary().ok_or_else(|| io::Error::other("the binary is gone"))?;
        self.process = Some(spawn(&binary, self.options.persistent, self.directory.path())?);
        self.until_ready().await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.address())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> io::Result<Value> {
        let request =
            if self.options.acl { request.header("X-Consul-Token", MANAGEMENT_TOKEN) } else { request };
        let answer = request.timeout(Duration::from_secs(10)).send().await.map_err(io::Error::other)?;
        let status = answer.status();
        let text = answer.text().await.map_err(io::Error::other)?;
        if !status.is_success() {
            return Err(io::Error::other(format!("{status}: {text}")));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Ready is: the leader has registered itself, so that the list of services is not empty any more.
    async fn until_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let last = match self.get("catalog/services").await {
                Ok(services) if services.get("consul").is_some() => return Ok(()),
                Ok(services) => services.to_string(),
                Err(error) => error.to_string(),
            };
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                let version = self.version.as_str();
                return Err(io::Error::other(format!(
                    "Consul {version} is not ready: {last}\n{}",
                    tail.join("\n")
                )));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for ConsulServer {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the directory goes with the value.
        let _ = self.kill();
    }
}

fn spawn(binary: &Path, persistent: bool, directory: &Path) -> io::Result<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open(directory.join("log"))?;
    let mut command = Command::new(binary);
    command.arg("agent").arg("-config-file").arg(directory.join("agent.json"));
    if persistent {
        command.args(["-server", "-bootstrap-expect=1"]).arg("-data-dir").arg(directory.join("data"));
    } else {
        command.arg("-dev");
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

fn config(version: ConsulVersion, options: &ConsulOptions, ports: [u16; 4]) -> Value {
    let [http, https, server, serf] = ports;
    let old = version == ConsulVersion::V1_8_7;
    let mut config = json!({
        "node_name": "node-1",
        "datacenter": options.datacenter.as_deref().unwrap_or("dc1"),
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "log_level": "WARN",
        "disable_update_check": true,
        "connect": {"enabled": true},
        "performance": {"raft_multiplier": 1},
        "ports": {
            "http": http, "https": if options.tls.is_some() { i32::from(https) } else { -1 },
            "grpc": -1, "dns": -1, "server": server, "serf_lan": serf, "serf_wan": -1,
        },
    });
    if !old {
        config["ports"]["grpc_tls"] = json!(-1);
    }
    if options.acl {
        let key = if old { "master" } else { "initial_management" };
        config["acl"] = json!({
            "enabled": true, "default_policy": "deny", "enable_token_persistence": false,
            "tokens": {key: MANAGEMENT_TOKEN, "agent": MANAGEMENT_TOKEN},
        });
    }
    if let Some([ca, certificate, key]) = &options.tls {
        config["ca_file"] = json!(ca);
        config["cert_file"] = json!(certificate);
        config["key_file"] = json!(key);
        config["verify_incoming_https"] = json!(true);
    }
    if let Some(limit) = options.max_connections {
        config["limits"] = json!({"http_max_conns_per_client": limit});
    }
    config
}

/// Ports that nobody has at this moment, for TCP and UDP. They are below the range that the system gives to outgoing
/// connections: a restarted agent must find its own ports free. All are held until the last is known.
fn free_ports() -> io::Result<[u16; 4]> {
    let mut ports = [0; 4];
    let mut held = Vec::new();
    for port in &mut ports {
        let free = (0..1000).map(|_| rand::random_range(20_000..32_000)).find_map(|port: u16| {
            let at = (Ipv4Addr::LOCALHOST, port);
            Some((port, TcpListener::bind(at).ok()?, UdpSocket::bind(at).ok()?))
        });
        let (number, tcp, udp) = free.ok_or_else(|| io::Error::other("no free port from 20000 to 32000"))?;
        *port = number;
        held.push((tcp, udp));
    }
    Ok(ports)
}

const MANAGEMENT_TOKEN: &str = "7e57a11a-0000-4000-8000-000000000001";
