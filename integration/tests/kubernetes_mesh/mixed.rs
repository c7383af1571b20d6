//! One mesh over Kubernetes, Consul and files: a control plane beside the cluster reads all three, and pods, a service of
//! Consul and a workload of a file call each other.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_integration::{
    Answer, App, Cluster, Host, Mesh, MeshPlan, Proxy, ProxyPlan, eventually, figure, get, ran_on, skipped_on,
};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer, ConsulVersion};

use crate::world::{SECOND, lasts, load};

/// `api` of the cluster, which has an instance in Consul too, and `web`, which calls it.
const OBJECTS: &str = include_str!("mixed.yaml");
const WEB: &str = "spiffe://test.weft/ns/default/sa/web";

struct World {
    cluster: Cluster,
    mesh: Mesh,
    consul: ConsulServer,
    /// This host, as pods reach it.
    host: IpAddr,
}

impl World {
    async fn start(what: &str) -> Result<Option<Self>> {
        weft_identity::install_crypto_provider();
        let version = ConsulVersion::V1_20_5;
        let Some(consul) = ConsulServer::start(version, ConsulOptions::default()).await? else {
            skipped_on(&format!("Consul {}", version.as_str()), what);
            return Ok(None);
        };
        let Some(cluster) = Cluster::start(what).await? else { return Ok(None) };
        ran_on(&format!("Consul {}", version.as_str()), what);
        ran_on(weft_integration::KUBERNETES, what);
        cluster.load_workload().await?;
        cluster.load_programs("weft.dev/proxy:0.1.0", "1337:1337", &["weft-proxy", "weft-redirect"]).await?;
        let more = format!(
            "[[registry]]\nid = \"consul/dc1\"\n[registry.consul]\naddress = \"{}\"\n\
             [[registry]]\nid = \"kubernetes/test\"\n[registry.kubernetes]\nkubeconfig = \"{}\"\n\
             [ca.kubernetes.\"kubernetes/test\"]\n",
            consul.address(),
            cluster.kubeconfig().display()
        );
        let listen = Some(IpAddr::from([0, 0, 0, 0]));
        let mesh = Mesh::start(MeshPlan { more, listen, ..MeshPlan::default() }).await?;
        let host = cluster.host_address();
        Ok(Some(Self { cluster, mesh, consul, host }))
    }

    /// What `weft inject` makes of the objects, in the cluster.
    async fn inject(&self) -> Result<()> {
        let file = self.mesh.path().join("objects.yaml");
        std::fs::write(&file, OBJECTS)?;
        let port = self.mesh.address().parse::<SocketAddr>()?.port();
        let control = format!("control=[\"{}:{port}\"]", self.host);
        let file = file.display().to_string();
        let words = ["inject", "-f", &file, "--set", &control, "--set", "registry=kubernetes/test"];
        let injected = self.mesh.weft(&words).await?;
        self.cluster.apply(&injected).await?;
        for what in ["deployment/api", "deployment/web"] {
            self.cluster.rolled_out(what).await?;
        }
        Ok(())
    }

    /// A service of this host with its proxy, where pods reach it.
    async fn member(&self, name: &str, version: &str) -> Result<(App, Proxy)> {
        let app = self.mesh.http_app(name, version).await?;
        let plan = ProxyPlan::new(&format!("{name}-{version}"), name).inbound(app.address.port(), "http1");
        let proxy = self.mesh.proxy(plan.on(&Host::at(self.host))).await?;
        proxy.ready().await?;
        Ok((app, proxy))
    }

    /// What the application of the pod `web` reads at a URL.
    async fn web_reads(&self, url: &str) -> Result<Answer> {
        let read = ["exec", "deployment/web", "-c", "web", "--", "wget", "-q", "-O", "-", url];
        let said = self.cluster.kubectl(&read).await?;
        serde_json::from_str(&said).with_context(|| format!("{url} answered {said:?}"))
    }

    /// What the resolver of the pod `web` says of a name.
    async fn web_resolves(&self, name: &str) -> Result<String> {
        self.cluster.kubectl(&["exec", "deployment/web", "-c", "web", "--", "nslookup", name]).await
    }

    /// The pod `web` calls by names of the mesh, wherever the services run. One of Consul alone has no port of its own, so any
    /// will do.
    async fn names_lead_everywhere(&self) -> Result<()> {
        let (_stock_app, _stock) = {
            let (app, proxy) = self.member("stock", "consul").await?;
            let mut definition = proxy.definition("stock", "consul", app.address.port(), "http1");
            definition["Address"] = Value::String(self.host.to_string());
            self.consul.put("agent/service/register", &definition).await?;
            (app, proxy)
        };
        for (url, name) in [
            ("http://billing.default.mesh/", "billing"),
            ("http://billing.mesh/", "billing"),
            ("http://api.default.mesh/", "api"),
            ("http://stock.default.mesh/", "stock"),
        ] {
            let answer =
                eventually("it is called by its name", async || Ok(Some(self.web_reads(url).await?))).await?;
            assert_eq!((answer.name.as_str(), answer.caller.as_deref()), (name, Some(WEB)), "{url}");
        }
        let resolved = self.web_resolves("billing.default.mesh").await?;
        ensure!(resolved.contains("240.240."), "{resolved}");
        // Kubernetes' own names are Kubernetes' as before.
        let resolved = self.web_resolves("api.default.svc.cluster.local").await?;
        let address = ["get", "service", "api", "-o", "jsonpath={.spec.clusterIP}"];
        ensure!(resolved.contains(&self.cluster.kubectl(&address).await?), "{resolved}");
        ensure!(self.web_resolves("nobody.default.mesh").await.is_err(), "it has an address");
        Ok(())
    }

    async fn scale(&self, replicas: u32) -> Result<()> {
        self.cluster.kubectl(&["scale", "deployment/api", &format!("--replicas={replicas}")]).await?;
        self.cluster.rolled_out("deployment/api").await
    }
}

#[tokio::test]
async fn pods_consul_services_and_workloads_of_files_call_each_other_and_one_service_is_in_two() -> Result<()>
{
    let what = "pods, a Consul service and a file workload in one mesh";
    let Some(world) = World::start(what).await? else { return Ok(()) };
    let (_billing_app, billing) = {
        let (app, proxy) = world.member("billing", "file").await?;
        world.mesh.register("billing.yaml", &proxy.object("billing", "file", app.address.port(), "http1"))?;
        (app, proxy)
    };
    let (mut api_app, mut api) = world.member("api", "consul").await?;
    let mut definition = api.definition("api", "consul", api_app.address.port(), "http1");
    definition["Address"] = Value::String(world.host.to_string());
    world.consul.put("agent/service/register", &definition).await?;
    world.inject().await?;

    // By the name that Kubernetes resolves: both halves of the service answer, and know who calls.
    let mut versions = BTreeSet::new();
    eventually("both halves answer", async || {
        let answer = world.web_reads("http://api/").await?;
        ensure!(answer.caller.as_deref() == Some(WEB), "{answer:?}");
        versions.insert(answer.version);
        Ok((versions.len() == 2).then_some(()))
    })
    .await?;
    // By an explicit upstream: a workload that Kubernetes knows nothing of.
    let answer = world.web_reads("http://127.0.0.1:9100/").await?;
    assert_eq!((answer.name.as_str(), answer.caller.as_deref()), ("billing", Some(WEB)));
    world.names_lead_everywhere().await?;
    // And back: from this host into both halves.
    let caller = world.mesh.proxy(ProxyPlan::new("shop", "shop").upstream("api")).await?;
    caller.ready().await?;
    let mut versions = BTreeSet::new();
    eventually("this host reaches both halves", async || {
        versions.insert(get(caller.upstream("api"), "/").await?.version);
        Ok((versions.len() == 2).then_some(()))
    })
    .await?;
    drop(billing);

    // One half goes, then the other.
    let web = world.cluster.kubectl(&["get", "pods", "-l", "app=web", "-o", "json"]).await?;
    let web: Value = serde_json::from_str(&web)?;
    let address = ["get", "service", "api", "-o", "jsonpath={.spec.clusterIP}"];
    let address = format!("{}:80", world.cluster.kubectl(&address).await?).parse()?;
    let calls = load(&web["items"][0], address, 50)?;
    lasts(SECOND).await;
    world.scale(0).await?;
    lasts(3 * SECOND).await;
    world.scale(1).await?;
    lasts(SECOND).await;
    api.process.kill().await?;
    api_app.process.kill().await?;
    lasts(3 * SECOND).await;
    let tally = calls.stop().await?;
    figure("one service in Kubernetes and Consul, each half stopped once", &tally.words());
    assert_eq!(tally.failures().count(), 0, "{:?}", tally.troubles);
    assert_eq!(tally.by_version.len(), 2, "{:?}", tally.by_version);
    Ok(())
}
