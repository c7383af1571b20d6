//! Clusters that come and go as Secrets, on two real API servers: one has the Secrets, the other is the cluster.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use weft_integration::{Mesh, MeshPlan, eventually};
use weft_registry_kubernetes::testkit::{ApiServer, User};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// A kubeconfig that needs no file.
fn kubeconfig(server: &ApiServer) -> Result<String> {
    let path = server.settings(User::Admin)?.kubeconfig.context("it has one")?;
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)?;
    let root = std::fs::read(path.with_file_name("ca.pem"))?;
    let cluster = &mut config["clusters"][0]["cluster"];
    cluster.as_object_mut().context("an object")?.remove("certificate-authority");
    cluster["certificate-authority-data"] = STANDARD.encode(root).into();
    Ok(config.to_string())
}

async fn put(here: &ApiServer, name: &str, kubeconfig: &str) -> Result<()> {
    let secret = json!({
        "metadata": {"name": name, "labels": {"weft.dev/registry": "kubernetes"}},
        "stringData": {"kubeconfig": kubeconfig},
    });
    Ok(here.put(SECRETS, &secret).await?)
}

async fn registries(mesh: &Mesh) -> Result<Vec<String>> {
    let said = mesh.admin("/v1/status").await?;
    let all = said["registries"].as_array().cloned().unwrap_or_default();
    Ok(all.iter().map(|one| one["id"].as_str().unwrap_or_default().to_owned()).collect())
}

async fn has_api(mesh: &Mesh, expected: bool) -> Result<Option<()>> {
    let services = mesh.admin("/v1/services").await?;
    let has = services.to_string().contains("\"shop/api\"");
    ensure!(has == expected, "{services}");
    Ok(Some(()))
}

async fn told(here: &ApiServer, secret: &str, words: &str) -> Result<()> {
    eventually("an Event on the Secret", async || {
        let events = here.send(Method::GET, "/api/v1/namespaces/default/events", &Value::Null).await?;
        let events = events["items"].as_array().cloned().unwrap_or_default();
        let is_it = |event: &&Value| {
            event["involvedObject"]["kind"] == "Secret"
                && event["involvedObject"]["name"] == secret
                && event["reason"] == "WeftInvalid"
                && event["message"].as_str().is_some_and(|message| message.contains(words))
        };
        ensure!(events.iter().find(is_it).is_some(), "{events:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_followed_while_its_secret_is_there_and_a_wrong_one_costs_nothing() -> Result<()> {
    let (Some(here), Some(east)) = (ApiServer::start().await?, ApiServer::start().await?) else {
        return Ok(());
    };
    east.put("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await?;
    let api = json!({"metadata": {"namespace": "shop", "name": "api"}, "spec": {"ports": [{"port": 80}]}});
    east.put("/api/v1/namespaces/shop/services", &api).await?;
    let path = here.settings(User::Admin)?.kubeconfig.context("it has one")?;
    let more = format!(
        "[[registry]]\nid = \"kubernetes/here\"\n[registry.kubernetes]\nkubeconfig = {path:?}\n\n\
         [registry_secrets]\nregistry = \"kubernetes/here\"\nnamespace = \"default\"\n"
    );
    let mesh = Mesh::start(MeshPlan { more, ..MeshPlan::default() }).await?;
    has_api(&mesh, false).await?;

    let good = kubeconfig(&east)?;
    put(&here, "east", &good).await?;
    eventually("its services are the mesh's", async || has_api(&mesh, true).await).await?;
    assert!(registries(&mesh).await?.contains(&"kubernetes/east".to_owned()));

    let user = &serde_json::from_str::<Value>(&good)?["users"][0]["user"].to_string();
    let exec = good.replace(
        user,
        r#"{"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/sh"}}"#,
    );
    put(&here, "west", &exec).await?;
    told(&here, "west", "users[test].user.exec is not allowed there").await?;
    eventually("it stands among the registries", async || {
        let all = mesh.admin("/v1/status").await?;
        ensure!(all.to_string().contains("user.exec is not allowed"), "{all}");
        Ok(Some(()))
    })
    .await?;
    put(&here, "here", &good).await?;
    told(&here, "here", "the settings have a registry kubernetes/here already").await?;
    // One that was good keeps being followed by its last good state.
    put(&here, "east", "nonsense: [").await?;
    told(&here, "east", "not YAML in the form of a kubeconfig").await?;
    east.delete("/api/v1/namespaces/shop/services/api").await?;
    eventually("it is still followed", async || has_api(&mesh, false).await).await?;
    east.put("/api/v1/namespaces/shop/services", &api).await?;
    put(&here, "east", &good).await?;
    eventually("and again by the new one", async || has_api(&mesh, true).await).await?;

    here.delete(&format!("{SECRETS}/east")).await?;
    eventually("what it held goes with it", async || has_api(&mesh, false).await).await?;
    here.delete(&format!("{SECRETS}/west")).await?;
    eventually("and so does the wrong one", async || {
        let left = registries(&mesh).await?;
        ensure!(
            left == ["file/test", "kubernetes/here"] || left == ["kubernetes/here", "file/test"],
            "{left:?}"
        );
        Ok(Some(()))
    })
    .await?;
    mesh.stop().await
}
