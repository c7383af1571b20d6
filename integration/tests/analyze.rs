//! `weft analyze` on a real cluster, from a namespace without the label to one in which all is well.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;
use weft_integration::{Cluster, KUBERNETES, Process, eventually, ran_on};

/// The account of somebody who may read pods and nothing else.
const READER: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules: [{apiGroups: [""], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: shop}]
"#;

const SHOP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations: {weft.dev/upstreams: "web=9000"}
    spec:
      serviceAccountName: web
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: weft.test/app:1
        imagePullPolicy: Never
        command: [sleep, "1000000"]
        securityContext: {runAsUser: 65534}
        ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"#;

struct World {
    cluster: Cluster,
}

impl World {
    /// The exit status, and the codes with their objects.
    async fn analyze(&self, kubeconfig: &Path, more: &[&str]) -> Result<(Option<i32>, Vec<String>, String)> {
        let mut command = Command::new(Process::program("weft")?);
        command.args(["analyze", "-o", "json", "-n", "shop", "--kubeconfig"]).arg(kubeconfig).args(more);
        let output = command.output().await?;
        let errors = String::from_utf8(output.stderr)?;
        let said: Value = serde_json::from_slice(&output.stdout).with_context(|| errors.clone())?;
        let findings = said["findings"].as_array().context("a list")?;
        let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        let found =
            findings.iter().map(|one| format!("{} {}", text(one, "code"), text(one, "object"))).collect();
        Ok((output.status.code(), found, errors))
    }

    async fn rolled_out(&self, namespace: &str, what: &str) -> Result<()> {
        let wait = ["rollout", "status", "-n", namespace, what, "--timeout=90s"];
        self.cluster.kubectl(&wait).await.map(drop)
    }

    /// A kubeconfig of the account that may read pods only.
    async fn reader(&self, folder: &Path) -> Result<std::path::PathBuf> {
        self.cluster.apply(READER).await?;
        let token = self.cluster.kubectl(&["create", "token", "-n", "shop", "reader"]).await?;
        let own = std::fs::read_to_string(self.cluster.kubeconfig())?;
        let kept = own.lines().filter(|line| !line.trim_start().starts_with("client-certificate-data"));
        let lines = kept.map(|line| match line.trim_start().starts_with("client-key-data") {
            true => format!("    token: {}", token.trim()),
            false => line.to_owned(),
        });
        let file = folder.join("reader");
        std::fs::write(&file, lines.collect::<Vec<_>>().join("\n"))?;
        Ok(file)
    }
}

#[tokio::test]
async fn what_is_wrong_is_found_step_by_step_until_all_is_well() -> Result<()> {
    let what = "weft analyze from before the label to a proxy that is outdated";
    let Some(cluster) = Cluster::start(what).await? else { return Ok(()) };
    let world = World { cluster };
    let cluster = &world.cluster;
    let own = cluster.kubeconfig();
    cluster.load_programs("weft.dev/control:0.1.0", "65532:65532", &["weft-control"]).await?;
    cluster.load_programs("weft.dev/proxy:0.1.0", "1337:1337", &["weft-proxy", "weft-redirect"]).await?;
    cluster.apply(SHOP).await?;
    let found = world.analyze(&own, &[]).await?;
    assert_eq!((found.0, found.1.as_slice()), (Some(1), &["WEFT0101 Deployment shop/web".to_owned()][..]));

    // The label alone: nobody is there who would inject, and the pod is older.
    cluster.kubectl(&["label", "namespace", "shop", "weft.dev/inject=enabled"]).await?;
    world.rolled_out("shop", "deployment/web").await?;
    let found = world.analyze(&own, &[]).await?;
    let missing = ["WEFT0401 MutatingWebhookConfiguration weft-injector", "WEFT0102 Deployment shop/web"];
    assert_eq!((found.0, found.1), (Some(1), missing.map(str::to_owned).to_vec()));

    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("it is in the checkout")?;
    cluster.apply(&std::fs::read_to_string(top.join("k8s/manifests/weft.yaml"))?).await?;
    world.rolled_out("weft-system", "deployment/weft-control").await?;
    eventually("only the pod's age is wrong", async || {
        let found = world.analyze(&own, &[]).await?;
        Ok((found.1 == ["WEFT0102 Deployment shop/web"]).then_some(()))
    })
    .await?;
    cluster.kubectl(&["rollout", "restart", "-n", "shop", "deployment/web"]).await?;
    world.rolled_out("shop", "deployment/web").await?;
    // The old pod takes its second to end.
    eventually("all is well", async || {
        let found = world.analyze(&own, &[]).await?;
        Ok((found.0 == Some(0) && found.1.is_empty()).then_some(()))
    })
    .await?;

    // Before it is applied, a file is looked at as if it were.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("web.yaml");
    std::fs::write(
        &file,
        SHOP.replace("web=9000", "web=90000").replace("targetPort: http", "targetPort: gone"),
    )?;
    let file = file.display().to_string();
    let found = world.analyze(&own, &["-f", &file]).await?;
    assert_eq!((found.0, found.1.as_slice()), (Some(1), &["WEFT0104 Deployment shop/web".to_owned()][..]));
    let found = world.analyze(&own, &[]).await?;
    assert_eq!(found.0, Some(0), "a file was applied: {found:?}");

    // The mesh's image moves on; the running pod does not.
    let image = ["get", "configmap", "-n", "weft-system", "weft-control", "-o", "yaml"];
    let map = cluster.kubectl(&image).await?.replace("weft.dev/proxy:0.1.0", "weft.dev/proxy:9");
    cluster.apply(&map).await?;
    let found = world.analyze(&own, &[]).await?;
    assert_eq!((found.0, found.1.as_slice()), (Some(1), &["WEFT0106 Deployment shop/web".to_owned()][..]));

    let reader = world.reader(folder.path()).await?;
    let found = world.analyze(&reader, &[]).await?;
    assert_eq!(found.0, Some(2), "{found:?}");
    for unread in ["services", "networkpolicies", "mutatingwebhookconfigurations"] {
        assert!(found.2.contains(unread), "{unread}: {}", found.2);
    }
    assert!(!found.2.contains("/pods:"), "{}", found.2);
    ran_on(KUBERNETES, what);
    Ok(())
}
