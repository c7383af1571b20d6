//! The demo's stage: a directory of its own, the control plane, and workloads with a proxy beside each.
//!
//! Everything is written as a user would write it (settings files, a directory of YAML as registry, join tokens by the
//! control plane's socket), so that `--keep` leaves something to look at and to try.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use weft_control_api::{NewToken, Status, TokenCreated, path};

use super::ports::Ports;
use super::process::Process;
use super::report::{Event, Reporter};
use crate::control::{Control, ControlAddress};

/// How long a part may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// A workload with its proxy.
pub(super) struct Member {
    /// The registry's name for this instance, and that of its files.
    pub(super) name: &'static str,
    pub(super) service: &'static str,
    pub(super) version: &'static str,
    pub(super) protocol: &'static str,
    /// The application's own port.
    pub(super) app: u16,
    /// Where its proxy accepts the tunnel.
    pub(super) tunnel: u16,
    /// Its proxy's admin port.
    pub(super) admin: u16,
    /// Upstream listeners of its proxy: service and port.
    pub(super) upstreams: Vec<(&'static str, u16)>,
}

impl Member {
    /// The upstream listener that leads to `service`.
    pub(super) fn upstream(&self, service: &str) -> Result<SocketAddr> {
        let found = self.upstreams.iter().find(|(name, _)| *name == service);
        found
            .map(|(_, port)| local(*port))
            .with_context(|| format!("{} has no upstream {service}", self.name))
    }

    /// The workload as an object of the file registry.
    fn object(&self) -> String {
        format!(
            "kind: Workload\nname: {}\nservice: {}\nversion: {}\nidentity: {}\naddresses: [127.0.0.1]\nhealth: healthy\n\
             tunnel: {}\nports: [{{name: main, number: {}, protocol: {}}}]\n",
            self.name, self.service, self.version, self.service, self.tunnel, self.app, self.protocol
        )
    }
}

/// All that runs.
pub(super) struct Stage {
    directory: TempDir,
    binaries: PathBuf,
    control_address: u16,
    control: Option<Process>,
    others: Vec<(String, Process)>,
    pub(super) members: Vec<Member>,
    /// Members that are registered elsewhere, so not in the files.
    elsewhere: Vec<&'static str>,
}

impl Stage {
    /// Makes the directory and the control plane's settings; starts nothing yet.
    ///
    /// `consul` adds that Consul as a second registry, in which `api-v2` is then registered.
    pub(super) fn new(consul: Option<&str>) -> Result<Self> {
        let mut ports = Ports::default();
        let binaries =
            std::env::current_exe()?.parent().context("an executable is in a directory")?.to_owned();
        let directory = tempfile::Builder::new().prefix("weft-demo-").tempdir()?;
        std::fs::create_dir(directory.path().join("registry"))?;
        let stage = Self {
            directory,
            binaries,
            control_address: ports.free()?,
            control: None,
            others: Vec::new(),
            members: cast(&mut ports)?,
            elsewhere: if consul.is_some() { vec!["api-v2"] } else { vec![] },
        };
        stage.write("control.toml", &stage.control_settings(consul))?;
        Ok(stage)
    }

    /// The demo's directory.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A member by its name.
    pub(super) fn member(&self, name: &str) -> Result<&Member> {
        self.members.iter().find(|member| member.name == name).with_context(|| format!("no member {name}"))
    }

    /// The control plane's admin socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.path().join("control/admin.sock")
    }

    /// Talks to the control plane.
    pub(super) fn api(&self) -> Control {
        Control::new(ControlAddress::Socket(self.socket()))
    }

    fn control_settings(&self, consul: Option<&str>) -> String {
        let top = self.path().display();
        let mut settings = format!(
            "listen = \"127.0.0.1:{}\"\ntrust_domain = \"demo.weft\"\nstate_dir = \"{top}/control\"\n\n\
             [[registry]]\nid = \"file/demo\"\ndirectory = \"{top}/registry\"\n",
            self.control_address
        );
        if let Some(url) = consul {
            settings += &super::consul::registry(url, "api");
        }
        settings
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Writes the registry's file for `service` with all its members but `without`; in one step, as an editor would.
    pub(super) fn register(&self, service: &str, without: Option<&str>) -> Result<()> {
        let here = |member: &&Member| {
            member.service == service
                && Some(member.name) != without
                && !self.elsewhere.contains(&member.name)
        };
        let objects: Vec<String> = self.members.iter().filter(here).map(Member::object).collect();
        self.write(&format!("registry/.{service}.new"), &objects.join("---\n"))?;
        let name =
            |prefix: &str, suffix: &str| self.path().join(format!("registry/{prefix}{service}{suffix}"));
        Ok(std::fs::rename(name(".", ".new"), name("", ".yaml"))?)
    }

    /// Starts the control plane, or starts it again.
    pub(super) async fn start_control(&mut self) -> Result<()> {
        let settings = self.path().join("control.toml").display().to_string();
        let program = self.binaries.join("weft-control");
        let control = Process::start("control", &program, &["--config", &settings], self.path())?;
        let control = self.control.insert(control);
        let api = Control::new(ControlAddress::Socket(self.directory.path().join("control/admin.sock")));
        let start = Instant::now();
        while !api.get::<Status>(path::STATUS).await.is_ok_and(|status| status.control_plane.ready) {
            if let Some(status) = control.ended() {
                bail!("weft-control ended with {status}:\n{}", control.last_words());
            }
            if start.elapsed() > PATIENCE {
                bail!("weft-control is not ready:\n{}", control.last_words());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// SIGKILL to the control plane.
    pub(super) async fn kill_control(&mut self) -> Result<()> {
        match self.control.take() {
            Some(mut control) => control.kill().await,
            None => bail!("the control plane does not run"),
        }
    }

    /// Starts everything, in the order in which a user would.
    pub(super) async fn start(&mut self, reporter: Reporter) -> Result<()> {
        self.start_control().await?;
        let detail = format!("127.0.0.1:{}, admin socket {}", self.control_address, self.socket().display());
        reporter.say(&Event::Started { what: "weft-control".to_owned(), detail });
        for service in ["web", "api", "greeter", "store"] {
            self.register(service, None)?;
        }
        for n in 0..self.members.len() {
            self.start_member(n).await?;
        }
        for member in &self.members {
            self.wait_for_proxy(member).await?;
            let upstreams: Vec<String> =
                member.upstreams.iter().map(|(to, port)| format!("{to} at 127.0.0.1:{port}")).collect();
            let detail = format!(
                "{} {} on 127.0.0.1:{}, its proxy on :{} {}",
                member.protocol,
                member.version,
                member.app,
                member.tunnel,
                upstreams.join(", ")
            );
            reporter.say(&Event::Started { what: member.name.to_owned(), detail });
        }
        Ok(())
    }

    async fn start_member(&mut self, n: usize) -> Result<()> {
        let member = self.members.get(n).context("a member has a number")?;
        let identity = format!("default/{}", member.service);
        let request = NewToken { identity, ttl_seconds: 600 };
        let created: TokenCreated = self.api().post(path::TOKENS, &request).await?;
        let settings = self.proxy_settings(member, &created.token);
        self.write(&format!("{}.toml", member.name), &settings)?;
        let kind = match member.protocol {
            "grpc" => "grpc",
            "tcp" => "tcp",
            _ => "http",
        };
        let listen = local(member.app).to_string();
        let mut arguments = vec![
            "workload",
            kind,
            "--name",
            member.service,
            "--version",
            member.version,
            "--listen",
            &listen,
        ];
        let upstream = member.upstreams.first().map(|(_, port)| format!("http://127.0.0.1:{port}"));
        if let Some(upstream) = upstream.as_ref().filter(|_| kind == "http") {
            arguments.extend(["--upstream", upstream]);
        }
        let (name, path) = (member.name, self.directory.path());
        let app = Process::start(&format!("{name}-app"), &self.binaries.join("weft"), &arguments, path)?;
        let settings = path.join(format!("{name}.toml")).display().to_string();
        let program = self.binaries.join("weft-proxy");
        let proxy = Process::start(&format!("{name}-proxy"), &program, &["--config", &settings], path)?;
        self.others.push((format!("{name}-app"), app));
        self.others.push((format!("{name}-proxy"), proxy));
        Ok(())
    }

    fn proxy_settings(&self, member: &Member, token: &str) -> String {
        let top = self.path().display();
        let Member { name, service, version, protocol, app, tunnel, admin, .. } = member;
        let mut settings = format!(
            "state_dir = \"{top}/{name}\"\n\n[workload]\napp = \"{service}\"\nversion = \"{version}\"\n\n\
             [control]\naddresses = [\"127.0.0.1:{}\"]\n\n\
             [identity]\njoin_token = \"{token}\"\n\n[tunnel]\nlisten = \"127.0.0.1:{tunnel}\"\n\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n\n\
             [access_log]\nmode = \"all\"\nformat = \"json\"\noutput = \"{top}/{name}.access.log\"\n\n\
             [[inbound]]\nservice = \"default/{service}\"\nport = {app}\napp = \"127.0.0.1:{app}\"\nprotocol = \"{protocol}\"\n",
            self.control_address
        );
        for (upstream, port) in &member.upstreams {
            settings += &format!("\n[[upstream]]\nservice = \"{upstream}\"\nlisten = \"127.0.0.1:{port}\"\n");
        }
        settings
    }

    /// Waits until a member's proxy says that it is ready.
    pub(super) async fn wait_for_proxy(&self, member: &Member) -> Result<()> {
        let start = Instant::now();
        loop {
            let said = match self.admin(member, "/ready").await {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => format!("{status} {body}"),
                Err(error) => error.to_string(),
            };
            if start.elapsed() > PATIENCE {
                let words = self.others.iter().find(|(name, _)| *name == format!("{}-proxy", member.name));
                let words = words.map(|(_, process)| process.last_words()).unwrap_or_default();
                bail!("the proxy of {} is not ready: {said}\n{words}", member.name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// GET on a proxy's admin port.
    pub(super) async fn admin(&self, member: &Member, path: &str) -> Result<(u16, String)> {
        let response = reqwest::get(format!("http://127.0.0.1:{}{path}", member.admin)).await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// The last line of a member's access log that a predicate accepts.
    pub(super) fn access_log(&self, name: &str, accept: impl Fn(&Value) -> bool) -> Option<Value> {
        let text = std::fs::read_to_string(self.path().join(format!("{name}.access.log"))).ok()?;
        text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).find(accept)
    }

    /// The first of our processes that has ended although nobody asked it to.
    pub(super) fn casualty(&mut self) -> Option<String> {
        self.others.iter_mut().find_map(|(name, process)| {
            let status = process.ended()?;
            Some(format!("{name} ended with {status}:\n{}", process.last_words()))
        })
    }

    /// Ends every process, proxies first, and removes the directory.
    pub(super) async fn end(mut self) -> Result<()> {
        let mut stops = Vec::new();
        for (_, process) in self.others.drain(..) {
            stops.push(process.stop(Duration::from_secs(5)));
        }
        futures::future::try_join_all(stops).await?;
        if let Some(control) = self.control.take() {
            control.stop(Duration::from_secs(5)).await?;
        }
        let path = self.path().to_owned();
        self.directory.close().with_context(|| format!("removing {}", path.display()))
    }
}

/// A loopback address.
pub(super) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn cast(ports: &mut Ports) -> Result<Vec<Member>> {
    let mut member = |name, service, version, protocol, to: &[&'static str]| -> Result<Member> {
        let mut upstreams = Vec::new();
        for upstream in to {
            upstreams.push((*upstream, ports.free()?));
        }
        let (app, tunnel, admin) = (ports.free()?, ports.free()?, ports.free()?);
        Ok(Member { name, service, version, protocol, app, tunnel, admin, upstreams })
    };
    Ok(vec![
        member("web", "web", "v1", "http1", &["api", "greeter", "store"])?,
        member("api-v1", "api", "v1", "http1", &[])?,
        member("api-v2", "api", "v2", "http1", &["web"])?,
        member("greeter", "greeter", "v1", "grpc", &[])?,
        member("store", "store", "v1", "tcp", &[])?,
    ])
}
