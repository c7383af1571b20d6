//! What `weft` prints against a running mesh: every listing in every format, and its exit status.

use anyhow::{Context, Result};
use serde_json::Value;
use weft_integration::{MeshPlan, eventually};

use crate::world::{Shop, run, shop_with, weft};

async fn pair() -> Result<Shop> {
    let shop = shop_with(MeshPlan::default(), &["v1"], "http1", "").await?;
    shop.mesh.in_sync(2).await?;
    Ok(shop)
}

/// The same question in each format: the table's text, and the one value that JSON and YAML say.
async fn asked(shop: &Shop, arguments: &[&str]) -> Result<(String, Value)> {
    let table = shop.mesh.weft(arguments).await?;
    let json = shop.mesh.weft(&[arguments, &["-o", "json"]].concat()).await?;
    let yaml = shop.mesh.weft(&[arguments, &["-o", "yaml"]].concat()).await?;
    for text in [&table, &json, &yaml] {
        assert!(!text.contains('\x1b'), "{arguments:?} has escape codes: {text:?}");
        assert!(text.ends_with('\n'), "{arguments:?} does not end its line: {text:?}");
    }
    let (json, yaml): (Value, Value) = (serde_json::from_str(&json)?, serde_saphyr::from_str(&yaml)?);
    assert_eq!(without_times(json.clone()), without_times(yaml), "{arguments:?}");
    Ok((table, json))
}

/// What differs between two answers a moment apart.
fn without_times(mut value: Value) -> Value {
    if let Some(control) = value.get_mut("control_plane").and_then(Value::as_object_mut) {
        control.remove("now_unix_ms");
    }
    value
}

fn columns(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split("   ").map(str::trim).filter(|c| !c.is_empty()).collect()
}

#[tokio::test]
async fn services_workloads_and_proxies_are_listed_in_every_format() -> Result<()> {
    let shop = pair().await?;
    let (table, json) = asked(&shop, &["get", "services"]).await?;
    assert_eq!(columns(&table), ["NAMESPACE", "NAME", "PORTS", "USABLE", "REGISTRIES"]);
    assert!(table.contains("api") && table.contains("1/1") && table.contains("file/test"), "{table}");
    assert_eq!(json.as_array().map(Vec::len), Some(1), "{json}");

    let (table, json) = asked(&shop, &["get", "workloads"]).await?;
    for part in ["default/api", "127.0.0.1", "healthy", "spiffe://test.weft/ns/default/sa/api"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    assert_eq!(json[0]["health"], "healthy", "{json}");

    let (table, json) = asked(&shop, &["get", "proxies"]).await?;
    assert_eq!(table.matches("in sync").count(), 2, "{table}");
    assert_eq!(json.as_array().map(Vec::len), Some(2), "{json}");
    Ok(())
}

#[tokio::test]
async fn a_name_and_a_namespace_choose_and_what_nothing_has_is_an_error() -> Result<()> {
    let shop = pair().await?;
    let object = shop
        .object()?
        .1
        .replace("name: api-v1", "name: other")
        .replace("kind: Workload", "kind: Workload\nnamespace: shop");
    shop.mesh.register("other.yaml", &object)?;
    eventually("both are there", async || {
        Ok((shop.mesh.admin("/v1/services").await?.as_array().map(Vec::len) == Some(2)).then_some(()))
    })
    .await?;
    shop.mesh.in_sync(2).await?;
    let count = async |arguments: &[&str]| -> Result<usize> {
        asked(&shop, arguments).await?.1.as_array().map(Vec::len).context("a list")
    };
    for (kind, name) in [("services", "api"), ("workloads", "api")] {
        assert_eq!(count(&["get", kind, name]).await?, 2, "{kind}");
        assert_eq!(count(&["get", kind, "-n", "shop"]).await?, 1, "{kind}");
        assert_eq!(count(&["get", kind, "shop/api"]).await?, 1, "{kind}");
        assert_eq!(count(&["get", kind, name, "-n", "default"]).await?, 1, "{kind}");
    }
    assert_eq!(count(&["get", "workloads", "file/test/other"]).await?, 1);
    assert_eq!(count(&["get", "proxies", "default/web"]).await?, 1);
    assert_eq!(count(&["get", "proxies", "-n", "nobody"]).await?, 0);
    let (table, json) = asked(&shop, &["get", "proxies", "default/web"]).await?;
    assert!(table.contains("Workload") && table.contains("SUBSCRIBED"), "{table}");
    assert!(json[0]["types"].as_array().is_some_and(|types| types.len() >= 3), "{json}");
    for kind in ["services", "workloads", "proxies"] {
        let ended = weft(&shop.mesh, &["get", kind, "aip"]).await?;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        assert!(
            ended.err.contains("aip") && ended.err.contains(&format!("weft get {kind}")),
            "{}",
            ended.err
        );
    }
    let wrong = weft(&shop.mesh, &["get", "services", "-n", "not/one"]).await?;
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn status_shows_all_three_parts_and_check_tells_order_from_disorder() -> Result<()> {
    let shop = pair().await?;
    let (table, json) = asked(&shop, &["status"]).await?;
    for part in ["Control plane", "Registries", "Proxies", "test.weft", "file/test", "synced", "in sync"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    assert_eq!(
        (&json["control_plane"]["ready"], &json["registries"][0]["state"]),
        (&true.into(), &"synced".into())
    );
    assert_eq!(weft(&shop.mesh, &["status", "--check"]).await?.code, Some(0));
    shop.mesh.register("bad.yaml", "kind: Workload\n")?;
    let bad = eventually("it is not in order", async || {
        let ended = weft(&shop.mesh, &["status", "--check"]).await?;
        Ok((ended.code == Some(1)).then_some(ended))
    })
    .await?;
    assert!(bad.err.contains("1 thing is not in order") && bad.out.contains("bad.yaml:1"), "{bad:?}");
    assert_eq!(weft(&shop.mesh, &["status"]).await?.code, Some(0));
    Ok(())
}

#[tokio::test]
async fn without_a_control_plane_every_command_says_what_to_do() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("admin.sock").display().to_string();
    // A socket that nobody listens on any more is left by a control plane that was killed.
    let left = directory.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left)?);
    let left = left.display().to_string();
    let commands: [&[&str]; 6] = [
        &["get", "services"],
        &["get", "proxies", "a"],
        &["status"],
        &["status", "--check", "-o", "json"],
        &["token", "list"],
        &["token", "create", "--identity", "a/b"],
    ];
    for control in [socket.as_str(), &left, "http://127.0.0.1:1"] {
        for command in commands {
            let ended = run("weft", &[&["--control", control], command].concat(), &[]).await?;
            assert_eq!(
                (ended.code, ended.out.as_str()),
                (Some(3), ""),
                "{command:?} at {control}: {ended:?}"
            );
            assert!(ended.err.contains("start weft-control"), "{command:?} at {control}: {}", ended.err);
        }
    }
    let by_variable = run("weft", &["status"], &[("WEFT_CONTROL", &socket)]).await?;
    assert!(by_variable.code == Some(3) && by_variable.err.contains(&socket), "{by_variable:?}");
    Ok(())
}

#[tokio::test]
async fn every_shell_gets_a_completion_script_that_it_can_read() -> Result<()> {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run("weft", &["completion", shell], &[]).await?;
        assert_eq!(script.code, Some(0), "{script:?}");
        assert!(script.out.contains("status") && !script.out.contains('\x1b'), "{shell}: {}", script.out);
    }
    let script = run("weft", &["completion", "bash"], &[]).await?.out;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("weft.bash");
    std::fs::write(&file, script)?;
    let read = tokio::process::Command::new("bash").arg("-n").arg(&file).output().await?;
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert_eq!(run("weft", &["completion", "cobol"], &[]).await?.code, Some(2));
    Ok(())
}
