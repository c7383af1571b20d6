//! Consul's leaves as proof of identity, with ACLs on: who gets which identity, and that renewal needs no Consul.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde_json::Value;
use weft_integration::{ProxyPlan, eventually, get, http1};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer};

use crate::world::{BOTH, World, load, none_failed, on_consul};

/// What the manual says that the control plane's token needs.
pub(crate) const CONTROL_PLANE_RULES: &str = "\
    node_prefix \"\" { policy = \"read\" } service_prefix \"\" { policy = \"read\" } agent_prefix \"\" { policy = \"read\" }";

/// A token with these rules, in a file.
pub(crate) async fn token_file(
    consul: &ConsulServer,
    directory: &Path,
    name: &str,
    rules: &str,
) -> Result<PathBuf> {
    let token = consul.make_token(name, rules).await?;
    let path = directory.join(format!("{name}.token"));
    std::fs::write(&path, format!("{token}\n"))?;
    Ok(path)
}

#[tokio::test]
async fn a_proxy_with_the_services_leaf_is_that_service_and_no_other() -> Result<()> {
    let options = ConsulOptions { acl: true, ..ConsulOptions::default() };
    on_consul(BOTH, options, "the Consul attestor, ACLs on", async |consul| {
        let files = tempfile::tempdir()?;
        let control = token_file(&consul, files.path(), "control", CONTROL_PLANE_RULES).await?;
        let write = |service: &str| format!("service \"{service}\" {{ policy = \"write\" }}");
        let api = token_file(&consul, files.path(), "api", &write("api")).await?;
        let other = token_file(&consul, files.path(), "other", &write("other")).await?;
        let agent = consul.address();
        let tables = "[ca]\nleaf_ttl = \"10s\"\n[ca.consul.\"consul/dc1\"]\ndatacenter = \"dc1\"\n";
        let mut world = World::start(consul, &format!("token_file = {control:?}"), tables).await?;
        let status = world.mesh.admin("/v1/status").await?;
        let pin = status["control_plane"]["roots"][0]["sha256"].as_str().context("a root's pin")?.to_owned();
        let proof = |service: &str, token: &Path| {
            format!("[identity.consul]\naddress = \"{agent}\"\nservice = \"{service}\"\nregistry = \"consul/dc1\"\ntoken_file = {token:?}\n")
        };
        let attested = |plan: ProxyPlan, service: &str, token: &Path| plan.pin(&pin).identity_table(&proof(service, token));

        // Before anybody else asked this agent for api's leaf: Consul itself refuses.
        let thief = world.mesh.proxy(attested(ProxyPlan::new("thief", "api"), "api", &other)).await?;
        eventually("the thief gets no leaf", async || {
            let (status, body) = thief.admin("/ready").await?;
            ensure!(status == 503 && thief.process.log().contains("403"), "{status} {body}");
            Ok(Some(()))
        })
        .await?;

        let web = world.web().await?;
        let impostor = world.member_with("api", "v0", |plan| attested(plan, "other", &other)).await?;
        world.register(&impostor.definition()).await?;
        world.web_knows(&web, 1).await?;
        let request = Request::get("/").header("host", "test").body(Full::<Bytes>::default())?;
        assert_eq!(http1(web.upstream("api"), request).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
        let line = eventually("the access log says why", async || Ok(web.access_log().pop())).await?;
        assert_eq!(line["response_flags"], "UTI", "{line}");
        assert!(line.to_string().contains("ns/default/sa/other"), "{line}");
        world.consul.put("agent/service/deregister/api-v0", &Value::Null).await?;
        world.web_knows(&web, 0).await?;

        let real = world.member_with("api", "v1", |plan| attested(plan, "api", &api)).await?;
        assert_eq!(identity(&real.proxy).await?.0, "spiffe://test.weft/ns/default/sa/api");
        world.register(&real.definition()).await?;
        world.web_knows(&web, 1).await?;
        eventually("api answers", async || get(web.upstream("api"), "/").await.map(Some)).await?;

        // A renewal is proven by the current certificate: it needs no Consul.
        let load = load(&web);
        let before = identity(&real.proxy).await?.1;
        world.consul.kill()?;
        eventually("api's certificate is renewed twice", async || {
            let (_, generation) = identity(&real.proxy).await?;
            ensure!(generation >= before + 2, "generation {generation}, before {before}");
            Ok(Some(()))
        })
        .await?;
        none_failed(&load.stop().await, "renewal without Consul");
        Ok(())
    })
    .await
}

/// Who a proxy is, and how many certificates it has had.
async fn identity(proxy: &weft_integration::Proxy) -> Result<(String, u64)> {
    let dump: Value = serde_json::from_str(&proxy.admin("/config_dump").await?.1)?;
    let identity = &dump["identity"];
    let id = identity["id"].as_str().with_context(|| identity.to_string())?;
    Ok((id.to_owned(), identity["generation"].as_u64().context("a generation")?))
}
