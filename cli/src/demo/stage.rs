//! The demo's stage: a directory of its own, the control plane, and workloads with a proxy beside each.
//!
//! Everything is written as a user would write it (settings files, a directory of YAML as registry, join tokens by the
//! control plane's socket), so that `--keep` leaves something to look at and to try.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use weft_control_api::{NewToken, Status, TokenCreated, path};

use super::member::{Member, Place, Role};
use super::ports::Ports;
use super::process::Process;
use super::report::{Event, Reporter};
use crate::control::{Control, ControlAddress};

/// How long a part may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// All that runs.
pub(super) struct Stage {
    directory: TempDir,
    binaries: PathBuf,
    pub(super) control_address: SocketAddr,
    control: Option<Process>,
    others: Vec<(String, Process)>,
    pub(super) members: Vec<Member>,
    /// Members that are registered elsewhere, so not in the files.
    elsewhere: Vec<&'static str>,
}

/// What a stage is made for.
pub(super) struct Setting<'a> {
    /// This machine, as everybody who is to reach it does.
    pub(super) host: IpAddr,
    /// The namespace of all workloads.
    pub(super) namespace: String,
    /// The control plane's registries besides the files.
    pub(super) registries: String,
    pub(super) roles: &'a [Role],
    /// Members that are registered elsewhere, so not in the files.
    pub(super) elsewhere: Vec<&'static str>,
}

impl Stage {
    /// Makes the directory and the control plane's settings; starts nothing yet.
    pub(super) fn new(setting: Setting<'_>) -> Result<Self> {
        let mut ports = Ports::default();
        let binaries =
            std::env::current_exe()?.parent().context("an executable is in a directory")?.to_owned();
        let directory = tempfile::Builder::new().prefix("weft-demo-").tempdir()?;
        std::fs::create_dir(directory.path().join("registry"))?;
        let control_address = SocketAddr::new(setting.host, ports.free()?);
        let place = Place { host: setting.host, namespace: setting.namespace, control: control_address };
        let members = setting.roles.iter().map(|role| Member::new(role, place.clone(), &mut ports));
        let stage = Self {
            members: members.collect::<Result<_>>()?,
            directory,
            binaries,
            control_address,
            control: None,
            others: Vec::new(),
            elsewhere: setting.elsewhere,
        };
        stage.write("control.toml", &stage.control_settings(&setting.registries))?;
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

    fn control_settings(&self, registries: &str) -> String {
        let top = self.path().display();
        format!(
            "listen = \"{}\"\ntrust_domain = \"demo.weft\"\nstate_dir = \"{top}/control\"\n\n\
             [[registry]]\nid = \"file/demo\"\ndirectory = \"{top}/registry\"\n{registries}",
            self.control_address
        )
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
        let detail = format!("{}, admin socket {}", self.control_address, self.socket().display());
        reporter.say(&Event::Started { what: "weft-control".to_owned(), detail });
        let services: BTreeSet<&str> = self.members.iter().map(|member| member.service).collect();
        for service in services {
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
        let request = NewToken { identity: member.identity(), ttl_seconds: 600 };
        let created: TokenCreated = self.api().post(path::TOKENS, &request).await?;
        let settings = member.proxy_settings(self.path(), &created.token);
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

    /// SIGKILL to a member: its proxy, then its application.
    pub(super) async fn kill(&mut self, member: &str) -> Result<()> {
        for part in ["proxy", "app"] {
            let name = format!("{member}-{part}");
            let found = self.others.iter().position(|(other, _)| *other == name);
            let (_, mut process) = self.others.remove(found.with_context(|| format!("no process {name}"))?);
            process.kill().await?;
        }
        Ok(())
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
