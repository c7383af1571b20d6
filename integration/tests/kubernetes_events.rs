//! What users are told on their own objects, through a real API server: two control planes say it once, whoever looks with
//! `kubectl describe` finds it, and a control plane that may not write Events goes on without them.
//!
//! The control planes have the rights of the chart.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_integration::{Cluster, KUBERNETES, Mesh, MeshPlan, eventually, free_port, ran_on};

/// What the control plane may do, in the chart's words. Events are apart, so that they can be taken away.
const RIGHTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {weft.dev/inject: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: weft-system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: weft-control, namespace: weft-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: weft-control}
rules:
- {apiGroups: [""], resources: [services, pods, nodes, namespaces], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [admissionregistration.k8s.io], resources: [mutatingwebhookconfigurations], verbs: [get, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: weft-control}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: weft-control}
subjects: [{kind: ServiceAccount, name: weft-control, namespace: weft-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: weft-events}
rules:
- {apiGroups: [""], resources: [events], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: weft-events}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: weft-events}
subjects: [{kind: ServiceAccount, name: weft-control, namespace: weft-system}]
"#;

/// A Service and a pod of it, each with an annotation that is not right.
const WRONG: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {weft.dev/weight: "5"}}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}, annotations: {weft.dev/weight: "x"}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: app, image: "weft.test/app:1", imagePullPolicy: Never, command: [sleep, "100000"]}
"#;

/// A kubeconfig of the control plane's service account.
async fn limited(cluster: &Cluster) -> Result<PathBuf> {
    let config = cluster.kubectl(&["config", "view", "--raw", "--minify", "-o", "json"]).await?;
    let mut config: Value = serde_json::from_str(&config)?;
    let token = cluster.kubectl(&["create", "token", "weft-control", "-n", "weft-system"]).await?;
    config["users"][0]["user"] = json!({"token": token.trim()});
    let path = cluster.kubeconfig().with_file_name("limited");
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}

/// A control plane on this host that follows the cluster.
async fn control(cluster: &Cluster, more: &str) -> Result<Mesh> {
    let registry = format!(
        "[[registry]]\nid = \"kubernetes/test\"\n[registry.kubernetes]\nkubeconfig = \"{}\"\n{more}",
        limited(cluster).await?.display()
    );
    Mesh::start(MeshPlan { more: registry, ..MeshPlan::default() }).await
}

/// The Events in the namespace `shop` with this reason.
async fn events(cluster: &Cluster, reason: &str) -> Result<Vec<Value>> {
    let selector = format!("reason={reason}");
    let list = ["get", "events", "-n", "shop", "--field-selector", &selector, "-o", "json"];
    let list: Value = serde_json::from_str(&cluster.kubectl(&list).await?)?;
    Ok(list["items"].as_array().context("a list")?.clone())
}

async fn some_events(cluster: &Cluster, reason: &str) -> Result<Vec<Value>> {
    eventually(&format!("there are Events {reason}"), async || {
        Ok(Some(events(cluster, reason).await?).filter(|events| !events.is_empty()))
    })
    .await
}

fn log(mesh: &Mesh) -> Result<String> {
    Ok(std::fs::read_to_string(mesh.path().join("control.log"))?)
}

fn names(events: &[Value]) -> Vec<&Value> {
    events.iter().map(|event| &event["metadata"]["name"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_annotation_is_an_event_on_its_pod_with_the_key_and_what_is_expected() -> Result<()> {
    let what = "Events on objects with wrong annotations; two control planes; no right to write them";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    cluster.apply(RIGHTS).await?;
    cluster.apply(WRONG).await?;
    let (one, two) = tokio::try_join!(control(&cluster, ""), control(&cluster, ""))?;

    let said = some_events(&cluster, "WeftInvalid").await?;
    let event = said.first().context("an Event")?;
    let message = event["message"].as_str().context("a message")?;
    ensure!(message.contains("weft.dev/weight is \"x\": expected "), "{message}");
    let uid =
        cluster.kubectl(&["get", "pod", "-n", "shop", "web-0", "-o", "jsonpath={.metadata.uid}"]).await?;
    let about = &event["involvedObject"];
    assert_eq!(
        (&about["kind"], &about["name"], &about["uid"]),
        (&json!("Pod"), &json!("web-0"), &json!(uid))
    );
    let described = cluster.kubectl(&["describe", "pod", "-n", "shop", "web-0"]).await?;
    ensure!(described.contains(message), "{described}");
    let listed = cluster.kubectl(&["get", "events", "-n", "shop"]).await?;
    ensure!(
        listed.lines().any(|line| line.contains("pod/web-0") && line.contains("weft.dev/weight")),
        "{listed}"
    );

    let ignored = some_events(&cluster, "WeftIgnored").await?;
    let about = &ignored.first().context("an Event")?["involvedObject"];
    assert_eq!((&about["kind"], &about["name"]), (&json!("Service"), &json!("web")));
    let described = cluster.kubectl(&["describe", "service", "-n", "shop", "web"]).await?;
    ensure!(described.contains("it belongs on pods"), "{described}");

    // A third one finds nothing and says the same; the other two found the first one's.
    cluster.kubectl(&["delete", "events", "-n", "shop", "--all"]).await?;
    let three = control(&cluster, "").await?;
    let again = some_events(&cluster, "WeftInvalid").await?;
    assert_eq!(names(&again), names(&said));
    for mesh in [&one, &two, &three] {
        let log = log(mesh)?;
        ensure!(!log.contains("could not be written"), "{log}");
    }
    refused(&cluster, &one).await?;
    ran_on(KUBERNETES, what);
    Ok(())
}

/// Without the right to write Events there is one line in the log, and the registry is followed as before.
async fn refused(cluster: &Cluster, mesh: &Mesh) -> Result<()> {
    cluster.kubectl(&["delete", "clusterrolebinding", "weft-events"]).await?;
    for n in 1..=8 {
        cluster.apply(&WRONG.replace("web-0", &format!("web-{n}"))).await?;
    }
    eventually("the refusal is in the log", async || {
        Ok(log(mesh)?.contains("could not be written").then_some(()))
    })
    .await?;
    eventually("the registry is followed", async || {
        Ok(mesh.admin("/v1/status").await?.to_string().contains("pod shop/web-8").then_some(()))
    })
    .await?;
    let log = log(mesh)?;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("could not be written")).collect();
    ensure!(lines.len() == 1 && lines[0].contains("403") && lines[0].contains("Refused"), "{lines:?}");
    Ok(())
}

/// The webhook of a control plane on the host, as the API server reaches it.
fn webhook(cluster: &Cluster, port: u16) -> String {
    let host = cluster.host_address();
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: weft-control, namespace: weft-system}}
spec: {{ports: [{{name: webhook, port: 443, targetPort: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: weft-control, namespace: weft-system, labels: {{kubernetes.io/service-name: weft-control}}}}
addressType: {family}
ports: [{{name: webhook, port: {port}}}]
endpoints: [{{addresses: ["{host}"]}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: weft-injector}}
webhooks:
- name: namespaces.inject.weft.dev
  namespaceSelector: {{matchLabels: {{weft.dev/inject: enabled}}}}
  clientConfig: {{service: {{name: weft-control, namespace: weft-system, path: /inject, port: 443}}}}
  rules: [{{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}}]
  admissionReviewVersions: [v1]
  sideEffects: NoneOnDryRun
  failurePolicy: Fail
"#,
        family = if host.is_ipv4() { "IPv4" } else { "IPv6" },
    )
}

/// A pod and a DaemonSet on their nodes' network.
const ON_THE_HOST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: single, namespace: shop}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - {name: app, image: "weft.test/app:1", imagePullPolicy: Never, command: [sleep, "100000"]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: shop}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 0
      containers:
      - {name: app, image: "weft.test/app:1", imagePullPolicy: Never, command: [sleep, "100000"]}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_proxy_against_expectation_is_told_on_the_pod_or_on_its_controller() -> Result<()> {
    let what = "Events on pods that the webhook leaves without a proxy";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    cluster.apply(RIGHTS).await?;
    let port = free_port();
    cluster.apply(&webhook(&cluster, port)).await?;
    let webhook = format!(
        "[webhook]\nlisten = \"0.0.0.0:{port}\"\nregistry = \"kubernetes/test\"\nconfiguration = \"weft-injector\"\n"
    );
    let mesh = control(&cluster, &webhook).await?;
    // Until the API server trusts and reaches it. Nothing is said of dry runs, also where it lets them through.
    eventually("a dry run is let through", async || {
        let mut command = cluster.kubectl_command();
        let run = command.args(["run", "dry", "-n", "shop", "--image=weft.test/app:1", "--dry-run=server"]);
        let run = run.args(["--overrides", r#"{"spec": {"hostNetwork": true}}"#]).output().await?;
        Ok(run.status.success().then_some(()))
    })
    .await?;
    cluster.apply(ON_THE_HOST).await?;

    eventually("both are told", async || {
        Ok((events(&cluster, "WeftNotInjected").await?.len() == 2).then_some(()))
    })
    .await
    .with_context(|| log(&mesh).unwrap_or_default())?;
    for (object, says) in
        [("pod/single", "no proxy was put in: "), ("daemonset/agent", "no proxy was put into its pods: ")]
    {
        let described = cluster.kubectl(&["describe", "-n", "shop", object]).await?;
        let is_told = described.lines().any(|line| line.contains("WeftNotInjected") && line.contains(says));
        ensure!(is_told && described.contains("host's network"), "{described}");
    }
    ran_on(KUBERNETES, what);
    Ok(())
}
