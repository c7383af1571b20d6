//! The chart, the manifests that are made of it, and what the mesh's own programs say of what both write.
//!
//! Templates are judged by Helm, objects by a real API server, settings by the programs that read them.
//! `WEFT_REFRESH_GOLDEN=1 cargo test -p weft-integration --test kubernetes_chart` writes `k8s/manifests` anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use weft_integration::{Cluster, KUBERNETES, Process, eventually, ran_on, skipped_on};

const HELM: &str = "Helm 4.3.1";
/// Each with the values that it is the chart of.
const MANIFESTS: [(&str, &[&str]); 2] = [
    ("k8s/manifests/weft.yaml", &["createNamespace=true"]),
    ("k8s/manifests/weft-cni.yaml", &["createNamespace=true", "cni.enabled=true"]),
];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in the checkout").to_owned()
}

/// Helm, where there is one; else that is said.
fn helm(what: &str) -> Option<Helm> {
    match std::env::var_os("WEFT_HELM") {
        Some(path) => {
            ran_on(HELM, what);
            Some(Helm { program: path.into(), home: tempfile::tempdir().expect("a temporary directory") })
        }
        None => {
            skipped_on(HELM, what);
            None
        }
    }
}

struct Helm {
    program: PathBuf,
    /// Where it keeps what it keeps.
    home: tempfile::TempDir,
}

impl Helm {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.home.path().join(variable));
        }
        command.current_dir(top()).stdin(Stdio::null());
        command
    }

    async fn run(&self, words: &[&str]) -> Result<String> {
        let output = self.command().args(words).output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "helm {}: {}{}",
            words.join(" "),
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// The chart with values `key=JSON`.
    async fn template(&self, namespace: &str, values: &[&str]) -> Result<String> {
        let mut words = vec!["template", "weft", "k8s/chart", "--namespace", namespace];
        words.extend(values.iter().flat_map(|value| ["--set-json", *value]));
        self.run(&words).await
    }

    async fn objects(&self, values: &[&str]) -> Result<Objects> {
        Objects::read(&self.template("weft-system", values).await?)
    }
}

/// Objects by `Kind/name`.
struct Objects(BTreeMap<String, Value>);

impl Objects {
    fn read(text: &str) -> Result<Self> {
        let all: Vec<Value> = serde_saphyr::from_multiple(text)?;
        let name = |object: &Value| {
            Some(format!("{}/{}", object["kind"].as_str()?, object["metadata"]["name"].as_str()?))
        };
        Ok(Self(all.into_iter().filter_map(|object| Some((name(&object)?, object))).collect()))
    }

    fn get(&self, name: &str) -> Result<&Value> {
        self.0.get(name).with_context(|| format!("there is no {name}"))
    }

    fn control_toml(&self) -> Result<&str> {
        self.get("ConfigMap/weft-control")?["data"]["control.toml"].as_str().context("control.toml is text")
    }

    fn pod(&self) -> Result<&Value> {
        Ok(&self.get("Deployment/weft-control")?["spec"]["template"]["spec"])
    }
}

/// Runs one of ours to its end.
async fn ours(name: &str, words: &[&str]) -> Result<std::process::Output> {
    Ok(Command::new(Process::program(name)?).args(words).stdin(Stdio::null()).output().await?)
}

#[tokio::test]
async fn helm_finds_nothing_wrong_with_the_chart() -> Result<()> {
    let Some(helm) = helm("the chart is linted") else { return Ok(()) };
    helm.run(&["lint", "k8s/chart", "--strict"]).await?;
    Ok(())
}

#[test]
fn the_chart_has_the_version_of_the_programs() -> Result<()> {
    let chart: Value = serde_saphyr::from_str(&std::fs::read_to_string(top().join("k8s/chart/Chart.yaml"))?)?;
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    Ok(())
}

#[tokio::test]
async fn the_manifests_are_the_chart() -> Result<()> {
    let Some(helm) = helm("the manifests are the chart") else { return Ok(()) };
    for (file, values) in MANIFESTS {
        let rendered = helm.template("weft-system", values).await?;
        let path = top().join(file);
        if std::env::var_os("WEFT_REFRESH_GOLDEN").is_some() {
            std::fs::write(&path, &rendered)?;
        }
        let kept = std::fs::read_to_string(&path)?;
        let first = rendered.lines().zip(kept.lines()).find(|(now, kept)| now != kept);
        assert!(
            rendered == kept,
            "{file} is not what the chart makes: {first:?}; WEFT_REFRESH_GOLDEN=1 writes it anew"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_weft_installs_is_what_helm_makes_of_the_same_values() -> Result<()> {
    let Some(helm) = helm("weft install prints what Helm makes") else { return Ok(()) };
    let flags = ["--namespace", "mesh", "--image-registry", "registry.example:5000/a", "--image-tag", "v9"];
    let more = ["--trust-domain", "prod.example", "--cluster", "west"];
    let values = [
        "createNamespace=true",
        r#"image.registry="registry.example:5000/a""#,
        r#"image.tag="v9""#,
        r#"trustDomain="prod.example""#,
        r#"cluster.name="west""#,
    ];
    for cni in [false, true] {
        let flag: &[&str] = if cni { &["--cni"] } else { &[] };
        let printed =
            ours("weft", &[&["install", "kubernetes"], &flags[..], &more[..], flag].concat()).await?;
        ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        let value = format!("cni.enabled={cni}");
        let made = helm.template("mesh", &[&values[..], &[&value]].concat()).await?;
        assert_eq!(String::from_utf8(printed.stdout)?, made);
    }
    Ok(())
}

#[tokio::test]
async fn weft_install_refuses_what_would_break_the_manifests() -> Result<()> {
    for (flag, value) in [
        ("--namespace", "Mesh"),
        ("--namespace", "a\nkind: Secret"),
        ("--image-registry", "a b"),
        ("--image-registry", "a/"),
        ("--image-tag", "1\""),
        ("--trust-domain", "a/b"),
        ("--cluster", "a b"),
    ] {
        let output = ours("weft", &["install", "kubernetes", flag, value]).await?;
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{flag} {value:?}");
    }
    Ok(())
}

#[tokio::test]
async fn values_that_mean_nothing_are_refused_with_their_key() -> Result<()> {
    let Some(helm) = helm("wrong values are refused") else { return Ok(()) };
    for (wrong, named) in [
        ("imagee={}", "imagee"),
        ("control.replicas=0", "replicas"),
        ("trustDomain=\"A/B\"", "trustDomain"),
        ("cluster.name=\"a b\"", "name"),
        ("cluster.namespaces.include=[\"A\"]", "include"),
        ("injection.failurePolicy=\"Maybe\"", "failurePolicy"),
        ("injection.timeoutSeconds=31", "timeoutSeconds"),
        ("injection.settings={\"imagee\":\"x\"}", "imagee"),
        ("injection.settings={\"skip_inbound_ports\":[0]}", "skip_inbound_ports"),
        ("injection.settings={\"image\":\"x\"}", "image"),
        ("control.extraSettings=\"listen = 1\"", "extraSettings"),
        ("priorityClass.value=2000000000", "priorityClass"),
        ("cni.onExit=\"stay\"", "onExit"),
        ("cni.binDir=\"opt\"", "binDir"),
    ] {
        match helm.template("weft-system", &[wrong]).await {
            Ok(_) => bail!("{wrong} was accepted"),
            Err(error) => assert!(error.to_string().contains(named), "{wrong}: {error}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_value_does_what_it_says() -> Result<()> {
    let Some(helm) = helm("the chart's values") else { return Ok(()) };
    let own = helm.objects(&[]).await?;
    assert!(own.get("Namespace/weft-system").is_err());
    assert_eq!(own.pod()?["volumes"][1], json!({"name": "state", "emptyDir": {}}));
    assert!(own.control_toml()?.contains("[ca.secret]"), "{}", own.control_toml()?);
    assert_eq!(own.get("Deployment/weft-control")?["spec"]["replicas"], 2);
    let more = helm.objects(&["control.replicas=3"]).await?;
    assert_eq!(more.get("Deployment/weft-control")?["spec"]["replicas"], 3);
    let authority = helm.objects(&["control.ca.secretName=\"root\""]).await?;
    let toml = authority.control_toml()?;
    assert!(toml.contains("[ca.own_pem]") && !toml.contains("[ca.secret]"), "{toml}");
    assert_eq!(authority.pod()?["volumes"][2]["secret"]["secretName"], "root");
    let without = helm.objects(&["injection.enabled=false"]).await?;
    assert!(without.get("MutatingWebhookConfiguration/weft-injector").is_err());
    assert!(!without.control_toml()?.contains("webhook"), "{}", without.control_toml()?);
    assert!(!without.get("ClusterRole/weft-control")?.to_string().contains("admissionregistration"));
    Ok(())
}

#[tokio::test]
async fn each_value_of_what_is_beside_the_control_plane_does_what_it_says() -> Result<()> {
    let Some(helm) = helm("the chart's other values") else { return Ok(()) };
    let own = helm.objects(&[]).await?;
    let ignore = helm.objects(&["injection.failurePolicy=\"Ignore\""]).await?;
    for webhook in
        ignore.get("MutatingWebhookConfiguration/weft-injector")?["webhooks"].as_array().context("a list")?
    {
        assert_eq!(webhook["failurePolicy"], "Ignore");
    }
    let off = helm
        .objects(&[
            "networkPolicy.enabled=false",
            "podDisruptionBudget.enabled=false",
            "priorityClass.create=false",
        ])
        .await?;
    for gone in
        ["NetworkPolicy/weft-control", "PodDisruptionBudget/weft-control", "PriorityClass/weft-control"]
    {
        assert!(own.get(gone).is_ok() && off.get(gone).is_err(), "{gone}");
    }
    assert_eq!(off.pod()?.get("priorityClassName"), None);
    let plugin = helm
        .objects(&["cni={\"enabled\":true,\"binDir\":\"/b\",\"confDir\":\"/c\",\"onExit\":\"keep\"}"])
        .await?;
    assert!(plugin.control_toml()?.contains("cni = true") && own.get("DaemonSet/weft-cni").is_err());
    let agent = &plugin.get("DaemonSet/weft-cni")?["spec"]["template"]["spec"];
    assert_eq!(
        (&agent["volumes"][0]["hostPath"]["path"], &agent["volumes"][1]["hostPath"]["path"]),
        (&json!("/b"), &json!("/c"))
    );
    for (variable, value) in [("WEFT_CNI_HOST_CONF_DIR", "/c"), ("WEFT_CNI_ON_EXIT", "keep")] {
        let all = agent["containers"][0]["env"].as_array().context("a list")?;
        assert!(all.contains(&json!({"name": variable, "value": value})), "{all:?}");
    }
    let pulled = helm.objects(&["image={\"registry\":\"r.example\",\"tag\":\"9\",\"pullPolicy\":\"Always\",\"pullSecrets\":[\"s\"]}"]).await?;
    let container = &pulled.pod()?["containers"][0];
    assert_eq!(
        (&container["image"], &container["imagePullPolicy"]),
        (&json!("r.example/control:9"), &json!("Always"))
    );
    assert_eq!(pulled.pod()?["imagePullSecrets"], json!([{"name": "s"}]));
    assert!(pulled.control_toml()?.contains("image = \"r.example/proxy:9\"\nimage_pull_policy = \"Always\""));
    Ok(())
}

#[tokio::test]
async fn webhooks_never_ask_about_what_runs_the_cluster_or_the_mesh() -> Result<()> {
    let Some(helm) = helm("the webhooks' selectors") else { return Ok(()) };
    let text = helm.template("mesh", &[]).await?;
    let objects = Objects::read(&text)?;
    let webhooks = &objects.get("MutatingWebhookConfiguration/weft-injector")?["webhooks"];
    for webhook in webhooks.as_array().context("a list")? {
        let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array().context("a list")?;
        let excluded =
            expressions.iter().find(|e| e["key"] == "kubernetes.io/metadata.name").context("by name")?;
        assert_eq!(excluded["operator"], "NotIn");
        for namespace in ["kube-system", "mesh"] {
            assert!(
                excluded["values"].as_array().is_some_and(|v| v.contains(&namespace.into())),
                "{namespace}"
            );
        }
        assert_eq!(
            (&webhook["sideEffects"], &webhook["reinvocationPolicy"]),
            (&json!("NoneOnDryRun"), &json!("IfNeeded"))
        );
        assert_eq!(webhook["clientConfig"].get("caBundle"), None, "the control plane's own part");
    }
    Ok(())
}

#[tokio::test]
async fn the_control_plane_reads_the_settings_that_the_chart_writes() -> Result<()> {
    let Some(helm) = helm("the chart's control.toml is read") else { return Ok(()) };
    let all = [
        "cluster={\"name\":\"west\",\"network\":\"w\",\"namespaces\":{\"include\":[\"shop\"],\"exclude\":[],\"selector\":\"a=b\"}}",
        "image.pullPolicy=\"Never\"",
        "cni.enabled=true",
        "injection.settings={\"inbound_plaintext\":\"strict\",\"skip_outbound_ports\":[25,587],\"cpu\":\"100m\",\
         \"skip_outbound_cidrs\":[\"10.0.0.0/8\"],\"drain\":\"1m\",\"hold\":false,\"memory_limit\":\"1Gi\"}",
        "control.extraSettings=\"[shutdown]\\ndeadline = \\\"3s\\\"\\n\"",
    ];
    for values in [&[][..], &all[..]] {
        let objects = helm.objects(values).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("control.toml");
        std::fs::write(&file, objects.control_toml()?)?;
        let mut command = Command::new(Process::program("weft-control")?);
        command.arg("--config").arg(&file);
        let state = format!("state_dir={}", folder.path().display());
        for set in [&state, "listen=127.0.0.1:0", "webhook.listen=127.0.0.1:0", "admin.listen=127.0.0.1:0"] {
            command.args(["--set", set]);
        }
        let mut control = Process::start("weft-control", command, folder.path())?;
        // It is in no pod, so it ends when it asks for its root; that it has come so far means that it understood all of it.
        eventually("it asks for its root", async || Ok(control.ended().map(drop))).await?;
        let log = control.log();
        ensure!(log.contains("ca.secret: the pod's service account"), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn the_proxy_reads_the_settings_that_the_injector_writes() -> Result<()> {
    let folder = top().join("k8s/injector/tests/golden");
    let mut read = 0;
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if !path.to_string_lossy().ends_with(".out.yaml") {
            continue;
        }
        let out: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        let spec = &out["pod"]["spec"];
        let containers =
            ["initContainers", "containers"].map(|field| spec[field].as_array().cloned().unwrap_or_default());
        let Some(proxy) = containers.iter().flatten().find(|container| container["name"] == "weft-proxy")
        else {
            continue;
        };
        // What another webhook's test has is no whole proxy.
        if proxy.get("command").is_none() {
            continue;
        }
        let mut command = Command::new(Process::program("weft-proxy")?);
        command.arg("--check").env_clear();
        for variable in proxy["env"].as_array().context("a list")? {
            if let (Some(name), Some(value)) = (variable["name"].as_str(), variable["value"].as_str()) {
                // As the kubelet does it.
                command.env(name, value.replace("$(POD_NAME)", "1").replace("$$", "$"));
            }
        }
        let output = command.stdin(Stdio::null()).output().await?;
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        read += 1;
    }
    assert!(read > 10, "{read}");
    Ok(())
}

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
    uninstall(&cluster).await?;
    let after = everything(&cluster).await?;
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new(), "left behind");
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), Vec::<&String>::new(), "taken with it");
    // A second time there is nothing to do.
    uninstall(&cluster).await
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
