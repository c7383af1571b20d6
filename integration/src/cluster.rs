//! A real Kubernetes for a test, brought up by `weft-cluster` as `cargo xtask cluster up` does it.
//!
//! It ends with its handle, or with the test's process, and leaves nothing. Several may run at once, also beside a
//! developer's own. Needs root and the tools; without them that is said, and the test is skipped.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tokio::process::Command;
use tokio::task::spawn_blocking;
use weft_cluster::{Kept, Network, Tools};

use crate::{Process, eventually, skipped, skipped_on};

/// As the summary names it.
pub const KUBERNETES: &str = "Kubernetes 1.37.2";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A running cluster.
#[derive(Clone)]
pub struct Cluster(Arc<Kept>);

impl Cluster {
    /// Starts one, for what the test is about. `None` where tools or rights are missing; that is said and reported.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(what: &str) -> Result<Option<Self>> {
        if let Err(variable) = Tools::from_environment() {
            skipped_on(&format!("{KUBERNETES} ({variable})"), what);
            return Ok(None);
        }
        if !rustix::process::geteuid().is_root() {
            skipped(what, "a cluster needs root");
            return Ok(None);
        }
        let program = Process::program("weft-cluster")?;
        // The process id keeps tests that run at once apart.
        let name = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let home = std::env::temp_dir().join("weft-clusters");
        let name = name.parse()?;
        let kept = spawn_blocking(move || Kept::start(&program, &home, &name)).await??;
        Ok(Some(Self(Arc::new(kept))))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name().as_str()
    }

    /// Its addresses.
    pub fn network(&self) -> Network {
        self.0.network()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.kubeconfig()
    }

    /// An address of this host by which pods reach the test's processes.
    pub fn host_address(&self) -> IpAddr {
        self.0.host_address()
    }

    /// The node's network namespace.
    pub fn network_namespace(&self) -> PathBuf {
        self.0.network_namespace()
    }

    /// `kubectl` as the administrator, for what runs longer or reads.
    pub fn kubectl_command(&self) -> Command {
        self.0.kubectl_command().into()
    }

    /// Runs `kubectl`; what it printed.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.blocking(move |cluster| {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            cluster.kubectl(&arguments)
        })
        .await
    }

    /// Runs a command in a pod; what it printed.
    ///
    /// # Errors
    /// With what it said, when it fails.
    pub async fn in_pod(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", pod, "--"], command].concat()).await
    }

    /// Applies objects, in YAML or JSON.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn apply(&self, objects: &str) -> Result<String> {
        let objects = objects.to_owned();
        self.blocking(move |cluster| cluster.apply(&objects)).await
    }

    /// Waits until a Deployment, StatefulSet or DaemonSet is as it should be: `deployment/web`.
    ///
    /// # Errors
    /// When it is not within the patience of tests.
    pub async fn rolled_out(&self, what: &str) -> Result<()> {
        let timeout = format!("--timeout={}s", crate::PATIENCE.as_secs());
        self.kubectl(&["rollout", "status", what, &timeout]).await.map(drop)
    }

    /// Makes the images of an archive known to the node.
    ///
    /// # Errors
    /// When it is no archive of images.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        let archive = archive.to_owned();
        self.blocking(move |cluster| cluster.load_image(&archive)).await
    }

    /// Makes `weft.test/workload:1`, whose entry is `weft workload`.
    ///
    /// # Errors
    /// When `weft` has not been built.
    pub async fn load_workload(&self) -> Result<()> {
        let weft = Process::program("weft")?;
        self.blocking(move |cluster| cluster.load_workload(&weft)).await
    }

    /// Makes an image of the mesh's own programs as they were built for the tests, at `/usr/bin`; the first is what runs.
    ///
    /// # Errors
    /// When one has not been built.
    pub async fn load_programs(&self, image: &str, user: &str, programs: &[&str]) -> Result<()> {
        let (image, user) = (image.to_owned(), user.to_owned());
        let programs = programs.iter().map(|name| Process::program(name)).collect::<Result<Vec<_>>>()?;
        self.blocking(move |cluster| {
            let programs: Vec<&Path> = programs.iter().map(PathBuf::as_path).collect();
            cluster.load_programs(&image, &user, &programs)
        })
        .await
    }

    /// A command in the node's mount, network and pid namespaces, with this host's programs.
    pub fn in_node(&self, program: &str) -> Command {
        self.0.exec(program).into()
    }

    /// Kills the API server; it stays away.
    ///
    /// # Errors
    /// When the node does not do it.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.blocking(|cluster| cluster.stop_api_server()).await
    }

    /// Starts it again; returns when it answers.
    ///
    /// # Errors
    /// When it does not within the patience of tests.
    pub async fn start_api_server(&self) -> Result<()> {
        self.blocking(|cluster| cluster.start_api_server()).await?;
        eventually("the API server answers again", async || {
            let answer = self.kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]).await;
            answer.map(|_| Some(()))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Kept) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let kept = Arc::clone(&self.0);
        spawn_blocking(move || work(&kept)).await.context("a cluster's work panicked")?
    }
}
