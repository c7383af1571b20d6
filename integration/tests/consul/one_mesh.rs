//! One service whose instances are in files and in Consul, and what the command line shows of it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use weft_integration::{eventually, get};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer};

use crate::world::{BOTH, World, a_while, load_on_both, none_failed, on_consul};

#[tokio::test]
async fn one_service_spans_files_and_consul_and_both_sides_call_each_other() -> Result<()> {
    let what = "one mesh over files and Consul";
    on_consul(BOTH, ConsulOptions::default(), what, async |consul| {
        let world = World::start(consul, "", "").await?;
        let web = world.member_with("web", "v1", |plan| plan.upstream("api")).await?;
        let v1 = world.member("api", "v1").await?;
        let v2 = world.member_with("api", "v2", |plan| plan.upstream("web")).await?;
        world.mesh.register("web.yaml", &web.object())?;
        world.mesh.register("api.yaml", &v1.object())?;
        register_by_command(&world.consul, &v2.definition(), world.mesh.path()).await?;
        world.web_knows(&web.proxy, 2).await?;

        let load = load_on_both(&web.proxy).await?;
        let answer = get(web.proxy.upstream("api"), "/").await?;
        assert_eq!(answer.caller.as_deref(), Some("spiffe://test.weft/ns/default/sa/web"));
        let back =
            eventually("v2 calls web back", async || get(v2.proxy.upstream("web"), "/").await.map(Some))
                .await?;
        assert_eq!(back.caller.as_deref(), Some("spiffe://test.weft/ns/default/sa/api"));
        shown(&world).await?;

        world.consul.put("agent/service/deregister/api-v2", &Value::Null).await?;
        world.web_knows(&web.proxy, 1).await?;
        // Calls that were under way may still end on v2.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let before = load.so_far().by_version.get("v2").copied();
        a_while().await;
        let outcome = load.stop().await;
        assert_eq!(outcome.by_version.get("v2").copied(), before, "v2 is called although it is gone");
        none_failed(&outcome, "v2 deregistered");
        Ok(())
    })
    .await
}

/// `consul services register FILE`, as a user does it.
async fn register_by_command(consul: &ConsulServer, definition: &Value, directory: &Path) -> Result<()> {
    let service = json!({"service": {
        "id": definition["ID"], "name": definition["Name"], "address": definition["Address"],
        "port": definition["Port"], "meta": definition["Meta"],
    }});
    let file = directory.join("service.json");
    std::fs::write(&file, service.to_string())?;
    let mut command = Command::new(consul.version().binary().context("the binary is there")?);
    command.args(["services", "register", "-http-addr", &consul.address()]).arg(&file);
    let output = command.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What `weft get` and `weft status` show of it, in all forms.
async fn shown(world: &World) -> Result<()> {
    let weft = async |arguments: &[&str]| world.mesh.weft(arguments).await;
    let services = weft(&["get", "services"]).await?;
    let api = services
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some("api"))
        .context("api is listed")?;
    for word in ["2/2", "file/test", "consul/dc1"] {
        assert!(api.contains(word), "{word} is missing: {services}");
    }
    let workloads = weft(&["get", "workloads", "api"]).await?;
    let v2 =
        workloads.lines().find(|line| line.contains("consul/dc1/node-1/api-v2")).context("v2 is listed")?;
    for word in ["healthy", "http1", "spiffe://test.weft/ns/default/sa/api"] {
        assert!(v2.contains(word), "{word} is missing: {workloads}");
    }
    let status = weft(&["status"]).await?;
    for id in ["file/test", "consul/dc1"] {
        let line = status
            .lines()
            .find(|line| line.trim_start().starts_with(id))
            .context("the registry is listed")?;
        assert!(line.contains("synced"), "{status}");
    }
    assert_eq!(status.matches("in sync").count(), 3, "{status}");

    let json: Value = serde_json::from_str(&weft(&["get", "workloads", "-o", "json"]).await?)?;
    let provenance = |id: &str| {
        let found = json.as_array()?.iter().find(|workload| workload["id"] == id)?;
        Some((found["health"].clone(), found["provenance"].as_array()?.first()?.clone()))
    };
    let (health, from) = provenance("consul/dc1/node-1/api-v2").context("v2 is in the JSON")?;
    assert_eq!(health, "healthy");
    assert_eq!((&from["registry"], &from["object"]), (&json!("consul/dc1"), &json!("node-1/api-v2")));
    for arguments in [["get", "services"], ["get", "workloads"], ["get", "proxies"]] {
        let [verb, what] = arguments;
        let json: Value = serde_json::from_str(&weft(&[verb, what, "-o", "json"]).await?)?;
        let yaml: Value = serde_saphyr::from_str(&weft(&[verb, what, "-o", "yaml"]).await?)?;
        assert!(json.as_array().is_some_and(|all| all.len() >= 2), "{json}");
        // Ages and counters may move between the two.
        assert_eq!(names(&json), names(&yaml));
    }
    let status: Value = serde_json::from_str(&weft(&["status", "-o", "json"]).await?)?;
    let yaml: Value = serde_saphyr::from_str(&weft(&["status", "-o", "yaml"]).await?)?;
    assert_eq!(names(&status["registries"]), names(&yaml["registries"]));
    Ok(())
}

fn names(all: &Value) -> Vec<String> {
    let name = |one: &Value| ["id", "name", "service"].iter().map(|key| one[key].to_string()).collect();
    all.as_array().into_iter().flatten().map(name).collect()
}
