//! An endpoint of a Kubernetes service comes and goes: how soon the clients of a control plane that watches a real API
//! server have applied it.
//!
//! Timed from the moment at which a watch of the benchmark's own, beside the control plane's, shows the change: what etcd and
//! the API server take is not ours. They run on the load's core. The endpoints are of manual slices: pods would be created
//! one by one and change nothing here.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use weft_registry_kubernetes::testkit::{ApiServer, User};

use super::change::{ten_of, wanted};
use super::fleet::Fleet;
use super::meter::{Meter, Times};
use super::world::{HOT, Shape, World, service};
use crate::row::Row;

/// The row of changes in Kubernetes; `None` where its programs are missing, which is said.
pub(super) async fn slices(shape: Shape, clients: usize, rounds: usize) -> Result<Option<Row>> {
    let Some(server) = ApiServer::start().await? else { return Ok(None) };
    fill(&server, shape).await?;
    let kubeconfig = server.settings(User::Admin)?.kubeconfig.context("it has a kubeconfig")?;
    let registry = format!(
        "[[registry]]\nid = \"kubernetes/bench\"\n[registry.kubernetes]\nkubeconfig = \"{}\"\n",
        kubeconfig.display()
    );
    let mut world = World::with_registry(shape, registry)?;
    world.start().await?;
    let hot = service(HOT);
    let ten = ten_of(shape.services, &hot);
    let endpoint = format!("kubernetes/bench/default/{hot}/{}", address(HOT, 0));
    let mut fleet = Fleet::start(&world, clients, |client| ten(client).at(&endpoint)).await?;
    fleet.in_sync(&world, wanted(shape.services)).await?;
    tokio::time::sleep(SETTLE).await;

    let meter = Meter::start(world.pid()?)?;
    let mut shown = watch(&server).await?;
    let (mut come, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (times, first) in [(&mut gone, false), (&mut come, true)] {
            set_first(&server, shape, first).await?;
            let at = shown.recv().await.context("the watch ended")?;
            let seen = fleet.all_see(first.then_some(WEIGHT), clients).await?;
            times.extend(seen.into_iter().map(|time| time.saturating_duration_since(at)));
            tokio::time::sleep(PAUSE).await;
        }
    }
    let used = meter.stop()?;
    fleet.check().await?;
    let all = Times::of([come.clone(), gone.clone()].concat());
    let [come, gone] = [come, gone].map(Times::of);
    Ok(Some(Row {
        work: format!(
            "one endpoint of an EndpointSlice, {} Services x {} endpoints on a real API server, from its watch to {clients} \
             clients, p50 / p99",
            shape.services, shape.endpoints
        ),
        peer: String::new(),
        limit: "- / 50 ms",
        measured: format!(
            "{:.1} / {:.1} ms (come {:.1} / {:.1}, gone {:.1} / {:.1}); {:.2} ms CPU",
            all.p50,
            all.p99,
            come.p50,
            come.p99,
            gone.p50,
            gone.p99,
            used.control_ms / (2 * rounds) as f64,
        ),
        holds: (!used.is_load_bound()).then_some(all.p99 <= 50.0),
        figures: json!({ "all_ms": all, "come_ms": come, "gone_ms": gone, "used": used }),
    }))
}

/// When a watch shows each change of the hot service's slice.
async fn watch(server: &ApiServer) -> Result<mpsc::Receiver<Instant>> {
    let path = format!("{SLICES}?watch=true&fieldSelector=metadata.name%3D{}", service(HOT));
    let mut lines = server.lines(&path).await?;
    // The first line is the slice as it is.
    lines.next().await.context("the watch ended")??;
    // One change at a time is made.
    let (sender, shown) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(Ok(_)) = lines.next().await {
            if sender.send(Instant::now()).await.is_err() {
                break;
            }
        }
    });
    Ok(shown)
}

/// Makes all services with their slices, a few at a time.
async fn fill(server: &ApiServer, shape: Shape) -> Result<()> {
    let one = |n: usize| async move {
        let name = service(n);
        let service = json!({"metadata": {"name": name}, "spec": {"ports": [{"name": "http", "port": 80}]}});
        server.send(Method::POST, SERVICES, &service).await?;
        server.send(Method::POST, SLICES, &slice(n, shape, true)).await?;
        anyhow::Ok(())
    };
    futures::stream::iter(0..shape.services).map(one).buffer_unordered(AT_ONCE).try_collect().await
}

async fn set_first(server: &ApiServer, shape: Shape, first: bool) -> Result<()> {
    let slice = slice(HOT, shape, first);
    let path = format!("{SLICES}/{}", service(HOT));
    server.send(Method::PATCH, &path, &slice).await?;
    Ok(())
}

fn slice(n: usize, shape: Shape, first: bool) -> Value {
    let endpoint = |endpoint| json!({"addresses": [address(n, endpoint)], "conditions": {"ready": true}});
    let from = usize::from(!first);
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": service(n), "labels": {"kubernetes.io/service-name": service(n)}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": (from..shape.endpoints).map(endpoint).collect::<Vec<_>>(),
    })
}

fn address(service: usize, endpoint: usize) -> String {
    let number = u32::try_from(service * 250 + endpoint).unwrap_or(0);
    let [_, b, c, d] = number.to_be_bytes();
    format!("10.{}.{c}.{d}", 1 + b)
}

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// What an instance has that says nothing of its weight.
const WEIGHT: u32 = 100;
/// Requests at a time while the cluster is filled.
const AT_ONCE: usize = 16;
/// Longer than any batch: changes do not keep each other company.
const PAUSE: Duration = Duration::from_millis(60);
/// What the start left to do is done by then.
const SETTLE: Duration = Duration::from_secs(6);
