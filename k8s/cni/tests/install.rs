//! The node agent on directories that stand for a node's: what it writes, keeps, and leaves.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weft_integration::eventually;

const BRIDGE: &str = include_str!("../testdata/bridge.conflist");
const CALICO: &str = include_str!("../testdata/calico.conflist");

/// A node, and the agent's service account.
struct Node {
    directory: tempfile::TempDir,
}

/// A running agent; it is killed with its handle.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    fn terminate(mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        Ok(self.0.wait()?)
    }
}

impl Node {
    fn new() -> Result<Self> {
        let node = Self { directory: tempfile::tempdir()? };
        for name in ["bin", "net.d", "account"] {
            fs::create_dir(node.path(name))?;
        }
        node.write("bin/bridge", "a plugin")?;
        node.write("account/token", "first\n")?;
        node.write("account/ca.crt", "PEM")?;
        Ok(node)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.path(name), text)?)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self, command: &str) -> Command {
        let mut line = Command::new(env!("CARGO_BIN_EXE_weft-cni"));
        line.env_clear()
            .env("WEFT_CNI_BIN_DIR", self.path("bin"))
            .env("WEFT_CNI_CONF_DIR", self.path("net.d"))
            .env("WEFT_CNI_SERVICE_ACCOUNT", self.path("account"))
            .envs([("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")])
            .arg(command);
        line
    }

    fn agent(&self, more: &[&str]) -> Result<Agent> {
        Ok(Agent(self.command("install").args(more).spawn()?))
    }

    fn ready(&self) -> Result<bool> {
        Ok(self.command("ready").output()?.status.success())
    }

    async fn becomes_ready(&self) -> Result<()> {
        eventually("the plugin is in place", async || Ok(self.ready()?.then_some(()))).await
    }

    /// Every file of the node with its mode and content.
    fn files(&self) -> Result<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        for directory in ["bin", "net.d"] {
            for entry in fs::read_dir(self.path(directory))? {
                let path = entry?.path();
                let mode = fs::metadata(&path)?.permissions().mode();
                files.insert(path.clone(), (mode, fs::read(&path)?));
            }
        }
        Ok(files)
    }
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

#[tokio::test]
async fn the_agent_installs_everything_and_leaves_the_node_as_it_was() -> Result<()> {
    let node = Node::new()?;
    node.write("net.d/10-weft.conflist", BRIDGE)?;
    node.write("net.d/20-calico.conflist", CALICO)?;
    node.write("net.d/99-loopback.conf", r#"{"cniVersion":"1.0.0","type":"loopback"}"#)?;
    node.write("net.d/README", "no configuration")?;
    fs::set_permissions(node.path("net.d/10-weft.conflist"), fs::Permissions::from_mode(0o640))?;
    let before = node.files()?;
    let agent = node.agent(&[])?;
    node.becomes_ready().await?;
    assert_eq!(node.read("net.d/10-weft.conflist"), include_str!("../testdata/bridge.with.conflist"));
    assert_eq!(mode(&node.path("net.d/10-weft.conflist"))?, 0o640);
    assert_eq!(node.read("net.d/20-calico.conflist"), CALICO);
    assert_eq!(fs::read(node.path("bin/weft-cni"))?, fs::read(env!("CARGO_BIN_EXE_weft-cni"))?);
    assert_eq!(mode(&node.path("bin/weft-cni"))?, 0o755);
    let kubeconfig: serde_json::Value = serde_json::from_str(&node.read("net.d/weft-cni.kubeconfig"))?;
    assert_eq!(kubeconfig["clusters"][0]["cluster"]["server"], "https://10.96.0.1:443");
    assert_eq!(kubeconfig["users"][0]["user"]["token"], "first");
    assert_eq!(mode(&node.path("net.d/weft-cni.kubeconfig"))?, 0o600);
    ensure!(agent.terminate()?.success());
    assert_eq!(node.files()?, before);
    Ok(())
}

#[tokio::test]
async fn who_writes_the_list_again_without_us_has_us_in_it_again_at_once() -> Result<()> {
    let node = Node::new()?;
    node.write("net.d/10-weft.conflist", BRIDGE)?;
    let agent = node.agent(&[])?;
    for other in [BRIDGE, CALICO, BRIDGE] {
        node.becomes_ready().await?;
        node.write("net.d/new", other)?;
        fs::rename(node.path("net.d/new"), node.path("net.d/10-weft.conflist"))?;
    }
    node.becomes_ready().await?;
    node.write("net.d/10-weft.conflist", "{ half of it")?;
    fs::remove_file(node.path("bin/weft-cni"))?;
    node.write("net.d/10-weft.conflist", CALICO)?;
    node.becomes_ready().await?;
    // A list that comes before the others is the one that counts from then on.
    node.write("net.d/05-first.conflist", BRIDGE)?;
    node.becomes_ready().await?;
    ensure!(agent.terminate()?.success());
    assert_eq!(node.read("net.d/10-weft.conflist"), CALICO);
    assert_eq!(node.read("net.d/05-first.conflist"), BRIDGE);
    Ok(())
}

#[tokio::test]
async fn the_first_list_of_a_new_node_and_a_rotated_token_are_noticed() -> Result<()> {
    let node = Node::new()?;
    let agent = node.agent(&[])?;
    eventually("the kubeconfig is there", async || {
        Ok(node.path("net.d/weft-cni.kubeconfig").exists().then_some(()))
    })
    .await?;
    ensure!(!node.ready()?);
    node.write("net.d/10-weft.conflist", BRIDGE)?;
    node.becomes_ready().await?;
    node.write("account/token", "second")?;
    eventually("the new token is there", async || {
        Ok(node.read("net.d/weft-cni.kubeconfig").contains("\"second\"").then_some(()))
    })
    .await?;
    ensure!(agent.terminate()?.success());
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_told_to_keep_the_plugin_leaves_it_for_uninstall() -> Result<()> {
    let node = Node::new()?;
    node.write("net.d/10-weft.conflist", BRIDGE)?;
    let before = node.files()?;
    let agent = node.agent(&["--on-exit", "keep"])?;
    node.becomes_ready().await?;
    ensure!(agent.terminate()?.success());
    ensure!(node.ready()?);
    // An older program of the same length is replaced by the next agent.
    let mut older = fs::read(env!("CARGO_BIN_EXE_weft-cni"))?;
    if let Some(byte) = older.last_mut() {
        *byte ^= 1;
    }
    fs::write(node.path("bin/weft-cni"), older)?;
    let agent = node.agent(&["--on-exit", "keep"])?;
    eventually("the program is this one", async || {
        let there = fs::read(node.path("bin/weft-cni"))?;
        Ok((there == fs::read(env!("CARGO_BIN_EXE_weft-cni"))?).then_some(()))
    })
    .await?;
    ensure!(agent.terminate()?.success());
    ensure!(node.command("uninstall").status()?.success());
    assert_eq!(node.files()?, before);
    ensure!(node.command("uninstall").status()?.success());
    Ok(())
}
