//! What the demo with a cluster plays: calls in all directions, a service whose halves are stopped, a rolling restart,
//! and a caller without identity.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::objects::{POD, PORT};
use super::world::World;
use crate::demo::client::{Answer, Http1};
use crate::demo::load::Load;
use crate::demo::report::{Event, Reporter};

/// How long load runs before and after what happens under it.
const BEFORE_AND_AFTER: Duration = Duration::from_millis(1500);
/// How long an answer of a certain instance may keep us waiting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pods call what is here, and what is here calls pods.
pub(super) async fn calls(world: &World) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for (service, _, port) in world.upstreams() {
        let mut web = Http1::new(world.address("web", *port).await?);
        let answer = first(&mut web, "/relay", |_| true).await?;
        let to = if *service == "ledger" { "ledger (Consul)" } else { "billing (a file)" };
        events.push(call("web (a pod)", to, answer));
    }
    let mut web = Http1::new(world.address("web", PORT).await?);
    events.push(call("web (a pod)", "api", first(&mut web, "/relay", |answer| answer.version == POD).await?));
    events.push(call("web (a pod)", "api", first(&mut web, "/relay", |answer| answer.version != POD).await?));
    let mut shop = Http1::new(world.stage.member("shop")?.upstream("api")?);
    events.push(call("shop (here)", "api", first(&mut shop, "/", |answer| answer.version == POD).await?));
    Ok(events)
}

fn call(from: &'static str, to: &'static str, answer: Answer) -> Event {
    let place = if answer.version == POD { "in a pod" } else { "on this machine" };
    Event::Call {
        from,
        to,
        answered_by: format!("{} {place}", answer.name),
        protocol: answer.protocol,
        caller: answer.caller,
        median_ms: None,
        direct_ms: None,
        added_ms: None,
    }
}

/// Asks until an answer is as wanted.
async fn first(http: &mut Http1, path: &str, wanted: impl Fn(&Answer) -> bool) -> Result<Answer> {
    let start = Instant::now();
    loop {
        let said = match http.get(path).await.map(Answer::last) {
            Ok(answer) if wanted(&answer) => return Ok(answer),
            Ok(answer) => format!("{} {} answers", answer.name, answer.version),
            // A proxy learns of a service that is new a moment later.
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > PATIENCE {
            bail!("not within {} s: {said}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The pods of `api` are taken away and come back; then this machine's `api` is killed.
pub(super) async fn halves(world: &mut World, reporter: Reporter) -> Result<Vec<Event>> {
    let load = Load::start(world.address("web", PORT).await?, "/relay");
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    say(reporter, "api: 2 pods to 0; all calls go to this machine");
    world.change("api", &json!({"spec": {"replicas": 0}})).await?;
    // Until the last of them has ended, its callers must know.
    while !world.pods("api").await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    say(reporter, "api: 2 pods again");
    world.change("api", &json!({"spec": {"replicas": 2}})).await?;
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    say(
        reporter,
        "api on this machine: killed, and its proxy too, with no farewell; all calls go to the pods",
    );
    world.stage.kill("api-here").await?;
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let by = load.answered_by();
    ensure!(by.len() == 2, "only these answered: {by:?}");
    Ok(vec![load.stop("each half is stopped once").await])
}

/// All pods of `api` are replaced, one after the other.
pub(super) async fn rolling_restart(world: &World) -> Result<Vec<Event>> {
    let before = uids(world).await?;
    let load = Load::start(world.address("web", PORT).await?, "/relay");
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let now = time::OffsetDateTime::now_utc().unix_timestamp().to_string();
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"weft-demo/restarted": now}}}}});
    world.change("api", &restart).await?;
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let after = uids(world).await?;
    let load = load.stop("both pods are replaced").await;
    ensure!(before.is_disjoint(&after) && !after.is_empty(), "the pods are {after:?}, and were {before:?}");
    Ok(vec![load])
}

async fn uids(world: &World) -> Result<BTreeSet<String>> {
    let pods = world.pods("api").await?;
    let uid = |pod: &Value| pod.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
    pods.iter().map(|pod| uid(pod).context("a pod has a uid")).collect()
}

/// A pod without a proxy calls the pods of `api`, in plaintext.
pub(super) async fn stranger(world: &World) -> Result<Vec<Event>> {
    let mut stranger = Http1::new(world.address("stranger", PORT).await?);
    let saw = stranger.get("/relay").await;
    let start = Instant::now();
    // It is written a moment after the caller saw it.
    let said = loop {
        let log = world.log("api", weft_injector::PROXY).await?;
        let line = log.lines().rev().find(|line| line.contains("strict"));
        if line.is_some() || start.elapsed() > Duration::from_secs(5) {
            break line.map(|line| line.rsplit('"').nth(1).unwrap_or(line).to_owned());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    Ok(vec![Event::Refused {
        who: "stranger (a pod without a proxy)",
        refused: saw.is_err() && said.is_some(),
        caller_saw: saw.err().map_or("an answer".to_owned(), |error| format!("{error:#}")),
        proxy_says: said.unwrap_or_else(|| "nothing".to_owned()),
    }])
}

/// While it happens, and not when the scene is over.
fn say(reporter: Reporter, text: &str) {
    reporter.say(&Event::Note { text: text.to_owned() });
}
