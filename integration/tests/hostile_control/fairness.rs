//! A hundred good clients and twenty bad ones of all kinds at once: every good one applies every change on the stream it
//! had from the beginning, and the control plane's memory stays bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_integration::eventually;
use weft_proto::ResourceType;

use crate::frames::{Raw, framed, resident, subscription};
use crate::world::{Client, Member, World, change};

const GOOD: usize = 100;
const BAD: usize = 20;
const CHANGES: usize = 20;
/// What the bad ones must be told, each by one of them at least.
const EXPECTED: [&str; 5] =
    ["ResourceExhausted", "DeadlineExceeded", "InvalidArgument", "PermissionDenied", "Unimplemented"];

/// What the bad ones were told, and how often.
type Answers = Arc<Mutex<BTreeMap<String, usize>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_good_clients_apply_every_change_beside_twenty_bad_ones() -> Result<()> {
    let settings = "[limits]\nack_timeout = \"15s\"\n[limits.requests]\nper_second = 50\nburst = 300\n";
    let world = World::start(settings).await?;
    let (good, evil) = (world.member("default/web").await?, world.member("default/evil").await?);
    let (applied, mut seen) = watch::channel(vec![0_usize; GOOD]);
    let applied = Arc::new(applied);
    let began = Arc::new(Mutex::new(Instant::now()));
    let delays = Arc::new(Mutex::new(Vec::new()));
    let mut clients = JoinSet::new();
    for n in 0..GOOD {
        let client = good.stream(&n.to_string()).await?;
        clients.spawn(follow(client, n, Arc::clone(&applied), Arc::clone(&began), Arc::clone(&delays)));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let answers = Answers::default();
    let mut bad = JoinSet::new();
    for n in 0..BAD {
        bad.spawn(misbehave(n, evil.clone(), Arc::clone(&stop), Arc::clone(&answers)));
    }
    for n in 1..=CHANGES {
        *began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        world.register(n)?;
        let all = seen.wait_for(|counts| counts.iter().all(|&count| count >= n));
        let waited = tokio::time::timeout(weft_integration::PATIENCE, all).await.map(|_| ());
        if waited.is_err() {
            if let Some(ended) = clients.try_join_next() {
                ended?.context("a good stream was ended")?;
            }
            let late = applied.borrow().iter().filter(|&&count| count < n).count();
            anyhow::bail!("change {n}: {late} of {GOOD} clients have not applied it");
        }
        println!(
            "change {n}: applied by all after {:?}",
            began.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
        );
        if let Some(ended) = clients.try_join_next() {
            ended?.context("a good stream was ended")?;
        }
    }
    // The last of them is told only after `ack_timeout`, which is longer than the changes take on a quick machine.
    eventually("each kind of bad client is told why", async || {
        let told = answers.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = EXPECTED.iter().find(|expected| !told.keys().any(|answer| answer.contains(**expected)));
        missing.map_or(Ok(Some(())), |missing| Err(anyhow::anyhow!("nobody was told {missing}: {told:?}")))
    })
    .await?;
    stop.store(true, Relaxed);
    bad.abort_all();
    ensure!(clients.try_join_next().is_none(), "a good stream was ended");
    report(&delays, &answers);
    let rss = resident(&world, "VmHWM").await?;
    println!("the control plane's peak memory: {} MB", rss >> 10);
    ensure!(rss < 512 << 10, "the control plane took {rss} kB");
    Ok(())
}

fn report(delays: &Mutex<Vec<Duration>>, answers: &Answers) {
    let mut delays = delays.lock().unwrap_or_else(PoisonError::into_inner);
    delays.sort();
    let at = |part: f64| delays.get(((delays.len() - 1) as f64 * part) as usize).copied().unwrap_or_default();
    println!(
        "{GOOD} good and {BAD} bad clients, {CHANGES} changes: from the file's change to applied, \
         p50 {:?}, p99 {:?}, max {:?} ({} samples)",
        at(0.5),
        at(0.99),
        at(1.0),
        delays.len()
    );
    println!("the bad ones were told: {:?}", answers.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A good client: applies, acknowledges, and says which change it has.
async fn follow(
    mut client: Client,
    n: usize,
    applied: Arc<watch::Sender<Vec<usize>>>,
    began: Arc<Mutex<Instant>>,
    delays: Arc<Mutex<Vec<Duration>>>,
) -> Result<()> {
    client.subscribe(ResourceType::Workload, &["default/api"]).await;
    client.subscribe(ResourceType::Service, &["default/api"]).await;
    let mut next = 1;
    loop {
        let response = client.next().await?;
        client.acknowledge(&response).await;
        for resource in &response.resources {
            let body = resource.resource.as_ref().map(|body| body.value.clone()).unwrap_or_default();
            let label = change(next);
            if body.windows(label.len()).any(|window| window == label.as_bytes()) {
                let since = began.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
                delays.lock().unwrap_or_else(PoisonError::into_inner).push(since);
                applied.send_modify(|counts| counts[n] = next);
                next += 1;
            }
        }
    }
}

/// A bad client: does its kind of harm again and again.
async fn misbehave(n: usize, evil: Member, stop: Arc<AtomicBool>, answers: Answers) {
    while !stop.load(Relaxed) {
        let said = match tokio::time::timeout(Duration::from_secs(25), Box::pin(harm(n, &evil))).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => format!("{error:#}").chars().take(60).collect(),
            Err(_) => "nothing in 25 s".to_owned(),
        };
        let kind = KINDS[n % KINDS.len()];
        *answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(format!("{kind}: {said}"))
            .or_default() += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const KINDS: [&str; 10] = [
    "asks for ever",
    "never acknowledges",
    "never reads",
    "half messages",
    "compressed",
    "everything",
    "10,000 names again and again",
    "silent connections",
    "another's name",
    "opens and resets",
];

async fn harm(n: usize, evil: &Member) -> Result<String> {
    match n % KINDS.len() {
        0 => subscribe(evil, n, &[&["default/api"][..]; 1000], true).await,
        1 => subscribe(evil, n, &[&["default/api"]], false).await,
        2 => {
            let mut raw = Raw::open(evil, Some(0)).await?;
            let (_response, mut body) = raw.stream(&[]).await?;
            body.send_data(subscription(&evil.node(&format!("evil-{n}"))), false)?;
            std::future::pending().await
        }
        3 => {
            let half = framed(0, 4 << 20, &[b'x'; 50_000]);
            Ok(format!("{:?}", Raw::open(evil, None).await?.answer(&[], half).await?))
        }
        4 => Ok(format!("{:?}", Raw::open(evil, None).await?.answer(&[], framed(1, 100, &[0; 100])).await?)),
        5 => subscribe(evil, n, &[&["*"]], true).await,
        6 => {
            let names: Vec<String> = (0..10_000).map(|name| format!("n/{name}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            subscribe(evil, n, &[names.as_slice(); 100], true).await
        }
        7 => silence(evil).await,
        8 => {
            let mut client = evil.stream(&format!("evil-{n}")).await?;
            let mut request = client.request(ResourceType::Workload);
            request.node.get_or_insert_default().id = "spiffe://test.weft/ns/default/sa/web~0".to_owned();
            client.send(request).await;
            told(&mut client, true).await
        }
        _ => {
            let mut raw = Raw::open(evil, None).await?;
            loop {
                let (_response, mut body) = raw.stream(&[]).await?;
                body.send_reset(h2::Reason::CANCEL);
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Subscribes again and again, and says how that ended.
async fn subscribe(evil: &Member, n: usize, all: &[&[&str]], acknowledging: bool) -> Result<String> {
    let mut client = evil.stream(&format!("evil-{n}")).await?;
    for names in all {
        client.subscribe(ResourceType::Workload, names).await;
    }
    told(&mut client, acknowledging).await
}

/// Twenty connections that begin a handshake.
async fn silence(evil: &Member) -> Result<String> {
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(&evil.address).await?;
        tcp.write_all(&[22, 3, 1]).await?;
        held.push(tcp);
    }
    std::future::pending().await
}

async fn told(client: &mut Client, acknowledging: bool) -> Result<String> {
    Ok(format!("{:?}", client.end(acknowledging).await?.code()))
}
