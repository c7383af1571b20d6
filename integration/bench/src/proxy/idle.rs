//! Idle memory, and the time from the start of the process until it is ready.
//!
//! Weft as a user has it: one `[[inbound]]`, one `[[upstream]]`, a running control plane. A first start has a join token and
//! nothing else; a later one has what it saved. Peers start with the configuration of one HTTP/1.1 hop, and are ready
//! when they accept a connection.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_integration::{Mesh, MeshPlan, PATIENCE, Proxy, ProxyPlan, free_port};

use crate::measure::{self, MEASURED};
use crate::proxy::figures::{middle, shown};
use crate::proxy::peers::{self, Place};
use crate::proxy::scenario::Scenario;
use crate::proxy::{Args, certificates};
use crate::report::Section;
use crate::row::Row;

/// An idle proxy is looked at after so long.
const REST: Duration = Duration::from_secs(5);
/// Between two looks at whether it is ready.
const LOOK: Duration = Duration::from_millis(1);

const LATER: &str = "weft, later start";

/// What was found of one candidate.
struct Found {
    name: String,
    starts_ms: Vec<f64>,
    /// Resident, and proportional.
    memory: (f64, f64),
}

/// Measures.
pub(super) async fn run(args: &Args) -> Result<Section> {
    let mut found = Vec::new();
    if args.wants("weft") {
        found.extend(weft(args.starts).await?);
    }
    for name in ["envoy", "haproxy", "nginx"] {
        if args.wants(name)
            && let Some(peer) = peer(name, args.starts).await?
        {
            found.push(peer);
        }
    }
    let mut markdown = format!(
        "## idle\n\nResident memory of an idle proxy after {} s, and from start to ready (median of {}; highest).\n\n\
         | candidate | RSS MiB | PSS MiB | ready after ms | highest |\n|---|--:|--:|--:|--:|\n",
        REST.as_secs(),
        args.starts
    );
    for Found { name, starts_ms, memory } in &found {
        let highest = starts_ms.iter().copied().max_by(f64::total_cmp);
        let median = shown(middle(starts_ms.clone()), 1);
        writeln!(
            markdown,
            "| {name} | {:.1} | {:.1} | {median} | {} |",
            memory.0,
            memory.1,
            shown(highest, 1)
        )?;
    }
    let figures = found.iter().map(|found| {
        json!({"name": found.name, "starts_ms": found.starts_ms, "rss_mib": found.memory.0, "pss_mib": found.memory.1})
    });
    let (rows, figures) = (rows(&found), figures.collect());
    Ok(Section { name: "idle", rows, markdown, figures, failures: vec![] })
}

/// What was asked for: of a later start, since that is what a proxy does for the rest of its life.
fn rows(found: &[Found]) -> Vec<Row> {
    let of = |name: &str| found.iter().find(|found| found.name == name);
    let Some(ours) = of(LATER) else { return vec![] };
    let ready = |found: &Found| middle(found.starts_ms.clone());
    let beside = |figure: &dyn Fn(&Found) -> Option<f64>| {
        let named = |name| format!("{name}: {}", shown(of(name).and_then(figure), 1));
        format!("{}, {}", named("haproxy"), named("envoy"))
    };
    let row = |work: &str, limit, measured: Option<f64>, most: f64, unit, peer| Row {
        work: work.to_owned(),
        limit,
        measured: format!("{} {unit}", shown(measured, 1)),
        peer,
        holds: measured.map(|measured| measured <= most),
        figures: Value::Null,
    };
    let memory = |found: &Found| Some(found.memory.0);
    vec![
        row("idle proxy: resident memory", "12 MiB", memory(ours), 12.0, "MiB", beside(&memory)),
        row("idle proxy: start to ready", "100 ms", ready(ours), 100.0, "ms", beside(&ready)),
    ]
}

async fn weft(starts: usize) -> Result<[Found; 2]> {
    let mesh = Mesh::start(MeshPlan::default()).await?;
    let port = free_port();
    mesh.register(
        "api.yaml",
        &format!(
            "kind: Workload\nname: api-1\nservice: api\naddresses: [127.0.0.1]\nhealth: healthy\ntunnel: {}\n\
         ports: [{{name: main, number: {port}, protocol: http1}}]\n",
            free_port()
        ),
    )?;
    let mut first = Found { name: "weft, first start".to_owned(), starts_ms: vec![], memory: (0.0, 0.0) };
    let mut later = Found { name: LATER.to_owned(), starts_ms: vec![], memory: (0.0, 0.0) };
    let mut last = None;
    for n in 0..starts {
        let plan = ProxyPlan::new(&format!("web-{n}"), "web").quiet().inbound(port, "http1").upstream("api");
        let token = mesh.token("default/web").await?;
        // Two of them would share the pages of the program.
        drop(last.take());
        let start = Instant::now();
        let mut proxy = mesh.proxy_with_token(plan, token)?;
        first.starts_ms.push(until_ready(&proxy, start).await?);
        if n + 1 == starts {
            first.memory = memory(proxy.process.pid()?).await?;
        }
        proxy.process.stop(PATIENCE).await?;
        let start = Instant::now();
        proxy.start_again()?;
        later.starts_ms.push(until_ready(&proxy, start).await?);
        last = Some(proxy);
    }
    let proxy = last.context("at least one start")?;
    later.memory = memory(proxy.process.pid()?).await?;
    Ok([first, later])
}

async fn memory(pid: u32) -> Result<(f64, f64)> {
    tokio::time::sleep(REST).await;
    Ok((measure::resident_mib(pid)?, measure::proportional_mib(pid)?))
}

/// Milliseconds since `start` until the readiness endpoint says 200.
async fn until_ready(proxy: &Proxy, start: Instant) -> Result<f64> {
    measure::pin_process(proxy.process.pid()?, MEASURED)?;
    while start.elapsed() < PATIENCE {
        if ready(proxy.admin_address()).await.unwrap_or(false) {
            return Ok(start.elapsed().as_secs_f64() * 1e3);
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("not ready: {}", proxy.process.log())
}

async fn ready(admin: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}

async fn peer(name: &str, starts: usize) -> Result<Option<Found>> {
    let directory = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
    let files = certificates::make(directory.path())?;
    let backend = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let place = Place { scenario: Scenario::HopHttp1, backend, files: &files, directory: directory.path() };
    let mut found = Found { name: name.to_owned(), starts_ms: vec![], memory: (0.0, 0.0) };
    for n in 0..starts {
        let start = Instant::now();
        let Some(running) = peers::start(name, &place).await? else { return Ok(None) };
        let pid = *running.pids.first().context("a peer has a process")?;
        measure::pin_process(pid, MEASURED)?;
        while TcpStream::connect(running.entry).await.is_err() {
            if start.elapsed() > PATIENCE {
                bail!("{name} does not listen: {}", running.log());
            }
            tokio::time::sleep(LOOK).await;
        }
        found.starts_ms.push(start.elapsed().as_secs_f64() * 1e3);
        if n + 1 == starts {
            found.memory = memory(pid).await?;
        }
    }
    Ok(Some(found))
}
