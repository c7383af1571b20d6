//! The mesh in a real Kubernetes: pods get their proxies by a label, call each other, and lose no request to what happens
//! in a cluster every day.

mod joining;
mod mixed;
mod restricted;
mod world;

use anyhow::{Context, Result, ensure};
use weft_integration::{eventually, figure};

use world::{SECOND, World, lasts, name};

const WEB: &str = "spiffe://weft.local/ns/shop/sa/web";
const CONTROL: &str = "deployment/weft-control";
/// Calls a second while something happens.
const RATE: u32 = 100;

/// A namespace without a label, and a pod in it that knows nothing of a mesh.
const OUTSIDE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: default, labels: {app: stranger}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: "weft.test/app:1", imagePullPolicy: Never, command: [sleep, "1000000"]}
"#;

const JOB: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: order, namespace: shop}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      serviceAccountName: web
      containers:
      - name: order
        image: weft.test/app:1
        imagePullPolicy: Never
        command: [wget, -q, -O, "-", "http://api/"]
"#;

/// Whose time never comes in a test; its Job is made by hand.
const CRON_JOB: &str = r#"
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec:
  schedule: "0 0 29 2 *"
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          serviceAccountName: web
          containers:
          - name: nightly
            image: weft.test/app:1
            imagePullPolicy: Never
            command: [wget, -q, -O, "-", "http://api/"]
"#;

#[tokio::test]
async fn one_label_brings_pods_into_the_mesh_and_they_call_each_other_by_the_names_they_know() -> Result<()> {
    let Some(world) = World::start("pods of a labelled namespace call each other").await? else {
        return Ok(());
    };
    // By service name, by full name, and by an instance's own address.
    for url in ["http://api/", "http://api.shop.svc.cluster.local/"] {
        let answer = world.web_reads(url).await?;
        assert_eq!((answer.name.as_str(), answer.caller.as_deref()), ("api", Some(WEB)), "{url}");
    }
    for pod in world.pods("shop", "app=api").await? {
        let ip = pod["status"]["podIP"].as_str().context("an address")?.to_owned();
        let answer = world.web_reads(&format!("http://{ip}:8080/")).await?;
        assert_eq!((answer.name.as_str(), answer.caller.as_deref()), ("api", Some(WEB)), "{ip}");
    }
    // A server that speaks first, as the very pod of a StatefulSet.
    let web = name(&world.pod("shop", "app=web").await?)?;
    for pod in ["store-0", "store-1"] {
        let ask = format!("echo ping | nc -w 5 {pod}.store 5000");
        let said = world.kubectl(&["exec", "-n", "shop", &web, "-c", "web", "--", "sh", "-c", &ask]).await?;
        assert!(said.starts_with(&format!("{pod} ")), "{pod} said {said:?}");
    }
    assert_eq!(world.grpc("greeter", 9000).await?, "0", "gRPC's status of a captured call");
    local(&world).await?;
    // A Job ends although it has a sidecar, and so does one of a CronJob.
    world.cluster.apply(JOB).await?;
    world.cluster.apply(CRON_JOB).await?;
    world.kubectl(&["create", "job", "-n", "shop", "--from=cronjob/nightly", "nightly-now"]).await?;
    for job in ["job/order", "job/nightly-now"] {
        let wait = ["wait", "-n", "shop", "--for=condition=complete", job, "--timeout=60s"];
        world.kubectl(&wait).await?;
    }
    joining::a_token_is_good_once_at_one_of_all_control_planes(&world).await?;
    joining::all_control_planes_answer_as_one(&world).await?;
    strict(&world).await
}

/// A Service whose callers may not leave their node: there is but one, and the proxy of `web` has learned that it is there.
async fn local(world: &World) -> Result<()> {
    let policy = |policy: &str| format!(r#"{{"spec":{{"internalTrafficPolicy":"{policy}"}}}}"#);
    world.kubectl(&["patch", "service", "-n", "shop", "api", "-p", &policy("Local")]).await?;
    // Until it has come to the proxy: nobody could tell from the answers.
    lasts(3 * SECOND).await;
    for _ in 0..5 {
        assert_eq!(world.web_reads("http://api/").await?.name, "api");
    }
    world.kubectl(&["patch", "service", "-n", "shop", "api", "-p", &policy("Cluster")]).await?;
    Ok(())
}

/// Plaintext is answered until somebody says strict; the kubelet's probes go on.
async fn strict(world: &World) -> Result<()> {
    world.cluster.apply(OUTSIDE).await?;
    let wait = ["wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s"];
    world.kubectl(&wait).await?;
    let ask = ["exec", "stranger", "--", "wget", "-q", "-O", "-", "http://api.shop/"];
    let said = world.kubectl(&ask).await?;
    ensure!(said.contains("\"api\"") && !said.contains("spiffe://"), "a stranger was told {said}");
    let strict =
        r#"{"spec":{"template":{"metadata":{"annotations":{"weft.dev/inbound-plaintext":"strict"}}}}}"#;
    world.kubectl(&["patch", "deployment", "-n", "shop", "api", "-p", strict]).await?;
    world.rolled_out("shop", "deployment/api").await?;
    eventually("no plaintext is answered any more", async || Ok(world.kubectl(&ask).await.err().map(drop)))
        .await?;
    assert_eq!(world.web_reads("http://api/").await?.caller.as_deref(), Some(WEB));
    for pod in world.pods("shop", "app=api").await? {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        assert_eq!(restarts, 0, "a probe failed: {}", pod["status"]);
    }
    Ok(())
}

#[tokio::test]
async fn what_happens_in_a_cluster_every_day_loses_no_request() -> Result<()> {
    let Some(world) = World::start("rolling updates, scaling, kills and outages under load").await? else {
        return Ok(());
    };
    let load = world.load("api", RATE).await?;
    lasts(2 * SECOND).await;
    let updates = 20;
    for _ in 0..updates {
        world.kubectl(&["rollout", "restart", "-n", "shop", "deployment/api"]).await?;
        world.rolled_out("shop", "deployment/api").await?;
    }
    for replicas in ["6", "1", "2"] {
        world.scale("shop", "deployment/api", replicas).await?;
    }
    // As a node that is gone: no grace, no farewell.
    for _ in 0..3 {
        let victim = name(world.pods("shop", "app=api").await?.first().context("a pod")?)?;
        world.kill("shop", &victim).await?;
        world.rolled_out("shop", "deployment/api").await?;
    }
    lasts(3 * SECOND).await;
    let tally = load.stop().await?;
    figure(&format!("Kubernetes, {updates} rolling updates, 2 to 6 to 1 to 2, 3 kills"), &tally.words());
    assert_eq!(tally.failures().count(), 0, "{:?}", tally.troubles);
    outages(&world).await
}

/// The API server is away for a minute; then three replicas of the control plane are killed, one after the other and all
/// at once.
async fn outages(world: &World) -> Result<()> {
    world.scale("weft-system", CONTROL, "3").await?;
    let load = world.load("api", RATE).await?;
    lasts(SECOND).await;
    world.cluster.stop_api_server().await?;
    lasts(60 * SECOND).await;
    world.cluster.start_api_server().await?;
    let mut ready = world.control_planes(&[]).await?;
    for pod in ready.clone() {
        world.kill("weft-system", &pod).await?;
        ready = world.control_planes(&[pod]).await?;
    }
    for pod in &ready {
        world.kill("weft-system", pod).await?;
    }
    world.control_planes(&ready).await?;
    lasts(5 * SECOND).await;
    let tally = load.stop().await?;
    figure("Kubernetes, the API server away for 60 s, then 3 control planes killed twice", &tally.words());
    assert_eq!(tally.failures().count(), 0, "{:?}", tally.troubles);
    // The new control planes are of the same mesh: new pods join, and old ones follow them.
    world.kubectl(&["rollout", "restart", "-n", "shop", "deployment/api"]).await?;
    world.rolled_out("shop", "deployment/api").await?;
    assert_eq!(world.web_reads("http://api/").await?.caller.as_deref(), Some(WEB));
    Ok(())
}
