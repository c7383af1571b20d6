//! The control plane under test: a directory of services as its registry, its process on the measured core.
//!
//! A file holds one service with its endpoints, as a person or a pipeline writes it, and is replaced by a rename. Settings
//! are the defaults but for the CA's rate limits: all clients come from one address here.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use weft_integration::{Process, free_port};

use crate::measure::{self, Cpu, LOAD, MEASURED};

/// The mesh of the benchmark.
pub(super) const TRUST_DOMAIN: &str = "bench.weft";
/// The service that changes.
pub(super) const HOT: usize = 0;

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) services: usize,
    pub(super) endpoints: usize,
}

impl Shape {
    /// Long enough for what is done every ten seconds, where that costs anything.
    fn idle(self) -> Duration {
        Duration::from_millis(if self.services < 50 { 500 } else { 10_500 })
    }
}

/// A control plane with its registry.
pub(super) struct World {
    directory: TempDir,
    pub(super) address: SocketAddr,
    control: Option<Process>,
    /// The settings of its registry.
    registry: String,
    pub(super) shape: Shape,
    /// How long it is left alone to see what it uses then.
    pub(super) idle: Duration,
}

/// A start that was measured.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Start {
    /// From the exec to the first "ready".
    pub(super) ready_ms: f64,
    pub(super) cpu_ms: f64,
    pub(super) resident_mib: f64,
}

pub(super) fn service(n: usize) -> String {
    format!("svc-{n:05}")
}

/// The id of an endpoint as the mesh names it.
pub(super) fn instance(service: &str, endpoint: usize) -> String {
    format!("file/bench/{service}-{endpoint}")
}

/// One endpoint as the file registry has it.
pub(super) fn endpoint(service: &str, n: usize, weight: u32) -> String {
    let [_, b, c, d] = u32::try_from(n).unwrap_or(0).to_be_bytes();
    format!(
        "kind: Workload\nname: {service}-{n}\nservice: {service}\nversion: v1\nidentity: {service}\naddresses: [10.{b}.{c}.{d}]\n\
         health: healthy\ntunnel: 15008\nweight: {weight}\nports: [{{name: main, number: 8080, protocol: http1}}]\n"
    )
}

/// A service's file: its endpoints, the first of them of this weight, or without it.
pub(super) fn endpoints(service: &str, count: usize, first: Option<u32>) -> String {
    let mut text = String::new();
    for n in 0..count {
        let weight = if n == 0 { first } else { Some(100) };
        if let Some(weight) = weight {
            text.push_str("---\n");
            text.push_str(&endpoint(service, n, weight));
        }
    }
    text
}

/// Ten endpoints of a service that has more: the file of this number.
pub(super) fn part_of(service: &str, file: usize, first: Option<u32>) -> String {
    let mut text = String::new();
    for n in file * 10..file * 10 + 10 {
        let weight = if n == 0 { first } else { Some(100) };
        text.extend(weight.map(|weight| format!("---\n{}", endpoint(service, n, weight))));
    }
    text
}

impl World {
    /// A registry of files, which are written. Nothing runs yet.
    pub(super) fn new(shape: Shape) -> Result<Self> {
        let mut world = Self::with_registry(shape, String::new())?;
        let registry = world.path().join("registry");
        std::fs::create_dir(&registry)?;
        world.registry =
            format!("[[registry]]\nid = \"file/bench\"\ndirectory = \"{}\"\n", registry.display());
        for n in 0..shape.services {
            let name = service(n);
            world.write(&name, &endpoints(&name, shape.endpoints, Some(100)))?;
        }
        Ok(world)
    }

    /// A registry of these settings, which has what `shape` says.
    pub(super) fn with_registry(shape: Shape, registry: String) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Ok(Self { directory, address, control: None, registry, shape, idle: shape.idle() })
    }

    /// Puts a file in place by a rename; returns when that was.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<Instant> {
        let top = self.directory.path();
        let draft = top.join("draft");
        std::fs::write(&draft, text)?;
        let at = Instant::now();
        std::fs::rename(draft, top.join("registry").join(format!("{name}.yaml")))?;
        Ok(at)
    }

    /// Gives a service's first endpoint this weight, or takes it away; returns when that was.
    pub(super) fn set_first(&self, service: &str, weight: Option<u32>) -> Result<Instant> {
        let (first_of_ten, whole) = (format!("{service}-000"), self.shape.endpoints);
        match self.path().join("registry").join(format!("{first_of_ten}.yaml")).exists() {
            true => self.write(&first_of_ten, &part_of(service, 0, weight)),
            false => self.write(service, &endpoints(service, whole, weight)),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the control plane and waits until it is ready.
    pub(super) async fn start(&mut self) -> Result<Start> {
        let start = self.spawn()?;
        self.ready().await?;
        let ready_ms = start.elapsed().as_secs_f64() * 1e3;
        let pid = self.pid()?;
        Ok(Start { ready_ms, cpu_ms: Cpu::of(pid).total_ms()?, resident_mib: measure::resident_mib(pid)? })
    }

    /// Starts the process on its core and does not wait.
    pub(super) fn spawn(&mut self) -> Result<Instant> {
        let top = self.path().display();
        let mut settings = String::new();
        write!(
            settings,
            "listen = \"{}\"\ntrust_domain = \"{TRUST_DOMAIN}\"\nstate_dir = \"{top}/state\"\n[admin]\nsocket = \"{top}/admin.sock\"\n\
             {}\
             [ca.limits]\nper_address = {{ per_second = 1e9, burst = 1000000000 }}\nper_identity = {{ per_second = 1e9, burst = 1000000000 }}\n",
            self.address, self.registry
        )?;
        let file = self.path().join("control.toml");
        std::fs::write(&file, settings)?;
        let mut command = Command::new(Process::program("weft-control")?);
        command.arg("--config").arg(&file);
        // Inherited before the exec, so that it makes as many threads as it has cores: one.
        measure::pin(MEASURED)?;
        let start = Instant::now();
        let process = Process::start("control", command, self.path());
        measure::pin(LOAD)?;
        self.control = Some(process?);
        Ok(start)
    }

    /// Waits until it says that it is ready.
    pub(super) async fn ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Ok((200, _)) = self.ask("GET", "/ready", "").await {
                return Ok(());
            }
            if let Some(status) = self.control.as_mut().and_then(Process::ended) {
                bail!("the control plane ended with {status}: {}", self.log());
            }
            ensure!(start.elapsed() < Duration::from_secs(60), "not ready: {}", self.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// SIGKILL: nothing is put in order first.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.control.as_mut().context("it does not run")?.kill().await?;
        self.control = None;
        Ok(())
    }

    pub(super) fn pid(&self) -> Result<u32> {
        self.control.as_ref().context("it does not run")?.pid()
    }

    pub(super) fn log(&self) -> String {
        let log = self.control.as_ref().map(Process::log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// A join token for `default/<account>`.
    pub(super) async fn token(&self, account: &str) -> Result<String> {
        let body = format!("{{\"identity\":\"default/{account}\",\"ttl_seconds\":3600}}");
        let (status, answer) = self.ask("POST", "/v1/tokens", &body).await?;
        ensure!(status == 201 || status == 200, "{status} {answer}");
        let answer: Value = serde_json::from_str(&answer)?;
        answer["token"].as_str().map(str::to_owned).context("no token in the answer")
    }

    /// How many proxies have subscribed to `subscriptions` services and are in sync.
    pub(super) async fn in_sync(&self, subscriptions: usize) -> Result<usize> {
        let (status, answer) = self.ask("GET", "/v1/proxies", "").await?;
        ensure!(status == 200, "{status} {answer}");
        let answer: Value = serde_json::from_str(&answer)?;
        let good = |proxy: &&Value| proxy["sync"] == "in_sync" && proxy["subscriptions"] == subscriptions;
        Ok(answer.as_array().context("no list")?.iter().filter(good).count())
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = UnixStream::connect(self.path().join("admin.sock")).await?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        Ok((status, body.to_owned()))
    }
}
