//! What the demo plays: calls over every protocol, an endpoint that leaves under load, a control plane that is killed under
//! load, and callers that are refused.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use weft_control_api::{ProxyStatus, ProxySync, path};

use super::client::{Answer, Http1, greet, median_ms, use_store};
use super::load::Load;
use super::report::Event;
use super::stage::{Stage, local};
use super::strangers::{foreign_papers, knock};

/// Calls per median.
const SAMPLES: usize = 200;
/// How many ask at once for an answer of one version.
const CALLERS: usize = 8;
/// How long they do.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long load runs before and after what happens under it.
const BEFORE_AND_AFTER: Duration = Duration::from_millis(1500);

/// `web` calls everybody, over every protocol.
pub(super) async fn calls(stage: &Stage) -> Result<Vec<Event>> {
    Ok(vec![
        call_api(stage, "v1").await?,
        call_api(stage, "v2").await?,
        call_greeter(stage).await?,
        call_store(stage).await?,
    ])
}

async fn call_api(stage: &Stage, version: &str) -> Result<Event> {
    let upstream = stage.member("web")?.upstream("api")?;
    let answer = answer_of(upstream, version).await?;
    let mut through = Http1::new(upstream);
    let median = median_ms(SAMPLES, async || through.get("/").await.map(drop)).await?;
    let mut direct = Http1::new(local(stage.member("api-v1")?.app));
    let direct = median_ms(SAMPLES, async || direct.get("/").await.map(drop)).await?;
    Ok(Event::Call {
        from: "web",
        to: "api",
        answered_by: format!("{} {}", answer.name, answer.version),
        protocol: answer.protocol,
        caller: answer.caller,
        median_ms: Some(median),
        direct_ms: Some(direct),
        added_ms: Some(median - direct),
    })
}

/// Asks until this version answers: requests are balanced one by one.
///
/// Several callers at once, since a version whose first answer was slow gets nothing from a single one for some time:
/// the balancer sends where the answer comes sooner, unless that is busy.
async fn answer_of(upstream: SocketAddr, version: &str) -> Result<Answer> {
    let start = Instant::now();
    let mut callers: Vec<Http1> = (0..CALLERS).map(|_| Http1::new(upstream)).collect();
    let mut calls = 0;
    while start.elapsed() < PATIENCE {
        let answers = try_join_all(callers.iter_mut().map(|caller| caller.get("/"))).await?;
        calls += answers.len();
        if let Some(answer) = answers.into_iter().find(|answer| answer.version == version) {
            return Ok(answer);
        }
    }
    bail!("api {version} answered none of {calls} calls in {} s", PATIENCE.as_secs())
}

async fn call_greeter(stage: &Stage) -> Result<Event> {
    let through = stage.member("web")?.upstream("greeter")?;
    let reply = greet(through).await?;
    let median = median_ms(SAMPLES, async || greet(through).await.map(drop)).await?;
    let app = local(stage.member("greeter")?.app);
    let direct = median_ms(SAMPLES, async || greet(app).await.map(drop)).await?;
    Ok(Event::Call {
        from: "web",
        to: "greeter",
        answered_by: format!("greeter {} ({:?})", reply.version, reply.message),
        protocol: "gRPC".to_owned(),
        caller: Some(reply.caller).filter(|caller| !caller.is_empty()),
        median_ms: Some(median),
        direct_ms: Some(direct),
        added_ms: Some(median - direct),
    })
}

async fn call_store(stage: &Stage) -> Result<Event> {
    let through = stage.member("web")?.upstream("store")?;
    let greeting = use_store(through).await?;
    let median = median_ms(SAMPLES / 4, async || use_store(through).await.map(drop)).await?;
    let app = local(stage.member("store")?.app);
    let direct = median_ms(SAMPLES / 4, async || use_store(app).await.map(drop)).await?;
    // Raw bytes carry no header: what the callee's proxy saw is in its access log, which is written a moment later.
    let start = Instant::now();
    let caller = loop {
        let logged = stage.access_log("store", |line| line["reporter"] == "destination");
        let caller = logged.and_then(|line| line["source"].as_str().map(str::to_owned));
        if caller.is_some() || start.elapsed() > Duration::from_secs(5) {
            break caller;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    Ok(Event::Call {
        from: "web",
        to: "store",
        answered_by: greeting.trim_end_matches(" ready").to_owned(),
        protocol: "TCP (the server speaks first)".to_owned(),
        caller,
        median_ms: Some(median),
        direct_ms: Some(direct),
        added_ms: Some(median - direct),
    })
}

/// `api` v2 calls `web` back: the other direction, across two registries where v2 is in Consul.
pub(super) async fn call_back(stage: &Stage) -> Result<Vec<Event>> {
    let answer = Http1::new(local(stage.member("api-v2")?.app)).get("/relay").await?;
    let web = answer.upstream.context("the relay has an answer of web in it")?;
    Ok(vec![Event::Call {
        from: "api v2",
        to: "web",
        answered_by: format!("{} {}", web.name, web.version),
        protocol: web.protocol,
        caller: web.caller,
        median_ms: None,
        direct_ms: None,
        added_ms: None,
    }])
}

/// `api` v1 leaves the registry under load and comes back.
pub(super) async fn endpoint_leaves(stage: &Stage) -> Result<Vec<Event>> {
    let load = Load::start(stage.member("web")?.upstream("api")?, "/");
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let left = Instant::now();
    stage.register("api", Some("api-v1"))?;
    wait_for_endpoints(stage, 1).await?;
    let left = Event::Applied { change: "api v1 leaves the registry", milliseconds: milliseconds(left) };
    // Calls that were under way when the change was applied may still end on v1.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = load.answered_by().get("v1").copied().unwrap_or(0);
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let after = load.answered_by().get("v1").copied().unwrap_or(0);
    let back = Instant::now();
    stage.register("api", None)?;
    wait_for_endpoints(stage, 2).await?;
    let back = Event::Applied { change: "api v1 comes back", milliseconds: milliseconds(back) };
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let end = load.answered_by().get("v1").copied().unwrap_or(0);
    let load = load.stop("an endpoint leaves and comes back").await;
    if before == 0 || after != before || end == after {
        bail!(
            "calls did not move: v1 had {before} before it left, {after} while it was gone, {end} at the end"
        );
    }
    Ok(vec![left, back, load])
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// Polls web's proxy until it has `count` endpoints of `api`.
async fn wait_for_endpoints(stage: &Stage, count: usize) -> Result<()> {
    let web = stage.member("web")?;
    let start = Instant::now();
    loop {
        let (_, dump) = stage.admin(web, "/config_dump").await?;
        let dump: serde_json::Value = serde_json::from_str(&dump)?;
        let api =
            dump["services"].as_array().and_then(|all| all.iter().find(|s| s["service"] == "default/api"));
        let found = api.and_then(|api| api["endpoints"].as_array()).map_or(0, Vec::len);
        if found == count {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(15) {
            bail!("web's proxy has {found} endpoints of api and not {count} after 15 s");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The control plane is killed under load and comes back.
pub(super) async fn control_plane_killed(stage: &mut Stage) -> Result<Vec<Event>> {
    let load = Load::start(stage.member("web")?.upstream("api")?, "/");
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    stage.kill_control().await?;
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let start = Instant::now();
    stage.start_control().await?;
    let proxies = stage.members.len();
    loop {
        let said: Vec<ProxyStatus> = stage.api().get(path::PROXIES).await.unwrap_or_default();
        let in_sync = said.iter().filter(|proxy| proxy.sync == ProxySync::InSync).count();
        if in_sync == proxies {
            break;
        }
        if start.elapsed() > Duration::from_secs(30) {
            bail!("only {in_sync} of {proxies} proxies are in sync 30 s after the control plane came back");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text =
        format!("{proxies} proxies connected and in sync {:.0} ms after its restart", milliseconds(start));
    tokio::time::sleep(BEFORE_AND_AFTER / 2).await;
    Ok(vec![Event::Note { text }, load.stop("the control plane is killed and comes back").await])
}

/// Callers without identity, or with a foreign one, at the tunnel of `api` v1.
pub(super) async fn strangers(stage: &Stage) -> Result<Vec<Event>> {
    let tunnel = local(stage.member("api-v1")?.tunnel);
    let mut events = Vec::new();
    for (who, papers) in [
        ("a caller without a certificate", None),
        ("a caller from another trust domain", Some(foreign_papers()?)),
    ] {
        let before = refusals(stage).await?;
        let knocked = knock(tunnel, papers).await;
        // The proxy counts the refusal when its side of the handshake has ended, a moment after the caller saw it.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let after = refusals(stage).await?;
        let reasons: Vec<String> = after.into_iter().filter(|line| !before.contains(line)).collect();
        events.push(Event::Refused {
            who,
            refused: knocked.is_err() && !reasons.is_empty(),
            caller_saw: knocked.err().map_or("an open door".to_owned(), |error| format!("{error:#}")),
            proxy_says: if reasons.is_empty() { "nothing".to_owned() } else { reasons.join(" ") },
        });
    }
    Ok(events)
}

/// The lines of api v1's metrics that count refused handshakes, by reason.
async fn refusals(stage: &Stage) -> Result<Vec<String>> {
    let (_, metrics) = stage.admin(stage.member("api-v1")?, "/metrics").await?;
    let lines = metrics.lines().filter(|line| line.starts_with("weft_handshakes_refused_total{"));
    Ok(lines.map(str::to_owned).collect())
}
