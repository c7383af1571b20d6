//! Trouble in a registry's directory: endpoints stay, `weft status` names file, line and field.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use weft_integration::{Mesh, MeshPlan, ProxyPlan, eventually, get};

use crate::world::{a_while, knows, none_failed, registry_status, shop, weft};

#[tokio::test]
async fn a_registry_directory_that_goes_and_comes_back_costs_no_call_and_is_followed_again() -> Result<()> {
    let shop = shop().await?;
    let load = shop.load();
    let directory = shop.mesh.path().join("registry");
    let objects: Vec<_> = std::fs::read_dir(&directory)?
        .map(|entry| {
            Ok((
                entry.as_ref().map_err(|e| anyhow::anyhow!("{e}"))?.file_name(),
                std::fs::read(entry?.path())?,
            ))
        })
        .collect::<Result<_>>()?;
    std::fs::remove_dir_all(&directory)?;
    eventually("the registry is stale", async || {
        let registry = registry_status(&shop.mesh).await?;
        anyhow::ensure!(registry["state"] == "stale", "{registry}");
        Ok(Some(()))
    })
    .await?;
    assert_eq!(weft(&shop.mesh, &["status", "--check"]).await?.code, Some(1));
    a_while().await;
    knows(&shop.web, 2).await?;

    std::fs::create_dir(&directory)?;
    for (name, object) in &objects {
        std::fs::write(directory.join(name), object)?;
    }
    eventually("the registry is synced", async || {
        let registry = registry_status(&shop.mesh).await?;
        anyhow::ensure!(registry["state"] == "synced", "{registry}");
        Ok(Some(()))
    })
    .await?;
    knows(&shop.web, 2).await?;
    // A change in the new directory is seen, as it was in the old one.
    let start = Instant::now();
    shop.mesh.deregister("api-v2.yaml")?;
    knows(&shop.web, 1).await?;
    println!("a change in the new directory was applied after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "inotify does not watch the new directory");
    none_failed(load, "the registry's directory was away").await?;
    Ok(())
}

/// What is wrong with the file of this name.
fn problem<'a>(registry: &'a Value, file: &str) -> Result<&'a Value> {
    let mut problems = registry["problems"].as_array().into_iter().flatten();
    let found =
        problems.find(|problem| problem["object"].as_str().is_some_and(|object| object.contains(file)));
    found.with_context(|| format!("{file} is not among the problems of {registry}"))
}

#[tokio::test]
async fn files_of_every_bad_kind_are_named_and_touch_nothing_else() -> Result<()> {
    let shop = shop().await?;
    let load = shop.load();
    let directory = shop.mesh.path().join("registry");
    let (_, object) = shop.object()?;
    // Each beside the good files; the last two claim names that are taken.
    std::fs::create_dir(directory.join("directory.yaml"))?;
    std::os::unix::fs::symlink("/nonexistent/target", directory.join("dangling.yaml"))?;
    std::fs::write(directory.join("garbage.yaml"), [0xff, 0xfe, 0, 1, 2, 0x80])?;
    std::fs::write(directory.join("nul.yaml"), b"kind: Workload\nname: \0\0\n")?;
    std::fs::write(directory.join("large.yaml"), "a: [[[[{\n".repeat(10 << 20 >> 3))?;
    std::fs::write(
        directory.join("field.yaml"),
        "kind: Workload\nname: f\nservice: api\nwieght: 3\naddresses: [127.0.0.1]\n",
    )?;
    std::fs::write(
        directory.join("value.yaml"),
        "kind: Workload\nname: g\nservice: api\naddresses: [127.0.0.1]\nports: [{name: a, number: 70000}]\n",
    )?;
    std::fs::write(directory.join("twin.yaml"), &object)?;
    std::fs::write(directory.join("twice.yaml"), "kind: Service\nname: t\n---\nkind: Service\nname: t\n")?;
    let files = ["directory", "dangling", "garbage", "nul", "large", "field", "value", "twin", "twice"];
    let registry = eventually("each is named", async || {
        let registry = registry_status(&shop.mesh).await?;
        for file in files {
            problem(&registry, &format!("{file}.yaml"))?;
        }
        Ok(Some(registry))
    })
    .await?;
    let at = |file: &str| problem(&registry, file).map(|p| (p["object"].to_string(), p["field"].clone()));
    for (file, line, field) in
        [("field.yaml", 4, "wieght"), ("value.yaml", 5, "ports[0].number"), ("twice.yaml", 4, "name")]
    {
        let (object, named) = at(file)?;
        assert!(object.contains(&format!("{file}:{line}")), "{object} is not line {line}");
        assert_eq!(named, field, "{file}");
    }
    let check = weft(&shop.mesh, &["status", "--check"]).await?;
    assert_eq!(check.code, Some(1), "{check:?}");
    a_while().await;
    knows(&shop.web, 2).await?;

    std::fs::remove_dir(directory.join("directory.yaml"))?;
    for file in files.iter().skip(1) {
        std::fs::remove_file(directory.join(format!("{file}.yaml")))?;
    }
    eventually("the complaints go with their causes", async || {
        let check = weft(&shop.mesh, &["status", "--check"]).await?;
        anyhow::ensure!(check.code == Some(0), "{check:?}");
        Ok(Some(()))
    })
    .await?;
    knows(&shop.web, 2).await?;
    none_failed(load, "bad files").await?;
    Ok(())
}

#[tokio::test]
async fn two_hundred_files_are_two_hundred_endpoints_and_a_bad_one_costs_none_of_them() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let web = mesh.proxy(ProxyPlan::new("web", "web").upstream("api")).await?;
    let app = mesh.http_app("api", "v1").await?;
    let callee = mesh.member(&app, "v1", "http1").await?;
    let object = callee.object("api", "v1", app.address.port(), "http1");
    let start = Instant::now();
    for n in 0..199 {
        let mut one = String::new();
        write!(one, "{}", object.replace("name: api-v1\n", &format!("name: copy-{n}\n")))?;
        mesh.register(&format!("copy-{n}.yaml"), &one)?;
    }
    knows(&web, 200).await?;
    println!("200 files were applied after {:?}", start.elapsed());
    mesh.register("copy-7.yaml", "kind: Workload\nname: [\n")?;
    eventually("the bad one is named", async || {
        problem(&registry_status(&mesh).await?, "copy-7.yaml")?;
        Ok(Some(()))
    })
    .await?;
    knows(&web, 200).await?;
    for _ in 0..20 {
        get(web.upstream("api"), "/").await?;
    }
    Ok(())
}
