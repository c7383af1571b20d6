//! A mesh over files and a real Nomad: one server and two clients, each a machine of its own, and jobs that are submitted as a
//! user submits them.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use weft_integration::{Mesh, MeshPlan, Process, eventually, within};
use weft_registry_nomad::testkit::{NomadOptions, NomadServer};

use crate::network::Network;

/// The programs of the nodes.
const PROGRAMS: [&str; 3] = ["weft-proxy", "weft-redirect", "weft"];

/// All of it. The order is that of the end: agents before their network.
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    pub(crate) server: NomadServer,
    pub(crate) clients: Vec<NomadServer>,
    programs: TempDir,
    network: Network,
}

impl World {
    /// Starts it; `None` where there is no Nomad, which is said. `more` follows the control plane's settings.
    pub(crate) async fn start(clients: usize, more: &str) -> Result<Option<Self>> {
        weft_identity::install_crypto_provider();
        if NomadServer::binary().is_none() {
            return Ok(NomadServer::start(NomadOptions::default())
                .await?
                .map(|_| unreachable!("there is none")));
        }
        let mut network = Network::claim()?;
        let (name, address) = network.machine()?;
        let options = NomadOptions { network: Some(name), address, client: false, ..NomadOptions::default() };
        let server = NomadServer::start(options).await?.context("its binary was there before")?;
        let mut running = Vec::new();
        for number in 1..=clients {
            let (name, address) = network.machine()?;
            let options = NomadOptions {
                name: format!("node-{number}"),
                network: Some(name),
                address,
                server: false,
                joins: Some(server.rpc_address()),
                meta: vec![("zone".to_owned(), format!("z{number}"))],
                ..NomadOptions::default()
            };
            running.push(NomadServer::start(options).await?.context("its binary was there before")?);
        }
        let registry = format!(
            "[[registry]]\nid = \"nomad/test\"\n[registry.nomad]\naddress = \"{}\"\n\n[ca.nomad.\"nomad/test\"]\n{more}",
            server.address()
        );
        let plan =
            MeshPlan { more: registry, listen: Some(Ipv4Addr::UNSPECIFIED.into()), ..MeshPlan::default() };
        let mesh = Mesh::start(plan).await?;
        Ok(Some(Self { mesh, server, clients: running, programs: programs()?, network }))
    }

    /// `weft nomad run`, as a user types it; what it prints.
    pub(crate) async fn run(&self, hcl: &str) -> Result<String> {
        self.weft_nomad(&["run"], hcl).await
    }

    /// `weft nomad …` of a job.
    pub(crate) async fn weft_nomad(&self, words: &[&str], hcl: &str) -> Result<String> {
        let file = self.mesh.path().join("job.nomad.hcl");
        std::fs::write(&file, hcl)?;
        let port = self.mesh.address().rsplit_once(':').context("it has a port")?.1.to_owned();
        let mut command = Command::new(Process::program("weft")?);
        command.arg("--control").arg(self.mesh.socket()).args(["nomad", "--address", &self.server.address()]);
        command.args(words).arg(&file);
        for setting in [
            format!("control=[\"{}:{port}\"]", self.network.host()),
            format!("directory={}", self.programs.path().display()),
            "registry=nomad/test".to_owned(),
            // The tests' applications run as root; this user is on every machine.
            "user=nobody".to_owned(),
        ] {
            command.args(["--set", &setting]);
        }
        let output = command.output().await?;
        if !output.status.success() {
            bail!("weft nomad {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The path of the application's program on the nodes.
    pub(crate) fn app(&self) -> String {
        self.programs.path().join("weft").display().to_string()
    }

    /// The allocations of a job that are wanted and run, newest first.
    pub(crate) async fn running(&self, job: &str) -> Result<Vec<Value>> {
        let mut all = self.server.get(&format!("job/{job}/allocations")).await?;
        let all = all.as_array_mut().context("a list")?;
        all.sort_by_key(|one| std::cmp::Reverse(one["CreateIndex"].as_u64()));
        let runs = |one: &&Value| one["DesiredStatus"] == "run" && one["ClientStatus"] == "running";
        Ok(all.iter().filter(runs).cloned().collect())
    }

    /// Waits until so many allocations of a job run with all their tasks; says what is wrong else.
    pub(crate) async fn until_running(&self, job: &str, count: usize) -> Result<()> {
        let waited = within(Duration::from_secs(60), &format!("{count} of {job} run"), async || {
            let running = self.running(job).await?;
            let started = running.iter().filter(|one| {
                let states = one["TaskStates"].as_object().into_iter().flatten();
                let main = |name: &str| !name.starts_with("weft-");
                states.filter(|(name, _)| main(name)).all(|(_, state)| state["State"] == "running")
            });
            Ok((started.count() == count && running.len() == count).then_some(()))
        })
        .await;
        let Err(error) = waited else { return Ok(()) };
        Err(error.context(self.story(job).await))
    }

    /// What happened to a job's allocations, and the last words of their proxies.
    pub(crate) async fn story(&self, job: &str) -> String {
        let all = self.server.get(&format!("job/{job}/allocations")).await.unwrap_or_default();
        let mut story = String::new();
        for one in all.as_array().into_iter().flatten() {
            story.push_str(&format!("{} {} {}\n", one["ID"], one["DesiredStatus"], one["ClientStatus"]));
            for (task, state) in one["TaskStates"].as_object().into_iter().flatten() {
                let events = state["Events"].as_array().into_iter().flatten();
                let said: Vec<&str> = events.filter_map(|event| event["DisplayMessage"].as_str()).collect();
                story.push_str(&format!("  {task} {}: {}\n", state["State"], said.join("; ")));
            }
            let id = one["ID"].as_str().unwrap_or_default();
            for client in &self.clients {
                let logs = client.directory().join("data/alloc").join(id).join("alloc/logs");
                for file in std::fs::read_dir(&logs).into_iter().flatten().flatten() {
                    let text = std::fs::read_to_string(file.path()).unwrap_or_default();
                    let tail: Vec<&str> = text.lines().rev().take(8).collect();
                    story.push_str(&format!(
                        "  {}: {}\n",
                        file.file_name().to_string_lossy(),
                        tail.join("\n    ")
                    ));
                }
            }
        }
        story
    }

    /// Waits until the mesh has so many healthy workloads of a service.
    pub(crate) async fn until_in_mesh(&self, service: &str, count: usize) -> Result<()> {
        let wanted = format!("{count} of {service} are in the mesh");
        let waited = eventually(&wanted, async || {
            let listed = self.workloads(service).await?;
            let healthy = listed.iter().filter(|one| one["health"] == "healthy").count();
            Ok((healthy == count && listed.len() == count).then_some(()))
        })
        .await;
        let Err(error) = waited else { return Ok(()) };
        let (listed, status) = (self.workloads(service).await, self.mesh.weft(&["status"]).await);
        Err(error.context(format!("{listed:?}\n{}", status.unwrap_or_default())))
    }

    /// The workloads of a service, as `weft get` shows them.
    pub(crate) async fn workloads(&self, service: &str) -> Result<Vec<Value>> {
        let text = self.mesh.weft(&["get", "workloads", service, "-o", "json"]).await.unwrap_or_default();
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}

/// The programs where any user of the nodes may run them.
fn programs() -> Result<TempDir> {
    let open = std::fs::Permissions::from_mode(0o755);
    let directory = tempfile::Builder::new().prefix("weft-bin-").permissions(open).tempdir()?;
    for name in PROGRAMS {
        link(&Process::program(name)?, &directory.path().join(name))?;
    }
    Ok(directory)
}

fn link(from: &Path, to: &Path) -> Result<()> {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).with_context(|| from.display().to_string())?;
    }
    Ok(())
}
