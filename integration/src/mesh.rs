//! The control plane with its registry directory.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::{App, AppKind, Process, Proxy, ProxyPlan, eventually, free_port};

/// What a control plane is started with, beside its file registry.
#[derive(Debug, Clone, Default)]
pub struct MeshPlan {
    /// TOML appended to its settings: further `[[registry]]` tables, `[ca]` and so on.
    pub more: String,
    /// TOML put before everything else: top-level keys.
    pub first: String,
    /// Which directory the state is in, where not the mesh's own: for a full disk, say.
    pub state: Option<PathBuf>,
    /// Where it listens, where that is not loopback.
    pub listen: Option<IpAddr>,
    /// Environment of its process.
    pub environment: Vec<(String, String)>,
}

/// A control plane and a temporary directory for all that belongs to it.
pub struct Mesh {
    directory: TempDir,
    plan: MeshPlan,
    port: u16,
    control: Option<Process>,
}

impl Mesh {
    /// The trust domain of every mesh of the tests.
    pub const TRUST_DOMAIN: &str = "test.weft";

    /// Starts a control plane and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(plan: MeshPlan) -> Result<Self> {
        // The HTTP client wants one, although the tests speak plaintext to admin ports.
        weft_identity::install_crypto_provider();
        let directory = tempfile::Builder::new().prefix("weft-test-").tempdir()?;
        std::fs::create_dir(directory.path().join("registry"))?;
        let mut mesh = Self { directory, plan, port: free_port(), control: None };
        mesh.start_control().await?;
        Ok(mesh)
    }

    /// The directory with settings, registry files, logs and state.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The control plane's gRPC address, from this host.
    pub fn address(&self) -> String {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port).to_string()
    }

    fn listens(&self) -> String {
        let listen = self.plan.listen.unwrap_or(Ipv4Addr::LOCALHOST.into());
        SocketAddr::new(listen, self.port).to_string()
    }

    /// The control plane's state directory.
    pub fn state(&self) -> PathBuf {
        self.plan.state.clone().unwrap_or_else(|| self.path().join("control"))
    }

    /// The control plane's admin socket.
    pub fn socket(&self) -> PathBuf {
        self.path().join("admin.sock")
    }

    /// Writes settings and starts the control plane, or starts it again.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_control(&mut self) -> Result<()> {
        let top = self.path().display();
        let mut settings = self.plan.first.clone();
        write!(
            settings,
            "\nlisten = \"{}\"\ntrust_domain = \"{}\"\nstate_dir = \"{}\"\n\n[admin]\nsocket = \"{}\"\n\n\
             [[registry]]\nid = \"file/test\"\ndirectory = \"{top}/registry\"\n\n{}",
            self.listens(),
            Self::TRUST_DOMAIN,
            self.state().display(),
            self.socket().display(),
            self.plan.more,
        )?;
        let file = self.path().join("control.toml");
        std::fs::write(&file, settings)?;
        let mut command = Command::new(Process::program("weft-control")?);
        command.arg("--config").arg(&file).envs(self.plan.environment.iter().cloned());
        self.control = Some(Process::start("control", command, self.path())?);
        let ended = eventually("the control plane is ready", async || {
            let ended = self.control()?.ended();
            if ended.is_none() {
                self.admin("/ready").await?;
            }
            Ok(Some(ended))
        })
        .await?;
        match ended {
            Some(status) => bail!("the control plane ended with {status}:\n{}", self.control()?.log()),
            None => Ok(()),
        }
    }

    /// Changes what the control plane is started with, from its next start on.
    pub fn change_plan(&mut self, change: impl FnOnce(&mut MeshPlan)) {
        change(&mut self.plan);
    }

    /// The control plane's process.
    ///
    /// # Errors
    /// When it has been killed and not started again.
    pub fn control(&mut self) -> Result<&mut Process> {
        self.control.as_mut().context("the control plane does not run")
    }

    /// The control plane's process id.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self) -> Result<u32> {
        self.control.as_ref().context("the control plane does not run")?.pid()
    }

    /// SIGKILL to the control plane.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill_control(&mut self) -> Result<()> {
        self.control()?.kill().await?;
        self.control = None;
        Ok(())
    }

    /// Writes a file of the registry in one step.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn register(&self, file: &str, objects: &str) -> Result<()> {
        let (draft, place) = (self.path().join("draft"), self.path().join("registry").join(file));
        std::fs::write(&draft, objects)?;
        Ok(std::fs::rename(draft, place)?)
    }

    /// Removes a file of the registry.
    ///
    /// # Errors
    /// When it is not there.
    pub fn deregister(&self, file: &str) -> Result<()> {
        Ok(std::fs::remove_file(self.path().join("registry").join(file))?)
    }

    /// The `weft` program, as a user types it; its standard output.
    ///
    /// # Errors
    /// When it ends with another status than 0; its standard error is in the error.
    pub async fn weft(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(Process::program("weft")?);
        let output = command.arg("--control").arg(self.socket()).args(arguments).output().await?;
        if !output.status.success() {
            bail!("weft {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A join token for an identity, `namespace/account`.
    ///
    /// # Errors
    /// When the control plane refuses.
    pub async fn token(&self, identity: &str) -> Result<String> {
        let token = self.weft(&["token", "create", "--identity", identity, "--ttl", "10m"]).await?;
        Ok(token.trim().to_owned())
    }

    /// GET on the admin socket, as JSON where it is JSON.
    ///
    /// # Errors
    /// When nobody answers, or not with 200.
    pub async fn admin(&self, path: &str) -> Result<Value> {
        let client =
            reqwest::Client::builder().unix_socket(self.socket()).timeout(crate::PATIENCE).build()?;
        let response = client.get(format!("http://control{path}")).send().await?;
        let (status, body) = (response.status(), response.text().await?);
        if !status.is_success() {
            bail!("{status}: {body}");
        }
        Ok(serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Starts an HTTP application.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn http_app(&self, name: &str, version: &str) -> Result<App> {
        App::start(AppKind::Http, name, version, self.path()).await
    }

    /// Starts a gRPC application.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn grpc_app(&self, name: &str) -> Result<App> {
        App::start(AppKind::Grpc, name, "v1", self.path()).await
    }

    /// Starts a TCP application whose server speaks first.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn tcp_app(&self, name: &str) -> Result<App> {
        App::start(AppKind::Tcp, name, "v1", self.path()).await
    }

    /// Starts a proxy; with a join token unless the plan says how else it proves itself. Does not wait for readiness.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn proxy(&self, plan: ProxyPlan) -> Result<Proxy> {
        let token = match plan.attests_itself() {
            true => None,
            false => Some(self.token(plan.identity()).await?),
        };
        Proxy::start(plan, &self.address(), token, self.path())
    }

    /// Starts a proxy with a join token that was made before: for who times the start alone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn proxy_with_token(&self, plan: ProxyPlan, token: String) -> Result<Proxy> {
        Proxy::start(plan, &self.address(), Some(token), self.path())
    }

    /// The same for a proxy that reaches the control plane at another address than the mesh's own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn proxy_at(&self, plan: ProxyPlan, address: IpAddr) -> Result<Proxy> {
        let token = self.token(plan.identity()).await?;
        Proxy::start(plan, &SocketAddr::new(address, self.port).to_string(), Some(token), self.path())
    }

    /// An application with its proxy and its registration in one go: `<service>-<version>`, ready.
    ///
    /// # Errors
    /// When a part does not come up.
    pub async fn member(&self, app: &App, version: &str, protocol: &str) -> Result<Proxy> {
        let name = format!("{}-{version}", app.name);
        let plan = ProxyPlan::new(&name, &app.name).inbound(app.address.port(), protocol);
        let proxy = self.proxy(plan).await?;
        self.register(
            &format!("{name}.yaml"),
            &proxy.object(&app.name, version, app.address.port(), protocol),
        )?;
        proxy.ready().await?;
        Ok(proxy)
    }

    /// Waits until every connected proxy has applied the control plane's current state.
    ///
    /// # Errors
    /// When it does not happen.
    pub async fn in_sync(&self, proxies: usize) -> Result<()> {
        eventually("all proxies are in sync", async || {
            let said = self.admin("/v1/proxies").await?;
            let all = said.as_array().cloned().unwrap_or_default();
            let good = all.iter().filter(|proxy| proxy["sync"] == "in_sync").count();
            if good != proxies || all.len() != proxies {
                bail!("{good} of {proxies}: {said}");
            }
            Ok(Some(()))
        })
        .await
    }

    /// SIGTERM to the control plane; waits for its end.
    ///
    /// # Errors
    /// When it does not end in time or not with status 0.
    pub async fn stop(mut self) -> Result<()> {
        let status = self.control()?.stop(Duration::from_secs(10)).await?;
        if !status.success() {
            bail!("the control plane ended with {status}:\n{}", self.control()?.log());
        }
        Ok(())
    }
}
