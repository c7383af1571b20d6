//! The cluster that all other tests with Kubernetes stand on: pods, services, DNS and outages are real, two may be at
//! once, and nothing of one is left on the machine, however it ended.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use weft_integration::{Cluster, KUBERNETES, Process, eventually, get, ran_on};

/// A Deployment of our HTTP workload with its service, of both address families where there are two.
const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: weft.test/workload:1
        imagePullPolicy: Never
        args: [http, --name, web, --listen, "[::]:8080"]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
        resources: {limits: {memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}], ipFamilyPolicy: PreferDualStack}
"#;

/// A pod with a shell.
const SHELL: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: shell, image: "weft.test/app:1", imagePullPolicy: Never, command: [sleep, "100000"]}
"#;

async fn words(cluster: &Cluster, arguments: &[&str]) -> Result<Vec<String>> {
    Ok(cluster.kubectl(arguments).await?.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Addresses of the ready endpoints of `web`.
async fn endpoints(cluster: &Cluster) -> Result<Vec<String>> {
    let path = "jsonpath={.items[*].endpoints[?(@.conditions.ready==true)].addresses[0]}";
    words(cluster, &["get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", path]).await
}

async fn ready(cluster: &Cluster, count: usize) -> Result<()> {
    let families = if cluster.network().dual { 2 } else { 1 };
    eventually(&format!("web has {count} ready pods"), async || {
        Ok((endpoints(cluster).await?.len() == count * families).then_some(()))
    })
    .await
}

async fn start(what: &str) -> Result<Option<Cluster>> {
    let Some(cluster) = Cluster::start(what).await? else { return Ok(None) };
    cluster.load_workload().await?;
    cluster.apply(WEB).await?;
    cluster.apply(SHELL).await?;
    cluster.rolled_out("deployment/web").await?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/shell", "--timeout=30s"]).await?;
    Ok(Some(cluster))
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_services_and_names_are_real_and_outlive_the_api_server() -> Result<()> {
    let what = "pods answer, a Deployment follows, names resolve, an outage of the API server";
    let Some(cluster) = start(what).await? else { return Ok(()) };

    // From the host: the pod at all its addresses, and the service at all of its own.
    let pods =
        words(&cluster, &["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIPs[*].ip}"])
            .await?;
    let services =
        words(&cluster, &["get", "service", "web", "-o", "jsonpath={.spec.clusterIPs[*]}"]).await?;
    ensure!(
        pods.len() == services.len() && pods.len() == 1 + usize::from(cluster.network().dual),
        "{pods:?}"
    );
    for (addresses, port) in [(&pods, 8080), (&services, 80)] {
        for address in addresses {
            let address = SocketAddr::new(address.parse::<IpAddr>()?, port);
            let answer = get(address, "/").await.with_context(|| address.to_string())?;
            assert_eq!(answer.name, "web");
        }
    }

    // From a pod: by name, and to a process of this test.
    let said = cluster.in_pod("shell", &["wget", "-qO-", "http://web/here"]).await?;
    ensure!(said.contains(r#""path":"/here""#), "{said}");
    let said = cluster.in_pod("shell", &["nslookup", "web.default.svc.cluster.local"]).await?;
    ensure!(services.iter().all(|address| said.contains(address.as_str())), "{services:?}: {said}");
    ensure!(
        cluster.in_pod("shell", &["nslookup", "example.com"]).await.is_err(),
        "a name from outside resolved"
    );
    let listener = tokio::net::TcpListener::bind((cluster.host_address(), 0)).await?;
    let port = listener.local_addr()?.port().to_string();
    let host = cluster.host_address().to_string();
    let call = ["nc", &host, &port];
    let (said, seen) = tokio::join!(cluster.in_pod("shell", &call), async {
        let (mut stream, peer) = listener.accept().await?;
        stream.write_all(b"from the host").await?;
        anyhow::Ok(peer.ip().to_string())
    });
    assert_eq!(said?, "from the host");
    let own = cluster.kubectl(&["get", "pod", "shell", "-o", "jsonpath={.status.podIP}"]).await?;
    assert_eq!(seen?, own, "the host sees the pod's own address");

    cluster.kubectl(&["scale", "deployment/web", "--replicas=3"]).await?;
    ready(&cluster, 3).await?;
    cluster.kubectl(&["scale", "deployment/web", "--replicas=1"]).await?;
    ready(&cluster, 1).await?;

    cluster.stop_api_server().await?;
    ensure!(
        cluster.kubectl(&["get", "pods", "--request-timeout=1s"]).await.is_err(),
        "the API server answers"
    );
    let service = SocketAddr::new(services.first().context("a service has an address")?.parse()?, 80);
    assert_eq!(get(service, "/").await?.name, "web");
    cluster.start_api_server().await?;
    assert_eq!(words(&cluster, &["get", "pod", "shell", "-o", "name"]).await?, ["pod/shell"]);
    ran_on(KUBERNETES, what);
    Ok(())
}

/// What is on the machine because of one cluster. Taken while it runs, looked for when it has ended.
struct Traces {
    folder: PathBuf,
    namespace: PathBuf,
    link: String,
    ranges: Vec<String>,
}

impl Traces {
    fn of(cluster: &Cluster) -> Result<Self> {
        let folder = cluster.kubeconfig().parent().context("a kubeconfig is in a folder")?.to_owned();
        let network = cluster.network();
        let pid = folder_pid(&folder)?;
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/pid"))?;
        Ok(Self { folder, namespace, link: network.link(), ranges: vec![network.pods(), network.services()] })
    }

    /// Whether another cluster has the link, and so the ranges and the control groups, since.
    fn others(&self) -> bool {
        let alias = std::fs::read_to_string(Path::new("/sys/class/net").join(&self.link).join("ifalias"));
        alias.is_ok_and(|alias| Path::new(alias.trim()) != self.folder)
    }

    async fn found(&self) -> Result<Vec<String>> {
        let mut found = processes(&self.namespace);
        let folder = self.folder.display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        found.extend(mounts.lines().filter(|line| line.contains(&folder)).map(str::to_owned));
        found.extend(self.folder.exists().then_some(folder));
        let routes = tokio::process::Command::new("ip").args(["route", "show"]).output().await?;
        let routes = String::from_utf8(routes.stdout)?;
        let (mut shared, link) = (Vec::new(), Path::new("/sys/class/net").join(&self.link));
        shared.extend(link.exists().then(|| link.display().to_string()));
        shared.extend(self.ranges.iter().filter(|range| routes.contains(range.as_str())).cloned());
        shared.extend(
            groups()
                .into_iter()
                .map(|top| top.join(&self.link))
                .filter(|group| group.exists())
                .map(|group| group.display().to_string()),
        );
        found.extend(shared.into_iter().filter(|_| !self.others()));
        Ok(found)
    }

    async fn gone(&self) -> Result<()> {
        let found = self.found().await?;
        ensure!(found.is_empty(), "left behind: {found:#?}");
        Ok(())
    }
}

/// The first process of the cluster whose folder this is.
fn folder_pid(folder: &Path) -> Result<u64> {
    let record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("cluster.json"))?)?;
    record["first"]["pid"].as_u64().context("a record names the first process")
}

/// Those that live in this pid namespace.
fn processes(namespace: &Path) -> Vec<String> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let inside = all.map(|entry| entry.path()).filter(|path| {
        // A zombie of it has no namespaces any more.
        std::fs::read_link(path.join("ns/pid")).is_ok_and(|its| its == namespace)
    });
    inside.map(|path| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default()).collect()
}

/// The tops of all hierarchies of control groups.
fn groups() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let lines = mounts.lines().filter(|line| line.contains(" cgroup"));
    lines.filter_map(|line| line.split(' ').nth(1).map(PathBuf::from)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_at_once_share_nothing_and_leave_nothing() -> Result<()> {
    let what = "two clusters at once; nothing is left of them";
    let (one, two) = tokio::try_join!(start(what), start(what))?;
    let (Some(one), Some(two)) = (one, two) else { return Ok(()) };
    let traces = [Traces::of(&one)?, Traces::of(&two)?];
    for traces in &traces {
        // So that a trace that is looked for in the wrong place can't pass for one that is gone.
        let found = traces.found().await?;
        ensure!(found.len() > 10 && !traces.others(), "of a running cluster only {found:?} was found");
    }
    let addresses = [endpoints(&one).await?, endpoints(&two).await?];
    ensure!(addresses[0].iter().all(|address| !addresses[1].contains(address)), "{addresses:?}");

    drop(one);
    traces[0].gone().await?;
    let two_still = two.in_pod("shell", &["wget", "-qO-", "http://web/still"]).await?;
    ensure!(two_still.contains(r#""path":"/still""#), "{two_still}");
    drop(two);
    traces[1].gone().await?;
    for host in ["/etc/cni/net.d/10-node.conflist", "/run/switches", "/run/containerd/containerd.sock"] {
        ensure!(!Path::new(host).exists(), "{host} reached the host");
    }
    ran_on(KUBERNETES, what);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_dies_with_whoever_held_it_and_what_is_left_can_be_taken_away() -> Result<()> {
    let what = "a cluster whose keeper was killed";
    let Some(probe) = Cluster::start(what).await? else { return Ok(()) };
    let program = Process::program("weft-cluster")?;
    let home = tempfile::tempdir()?;
    let mut command = std::process::Command::new(&program);
    command.arg("hold").arg(home.path()).arg("orphan").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut keeper = command.spawn()?;
    let mut word = String::new();
    BufReader::new(keeper.stdout.take().context("a pipe")?).read_line(&mut word)?;
    assert_eq!(word, "ready\n");
    let folder = home.path().join("orphan");
    let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", folder_pid(&folder)?))?;
    ensure!(processes(&namespace).len() > 7, "a node has more processes");

    keeper.kill()?;
    keeper.wait()?;
    eventually("every process of the cluster has ended", async || {
        Ok(processes(&namespace).is_empty().then_some(()))
    })
    .await?;
    ensure!(folder.exists(), "nobody was there to remove the folder");
    let down =
        tokio::process::Command::new(&program).arg("down").arg(home.path()).arg("orphan").status().await?;
    ensure!(down.success() && !folder.exists(), "{down}");
    let nodes = probe.kubectl(&["get", "nodes", "-o", "name"]).await?;
    assert_eq!(nodes.trim(), format!("node/{}-node", probe.name()), "another cluster was touched");
    ran_on(KUBERNETES, what);
    Ok(())
}
