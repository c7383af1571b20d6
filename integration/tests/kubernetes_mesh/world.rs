//! A cluster with Weft installed from the manifests that are shipped, and a shop in it whose pods get their proxies by one
//! label.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::Value;
use tokio::sync::oneshot;
use weft_integration::{
    Answer, Cluster, KUBERNETES, Steady, Tally, eventually, http2, inside, namespace_of_pod, ran_on, within,
};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The shop: `api` over HTTP with two instances, `greeter` over gRPC, `store` whose server speaks first as a StatefulSet
/// with a headless service, and `web`, which calls them.
const SHOP: &str = include_str!("shop.yaml");

/// The cluster of a test.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
}

impl World {
    /// Starts one with Weft and the shop in it; `None` where there can be none, which is said.
    pub(crate) async fn start(what: &str) -> Result<Option<Self>> {
        let Some(world) = Self::empty(what).await? else { return Ok(None) };
        world.install("weft.yaml").await?;
        world.cluster.apply(SHOP).await?;
        for what in ["deployment/api", "deployment/greeter", "statefulset/store", "deployment/web"] {
            world.rolled_out("shop", what).await?;
        }
        Ok(Some(world))
    }

    /// Starts one without anything of ours.
    pub(crate) async fn empty(what: &str) -> Result<Option<Self>> {
        let Some(cluster) = Cluster::start(what).await? else { return Ok(None) };
        ran_on(KUBERNETES, what);
        Ok(Some(Self { cluster }))
    }

    /// What a user does, with images of the programs that were built for the tests.
    pub(crate) async fn install(&self, manifests: &str) -> Result<()> {
        let cluster = &self.cluster;
        cluster.load_workload().await?;
        cluster.load_programs("weft.dev/control:0.1.0", "65532:65532", &["weft-control"]).await?;
        cluster.load_programs("weft.dev/proxy:0.1.0", "1337:1337", &["weft-proxy", "weft-redirect"]).await?;
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("it is in the checkout")?;
        cluster.apply(&std::fs::read_to_string(top.join("k8s/manifests").join(manifests))?).await?;
        self.rolled_out("weft-system", "deployment/weft-control").await?;
        eventually("the API server trusts the webhook", async || {
            let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
            let bundle =
                self.kubectl(&["get", "mutatingwebhookconfiguration", "weft-injector", "-o", path]).await?;
            Ok((!bundle.is_empty()).then_some(()))
        })
        .await
    }

    pub(crate) async fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.cluster.kubectl(words).await
    }

    /// Waits until something is as it should be; says what is there if it does not come to that.
    pub(crate) async fn rolled_out(&self, namespace: &str, what: &str) -> Result<()> {
        let wait = ["rollout", "status", "-n", namespace, what, "--timeout=120s"];
        let Err(error) = self.kubectl(&wait).await else { return Ok(()) };
        let pods = self.kubectl(&["get", "pods", "-A", "-o", "wide"]).await.unwrap_or_default();
        let events = self.kubectl(&["get", "events", "-n", namespace]).await.unwrap_or_default();
        let control = ["logs", "-n", "weft-system", "deployment/weft-control", "--tail=30"];
        let control = self.kubectl(&control).await.unwrap_or_default();
        Err(error.context(format!("{pods}\n{events}\n{control}")))
    }

    /// The pods with a label, oldest first.
    pub(crate) async fn pods(&self, namespace: &str, label: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["get", "pods", "-n", namespace, "-l", label, "-o", "json"]).await?;
        let mut list: Value = serde_json::from_str(&text)?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// The one pod with a label.
    pub(crate) async fn pod(&self, namespace: &str, label: &str) -> Result<Value> {
        let mut pods = self.pods(namespace, label).await?;
        ensure!(pods.len() == 1, "{} pods have {label}", pods.len());
        pods.pop().context("one pod")
    }

    /// Changes the number of pods, and waits for them.
    pub(crate) async fn scale(&self, namespace: &str, what: &str, replicas: &str) -> Result<()> {
        self.kubectl(&["scale", "-n", namespace, what, &format!("--replicas={replicas}")]).await?;
        self.rolled_out(namespace, what).await
    }

    /// Ends a pod without grace.
    pub(crate) async fn kill(&self, namespace: &str, pod: &str) -> Result<()> {
        self.kubectl(&["delete", "pod", "-n", namespace, pod, "--force", "--grace-period=0"]).await?;
        Ok(())
    }

    /// The three pods of the control plane, once so many are ready; those that were killed don't count, however long the
    /// API server still shows them.
    pub(crate) async fn control_planes(&self, killed: &[String]) -> Result<Vec<String>> {
        // Behind an outage of the API server kubelet and controllers come back in up to half a minute each.
        within(120 * SECOND, "three control planes are ready", async || {
            let pods = self.pods("weft-system", "app.kubernetes.io/name=weft-control").await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).map(name).collect::<Result<Vec<_>>>()?;
            if ready.len() == 3 && ready.iter().all(|pod| !killed.contains(pod)) {
                return Ok(Some(ready));
            }
            let shown: Vec<_> = pods.iter().map(|pod| (&pod["metadata"]["name"], &pod["status"])).collect();
            tokio::time::sleep(SECOND).await;
            anyhow::bail!("{shown:?}; killed {killed:?}");
        })
        .await
    }

    /// What the application of the shop's `web` reads at a URL.
    pub(crate) async fn web_reads(&self, url: &str) -> Result<Answer> {
        self.reads("shop", url).await
    }

    /// What the application of a namespace's `web` reads at a URL.
    pub(crate) async fn reads(&self, namespace: &str, url: &str) -> Result<Answer> {
        let pods = self.pods(namespace, "app=web").await?;
        let name = name(pods.iter().find(|pod| is_ready(pod)).context("no pod of web is ready")?)?;
        let read = ["exec", "-n", namespace, &name, "-c", "web", "--", "wget", "-q", "-O", "-", url];
        let said = self.kubectl(&read).await?;
        serde_json::from_str(&said).with_context(|| format!("{url} answered {said:?}"))
    }

    /// The gRPC status of one call from the pod of `web` to a service's address.
    pub(crate) async fn grpc(&self, service: &str, port: u16) -> Result<String> {
        let web = self.pod("shop", "app=web").await?;
        let namespace = namespace_of_pod(web["metadata"]["uid"].as_str().context("a uid")?)?;
        let path = "jsonpath={.spec.clusterIP}";
        let address = self.kubectl(&["get", "service", "-n", "shop", service, "-o", path]).await?;
        let address: SocketAddr = format!("{address}:{port}").parse()?;
        inside(&namespace, move || async move {
            // A message of six bytes: field 1, the name "weft".
            let message = b"\0\0\0\0\x06\x0a\x04weft";
            let request = Request::post("http://greeter/weft.demo.v1.Greeter/Hello")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(Bytes::from_static(message)))?;
            let body = http2(address, request).await?.into_body().collect().await?;
            let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
            Ok(status.context("no gRPC status")?.to_str()?.to_owned())
        })
        .await
    }

    /// Steady calls of an application in the pod of `web` to a service's address, until it is stopped.
    pub(crate) async fn load(&self, service: &str, per_second: u32) -> Result<Load> {
        let web = self.pod("shop", "app=web").await?;
        let path = "jsonpath={.spec.clusterIP}";
        let address = self.kubectl(&["get", "service", "-n", "shop", service, "-o", path]).await?;
        load(&web, format!("{address}:80").parse()?, per_second)
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    conditions.is_some_and(|conditions| conditions.iter().any(ready))
}

/// Steady calls from a pod, as an application in it makes them.
pub(crate) fn load(pod: &Value, address: SocketAddr, per_second: u32) -> Result<Load> {
    let namespace = namespace_of_pod(pod["metadata"]["uid"].as_str().context("a uid")?)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let work = tokio::spawn(async move {
        inside(&namespace, move || async move {
            let steady = Steady::start(address, "/", per_second);
            // Closed is stopped as well.
            _ = stopped.await;
            Ok(steady.stop().await)
        })
        .await
    });
    Ok(Load { stop, work })
}

/// Calls that go on.
pub(crate) struct Load {
    stop: oneshot::Sender<()>,
    work: tokio::task::JoinHandle<Result<Tally>>,
}

impl Load {
    /// Ends it; what came of it.
    pub(crate) async fn stop(self) -> Result<Tally> {
        _ = self.stop.send(());
        self.work.await?
    }
}

/// Lets time pass in which something is watched.
pub(crate) async fn lasts(time: Duration) {
    tokio::time::sleep(time).await;
}

/// An object's name.
pub(crate) fn name(object: &Value) -> Result<String> {
    Ok(object["metadata"]["name"].as_str().context("a name")?.to_owned())
}
