//! The manifests in a real cluster: their rights, their end, and pods that they bring into the mesh.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use weft_integration::{Cluster, KUBERNETES, Process, eventually, ran_on};

use crate::tools::{helm, ours};

/// What the control plane's account may do, and, as important, what not.
const RIGHTS: &[(&str, &str, &str, bool)] = &[
    ("list", "services", "--all-namespaces", true),
    ("watch", "pods", "--all-namespaces", true),
    ("get", "pods", "--all-namespaces", true),
    ("watch", "nodes", "", true),
    ("watch", "namespaces", "", true),
    ("watch", "endpointslices.discovery.k8s.io", "--all-namespaces", true),
    ("create", "tokenreviews.authentication.k8s.io", "", true),
    ("create", "events", "--all-namespaces", true),
    ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/weft-injector", "", true),
    ("get", "secrets/weft-ca", "--namespace=mesh", true),
    ("update", "secrets/weft-ca", "--namespace=mesh", false),
    ("get", "secrets/weft-join-tokens", "--namespace=mesh", true),
    ("patch", "secrets/weft-join-tokens", "--namespace=mesh", true),
    ("delete", "secrets/weft-join-tokens", "--namespace=mesh", false),
    ("create", "leases.coordination.k8s.io", "--namespace=mesh", false),
    ("patch", "mutatingwebhookconfigurations.admissionregistration.k8s.io/other", "", false),
    ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "", false),
    ("list", "secrets", "--namespace=mesh", false),
    ("get", "secrets/other", "--namespace=mesh", false),
    ("get", "secrets/weft-ca", "--namespace=default", false),
    ("create", "secrets", "--namespace=default", false),
    ("get", "configmaps", "--namespace=mesh", false),
    ("create", "pods", "--namespace=mesh", false),
    ("delete", "pods", "--all-namespaces", false),
    ("patch", "services", "--all-namespaces", false),
    ("create", "pods/exec", "--all-namespaces", false),
    ("create", "serviceaccounts/token", "--all-namespaces", false),
    ("impersonate", "users", "", false),
];

/// The same of the node agent's, which every node holds a token of.
const CNI_RIGHTS: &[(&str, &str, &str, bool)] = &[
    ("get", "pods", "--all-namespaces", true),
    ("list", "pods", "--all-namespaces", false),
    ("patch", "pods", "--all-namespaces", false),
    ("get", "secrets", "--namespace=mesh", false),
    ("get", "nodes", "", false),
];

#[tokio::test]
async fn a_real_api_server_takes_the_manifests_gives_these_rights_and_is_afterwards_as_it_was() -> Result<()>
{
    let what = "the manifests are installed and taken away";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    ran_on(KUBERNETES, what);
    let before = everything(&cluster).await?;
    let printed = ours("weft", &["install", "kubernetes", "--namespace", "mesh", "--cni"]).await?;
    cluster.apply(&String::from_utf8(printed.stdout)?).await?;
    let rights = RIGHTS
        .iter()
        .map(|right| ("weft-control", right))
        .chain(CNI_RIGHTS.iter().map(|right| ("weft-cni", right)));
    for (account, (verb, resource, place, expected)) in rights {
        let account = &format!("--as=system:serviceaccount:mesh:{account}");
        let words: Vec<&str> =
            ["auth", "can-i", verb, resource, account, place].into_iter().filter(|w| !w.is_empty()).collect();
        let output = cluster.kubectl_command().args(&words).stdin(Stdio::null()).output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim() == "yes", *expected, "{verb} {resource} {place}: {said}");
    }
    with_registries_in_secrets(&cluster).await?;
    uninstall(&cluster).await?;
    let after = everything(&cluster).await?;
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new(), "left behind");
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), Vec::<&String>::new(), "taken with it");
    // A second time there is nothing to do.
    uninstall(&cluster).await
}

/// The rights that one value adds, and no others.
async fn with_registries_in_secrets(cluster: &Cluster) -> Result<()> {
    let Some(helm) = helm("the rights for registries in Secrets") else { return Ok(()) };
    let values = ["createNamespace=true", "cni.enabled=true", "control.registrySecrets=true"];
    cluster.apply(&helm.template("mesh", &values).await?).await?;
    for (verb, resource, place, expected) in [
        ("list", "secrets", "--namespace=mesh", true),
        ("watch", "secrets", "--namespace=mesh", true),
        ("update", "secrets", "--namespace=mesh", false),
        ("delete", "secrets", "--namespace=mesh", false),
        ("list", "secrets", "--namespace=default", false),
        ("list", "secrets", "--all-namespaces", false),
    ] {
        let account = "--as=system:serviceaccount:mesh:weft-control";
        let words = ["auth", "can-i", verb, resource, account, place];
        let output = cluster.kubectl_command().args(words).stdin(Stdio::null()).output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim() == "yes", expected, "{verb} {resource} {place}: {said}");
    }
    Ok(())
}

async fn uninstall(cluster: &Cluster) -> Result<()> {
    // The cluster's own kubectl, with its kubeconfig.
    let given = cluster.kubectl_command();
    let given = given.as_std();
    let mut command = Command::new(Process::program("weft")?);
    command
        .args(["uninstall", "kubernetes", "--namespace", "mesh", "--yes", "--kubectl"])
        .arg(given.get_program());
    command.env("KUBECONFIG", cluster.kubeconfig());
    let output = command.stdin(Stdio::null()).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// `kind/namespace/name` of all objects that last.
async fn everything(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let kinds = cluster.kubectl(&["api-resources", "--verbs=list", "--output=name"]).await?;
    // They come and go by themselves.
    let fleeting = ["events", "leases", "endpointslices", "ipaddresses", "pods", "nodes"];
    let kinds: Vec<&str> =
        kinds.lines().filter(|kind| !fleeting.iter().any(|f| kind.split('.').next() == Some(*f))).collect();
    let columns = "custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name";
    let words = ["get", &kinds.join(","), "--all-namespaces", "--no-headers", "-o", columns];
    let listed = cluster.kubectl(&words).await?;
    Ok(listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join("/")).collect())
}

/// A Deployment of which a namespace with the level "restricted" takes nothing away.
const RESTRICTED: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: strict}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 2000, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: web
        image: weft.test/workload:1
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}}
        livenessProbe: {grpc: {port: 9090}}
        lifecycle: {postStart: {httpGet: {path: /warm, port: http}}}
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"#;

/// What the API server says to the pod of the injected Deployment.
async fn admitted(cluster: &Cluster, flags: &[&str]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("web.yaml");
    std::fs::write(&file, RESTRICTED)?;
    let pin = "ab".repeat(32);
    let file = file.to_string_lossy();
    let injected = ours("weft", &[&["inject", "-f", &file, "--root-sha256", &pin], flags].concat()).await?;
    ensure!(injected.status.success(), "{}", String::from_utf8_lossy(&injected.stderr));
    let deployment: Value = serde_saphyr::from_str(&String::from_utf8(injected.stdout)?)?;
    // A Deployment is taken whatever its pods are, so the pod itself is asked about.
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "web".into();
    pod["metadata"]["namespace"] = "strict".into();
    let path = folder.path().join("pod.json");
    std::fs::write(&path, pod.to_string())?;
    cluster
        .kubectl(&[
            "create",
            "--dry-run=server",
            "--validate=strict",
            "-o",
            "json",
            "-f",
            &path.to_string_lossy(),
        ])
        .await
}

#[tokio::test]
async fn a_restricted_namespace_takes_pods_that_a_plugin_captures_and_all_that_was_added_is_understood()
-> Result<()> {
    let what = "injected pods before a real API server";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    ran_on(KUBERNETES, what);
    cluster.kubectl(&["create", "namespace", "strict"]).await?;
    eventually("the service account is there", async || {
        Ok(cluster.kubectl(&["get", "serviceaccount", "default", "--namespace=strict"]).await.ok())
    })
    .await?;
    for flags in
        [&[][..], &["--set", "native_sidecars=false"], &["--set", "cni=true"], &["--set", "capture=false"]]
    {
        let taken: Value = serde_json::from_str(&admitted(&cluster, flags).await?)?;
        let spec = &taken["spec"];
        // What the API server did not know, it would have dropped.
        assert_eq!(
            spec["containers"].as_array().context("a list")?.last().context("one")?["lifecycle"]["preStop"],
            json!({"sleep": {"seconds": 2}}),
            "{flags:?}"
        );
        let sidecar = spec["initContainers"]
            .as_array()
            .and_then(|list| list.iter().find(|c| c["name"] == "weft-proxy"));
        assert_eq!(
            sidecar.is_some_and(|c| c["restartPolicy"] == "Always"),
            flags != ["--set", "native_sidecars=false"]
        );
    }
    cluster
        .kubectl(&["label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted"])
        .await?;
    admitted(&cluster, &["--set", "cni=true"]).await?;
    admitted(&cluster, &["--set", "capture=false"]).await?;
    let error = admitted(&cluster, &[]).await.err().context("NET_ADMIN is not for restricted namespaces")?;
    assert!(error.to_string().contains("NET_ADMIN"), "{error}");
    Ok(())
}

/// Our HTTP workload, whose probes are asked by the kubelet.
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {weft.dev/inbound-plaintext: strict}
    spec:
      containers:
      - name: web
        image: weft.test/workload:1
        imagePullPolicy: Never
        args: [http, --name, web, --listen, "0.0.0.0:8080"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        livenessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
"#;

#[tokio::test]
async fn with_one_label_on_a_namespace_its_pods_are_in_the_mesh_and_stay_healthy_under_strict_mtls()
-> Result<()> {
    let what = "the manifests at work";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    ran_on(KUBERNETES, what);
    cluster.load_workload().await?;
    let version = env!("CARGO_PKG_VERSION");
    cluster.load_programs(&format!("weft.dev/control:{version}"), "65532", &["weft-control"]).await?;
    cluster
        .load_programs(&format!("weft.dev/proxy:{version}"), "1337", &["weft-proxy", "weft-redirect"])
        .await?;
    let printed = ours("weft", &["install", "kubernetes"]).await?;
    cluster.apply(&String::from_utf8(printed.stdout)?).await?;
    rolled_out(&cluster, "weft-system", "weft-control").await?;
    cluster.kubectl(&["create", "namespace", "shop"]).await?;
    cluster.kubectl(&["label", "namespace", "shop", "weft.dev/inject=enabled"]).await?;
    eventually("the API server trusts the webhook", async || {
        let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
        let bundles =
            cluster.kubectl(&["get", "mutatingwebhookconfiguration/weft-injector", "-o", path]).await?;
        Ok((bundles.split_whitespace().count() == 2).then_some(()))
    })
    .await?;
    cluster.apply(WEB).await?;
    rolled_out(&cluster, "shop", "web").await?;
    let path = r"jsonpath={.items[*].metadata.annotations.weft\.dev/tunnel}";
    let tunnels = cluster.kubectl(&["get", "pods", "--namespace=shop", "-o", path]).await?;
    assert_eq!(tunnels, "15008 15008");
    Ok(())
}

/// Waits for a Deployment; where it does not come, with all that can be known of it.
async fn rolled_out(cluster: &Cluster, namespace: &str, name: &str) -> Result<()> {
    let (name, namespace) = (format!("deployment/{name}"), format!("--namespace={namespace}"));
    let status = cluster.kubectl(&["rollout", "status", &name, &namespace, "--timeout=60s"]).await;
    let Err(error) = status else { return Ok(()) };
    let pods = cluster.kubectl(&["describe", "pods", &namespace]).await?;
    let logs = cluster.kubectl(&["logs", &name, &namespace, "--all-containers", "--tail=50"]).await;
    bail!("{error:#}\n{pods}\n{}", logs.unwrap_or_else(|error| format!("{error:#}")))
}
