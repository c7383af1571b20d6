//! How long a large cluster takes to be read, and in how much memory: `cargo run --release -p weft-registry-kubernetes
//! --example cold_start [SERVICES [PODS]]`, by default 5,000 services with 50,000 pods.
//!
//! A second process plays the API server and streams objects of a real one's size, so that the memory that is printed is the
//! reader's alone: adapter, supervision and catalog, as in the control plane.

#![allow(clippy::unwrap_used, reason = "a measurement that goes wrong should say so and end")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use weft_model::{Catalog, RegistryId};
use weft_registry::{SuperviseSettings, Supervised, supervise};
use weft_registry_kubernetes::{KubernetesRegistry, KubernetesSettings};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, otherwise: usize| arguments.get(at).map_or(otherwise, |text| text.parse().unwrap());
    if arguments.first().is_some_and(|first| first == "serve") {
        return serve(number(1, 0), number(2, 0));
    }
    let (services, pods) = (number(0, 5_000), number(1, 50_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(read(services, pods));
}

/// The other process, which ends with this one.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn read(services: usize, pods: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["serve", &services.to_string(), &pods.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let _server = Server(child);
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("config");
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{}'}}}}], \
         users: [{{name: c, user: {{token: t}}}}], contexts: [{{name: c, context: {{cluster: c, user: c}}}}]}}",
        port.trim()
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let settings = KubernetesSettings { kubeconfig: Some(kubeconfig), ..KubernetesSettings::default() };
    let id: RegistryId = "kubernetes/large".parse().unwrap();
    let begun = Instant::now();
    let registry = KubernetesRegistry::new(id, settings, "weft.test".parse().unwrap()).unwrap();
    let mut stream = std::pin::pin!(supervise(Box::new(registry), SuperviseSettings::default()));
    let mut catalog = Catalog::new(BTreeMap::new());
    loop {
        match stream.next().await.unwrap() {
            Supervised::Event(id, event) => drop(catalog.apply(&id, event)),
            Supervised::Freshness(_, freshness) => {
                if let Some(error) = &freshness.last_error {
                    eprintln!("{}", error.message);
                }
            }
        }
        if catalog.snapshot().workloads().count() >= pods {
            break;
        }
    }
    let took = begun.elapsed();
    // What was read is let go of.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    println!(
        "{} services, {} workloads: {:.2} s, {} MiB resident, {} MiB at most",
        catalog.snapshot().services().count(),
        catalog.snapshot().workloads().count(),
        took.as_secs_f64(),
        memory("VmRSS"),
        memory("VmHWM"),
    );
}

/// Answers each watch with all objects and the mark of their end, and keeps it open.
fn serve(services: usize, pods: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    for stream in listener.incoming() {
        std::thread::spawn(move || answer(stream.unwrap(), services, pods));
    }
}

fn answer(mut stream: TcpStream, services: usize, pods: usize) {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut out = BufWriter::with_capacity(1 << 16, &stream);
    // Ends when the connection does.
    let begins = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    out.write_all(begins.as_bytes()).unwrap();
    if head.contains("sendInitialEvents") {
        let each = pods.div_ceil(services.max(1));
        let count = if head.contains("/pods?") { pods } else { services };
        let nodes = if head.contains("/nodes?") { 100 } else { count };
        for i in 0..nodes {
            let object = match () {
                () if head.contains("/pods?") => pod(i, each),
                () if head.contains("/services?") => service(i),
                () if head.contains("/endpointslices?") => slice(i, each, pods),
                () => node(i),
            };
            if writeln!(out, "{{\"type\":\"ADDED\",\"object\":{object}}}").is_err() {
                return;
            }
        }
        let mark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        writeln!(out, "{mark}").unwrap();
    }
    out.flush().unwrap();
    drop(out);
    // Until the reader goes.
    let _ = stream.read(&mut byte);
}

fn ip(i: usize) -> String {
    format!("10.{}.{}.{}", i >> 16 & 255, i >> 8 & 255, i & 255)
}

/// About 5 kB, as a pod with one container and what `kubectl apply` and the kubelet leave in it.
fn pod(i: usize, each: usize) -> String {
    let managed = r#"{"manager":"kubelet","operation":"Update","fieldsV1":{"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{}}}}}}"#;
    let managed = [managed; 12].join(",");
    let environment = [r#"{"name":"SOME_SETTING","value":"a value of some length"}"#; 30].join(",");
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"s{s}-{i}","namespace":"ns{n}","uid":"00000000-0000-4000-8000-{i:012}","resourceVersion":"8","labels":{{"app":"s{s}","pod-template-hash":"6d5f7b9c8","version":"v1"}},"annotations":{{"weft.dev/tunnel":"15008","weft.dev/status":"{{}}","kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z"}},"managedFields":[{managed}]}},"spec":{{"nodeName":"node-{node}","serviceAccountName":"s{s}","containers":[{{"name":"app","image":"registry.example.org/app:1","env":[{environment}]}}]}},"status":{{"phase":"Running","podIP":"{ip}","podIPs":[{{"ip":"{ip}"}}],"conditions":[{{"type":"Ready","status":"True","lastTransitionTime":"2026-01-01T00:00:00Z"}}]}}}}"#,
        s = i / each,
        n = i / each % 100,
        node = i % 100,
        ip = ip(i),
    )
}

fn service(s: usize) -> String {
    format!(
        r#"{{"metadata":{{"name":"s{s}","namespace":"ns{}","resourceVersion":"8"}},"spec":{{"clusterIPs":["10.96.{}.{}"],"ports":[{{"name":"http","port":80}},{{"name":"grpc","port":81}}]}}}}"#,
        s % 100,
        s >> 8,
        s & 255
    )
}

fn slice(s: usize, each: usize, pods: usize) -> String {
    let mut endpoints = String::new();
    for i in (s * each..((s + 1) * each).min(pods)).map(|i| (i, i % 100)) {
        let comma = if endpoints.is_empty() { "" } else { "," };
        let (i, node) = i;
        write!(
            endpoints,
            r#"{comma}{{"addresses":["{ip}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"nodeName":"node-{node}","targetRef":{{"kind":"Pod","namespace":"ns{n}","name":"s{s}-{i}","uid":"00000000-0000-4000-8000-{i:012}"}}}}"#,
            ip = ip(i),
            n = s % 100,
        )
        .unwrap();
    }
    format!(
        r#"{{"metadata":{{"name":"s{s}-x","namespace":"ns{}","resourceVersion":"8","labels":{{"kubernetes.io/service-name":"s{s}","endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"}}}},"addressType":"IPv4","ports":[{{"name":"http","port":8080}},{{"name":"grpc","port":8081}}],"endpoints":[{endpoints}]}}"#,
        s % 100
    )
}

fn node(i: usize) -> String {
    format!(
        r#"{{"metadata":{{"name":"node-{i}","resourceVersion":"8","labels":{{"topology.kubernetes.io/region":"eu","topology.kubernetes.io/zone":"{}"}}}}}}"#,
        i % 3
    )
}
