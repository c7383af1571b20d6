//! Supervision of scripted adapters, in paused time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use weft_model::{Entry, Health, Locality, Network, RegistryId, Scope, Tunnel, Workload};

use super::*;
use crate::error::Problem;
use crate::freshness::{Freshness, State};

type Item = Result<RegistryEvent, RegistryError>;

/// Yields what the test sends; counts the rereads asked for.
struct Scripted {
    id: RegistryId,
    items: mpsc::Receiver<Item>,
    rereads: Arc<AtomicU64>,
}

impl Registry for Scripted {
    fn id(&self) -> &RegistryId {
        &self.id
    }
    fn watch(self: Box<Self>, reread: Reread) -> BoxStream<'static, Item> {
        let asked = stream::unfold((reread, self.rereads), |(mut reread, count)| async move {
            reread.requested().await;
            count.fetch_add(1, Ordering::Relaxed);
            Some((Ok(RegistryEvent::Upsert(Vec::new())), (reread, count)))
        });
        let items = stream::unfold(self.items, |mut items| async move { Some((items.recv().await?, items)) });
        if self.id.name() == "ends" { items.boxed() } else { stream::select(items, asked).boxed() }
    }
}

struct Bench {
    send: mpsc::Sender<Item>,
    rereads: Arc<AtomicU64>,
    out: Pin<Box<dyn Stream<Item = Supervised>>>,
}

fn bench(id: &str) -> Bench {
    bench_with(id, &[])
}

fn bench_with(id: &str, restored: &[Entry]) -> Bench {
    let (send, items) = mpsc::channel(100);
    let rereads = Arc::new(AtomicU64::new(0));
    let registry = Scripted { id: id.parse().unwrap(), items, rereads: rereads.clone() };
    Bench { send, rereads, out: Box::pin(resume(Box::new(registry), SuperviseSettings::default(), restored)) }
}

impl Bench {
    async fn send(&self, item: Item) {
        self.send.send(item).await.unwrap();
    }

    /// All items until nothing comes for 10 s.
    async fn drain(&mut self) -> (Vec<RegistryEvent>, Vec<Freshness>) {
        let (mut events, mut freshness) = (Vec::new(), Vec::new());
        while let Ok(Some(item)) = timeout(Duration::from_secs(10), self.out.next()).await {
            match item {
                Supervised::Event(_, event) => events.push(event),
                Supervised::Freshness(_, now) => freshness.push(now),
            }
        }
        (events, freshness)
    }
}

fn workload(name: &str) -> Entry {
    Entry::from(Workload {
        id: format!("file/t/{name}").parse().unwrap(),
        services: BTreeMap::from([("api".parse().unwrap(), Vec::new())]),
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        network: Network::default_network(),
        identity: None,
        tunnel: Tunnel::None,
        captured: false,
        locality: Locality::default(),
        node: None,
        weight: Workload::DEFAULT_WEIGHT,
        health: Health::Healthy,
        labels: BTreeMap::new(),
        provenance: BTreeSet::new(),
    })
}

fn all(names: &[&str]) -> RegistryEvent {
    RegistryEvent::Reset { scope: Scope::All, entries: names.iter().map(|name| workload(name)).collect() }
}

#[tokio::test(start_paused = true)]
async fn the_first_listing_is_told_before_the_registry_is_called_synced() {
    let mut bench = bench("file/t");
    bench.send(Ok(all(&["a"]))).await;
    let mut items = Vec::new();
    while let Ok(Some(item)) = timeout(Duration::from_secs(10), bench.out.next()).await {
        items.push(item);
    }
    assert!(matches!(&items[0], Supervised::Freshness(_, f) if f.state == State::Syncing && !f.has_synced()));
    assert!(matches!(&items[1], Supervised::Event(_, event) if *event == all(&["a"])));
    assert!(matches!(&items[2], Supervised::Freshness(_, f) if f.state == State::Synced && f.has_synced()));
}

#[tokio::test(start_paused = true)]
async fn no_error_removes_anything_and_each_ends_with_the_next_answer() {
    let mut bench = bench("file/t");
    bench.send(Ok(all(&["a"]))).await;
    bench.drain().await;
    let errors = [
        (RegistryError::source_down("x"), State::Stale),
        (RegistryError::garbage("x"), State::Stale),
        (RegistryError::permission_denied("x"), State::Denied),
        (RegistryError::not_found("x"), State::NotFound),
    ];
    for (error, state) in errors {
        bench.send(Err(error)).await;
        let (events, freshness) = bench.drain().await;
        assert!(events.is_empty());
        assert_eq!(freshness.last().unwrap().state, state);
        bench.send(Ok(RegistryEvent::Upsert(Vec::new()))).await;
        let (events, freshness) = bench.drain().await;
        assert!(events.is_empty(), "an empty answer became an event");
        assert_eq!(freshness.last().unwrap().state, State::Synced);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_listing_is_an_event() {
    let mut bench = bench("file/t");
    bench.send(Ok(all(&["a"]))).await;
    bench.drain().await;
    bench.send(Ok(all(&[]))).await;
    assert_eq!(bench.drain().await.0, [all(&[])]);
}

#[tokio::test(start_paused = true)]
async fn a_held_reset_asks_for_a_second_read_which_confirms_it() {
    let mut bench = bench("file/t");
    bench.send(Ok(all(&["a", "b", "c"]))).await;
    bench.drain().await;
    bench.send(Ok(all(&["a"]))).await;
    let (events, freshness) = bench.drain().await;
    assert_eq!(events, [RegistryEvent::Upsert(vec![workload("a")])]);
    assert_eq!(freshness.last().unwrap().held_reset.map(|held| (held.would_drop, held.of)), Some((2, 3)));
    assert_eq!(bench.rereads.load(Ordering::Relaxed), 0);
    let _ = timeout(Duration::from_secs(25), bench.out.next()).await;
    assert_eq!(bench.rereads.load(Ordering::Relaxed), 1);
    bench.send(Ok(all(&["a"]))).await;
    let (events, freshness) = bench.drain().await;
    assert_eq!(events, [all(&["a"])]);
    assert_eq!(freshness.last().unwrap().held_reset, None);
}

#[tokio::test(start_paused = true)]
async fn a_first_listing_that_lacks_most_of_what_was_restored_is_held_until_it_is_confirmed() {
    let restored = ["a", "b", "c"].map(workload);
    let mut bench = bench_with("file/t", &restored);
    bench.send(Ok(all(&["c", "d"]))).await;
    let (events, freshness) = bench.drain().await;
    assert_eq!(events, [RegistryEvent::Upsert(vec![workload("c"), workload("d")])]);
    let freshness = freshness.last().unwrap();
    assert_eq!(freshness.held_reset.map(|held| (held.would_drop, held.of)), Some((2, 4)));
    assert!(freshness.has_synced(), "it was heard");
    let _ = timeout(Duration::from_secs(25), bench.out.next()).await;
    assert_eq!(bench.rereads.load(Ordering::Relaxed), 1);
    bench.send(Ok(all(&["c", "d"]))).await;
    let (events, freshness) = bench.drain().await;
    assert_eq!(events, [all(&["c", "d"])]);
    assert_eq!(freshness.last().unwrap().held_reset, None);
}

#[tokio::test(start_paused = true)]
async fn a_first_listing_that_has_most_of_what_was_restored_is_believed() {
    let mut bench = bench_with("file/t", &["a", "b", "c"].map(workload));
    bench.send(Ok(all(&["a", "b"]))).await;
    assert_eq!(bench.drain().await.0, [all(&["a", "b"])]);
}

#[tokio::test(start_paused = true)]
async fn problems_of_objects_are_shown_until_they_are_gone() {
    let mut bench = bench("file/t");
    bench.send(Ok(all(&["a"]))).await;
    let problem = Problem::error("api.yaml", "bad").at_line(3);
    bench.send(Err(RegistryError::problems(vec![problem.clone()]))).await;
    let (_, freshness) = bench.drain().await;
    assert_eq!(freshness.last().unwrap().problems, [problem]);
    assert_eq!(freshness.last().unwrap().state, State::Synced);
    bench.send(Err(RegistryError::problems(Vec::new()))).await;
    assert!(bench.drain().await.1.last().unwrap().problems.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_ends_is_reported_and_the_stream_goes_on() {
    let mut bench = bench("file/ends");
    bench.send(Ok(all(&["a"]))).await;
    bench.drain().await;
    bench.send = mpsc::channel(1).0;
    let (events, freshness) = bench.drain().await;
    assert!(events.is_empty());
    assert_eq!(freshness.last().unwrap().state, State::Stale);
    assert!(timeout(Duration::from_secs(3600), bench.out.next()).await.is_err(), "the stream ended");
}

/// Yields an error each time it is asked, `pause` after it was.
struct Failing {
    id: RegistryId,
    pause: Duration,
    polled: Arc<AtomicU64>,
}

impl Registry for Failing {
    fn id(&self) -> &RegistryId {
        &self.id
    }
    fn watch(self: Box<Self>, _: Reread) -> BoxStream<'static, Item> {
        stream::unfold(self, |this| async move {
            sleep(this.pause).await;
            this.polled.fetch_add(1, Ordering::Relaxed);
            Some((Err(RegistryError::source_down("refused")), this))
        })
        .boxed()
    }
}

async fn errors_in_a_minute(pause: Duration) -> (u64, usize) {
    let polled = Arc::new(AtomicU64::new(0));
    let registry = Failing { id: "file/t".parse().unwrap(), pause, polled: polled.clone() };
    let mut out = Box::pin(supervise(Box::new(registry), SuperviseSettings::default()));
    let end = Instant::now() + Duration::from_secs(60);
    let mut items = 0;
    while tokio::time::timeout_at(end, out.next()).await.is_ok() {
        items += 1;
    }
    (polled.load(Ordering::Relaxed), items)
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_spins_is_slowed_and_one_that_waits_is_not() {
    let (spinning, items) = errors_in_a_minute(Duration::ZERO).await;
    assert!((10..40).contains(&spinning), "{spinning} errors in a minute");
    assert!(items <= 62, "{items} items in a minute");
    let (pacing, items) = errors_in_a_minute(Duration::from_millis(100)).await;
    assert!(pacing > 590, "{pacing} errors in a minute");
    assert!(items <= 62, "{items} items in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_busy_registry_tells_its_time_stamps_once_a_second() {
    let mut bench = bench("file/t");
    bench.send(Ok(all(&[]))).await;
    bench.drain().await;
    for n in 0..50 {
        bench.send(Ok(RegistryEvent::Upsert(vec![workload(&format!("w{n}"))]))).await;
    }
    let (events, freshness) = bench.drain().await;
    assert_eq!((events.len(), freshness.len()), (50, 1));
}
