//! What the chart's values lead to, by Helm; no cluster is needed.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::tools::{MANIFESTS, Objects, helm, ours, top};

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
