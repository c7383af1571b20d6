//! A full disk: what would be written fails with a clear error, what serves goes on, and nothing that was there is lost.
//!
//! The state directories are small file systems in memory. Where those can't be mounted the tests say so and are skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use weft_integration::{Mesh, MeshPlan, Process, ProxyPlan, eventually, get, skipped};

use crate::world::{Shop, a_while, knows, none_failed, run, shop_with, weft};

/// A small file system, which goes with its handle.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where it is not permitted; that is said.
    fn mount(path: &Path, what: &str) -> Result<Option<Self>> {
        std::fs::create_dir_all(path)?;
        let mut command = Command::new("mount");
        let mounted = command.args(["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Some(Self(path.to_owned()))),
            Ok(output) => {
                skipped(what, &format!("mount: {}", String::from_utf8_lossy(&output.stderr).trim()));
                Ok(None)
            }
            Err(error) => {
                skipped(what, &format!("mount: {error}"));
                Ok(None)
            }
        }
    }

    /// Leaves not a byte.
    fn fill(&self) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.filler())?;
        for piece in [4096, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
        let refused = std::fs::write(self.0.join("probe"), "x").err().context("the disk is not full")?;
        anyhow::ensure!(refused.kind() == std::io::ErrorKind::StorageFull, "{refused}");
        Ok(std::fs::remove_file(self.0.join("probe"))?)
    }

    fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the processes end a moment later, with their handles.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn tokens(mesh: &Mesh) -> Result<Value> {
    Ok(serde_json::from_str(&mesh.weft(&["token", "list", "-o", "json"]).await?)?)
}

/// Puts the first instance into another state of health and waits until `web` has heard of it.
async fn becomes(shop: &Shop, health: &str) -> Result<()> {
    let (file, object) = shop.object()?;
    shop.mesh.register(file, &object.replace("health: healthy", &format!("health: {health}")))?;
    eventually("web hears of it", async || {
        let endpoints = shop.web.endpoints("default/api").await?;
        Ok(endpoints.values().any(|endpoint| endpoint["health"] == health).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_full_disk_of_the_control_plane_costs_no_call_and_no_token() -> Result<()> {
    let top = tempfile::tempdir()?;
    let state = top.path().join("state");
    let Some(disk) = SmallDisk::mount(&state, "a full disk of the control plane")? else { return Ok(()) };
    let plan = MeshPlan { state: Some(state.clone()), ..MeshPlan::default() };
    let mut shop = shop_with(plan, &["v1", "v2"], "http1", "").await?;
    let kept = shop.mesh.token("default/later").await?;
    let stored = state.join("registries/file@test.json");
    eventually("the registry is stored", async || Ok(stored.exists().then_some(()))).await?;
    let before = (tokens(&shop.mesh).await?, std::fs::read(&stored)?);

    let load = shop.load();
    disk.fill()?;
    let refused = weft(&shop.mesh, &["token", "create", "--identity", "default/web", "--ttl", "10m"]).await?;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{refused:?}");
    assert!(refused.err.contains("No space left"), "{}", refused.err);
    // Changes are served all the same, and what is stored stays whole.
    becomes(&shop, "draining").await?;
    let complaint = "what it says can't be stored";
    eventually("the log says it", async || Ok(shop.mesh.control()?.log().contains(complaint).then_some(())))
        .await?;
    assert_eq!((tokens(&shop.mesh).await?, std::fs::read(&stored)?), before);

    disk.free()?;
    shop.mesh.token("default/web").await?;
    eventually("the change is stored", async || {
        let text = std::fs::read_to_string(&stored)?;
        anyhow::ensure!(text.contains("draining"), "{text}");
        Ok(Some(()))
    })
    .await?;
    // The token from before the trouble is good, also for a control plane that starts anew.
    shop.mesh.kill_control().await?;
    shop.mesh.start_control().await?;
    let table = format!("[identity]\njoin_token = \"{kept}\"\n");
    shop.mesh.proxy(ProxyPlan::new("later", "later").identity_table(&table)).await?.ready().await?;
    none_failed(load, "the control plane's disk is full").await?;
    Ok(())
}

#[tokio::test]
async fn a_full_disk_of_a_proxy_costs_no_call_and_not_its_certificate() -> Result<()> {
    let mut plan = MeshPlan::default();
    // Renewed while the disk is full: what can't be saved is used all the same.
    plan.more += "[ca]\nleaf_ttl = \"10s\"\n";
    let mut shop = shop_with(plan, &["v1", "v2"], "http1", "").await?;
    // The proxy's state moves to the small disk.
    shop.web.process.kill().await?;
    let state = shop.mesh.path().join("web");
    let saved: Vec<_> = std::fs::read_dir(&state)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((path.file_name()?.to_owned(), std::fs::read(&path).ok()?)))
        .collect();
    let Some(disk) = SmallDisk::mount(&state, "a full disk of a proxy")? else { return Ok(()) };
    for (name, content) in saved {
        std::fs::write(state.join(name), content)?;
    }
    shop.web.start_again()?;
    shop.web.ready().await?;
    knows(&shop.web, 2).await?;

    let load = shop.load();
    disk.fill()?;
    becomes(&shop, "draining").await?;
    let complaint = "the configuration is in use but not saved";
    eventually("the log says it", async || Ok(shop.web.process.log().contains(complaint).then_some(())))
        .await?;
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    let (status, body) = shop.web.admin("/ready").await?;
    assert_eq!(status, 200, "{body}");
    becomes(&shop, "healthy").await?;
    none_failed(load, "the proxy's disk is full").await?;

    disk.free()?;
    let expiry = |pem: &str| weft_identity::Svid::from_pem(pem).map(|svid| svid.not_after());
    eventually("a certificate that is valid now is saved", async || {
        let until = expiry(&std::fs::read_to_string(state.join("svid.pem"))?)?;
        Ok((until > std::time::SystemTime::now()).then_some(()))
    })
    .await?;
    a_while().await;
    shop.web.process.kill().await?;
    shop.web.start_again()?;
    shop.web.ready().await?;
    get(shop.web.upstream("api"), "/").await?;
    Ok(())
}

#[tokio::test]
async fn a_start_on_a_full_disk_fails_by_name_and_succeeds_when_there_is_space() -> Result<()> {
    let top = tempfile::tempdir()?;
    for program in ["weft-control", "weft-proxy"] {
        let state = top.path().join(program);
        let Some(disk) = SmallDisk::mount(&state, "a start on a full disk")? else { return Ok(()) };
        disk.fill()?;
        let file = top.path().join(format!("{program}.toml"));
        let listen = match program {
            "weft-control" => "listen = \"127.0.0.1:0\"",
            _ => "control.addresses = [\"127.0.0.1:1\"]\nadmin.listen = \"127.0.0.1:0\"",
        };
        std::fs::write(&file, format!("state_dir = {state:?}\n{listen}\n"))?;
        let config = file.display().to_string();
        let ended = run(program, &["--config", &config], &[]).await?;
        println!("{program}: {}", ended.err.trim_end());
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for part in ["No space left", &state.display().to_string()] {
            assert!(ended.err.contains(part), "{program}: {part:?} is not in {}", ended.err);
        }
        assert_eq!(ended.err.matches("No space left").count(), 1, "{}", ended.err);
        // Nothing half-written is left that a later start would stumble over.
        disk.free()?;
        let mut command = tokio::process::Command::new(Process::program(program)?);
        command.args(["--config", &config]);
        let mut process = Process::start(program, command, top.path())?;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert!(process.ended().is_none(), "{}", process.log());
        process.kill().await?;
    }
    Ok(())
}
