//! Attestation by a real API server: whose token proves what, and what each other token is refused for. And a pod with a
//! proxy in it, which proves itself and whose kubelet asks the application through the health port.
//!
//! The control plane has no more rights than the guide says: reviews of tokens, and reading pods.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};
use weft_identity::{CONTROL_PLANE_PATH, RootPin, new_key_and_csr, pinned_client_config};
use weft_integration::{Cluster, KUBERNETES, Mesh, MeshPlan, ProxyPlan, eventually, ran_on};
use weft_proto::ca::v1 as ca;
use weft_proto::ca::v1::certificate_authority_client::CertificateAuthorityClient;
use weft_proto::ca::v1::issue_request::Attestation;

/// What the control plane may do, and the pods' service account.
const RIGHTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: control, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: attest}
rules:
- {apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create]}
- {apiGroups: [""], resources: [pods], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: attest}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: attest}
subjects: [{kind: ServiceAccount, name: control, namespace: shop}]
"#;

/// A pod of the service account `web`, with a token for us.
fn pod(name: &str, command: &str, grace: u32) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "serviceAccountName": "web", "restartPolicy": "Never", "terminationGracePeriodSeconds": grace,
            "containers": [{
                "name": "app", "image": "weft.test/app:1", "imagePullPolicy": "Never", "command": ["sh", "-c", command],
                "volumeMounts": [{"name": "weft-token", "mountPath": "/var/run/secrets/weft.dev"}],
            }],
            "volumes": [token_volume()],
        },
    });
    pod.to_string()
}

fn token_volume() -> Value {
    let token = json!({"path": "token", "audience": "weft", "expirationSeconds": 3600});
    json!({"name": "weft-token", "projected": {"sources": [{"serviceAccountToken": token}]}})
}

/// A cluster, and a control plane beside it that attests its pods.
struct World {
    cluster: Cluster,
    mesh: Mesh,
    pin: RootPin,
}

impl World {
    async fn start(cluster: Cluster) -> Result<Self> {
        cluster.apply(RIGHTS).await?;
        let settings = format!(
            "[ready]\nregistry_deadline = \"100ms\"\n[[registry]]\nid = \"kubernetes/test\"\n\
             [registry.kubernetes]\nkubeconfig = \"{}\"\n[ca.kubernetes.\"kubernetes/test\"]\n",
            limited(&cluster).await?.display()
        );
        let listen = Some(Ipv4Addr::UNSPECIFIED.into());
        let mesh = Mesh::start(MeshPlan { more: settings, listen, ..MeshPlan::default() }).await?;
        let status = mesh.admin("/v1/status").await?;
        let pin = status["control_plane"]["roots"][0]["sha256"].as_str().context("a root")?.parse()?;
        Ok(Self { cluster, mesh, pin })
    }

    /// A running pod, and the token that the kubelet gave it.
    async fn pod(&self, name: &str, command: &str, grace: u32) -> Result<String> {
        self.cluster.apply(&pod(name, command, grace)).await?;
        let wait = ["wait", "-n", "shop", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"];
        self.cluster.kubectl(&wait).await?;
        let read = ["exec", "-n", "shop", name, "--", "cat", "/var/run/secrets/weft.dev/token"];
        self.cluster.kubectl(&read).await
    }

    /// A token that somebody makes with `kubectl`.
    async fn token(&self, more: &[&str]) -> Result<String> {
        let made = self.cluster.kubectl(&[&["create", "token", "web", "-n", "shop"], more].concat()).await?;
        Ok(made.trim().to_owned())
    }

    async fn ask(&self, token: &str) -> Result<Result<ca::IssueResponse, Status>> {
        let tls = pinned_client_config(&[self.pin], CONTROL_PLANE_PATH, &[b"h2"])?;
        let channel: Channel = weft_xds_client::connect(&self.mesh.address(), tls).await?;
        let (registry, token) = ("kubernetes/test".to_owned(), token.to_owned());
        let attestation = Some(Attestation::KubernetesToken(ca::KubernetesToken { registry, token }));
        let request = ca::IssueRequest { csr: new_key_and_csr(None)?.1.into(), attestation };
        let issued = CertificateAuthorityClient::new(channel).issue(request).await;
        Ok(issued.map(tonic::Response::into_inner))
    }

    /// The identity that the token proves.
    async fn proves(&self, token: &str) -> Result<String> {
        let issued = self.ask(token).await?.context("no certificate was issued")?;
        let leaf = issued.chain.first().context("a leaf")?.to_vec().into();
        Ok(weft_identity::peer_id(&[leaf])?.to_string())
    }

    async fn count(&self, reason: &str) -> Result<f64> {
        let page = self.mesh.admin("/metrics").await?;
        let label = format!("weft_control_ca_refused_total{{reason=\"{reason}\"}} ");
        let line = page.as_str().context("text")?.lines().find_map(|line| line.strip_prefix(&label));
        Ok(line.with_context(|| format!("no {label}"))?.parse()?)
    }

    /// That the token is refused, is told nothing, and is counted under this reason; and that the log has words and no token.
    async fn refused(&self, what: &str, token: &str, reason: &str, words: &str) -> Result<()> {
        let before = self.count(reason).await?;
        let status = self.ask(token).await?.err().with_context(|| format!("{what}: issued"))?;
        let log = std::fs::read_to_string(self.mesh.path().join("control.log"))?;
        let last = log.lines().rfind(|line| line.contains("no certificate was issued")).unwrap_or_default();
        ensure!(self.count(reason).await? == before + 1.0, "{what}: not counted as {reason}: {last}");
        let expected = if reason == "unavailable" { Code::Unavailable } else { Code::PermissionDenied };
        ensure!(status.code() == expected, "{what}: {status:?}");
        ensure!(expected == Code::Unavailable || status.message() == "not attested", "{what}: {status:?}");
        ensure!(last.contains(words), "{what}: {words:?} is not in: {last}");
        ensure!(token.is_empty() || !log.contains(token), "{what}: the token is in the log");
        Ok(())
    }
}

/// A kubeconfig of the service account `control`.
async fn limited(cluster: &Cluster) -> Result<PathBuf> {
    let config = cluster.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]).await?;
    let mut config: Value = serde_json::from_str(&config)?;
    let token = cluster.kubectl(&["create", "token", "control", "-n", "shop"]).await?;
    config["users"][0]["user"] = json!({"token": token.trim()});
    let path = cluster.kubeconfig().with_file_name("limited");
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}

const WEB: &str = "spiffe://test.weft/ns/shop/sa/web";

#[tokio::test(flavor = "multi_thread")]
async fn a_living_pods_own_token_is_good_and_no_other() -> Result<()> {
    let what =
        "attestation of pods: audiences, bindings, dead pods, other clusters, an API server that is down";
    let (Some(cluster), Some(other)) = tokio::try_join!(Cluster::start(what), Cluster::start(what))? else {
        return Ok(());
    };
    let world = World::start(cluster).await?;
    let token = world.pod("web-1", "sleep 100000", 0).await?;
    for _ in 0..2 {
        assert_eq!(world.proves(&token).await?, WEB);
    }

    let (bound, vault) = (["--bound-object-kind=Pod", "--bound-object-name=web-1"], ["--audience=vault"]);
    let made = world.token(&[&bound[..], &["--audience=weft"]].concat()).await?;
    assert_eq!(world.proves(&made).await?, WEB, "bound to the pod, whoever made it");
    let vault = world.token(&[&bound[..], &vault].concat()).await?;
    world.refused("another audience", &vault, "kubernetes_audience", "audience").await?;
    let api = world.token(&[&bound[..], &["--audience=https://kubernetes.default.svc"]].concat()).await?;
    world.refused("the API server's own audience", &api, "kubernetes_audience", "audience").await?;
    let unbound = world.token(&["--audience=weft"]).await?;
    world
        .refused("bound to no pod", &unbound, "kubernetes_unbound", "system:serviceaccount:shop:web")
        .await?;

    let mut forged: Vec<&str> = token.split('.').collect();
    forged[2] = made.rsplit('.').next().context("a signature")?;
    world
        .refused("another token's signature", &forged.join("."), "kubernetes_token", "does not vouch")
        .await?;
    world.refused("no token", "", "kubernetes_token", "no service account token").await?;
    other.apply(RIGHTS).await?;
    other.apply(&pod("web-1", "sleep 100000", 0)).await?;
    let create = ["create", "token", "web", "-n", "shop", "--audience=weft"];
    let foreign = other.kubectl(&[&create[..], &bound].concat()).await?;
    world.refused("another cluster's", foreign.trim(), "kubernetes_token", "does not vouch").await?;

    dead_pods(&world).await?;
    outages(&world, &token).await?;
    ran_on(KUBERNETES, what);
    Ok(())
}

/// Tokens whose pods end, have ended, are gone, or have a successor.
async fn dead_pods(world: &World) -> Result<()> {
    let ending = world.pod("ending", "trap '' TERM; sleep 100000 & wait; sleep 100000", 600).await?;
    assert_eq!(world.proves(&ending).await?, WEB);
    world.cluster.kubectl(&["delete", "pod", "-n", "shop", "ending", "--wait=false"]).await?;
    world.refused("being deleted", &ending, "kubernetes_pod_ending", "shop/ending").await?;
    world.cluster.kubectl(&["delete", "pod", "-n", "shop", "ending", "--force", "--grace-period=0"]).await?;

    let ended = world.pod("ended", "sleep 5", 0).await?;
    let wait =
        ["wait", "-n", "shop", "--for=jsonpath={.status.phase}=Succeeded", "pod/ended", "--timeout=60s"];
    world.cluster.kubectl(&wait).await?;
    world.refused("ended", &ended, "kubernetes_pod_ending", "shop/ended").await?;

    let gone = world.pod("gone", "sleep 100000", 0).await?;
    world.cluster.kubectl(&["delete", "pod", "-n", "shop", "gone", "--force", "--grace-period=0"]).await?;
    world.refused("deleted", &gone, "kubernetes_pod_gone", "gone").await?;
    let successor = world.pod("gone", "sleep 100000", 0).await?;
    world.refused("its predecessor's", &gone, "kubernetes_pod_gone", "gone").await?;
    assert_eq!(world.proves(&successor).await?, WEB);
    Ok(())
}

/// An API server that is down or does not let us ask is not the pod's fault.
async fn outages(world: &World, token: &str) -> Result<()> {
    world.cluster.stop_api_server().await?;
    world.refused("no API server", token, "unavailable", "reviewing a token").await?;
    world.cluster.start_api_server().await?;
    eventually("the pod is attested again", async || world.proves(token).await.map(Some)).await?;
    world.cluster.kubectl(&["delete", "clusterrolebinding", "attest"]).await?;
    eventually("the right is gone", async || {
        let refused = world.refused("no right to ask", token, "unavailable", "create on tokenreviews").await;
        refused.map(Some)
    })
    .await
}

/// A pod with a proxy as a native sidecar, and an application whose health its kubelet asks through it.
fn proxied(world: &World) -> String {
    let proxy = |name: &str, value: String| json!({"name": format!("WEFT_PROXY_{name}"), "value": value});
    let control = format!(
        "[\"{}:{}\"]",
        world.cluster.host_address(),
        world.mesh.address().rsplit(':').next().unwrap_or_default()
    );
    let probe = |name: &str, way: &str| format!("{{name = \"app.{name}\", timeout = \"2s\", {way}}}");
    let probes = [
        probe("readiness", "http = {port = 8080, path = \"/healthz\"}"),
        probe("liveness", "tcp = {port = 8080}"),
        probe("startup", "http = {port = 8080}"),
    ];
    let at = |path: &str| json!({"httpGet": {"path": path, "port": 15021}, "periodSeconds": 1, "timeoutSeconds": 3});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "proxied", "namespace": "shop"},
        "spec": {
            "serviceAccountName": "web", "terminationGracePeriodSeconds": 1,
            "initContainers": [{
                "name": "weft-proxy", "image": "weft.test/proxy:1", "imagePullPolicy": "Never", "restartPolicy": "Always",
                "env": [
                    proxy("STATE_DIR", "/var/lib/weft-proxy/state".to_owned()),
                    proxy("CONTROL__ADDRESSES", control),
                    proxy("CONTROL__ROOT_SHA256", format!("[\"{}\"]", world.pin)),
                    proxy("IDENTITY__KUBERNETES__REGISTRY", "kubernetes/test".to_owned()),
                    proxy("HEALTH__LISTEN", "\"[::]:15021\"".to_owned()),
                    proxy("HEALTH__PROBE", format!("[{}]", probes.join(", "))),
                ],
                "startupProbe": at("/ready"),
                "securityContext": {"runAsUser": 1337, "runAsGroup": 1337, "runAsNonRoot": true},
                "volumeMounts": [{"name": "weft-token", "mountPath": "/var/run/secrets/weft.dev"},
                                 {"name": "state", "mountPath": "/var/lib/weft-proxy"}],
            }],
            "containers": [{
                "name": "app", "image": "weft.test/workload:1", "imagePullPolicy": "Never",
                "args": ["http", "--name", "web", "--listen", "[::]:8080"],
                "readinessProbe": at("/probe/app.readiness"),
                "livenessProbe": at("/probe/app.liveness"),
                "startupProbe": at("/probe/app.startup"),
            }],
            "securityContext": {"fsGroup": 1337},
            "volumes": [token_volume(), {"name": "state", "emptyDir": {}}],
        },
    });
    pod.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_proxy_proves_itself_and_its_kubelet_asks_the_application_through_it() -> Result<()> {
    let what = "a proxy in a pod: attestation, a restart of its container, probes through the health port";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    cluster.load_workload().await?;
    cluster.load_programs("weft.test/proxy:1", "1337", &["weft-proxy"]).await?;
    let world = World::start(cluster).await?;
    world.cluster.apply(&proxied(&world)).await?;
    let ready = ["wait", "-n", "shop", "--for=condition=Ready", "pod/proxied", "--timeout=60s"];
    if let Err(error) = world.cluster.kubectl(&ready).await {
        let log = world.cluster.kubectl(&["logs", "-n", "shop", "proxied", "-c", "weft-proxy"]).await;
        return Err(error.context(format!("{log:?}")));
    }
    let issued = issued_by_kubernetes(&world).await?;
    assert_eq!(issued, 1.0);
    let id = world.mesh.admin("/v1/proxies").await?.to_string();
    ensure!(id.contains(WEB), "{id}");

    // The container starts again in its pod, with the certificate of its pod's directory.
    let pid = world.cluster.in_node("pgrep").args(["-x", "weft-proxy"]).output().await?;
    let pid = String::from_utf8(pid.stdout)?.trim().to_owned();
    ensure!(world.cluster.in_node("kill").args(["-9", &pid]).status().await?.success(), "no process {pid:?}");
    let restarts =
        "jsonpath={.status.initContainerStatuses[0].restartCount} {.status.initContainerStatuses[0].started}";
    eventually("the proxy's container runs again", async || {
        let seen = world.cluster.kubectl(&["get", "pod", "-n", "shop", "proxied", "-o", restarts]).await?;
        Ok((seen.trim() == "1 true").then_some(()))
    })
    .await?;
    assert_eq!(issued_by_kubernetes(&world).await?, 1.0, "it attested anew");
    world.cluster.kubectl(&ready).await?;
    ran_on(KUBERNETES, what);
    Ok(())
}

async fn issued_by_kubernetes(world: &World) -> Result<f64> {
    let page = world.mesh.admin("/metrics").await?;
    let label = "weft_control_ca_issued_total{attestor=\"kubernetes\"} ";
    let line = page.as_str().context("text")?.lines().find_map(|line| line.strip_prefix(label));
    Ok(line.context("no such metric")?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_outside_takes_up_a_pods_token_when_it_is_there() -> Result<()> {
    let what = "a proxy with a pod's token file";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    let world = World::start(cluster).await?;
    let file = world.mesh.path().join("token");
    let table = format!(
        "[identity.kubernetes]\nregistry = \"kubernetes/test\"\ntoken_file = \"{}\"\n",
        file.display()
    );
    let plan = ProxyPlan::new("web", "web").identity_table(&table).pin(&world.pin.to_string());
    let proxy = world.mesh.proxy(plan).await?;
    eventually("it says which file is missing", async || {
        let (_, body) = proxy.admin("/ready").await?;
        Ok(body.contains("identity.kubernetes.token_file").then_some(()))
    })
    .await?;
    std::fs::write(&file, world.token(&["--audience=weft"]).await?)?;
    eventually("it is refused", async || {
        Ok(proxy.admin("/ready").await?.1.contains("not attested").then_some(()))
    })
    .await?;
    std::fs::write(&file, world.pod("web-1", "sleep 100000", 0).await?)?;
    proxy.ready().await?;
    ensure!(proxy.admin("/config_dump").await?.1.contains(WEB));
    ran_on(KUBERNETES, what);
    Ok(())
}
