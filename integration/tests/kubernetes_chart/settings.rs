//! What the chart and the injector write for the mesh's own programs, read by these.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;
use weft_integration::{Process, eventually};

use crate::tools::{helm, top};

#[tokio::test]
async fn the_control_plane_reads_the_settings_that_the_chart_writes() -> Result<()> {
    let Some(helm) = helm("the chart's control.toml is read") else { return Ok(()) };
    let all = [
        "cluster={\"name\":\"west\",\"network\":\"w\",\"namespaces\":{\"include\":[\"shop\"],\"exclude\":[],\"selector\":\"a=b\"}}",
        "image.pullPolicy=\"Never\"",
        "cni.enabled=true",
        "control.registrySecrets=true",
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
                command.env(
                    name,
                    value
                        .replace("$(POD_NAME)", "1")
                        .replace("$(POD_IPS)", "10.0.0.1,fd00::1")
                        .replace("$$", "$"),
                );
            }
        }
        let output = command.stdin(Stdio::null()).output().await?;
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        read += 1;
    }
    assert!(read > 10, "{read}");
    Ok(())
}
