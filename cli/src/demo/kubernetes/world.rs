//! The demo's namespace in the cluster, the stage on this machine, and what lies between.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Method;
use serde_json::{Value, json};
use weft_control_api::{CaView, path};
use weft_injector::{INJECT, InjectorSettings, NamespaceView, PullPolicy, inject_object};

use super::ClusterArgs;
use super::objects::{self, DEMO, HERE, UPSTREAMS};
use crate::cluster::Cluster;
use crate::demo::consul;
use crate::demo::report::{Event, Reporter};
use crate::demo::stage::{Setting, Stage};

/// The registry's name of the cluster in the demo's mesh.
const REGISTRY: &str = "kubernetes/demo";

/// All that there is.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) namespace: String,
    pub(super) stage: Stage,
    /// This machine, as pods reach it.
    pub(super) host: IpAddr,
    /// The application's image.
    pub(super) workload_image: String,
    proxy_image: String,
    /// Whether there is a Consul.
    pub(super) consul: bool,
    /// Whether the namespace was asked for.
    made: bool,
}

impl World {
    /// Says which cluster it is. Makes nothing there yet.
    pub(super) async fn new(args: &crate::demo::Args, kubeconfig: &Path, reporter: Reporter) -> Result<Self> {
        let cluster = Cluster::open(kubeconfig, None).await?;
        let ClusterArgs { host_address, image_registry, image_tag, workload_image, .. } = &args.cluster;
        let host = host_address.map_or_else(|| towards(&cluster.server), Ok)?;
        let namespace = format!("weft-demo-{:05x}", rand::random_range(0..0x10_0000));
        reporter.say(&Event::Scene { title: "The cluster" });
        let said = |what: &str, detail: &str| {
            reporter.say(&Event::Started { what: what.to_owned(), detail: detail.to_owned() });
        };
        said("context", &format!("{} of {}", cluster.context, kubeconfig.display()));
        said("server", &cluster.server);
        said("this machine", &format!("{host}, as pods are to reach it"));
        let agent = args.consul.as_deref();
        let registries = format!(
            "\n[[registry]]\nid = \"{REGISTRY}\"\n\n[registry.kubernetes]\nkubeconfig = {kubeconfig:?}\ncontext = {:?}\n\n\
             [registry.kubernetes.namespaces]\ninclude = [\"{namespace}\"]\n\n[ca.kubernetes.\"{REGISTRY}\"]\n{}",
            cluster.context,
            agent.map(|agent| consul::registry(agent, &namespace, &["api", "ledger"])).unwrap_or_default()
        );
        let roles: Vec<_> =
            HERE.iter().filter(|role| agent.is_some() || role.name != "ledger").copied().collect();
        let setting = Setting {
            host,
            namespace: namespace.clone(),
            registries,
            roles: &roles,
            elsewhere: if agent.is_some() { IN_CONSUL.to_vec() } else { vec![] },
        };
        Ok(Self {
            stage: Stage::new(setting)?,
            cluster,
            namespace,
            host,
            workload_image: workload_image.clone(),
            proxy_image: format!("{image_registry}/proxy:{image_tag}"),
            consul: agent.is_some(),
            made: false,
        })
    }

    /// Makes the namespace.
    pub(super) async fn begin(&mut self, reporter: Reporter) -> Result<()> {
        let version = self.cluster.get("/version").await.context("asking the API server for its version")?;
        self.made = true;
        self.cluster.create("/api/v1/namespaces", &objects::namespace(&self.namespace)).await?;
        let version = version["gitVersion"].as_str().unwrap_or("of an unknown version");
        let detail = format!("{}; Kubernetes {version}; nothing else is touched", self.namespace);
        reporter.say(&Event::Started { what: "namespace".to_owned(), detail });
        Ok(())
    }

    /// Members that are registered in Consul.
    pub(super) fn in_consul(&self) -> &'static [&'static str] {
        if self.consul { IN_CONSUL } else { &[] }
    }

    /// Upstreams of the pod `web`.
    pub(super) fn upstreams(&self) -> Vec<&'static (&'static str, u16, u16)> {
        UPSTREAMS.iter().filter(|(name, ..)| self.consul || *name != "ledger").collect()
    }

    /// Starts this machine's half, then the cluster's.
    pub(super) async fn start(&mut self, reporter: Reporter) -> Result<()> {
        self.stage.start(reporter).await?;
        let settings = self.injection().await?;
        let labels = BTreeMap::from([(INJECT.to_owned(), "enabled".to_owned())]);
        let view = NamespaceView { name: &self.namespace, labels: &labels };
        for (list, object) in objects::shop(&self.workload_image, &self.upstreams()) {
            let injected = inject_object(&object, &view, &settings)?;
            self.cluster.create(&self.path(list), &injected.object).await?;
        }
        for name in ["api", "web"] {
            self.rolled_out(name).await?;
            let pods = self.pods(name).await?;
            let detail =
                format!("{}, each with a proxy: {}", counted(pods.len(), "pod"), addresses(&pods).join(", "));
            reporter.say(&Event::Started { what: format!("{name} (pods)"), detail });
        }
        Ok(())
    }

    /// As `weft inject` would be told.
    async fn injection(&self) -> Result<InjectorSettings> {
        let view: CaView = self.stage.api().get(path::CA).await?;
        Ok(InjectorSettings {
            image: self.proxy_image.clone(),
            image_pull_policy: Some(PullPolicy::IfNotPresent),
            control: vec![self.stage.control_address.to_string()],
            root_sha256: view.roots.into_iter().map(|root| root.sha256).collect(),
            registry: REGISTRY.parse()?,
            // No call of the demo takes long, and its pods need not live on for any.
            drain: Duration::from_secs(4),
            ..InjectorSettings::default()
        })
    }

    /// The path of a list, or of an object in it, in the demo's namespace.
    pub(super) fn path(&self, list: &str) -> String {
        let (group, rest) = if list.starts_with("apis/") {
            list.match_indices('/').nth(2).map_or((list, ""), |(at, _)| list.split_at(at))
        } else {
            list.match_indices('/').nth(1).map_or((list, ""), |(at, _)| list.split_at(at))
        };
        format!("/{group}/namespaces/{}{rest}", self.namespace)
    }

    /// The pods of an application that have not been told to end.
    pub(super) async fn pods(&self, app: &str) -> Result<Vec<Value>> {
        let mut list =
            self.cluster.get(&format!("{}?labelSelector=app%3D{app}", self.path("api/v1/pods"))).await?;
        let mut pods = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        pods.retain(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
        Ok(pods)
    }

    /// Where a port of an application's first pod is.
    pub(super) async fn address(&self, app: &str, port: u16) -> Result<SocketAddr> {
        let pods = self.pods(app).await?;
        let address = addresses(&pods).first().map(|ip| ip.parse::<IpAddr>()).transpose()?;
        Ok((address.with_context(|| format!("the pod {app} has no address"))?, port).into())
    }

    /// What a container of an application's pods logged.
    pub(super) async fn log(&self, app: &str, container: &str) -> Result<String> {
        let mut logs = String::new();
        for pod in self.pods(app).await? {
            let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let path = self.path(&format!("api/v1/pods/{name}/log?container={container}&tailLines=200"));
            logs += &self.cluster.text(Method::GET, &path, "application/json", None).await?;
        }
        Ok(logs)
    }

    /// Changes a Deployment, and waits until its pods are as it says.
    pub(super) async fn change(&self, name: &str, patch: &Value) -> Result<()> {
        self.cluster.patch(&self.path(&format!("apis/apps/v1/deployments/{name}")), patch).await?;
        self.rolled_out(name).await
    }

    /// Waits until the pods of a Deployment are those that it asks for, and ready.
    async fn rolled_out(&self, name: &str) -> Result<()> {
        let path = self.path(&format!("apis/apps/v1/deployments/{name}"));
        self.until(&format!("Deployment {name}"), async || {
            let object = self.cluster.get(&path).await?;
            let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            let wanted = number("/spec/replicas");
            let there =
                ["/status/replicas", "/status/updatedReplicas", "/status/availableReplicas"].map(number);
            let seen = number("/status/observedGeneration") >= number("/metadata/generation");
            Ok((seen && there == [wanted; 3]).then_some(()))
        })
        .await
    }

    /// Waits until a pod is ready.
    pub(super) async fn ready(&self, app: &str) -> Result<()> {
        self.until(&format!("pod {app}"), async || {
            let pods = self.pods(app).await?;
            let ready = json!({"type": "Ready", "status": "True"});
            let is = |pod: &Value| {
                let conditions =
                    pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
                conditions.into_iter().any(|c| c["type"] == ready["type"] && c["status"] == ready["status"])
            };
            Ok((!pods.is_empty() && pods.iter().all(is)).then_some(()))
        })
        .await
    }

    /// Asks until it is so. An image that is not there ends the waiting at once.
    async fn until(&self, what: &str, so: impl AsyncFn() -> Result<Option<()>>) -> Result<()> {
        let start = Instant::now();
        while so().await?.is_none() {
            self.refuse_missing_images().await?;
            if start.elapsed() > PATIENCE {
                bail!("{what} is not ready after {} s\n{}", PATIENCE.as_secs(), self.warnings().await?);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    async fn refuse_missing_images(&self) -> Result<()> {
        let pods = self.cluster.list(&self.path("api/v1/pods"), "Pod").await?;
        let Some((image, why)) = pods.iter().find_map(missing_image) else { return Ok(()) };
        let cluster = &self.cluster.context;
        let how = if image == self.proxy_image {
            format!(
                "cargo xtask image --profile dev proxy\n  cargo xtask cluster load {cluster} target/images/proxy.tar\nor, \
                 elsewhere, name images that the nodes can pull: --image-registry and --image-tag"
            )
        } else {
            format!(
                "cargo build --workspace && cargo xtask cluster down {cluster} && cargo xtask cluster up {cluster}\nor, \
                 elsewhere, name an image with this program at /usr/bin/weft: --workload-image"
            )
        };
        bail!("the cluster's node has no image {image} ({why}). On a test cluster this brings it:\n  {how}")
    }

    /// What the cluster itself has to say in the demo's namespace.
    async fn warnings(&self) -> Result<String> {
        let events = self.cluster.list(&self.path("api/v1/events"), "Event").await?;
        let warnings = events.iter().filter(|event| event["type"] == "Warning");
        let mut lines: Vec<String> = warnings
            .map(|event| {
                let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                format!(
                    "  {} {}: {}",
                    text("/involvedObject/kind"),
                    text("/involvedObject/name"),
                    text("/message")
                )
            })
            .collect();
        lines.dedup();
        Ok(lines[lines.len().saturating_sub(8)..].join("\n"))
    }

    /// Says how to look at it, and waits for Ctrl-C.
    pub(super) async fn keep(&self, reporter: Reporter) -> Result<()> {
        reporter.say(&Event::Scene { title: "Try it; Ctrl-C ends it" });
        for text in [
            format!(
                "curl http://{}/relay     # web's pod calls api, in both places",
                self.address("web", objects::PORT).await?
            ),
            format!("weft --control {} status", self.stage.socket().display()),
            format!("weft --control {} get workloads", self.stage.socket().display()),
            format!("kubectl get pods -n {}", self.namespace),
        ] {
            reporter.say(&Event::Note { text });
        }
        // Ends with the caller's Ctrl-C, which cancels this.
        tokio::signal::ctrl_c().await?;
        Ok(())
    }

    /// Takes away what was made: in the cluster, then on this machine.
    pub(super) async fn end(self, reporter: Reporter) -> Result<()> {
        let Self { cluster, namespace, stage, made, .. } = self;
        let gone = if made { delete(&cluster, &namespace).await } else { Ok(()) };
        stage.end().await?;
        gone.with_context(|| {
            format!(
                "the namespace {namespace} is left in {}; kubectl delete namespace -l {}={}",
                cluster.context, DEMO.0, DEMO.1
            )
        })?;
        if made {
            let text = format!("the namespace {namespace} is gone, and so is all else that was made");
            reporter.say(&Event::Note { text });
        }
        Ok(())
    }
}

/// Deletes the namespace, and waits until it is gone.
async fn delete(cluster: &Cluster, namespace: &str) -> Result<()> {
    let core = format!("/api/v1/namespaces/{namespace}");
    empty(cluster, namespace).await;
    let start = Instant::now();
    loop {
        match cluster.delete(&core).await {
            Err(error) if error.status() == Some(404) => return Ok(()),
            // Being deleted is a conflict with being deleted again.
            Err(error) if error.status() != Some(409) && start.elapsed() > PATIENCE => {
                return Err(error.into());
            }
            _ if start.elapsed() > PATIENCE => bail!("it still has objects after {} s", PATIENCE.as_secs()),
            _ => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// Ends the pods first: what a namespace's deletion finds of them it looks after again only much later. What does not
/// succeed here is then done by that.
async fn empty(cluster: &Cluster, namespace: &str) {
    let (core, apps) =
        (format!("/api/v1/namespaces/{namespace}"), format!("/apis/apps/v1/namespaces/{namespace}"));
    let start = Instant::now();
    while start.elapsed() < PATIENCE / 4 {
        for list in [format!("{apps}/deployments"), format!("{apps}/replicasets"), format!("{core}/pods")] {
            // Nobody waits for an answer any more.
            let _ =
                cluster.delete(&format!("{list}?gracePeriodSeconds=1&propagationPolicy=Background")).await;
        }
        let pods = cluster.list(&format!("{core}/pods"), "Pod").await;
        if pods.is_ok_and(|pods| pods.is_empty()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// This machine's address on the way to the API server.
fn towards(server: &str) -> Result<IpAddr> {
    let uri: http::Uri = server.parse().with_context(|| format!("the API server's URL {server:?}"))?;
    let host = uri.host().with_context(|| format!("the API server's URL {server:?} has no host"))?;
    let port = uri.port_u16().unwrap_or(443);
    let address = host.trim_matches(['[', ']']);
    let unspecified = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    // Nothing is sent: the kernel only chooses a route.
    let socket = UdpSocket::bind(unspecified)?;
    socket.connect((address, port)).with_context(|| format!("the way to {server}"))?;
    Ok(socket.local_addr()?.ip())
}

/// An image of a pod's containers that does not come, and why.
fn missing_image(pod: &Value) -> Option<(String, String)> {
    let of =
        |list: &str| pod.pointer(&format!("/status/{list}")).and_then(Value::as_array).into_iter().flatten();
    of("initContainerStatuses").chain(of("containerStatuses")).find_map(|status| {
        let reason = status.pointer("/state/waiting/reason")?.as_str()?;
        let lacks =
            ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"].contains(&reason);
        lacks.then(|| (status["image"].as_str().unwrap_or_default().to_owned(), reason.to_owned()))
    })
}

fn addresses(pods: &[Value]) -> Vec<String> {
    pods.iter().filter_map(|pod| Some(pod.pointer("/status/podIP")?.as_str()?.to_owned())).collect()
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

const IN_CONSUL: &[&str] = &["api-here", "ledger"];
/// How long something in the cluster may take.
const PATIENCE: Duration = Duration::from_secs(90);
