//! `weft token`: made, listed, revoked, and what is refused.

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;
use weft_integration::{Mesh, MeshPlan, Process, ProxyPlan, eventually, free_port};

use crate::world::{run, weft};

async fn list(mesh: &Mesh) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&mesh.weft(&["token", "list", "-o", "json"]).await?)?)
}

async fn state(mesh: &Mesh, id: &str) -> Result<Option<String>> {
    let all = list(mesh).await?;
    let found = all.iter().find(|token| token["id"] == id);
    Ok(found.and_then(|token| token["state"].as_str()).map(str::to_owned))
}

#[tokio::test]
async fn a_token_is_printed_alone_listed_without_its_secret_and_ended_by_revoke() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    assert!(mesh.weft(&["token", "list"]).await?.contains("There are none"));
    let made = weft(&mesh, &["token", "create", "--identity", "shop/web", "--ttl", "5m"]).await?;
    assert_eq!(made.out.trim().lines().count(), 1, "{made:?}");
    assert!(made.err.contains("spiffe://test.weft/ns/shop/sa/web") && made.err.contains("5m"), "{made:?}");
    let parts: Vec<&str> = made.out.trim().split('.').collect();
    let [version, id, secret, _pin] = parts.as_slice() else { anyhow::bail!("{made:?}") };
    assert_eq!(*version, "weft1");

    for format in ["table", "json", "yaml"] {
        let listed = mesh.weft(&["token", "list", "-o", format]).await?;
        assert!(listed.contains(id) && listed.contains("unused"), "{listed}");
        assert!(!listed.contains(secret) && !listed.contains('\x1b'), "{listed}");
        let created = mesh.weft(&["token", "create", "--identity", "a/b", "-o", format]).await?;
        assert!(created.contains("weft1."), "{created}");
    }
    let revoked = weft(&mesh, &["token", "revoke", id]).await?;
    assert_eq!((revoked.code, revoked.out.as_str()), (Some(0), ""), "{revoked:?}");
    assert_eq!(state(&mesh, id).await?, None);
    let again = weft(&mesh, &["token", "revoke", id]).await?;
    assert!(again.code == Some(1) && again.err.contains(id), "{again:?}");
    let table = format!("[identity]\njoin_token = \"{}\"\n", made.out.trim());
    let late = mesh.proxy(ProxyPlan::new("late", "web").identity_table(&table)).await?;
    eventually("the revoked token is refused", async || {
        let (status, body) = late.admin("/ready").await?;
        anyhow::ensure!(status == 503 && body.contains("not attested"), "{status} {body}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_token_is_used_or_expired_in_the_list_after_it_is() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let id = |token: &str| token.split('.').nth(1).map(str::to_owned).context("weft1.<id>.…");
    let short = id(&mesh.weft(&["token", "create", "--identity", "a/b", "--ttl", "1s"]).await?)?;
    let used = mesh.token("default/web").await?;
    let table = format!("[identity]\njoin_token = \"{used}\"\n");
    mesh.proxy(ProxyPlan::new("web", "web").identity_table(&table)).await?.ready().await?;
    assert_eq!(state(&mesh, &id(&used)?).await?.as_deref(), Some("used"));
    eventually("the short one has expired", async || {
        Ok((state(&mesh, &short).await?.as_deref() == Some("expired")).then_some(()))
    })
    .await
}

#[tokio::test]
async fn what_no_token_can_be_made_for_is_refused_with_the_reason() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    for (identity, ttl, code, part) in [
        ("spiffe://elsewhere/ns/a/sa/b", "10m", 1, "trust domain"),
        ("weft-system/weft-control", "10m", 1, "weft-control"),
        ("nothing", "10m", 1, "nothing"),
        ("A B/c", "10m", 1, "A B"),
        ("a/b", "8days", 1, "7"),
        ("a/b", "0s", 2, "at least 1s"),
        ("a/b", "soon", 2, "10m"),
    ] {
        let ended = weft(&mesh, &["token", "create", "--identity", identity, "--ttl", ttl]).await?;
        println!("{identity} {ttl}: {}", ended.err.trim_end());
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{identity} {ttl}: {ended:?}");
        assert!(ended.err.contains(part), "{identity} {ttl}: {part:?} is not in {}", ended.err);
    }
    assert!(list(&mesh).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_tcp_listener_of_the_control_plane_shows_everything_but_makes_no_token() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(Process::program("weft-control")?);
    command.args(["--set", "listen=127.0.0.1:0", "--set", &format!("admin.listen={listen}")]);
    command.args(["--set", &format!("state_dir={}", directory.path().join("state").display())]);
    let _control = Process::start("control", command, directory.path())?;
    let url = format!("http://{listen}");
    let ask = async |arguments: &[&str]| run("weft", &[&["--control", &url], arguments].concat(), &[]).await;
    eventually("it answers", async || Ok((ask(&["status"]).await?.code == Some(0)).then_some(()))).await?;
    assert_eq!(ask(&["get", "services"]).await?.out, "There are none.\n");
    for refused in
        [&["token", "create", "--identity", "a/b"][..], &["token", "list"], &["token", "revoke", "a"]]
    {
        let ended = ask(refused).await?;
        println!("{refused:?}: {}", ended.err.trim_end());
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.err.contains("socket"), "{}", ended.err);
    }
    Ok(())
}
