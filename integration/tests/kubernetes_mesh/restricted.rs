//! Pods without any privilege: the CNI plugin captures them in a namespace of Pod Security's level `restricted`. And pods
//! for clusters without native sidecars, by `weft inject`.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use weft_integration::{Process, eventually};

use crate::world::World;

const BANK: &str = include_str!("bank.yaml");
const WEB: &str = "spiffe://weft.local/ns/bank/sa/web";
/// What changes when the plugin comes to a node.
const NODE: [&str; 2] = ["/etc/cni/net.d", "/opt/cni/bin"];

#[tokio::test]
async fn a_restricted_namespace_is_in_the_mesh_by_the_cni_plugin_and_ordinary_sidecars_serve_as_well()
-> Result<()> {
    let what = "the CNI plugin in a restricted namespace, and ordinary sidecars";
    let Some(world) = World::empty(what).await? else { return Ok(()) };
    let before = node(&world).await?;
    world.cluster.load_programs("weft.dev/cni:0.1.0", "0:0", &["weft-cni"]).await?;
    world.install("weft-cni.yaml").await?;
    world.rolled_out("weft-system", "daemonset/weft-cni").await?;
    ensure!(node(&world).await? != before, "the plugin is nowhere");
    world.cluster.apply(BANK).await?;
    for what in ["deployment/api", "deployment/web"] {
        world.rolled_out("bank", what).await?;
    }
    // The API server refuses privileged pods there; that it has taken these is the proof that they are none.
    let answer = world.reads("bank", "http://api/").await?;
    assert_eq!((answer.name.as_str(), answer.caller.as_deref()), ("api", Some(WEB)));
    ordinary(&world).await?;

    world.kubectl(&["delete", "daemonset", "-n", "weft-system", "weft-cni"]).await?;
    eventually("the node is as it was", async || {
        let now = node(&world).await?;
        ensure!(now == before, "before: {before}\nnow: {now}");
        Ok(Some(()))
    })
    .await?;
    // Without the plugin nobody sets the rules: such a pod does not start, rather than start without them.
    world.kubectl(&["rollout", "restart", "-n", "bank", "deployment/web"]).await?;
    eventually("a pod without its rules is held back", async || {
        for pod in world.pods("bank", "app=web").await? {
            let verify = &pod["status"]["initContainerStatuses"][0];
            let failed = ["state", "lastState"].map(|state| &verify[state]["terminated"]["exitCode"]);
            if verify["name"] == "weft-redirect-verify" && failed.iter().any(|code| code.as_i64() > Some(0)) {
                return Ok(Some(()));
            }
        }
        Ok(None)
    })
    .await?;
    // The old one serves on meanwhile.
    assert_eq!(world.reads("bank", "http://api/").await?.caller.as_deref(), Some(WEB));
    Ok(())
}

/// The same workloads in another namespace, with proxies that are containers like any other.
async fn ordinary(world: &World) -> Result<()> {
    let objects = BANK.replace("bank", "old").replace("weft.dev/inject: enabled, ", "");
    let settings = ["native_sidecars=false", "cni=true"];
    let injected = inject(world, &settings, &objects).await?;
    world.cluster.apply(&injected).await?;
    for what in ["deployment/api", "deployment/web"] {
        world.rolled_out("old", what).await?;
    }
    let pod = world.pod("old", "app=api").await?;
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
        names.map(str::to_owned).collect()
    };
    assert_eq!(names(&pod["spec"]["containers"]), ["weft-proxy", "api"], "the proxy is started first");
    assert_eq!(names(&pod["spec"]["initContainers"]), ["weft-redirect-verify"]);
    let answer = world.reads("old", "http://api/").await?;
    assert_eq!(answer.caller.as_deref(), Some("spiffe://weft.local/ns/old/sa/web"));
    Ok(())
}

/// What `weft inject` makes of objects.
async fn inject(world: &World, settings: &[&str], objects: &str) -> Result<String> {
    let (_forward, control) = forward(world).await?;
    let mut command = Command::new(Process::program("weft")?);
    command.env("WEFT_CONTROL", control).args(["inject", "-f", "-"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let mut injecting = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    injecting.stdin.take().context("a pipe")?.write_all(objects.as_bytes()).await?;
    let output = injecting.wait_with_output().await?;
    ensure!(output.status.success(), "weft inject: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// A way to a control plane's admin port, as long as the process lives, and its URL.
async fn forward(world: &World) -> Result<(Child, String)> {
    let mut command: Command = world.cluster.kubectl_command();
    command.args(["port-forward", "-n", "weft-system", "deployment/weft-control", ":15014"]);
    let mut forward = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(forward.stdout.take().context("a pipe")?).lines();
    let line = lines.next_line().await?.context("kubectl said nothing")?;
    // It says more, and would end with the pipe.
    forward.stdout = Some(lines.into_inner().into_inner());
    let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split_once(" -> "));
    let (address, _) = address.with_context(|| format!("kubectl said {line:?}"))?;
    Ok((forward, format!("http://{address}")))
}

/// The node's folders of CNI, with a digest of each file.
async fn node(world: &World) -> Result<String> {
    let look = format!("cd / && find {} -exec sha256sum {{}} + 2>&1 | sort", NODE.join(" "));
    let output = world.cluster.in_node("sh").args(["-c", &look]).output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
