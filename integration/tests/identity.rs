//! Who is who: tokens, certificates as strict SPIFFE clients read them, and callees that are not who they should be.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use tokio::process::Command;
use weft_integration::{Mesh, MeshPlan, ProxyPlan, eventually, get, http1, ran_on, skipped_on};

#[tokio::test]
async fn a_join_token_works_once_and_for_its_identity_alone() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let token = mesh.token("default/web").await?;
    let table = |token: &str| format!("[identity]\njoin_token = \"{token}\"\n");
    let first = mesh.proxy(ProxyPlan::new("first", "web").identity_table(&table(&token))).await?;
    first.ready().await?;
    let dump: serde_json::Value = serde_json::from_str(&first.admin("/config_dump").await?.1)?;
    assert!(dump.to_string().contains("spiffe://test.weft/ns/default/sa/web"), "{dump}");

    let second = mesh.proxy(ProxyPlan::new("second", "web").identity_table(&table(&token))).await?;
    eventually("the second use is refused", async || {
        let (status, body) = second.admin("/ready").await?;
        anyhow::ensure!(status == 503 && body.contains("not attested"), "{status} {body}");
        Ok(Some(()))
    })
    .await?;
    let log = std::fs::read_to_string(mesh.path().join("control.log"))?;
    assert!(log.contains("used"), "the log does not say why: {log}");
    Ok(())
}

#[tokio::test]
async fn a_callee_with_another_identity_than_the_registry_says_is_refused() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let app = mesh.http_app("api", "v1").await?;
    // It proves `impostor`; the registry says that api's endpoint is `api`.
    let plan = ProxyPlan::new("api-v1", "impostor").inbound(app.address.port(), "http1");
    let callee = mesh.proxy(plan).await?;
    let object = callee
        .object("api", "v1", app.address.port(), "http1")
        .replace("identity: impostor", "identity: api");
    mesh.register("api.yaml", &object)?;
    callee.ready().await?;
    let web = mesh.proxy(ProxyPlan::new("web", "web").upstream("api")).await?;
    web.ready().await?;
    let request = Request::get("/").header("host", "test").body(Full::<Bytes>::default())?;
    let response = http1(web.upstream("api"), request).await?;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let line = eventually("the access log says why", async || Ok(web.access_log().pop())).await?;
    assert_eq!(line["response_flags"], "UTI", "{line}");
    assert!(line.to_string().contains("impostor"), "{line}");
    // The truth in the registry mends it.
    mesh.register("api.yaml", &object.replace("identity: api", "identity: impostor"))?;
    eventually("the call is answered", async || get(web.upstream("api"), "/").await.map(Some)).await?;
    Ok(())
}

#[tokio::test]
async fn an_endpoint_outside_the_mesh_needs_the_upstreams_word() -> Result<()> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let app = mesh.http_app("old", "v1").await?;
    let port = app.address.port();
    mesh.register(
        "old.yaml",
        &format!(
            "kind: Workload\nname: old-1\nservice: old\naddresses: [127.0.0.1]\nports: [{{name: main, number: {port}, protocol: http1}}]\n"
        ),
    )?;
    let plain = ProxyPlan::new("plain", "web").upstream_with("old", "plaintext = true");
    let (strict, plain) =
        (mesh.proxy(ProxyPlan::new("strict", "web").upstream("old")).await?, mesh.proxy(plain).await?);
    strict.ready().await?;
    plain.ready().await?;
    let request =
        || Ok::<_, anyhow::Error>(Request::get("/").header("host", "t").body(Full::<Bytes>::default())?);
    assert_eq!(http1(strict.upstream("old"), request()?).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(http1(plain.upstream("old"), request()?).await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn certificates_pass_a_strict_spiffe_client() -> Result<()> {
    let what = "certificates against the strict SPIFFE profile";
    let Some(packages) = spiffe_package() else {
        skipped_on("spiffe 0.3.2", what);
        return Ok(());
    };
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let web = mesh.proxy(ProxyPlan::new("web", "web")).await?;
    web.ready().await?;
    let state = mesh.path().join("web");
    let script = r#"
import json, pathlib, sys
from spiffe import TrustDomain, X509Bundle, X509Svid
state = pathlib.Path(sys.argv[1])
pem = (state / "svid.pem").read_bytes()
blocks = lambda kind: b"".join(
    b"-----BEGIN " + kind + part.split(b"-----END " + kind)[0] + b"-----END " + kind + b"-----\n"
    for part in pem.split(b"-----BEGIN " + kind)[1:]
)
svid = X509Svid.parse(blocks(b"CERTIFICATE"), blocks(b"PRIVATE KEY"))
print("id", svid.spiffe_id)
roots = json.loads((state / "bundles.json").read_text())["test.weft"].encode()
print("roots", len(X509Bundle.parse(TrustDomain("test.weft"), roots).x509_authorities))
"#;
    let output =
        Command::new("python3").args(["-c", script]).arg(&state).env("PYTHONPATH", packages).output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("id spiffe://test.weft/ns/default/sa/web"), "{said}");
    assert!(said.contains("roots 1"), "{said}");
    ran_on("spiffe 0.3.2", what);
    Ok(())
}

#[allow(clippy::disallowed_methods)] // how cargo xtask test says where it is
fn spiffe_package() -> Option<PathBuf> {
    std::env::var_os("WEFT_PYTHON_SPIFFE").map(PathBuf::from).filter(|path| path.exists())
}

#[tokio::test]
async fn state_that_was_tampered_with_is_refused_by_name() -> Result<()> {
    let mut mesh = Mesh::start(MeshPlan::default()).await?;
    mesh.kill_control().await?;
    let state = mesh.state();
    let keys: Vec<_> = std::fs::read_dir(&state)
        .with_context(|| state.display().to_string())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("root") || path.is_dir())
        .collect();
    let root = find(&keys, "root").context("the CA keeps its root in a file of that name")?;
    std::fs::write(&root, b"half a fi")?;
    let failed = mesh.start_control().await;
    let said = format!("{:#}", failed.err().context("it started with a broken root")?);
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    assert!(said.contains(&name), "{name} is not named in: {said}");
    Ok(())
}

fn find(paths: &[PathBuf], part: &str) -> Option<PathBuf> {
    for path in paths {
        if path.is_dir() {
            let inside: Vec<_> =
                std::fs::read_dir(path).ok()?.filter_map(Result::ok).map(|e| e.path()).collect();
            if let Some(found) = find(&inside, part) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)) {
            return Some(path.clone());
        }
    }
    None
}
