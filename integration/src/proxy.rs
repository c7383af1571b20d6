//! A proxy of the tests, from a plan to a running process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{Host, Process, eventually, free_port};

/// What a proxy is started with.
#[derive(Debug, Clone)]
pub struct ProxyPlan {
    name: String,
    account: String,
    inbound: Vec<(u16, String)>,
    upstreams: Vec<(String, String)>,
    more: String,
    identity: Option<String>,
    pins: Vec<String>,
    http: bool,
    quiet: bool,
    host: Host,
    environment: Vec<(String, String)>,
}

impl ProxyPlan {
    /// A proxy called `name` with the identity `default/<account>`, by join token.
    pub fn new(name: &str, account: &str) -> Self {
        Self {
            name: name.to_owned(),
            account: format!("default/{account}"),
            inbound: Vec::new(),
            upstreams: Vec::new(),
            more: String::new(),
            identity: None,
            pins: Vec::new(),
            http: false,
            quiet: false,
            host: Host::default(),
            environment: Vec::new(),
        }
    }

    /// Serves the application on this loopback port.
    #[must_use]
    pub fn inbound(mut self, port: u16, protocol: &str) -> Self {
        self.inbound.push((port, protocol.to_owned()));
        self
    }

    /// Listens for calls to `service`; ask [`Proxy::upstream`] where.
    #[must_use]
    pub fn upstream(self, service: &str) -> Self {
        self.upstream_with(service, "")
    }

    /// Like [`Self::upstream`], with further TOML in its table.
    #[must_use]
    pub fn upstream_with(mut self, service: &str, more: &str) -> Self {
        self.upstreams.push((service.to_owned(), more.to_owned()));
        self
    }

    /// Has a port that is routed by `Host`.
    #[must_use]
    pub fn http_port(mut self) -> Self {
        self.http = true;
        self
    }

    /// The `[identity]` table, instead of a join token.
    #[must_use]
    pub fn identity_table(mut self, toml: &str) -> Self {
        self.identity = Some(toml.to_owned());
        self
    }

    /// Knows the control plane by this root: for those who prove themselves without a join token.
    #[must_use]
    pub fn pin(mut self, root_sha256: &str) -> Self {
        self.pins.push(root_sha256.to_owned());
        self
    }

    /// Logs no requests: for measurements.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Runs on another host: a network namespace with an address of its own.
    #[must_use]
    pub fn on(mut self, host: &Host) -> Self {
        self.host = host.clone();
        self
    }

    /// Environment of its process.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// TOML appended to the settings.
    #[must_use]
    pub fn more(mut self, toml: &str) -> Self {
        self.more += toml;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn attests_itself(&self) -> bool {
        self.identity.is_some()
    }

    pub(crate) fn identity(&self) -> &str {
        &self.account
    }
}

/// A running proxy.
pub struct Proxy {
    plan: ProxyPlan,
    settings: std::path::PathBuf,
    directory: std::path::PathBuf,
    /// Its process.
    pub process: Process,
    /// Where it accepts the tunnel.
    pub tunnel: SocketAddr,
    admin: SocketAddr,
    upstreams: Vec<(String, SocketAddr)>,
    http: SocketAddr,
}

impl Proxy {
    pub(crate) fn start(
        plan: ProxyPlan,
        control: &str,
        token: Option<String>,
        directory: &Path,
    ) -> Result<Self> {
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (mut tunnel, admin, http) = (local(), local(), local());
        tunnel.set_ip(plan.host.address);
        let upstreams: Vec<_> =
            plan.upstreams.iter().map(|(service, _)| (service.clone(), local())).collect();
        let ProxyPlan { name, pins, .. } = &plan;
        let top = directory.display();
        let log = if plan.quiet { "off" } else { "all" };
        let mut toml = format!(
            "state_dir = \"{top}/{name}\"\n[control]\naddresses = [\"{control}\"]\nroot_sha256 = {pins:?}\n[tunnel]\nlisten = \"{tunnel}\"\n\
             [admin]\nlisten = \"{admin}\"\n[workload]\napp = \"{name}\"\n\
             [access_log]\nmode = \"{log}\"\nformat = \"json\"\noutput = \"{top}/{name}.access.log\"\n"
        );
        if let Some(token) = token {
            write!(toml, "[identity]\njoin_token = \"{token}\"\n")?;
        }
        toml += plan.identity.as_deref().unwrap_or_default();
        let service = plan.account.clone();
        for (port, protocol) in &plan.inbound {
            write!(
                toml,
                "\n[[inbound]]\nservice = \"{service}\"\nport = {port}\napp = \"127.0.0.1:{port}\"\nprotocol = \"{protocol}\"\n"
            )?;
        }
        for ((service, more), (_, listen)) in plan.upstreams.iter().zip(&upstreams) {
            write!(toml, "\n[[upstream]]\nservice = \"{service}\"\nlisten = \"{listen}\"\n{more}\n")?;
        }
        if plan.http {
            write!(toml, "\n[http]\nlisten = \"{http}\"\n")?;
        }
        toml += &plan.more;
        let settings = directory.join(format!("{name}.toml"));
        std::fs::write(&settings, toml)?;
        let process = run(&plan, &settings, directory)?;
        let directory = directory.to_owned();
        Ok(Self { plan, settings, directory, process, tunnel, admin, upstreams, http })
    }

    /// Starts it again, after its process has ended: same settings, same ports, same state.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.process = run(&self.plan, &self.settings, &self.directory)?;
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// With its log, when it does not.
    pub async fn ready(&self) -> Result<()> {
        let ready = eventually("the proxy is ready", async || match self.admin("/ready").await? {
            (200, _) => Ok(Some(())),
            (status, body) => bail!("{status} {body}"),
        });
        ready.await.with_context(|| self.process.log())
    }

    /// GET on its admin port.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn admin(&self, path: &str) -> Result<(u16, String)> {
        let client = reqwest::Client::builder().timeout(crate::PATIENCE).build()?;
        let response = client.get(format!("http://{}{path}", self.admin)).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// The sum of a metric over all label sets that contain each of `labels`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let (_, text) = self.admin("/metrics").await?;
        let lines = text.lines().filter(|line| {
            line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
        });
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// The listener that leads to `service`.
    ///
    /// # Panics
    /// When the plan has none.
    pub fn upstream(&self, service: &str) -> SocketAddr {
        let found = self.upstreams.iter().find(|(name, _)| name == service);
        found.unwrap_or_else(|| panic!("no upstream {service}")).1
    }

    /// Its admin endpoint.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The port that is routed by `Host`.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The endpoints of `service` that it knows, by instance id.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn endpoints(&self, service: &str) -> Result<BTreeMap<String, Value>> {
        let dump: Value = serde_json::from_str(&self.admin("/config_dump").await?.1)?;
        let service =
            dump["services"].as_array().and_then(|all| all.iter().find(|s| s["service"] == service));
        let endpoints =
            service.and_then(|service| service["endpoints"].as_array()).cloned().unwrap_or_default();
        let by_id = |endpoint: Value| Some((endpoint["id"].as_str()?.to_owned(), endpoint));
        Ok(endpoints.into_iter().filter_map(by_id).collect())
    }

    /// Every line of its access log.
    pub fn access_log(&self) -> Vec<Value> {
        let path = self.directory.join(format!("{}.access.log", self.plan.name));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// This proxy's workload as an object of the file registry.
    pub fn object(&self, service: &str, version: &str, port: u16, protocol: &str) -> String {
        let account = self.plan.account.trim_start_matches("default/");
        format!(
            "kind: Workload\nname: {}\nservice: {service}\nversion: {version}\nidentity: {account}\n\
             addresses: [{}]\nhealth: healthy\ntunnel: {}\nports: [{{name: main, number: {port}, protocol: {protocol}}}]\n",
            self.plan.name,
            self.tunnel.ip(),
            self.tunnel.port()
        )
    }

    /// This proxy's workload as Consul's HTTP API takes it at `agent/service/register`.
    pub fn definition(&self, service: &str, version: &str, port: u16, protocol: &str) -> Value {
        json!({
            "ID": self.plan.name, "Name": service, "Address": "127.0.0.1", "Port": port,
            "Meta": {
                "weft-protocol": protocol, "weft-version": version, "weft-tunnel": self.tunnel.port().to_string(),
            },
        })
    }
}

fn run(plan: &ProxyPlan, settings: &Path, directory: &Path) -> Result<Process> {
    let mut command = plan.host.command(&Process::program("weft-proxy")?);
    command.arg("--config").arg(settings).envs(plan.environment.iter().cloned());
    Process::start(&plan.name, command, directory)
}
