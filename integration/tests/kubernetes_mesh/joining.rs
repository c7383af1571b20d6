//! The control planes of a cluster from outside: a token that is good once, at whichever of them it is shown to, and one status of
//! all.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::process::Command;
use tonic::Code;
use tonic::transport::Channel;
use weft_identity::{CONTROL_PLANE_PATH, JoinToken, new_key_and_csr, pinned_client_config};
use weft_integration::Process;
use weft_proto::ca::v1 as ca;
use weft_proto::ca::v1::certificate_authority_client::CertificateAuthorityClient;
use weft_proto::ca::v1::issue_request::Attestation;

use crate::world::{World, name};

const VM: &str = "spiffe://weft.local/ns/shop/sa/vm";

/// A control plane that runs and answers nobody; never ready, so no proxy comes to it.
const SILENT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: silent, namespace: weft-system, labels: {app.kubernetes.io/name: weft-control}}
spec:
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: "weft.test/app:1"
    imagePullPolicy: Never
    command: [sleep, "1000000"]
    readinessProbe: {exec: {command: ["false"]}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"#;

/// `weft status` names every proxy, whichever control plane it is connected to, and says which of them does not answer.
pub(crate) async fn all_control_planes_answer_as_one(world: &World) -> Result<()> {
    let status = status(world).await?;
    assert_eq!(status["control_plane"]["ready"], true, "{status}");
    let mut pods = world.pods("shop", "app").await?;
    pods.retain(|pod| pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null());
    ensure!(pods.len() >= 5, "{} pods", pods.len());
    for pod in &pods {
        let name = name(pod)?;
        ensure!(status["proxies"].to_string().contains(&name), "{name} is missing: {status}");
    }
    world.cluster.apply(SILENT).await?;
    let runs = ["wait", "-n", "weft-system", "pod/silent", "--for=jsonpath={.status.phase}=Running"];
    world.kubectl(&runs).await?;
    let other = self::status(world).await?;
    assert_eq!(other["control_plane"]["ready"], false, "{other}");
    ensure!(other["control_plane"]["notes"].to_string().contains("3 control planes"), "{other}");
    ensure!(other["proxies"].to_string().contains(&name(&pods[0])?), "{other}");
    world.kill("weft-system", "silent").await
}

async fn status(world: &World) -> Result<Value> {
    Ok(serde_json::from_str(&weft(world, &["status", "-o", "json"]).await?)?)
}

/// Of several control planes each takes a token that none of them made, and one of them takes it once.
pub(crate) async fn a_token_is_good_once_at_one_of_all_control_planes(world: &World) -> Result<()> {
    let label = "app.kubernetes.io/name=weft-control";
    let mut addresses = Vec::new();
    for pod in world.pods("weft-system", label).await? {
        if pod["metadata"].get("deletionTimestamp").is_none() {
            let ip = pod["status"]["podIP"].as_str().context("an address")?;
            addresses.push(format!("{ip}:15010"));
        }
    }
    ensure!(addresses.len() == 2, "control planes: {addresses:?}");
    for used_at in 0..addresses.len() {
        let token = weft(world, &["token", "create", "--identity", "shop/vm"]).await?;
        let issued = ask(&addresses[used_at], token.trim()).await??;
        let leaf = issued.chain.first().context("a leaf")?.to_vec().into();
        assert_eq!(weft_identity::peer_id(&[leaf])?.to_string(), VM);
        for address in &addresses {
            let again = ask(address, token.trim()).await?.err().context("it is good twice")?;
            assert_eq!(again.code(), Code::PermissionDenied, "{again}");
        }
    }
    let revoked: JoinToken = weft(world, &["token", "create", "--identity", VM]).await?.parse()?;
    weft(world, &["token", "revoke", revoked.id()]).await?;
    let refused = ask(&addresses[0], &revoked.to_string()).await?.err().context("it was revoked")?;
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let listed: Value = serde_json::from_str(&weft(world, &["token", "list", "-o", "json"]).await?)?;
    let states: Vec<_> = listed.as_array().into_iter().flatten().map(|one| &one["state"]).collect();
    assert_eq!(states, ["used", "used"], "{listed}");
    let error =
        weft(world, &["token", "create", "--identity", "vm"]).await.err().context("that is no identity")?;
    ensure!(error.to_string().contains("expected NAMESPACE/SERVICE-ACCOUNT"), "{error}");
    Ok(())
}

/// `weft`, as a user types it who speaks of the cluster's control planes.
async fn weft(world: &World, words: &[&str]) -> Result<String> {
    let mut command = Command::new(Process::program("weft")?);
    command.args(["--control", "kubernetes"]).args(words);
    command.env("KUBECONFIG", world.cluster.kubeconfig());
    let output = command.output().await?;
    if !output.status.success() {
        bail!("weft {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

async fn ask(address: &str, token: &str) -> Result<Result<ca::IssueResponse, tonic::Status>> {
    let pin = token.parse::<JoinToken>()?.pin();
    let tls = pinned_client_config(&[pin], CONTROL_PLANE_PATH, &[b"h2"])?;
    let channel: Channel = weft_xds_client::connect(address, tls).await?;
    let attestation = Some(Attestation::JoinToken(ca::JoinToken { token: token.to_owned() }));
    let request = ca::IssueRequest { csr: new_key_and_csr(None)?.1.into(), attestation };
    let issued = CertificateAuthorityClient::new(channel).issue(request).await;
    Ok(issued.map(tonic::Response::into_inner))
}
