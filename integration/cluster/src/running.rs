//! A cluster that runs, and what can be done with it.

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{self, Run};
use crate::components::{API_SERVER, FIRST, THEN, Tools};
use crate::files::Folder;
use crate::network::Network;
use crate::node::control;
use crate::record::{Name, Record};
use crate::{end, images};

/// A handle to a cluster.
pub struct Cluster {
    folder: Folder,
    record: Record,
    network: Network,
    /// Of one that ends with this handle: `unshare`, whose input is what keeps the node.
    owned: Option<Child>,
    begun: Instant,
    took: Duration,
}

impl Cluster {
    /// `None` where it never had a network.
    pub(crate) fn new(folder: Folder, record: Record, owned: Option<Child>, begun: Instant) -> Option<Self> {
        let network = record.network?;
        Some(Self { folder, record, network, owned, begun, took: Duration::ZERO })
    }

    pub(crate) fn is_ready(&mut self) {
        self.took = self.begun.elapsed();
    }

    /// One that runs; it goes on without this handle.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn open(home: &Path, name: &Name) -> Result<Self> {
        let folder = Folder(home.join(name.as_str()));
        let record = Record::read(&folder).filter(|record| record.first.lives());
        record
            .and_then(|record| Self::new(folder, record, None, Instant::now()))
            .with_context(|| format!("no cluster {name} runs; cargo xtask cluster up {name}"))
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.record.name
    }

    /// Its addresses.
    pub fn network(&self) -> Network {
        self.network
    }

    /// How long it took to be ready.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// The administrator's kubeconfig; it holds its keys and works wherever the API server is reached.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.kubeconfig()
    }

    /// An address of the host by which pods reach processes on the host.
    pub fn host_address(&self) -> IpAddr {
        self.network().host().into()
    }

    /// The first process of its namespaces, as the host numbers it; `/proc/<pid>/ns` has them.
    pub fn pid(&self) -> u32 {
        self.record.first.pid
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The programs that it is made of.
    pub fn tools(&self) -> &Tools {
        &self.record.tools
    }

    /// `kubectl` as the administrator.
    pub fn kubectl_command(&self) -> Command {
        let mut command = command::of(self.tools().kubectl());
        command.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.folder.path("data/kubectl"));
        command
    }

    /// Runs `kubectl`; what it printed.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_command().args(arguments).said()
    }

    /// Applies objects, in YAML or JSON.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self, objects: &str) -> Result<String> {
        fed(self.kubectl_command().args(["apply", "-f", "-"]), objects.as_bytes())
    }

    pub(crate) fn apply_file(&self, file: &Path) -> Result<()> {
        self.kubectl_command().args(["apply", "-f"]).arg(file).said().map(drop)
    }

    /// The network namespace of the node, for `setns` and for `nsenter --net=`.
    pub fn network_namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// A command in the node's namespaces, with the host's programs.
    pub fn exec(&self, program: &str) -> Command {
        let mut command = command::of("nsenter");
        command.args(["--target", &self.pid().to_string(), "--mount", "--net", "--pid", "--", program]);
        command
    }

    /// Makes the images of an archive known to the node.
    ///
    /// # Errors
    /// When it is no archive of images.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let archive = std::fs::read(archive).with_context(|| format!("reading {}", archive.display()))?;
        self.load(&archive)
    }

    pub(crate) fn load(&self, archive: &[u8]) -> Result<()> {
        fed(self.exec("ctr").args(["-n", "k8s.io", "images", "import", "-"]), archive).map(drop)
    }

    /// Makes `weft.test/workload:1` of a program `weft`; its entry is `weft workload`.
    ///
    /// # Errors
    /// When the program or its libraries can't be read.
    pub fn load_workload(&self, weft: &Path) -> Result<()> {
        self.load(&images::workload(weft)?.archive()?)
    }

    /// Makes an image of programs of this machine, static or not; the first one is what runs.
    ///
    /// # Errors
    /// When a program or one of its libraries can't be read.
    pub fn load_programs(&self, image: &str, user: &str, programs: &[&Path]) -> Result<()> {
        self.load(&images::programs(image, user, programs)?.archive()?)
    }

    /// Kills the API server; it stays away.
    ///
    /// # Errors
    /// When the node does not do it.
    pub fn stop_api_server(&self) -> Result<()> {
        control::tell(&self.folder, "stop", API_SERVER)
    }

    /// Starts it again; it answers a few seconds later.
    ///
    /// # Errors
    /// When the node does not do it.
    pub fn start_api_server(&self) -> Result<()> {
        self.start_component(API_SERVER)
    }

    pub(crate) fn start_component(&self, name: &str) -> Result<()> {
        control::tell(&self.folder, "start", name)
    }

    /// Fails once the node has ended.
    pub(crate) fn node_lives(&self) -> Result<()> {
        if self.record.first.lives() {
            return Ok(());
        }
        bail!("the node has ended")
    }

    /// The ends of all logs, for an error.
    pub(crate) fn last_words(&self) -> String {
        let mut words = String::from("the ends of the logs:");
        for name in ["node"].iter().chain(FIRST).chain(THEN) {
            let log = std::fs::read_to_string(self.folder.log(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            if lines.is_empty() {
                continue;
            }
            let last = lines[lines.len().saturating_sub(6)..].join("\n  ");
            words.push_str(&format!("\n{name}:\n  {last}"));
        }
        words
    }

    /// Ends it, and takes away all that was made for it.
    ///
    /// # Errors
    /// When something of it can't be taken away.
    pub fn down(mut self) -> Result<()> {
        self.end()
    }

    pub(crate) fn end(&mut self) -> Result<()> {
        end::remove(&self.folder)?;
        if let Some(mut child) = self.owned.take() {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.owned.is_some()
            && let Err(error) = self.end()
        {
            eprintln!("ending the cluster {}: {error:#}", self.record.name);
        }
    }
}

/// Runs a command to its end with this on its standard input.
fn fed(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut file = tempfile::tempfile()?;
    file.write_all(input)?;
    std::io::Seek::rewind(&mut file)?;
    command.stdin(Stdio::from(file)).said()
}
