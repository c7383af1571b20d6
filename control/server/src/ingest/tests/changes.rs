//! Registries that come, change and go while ingestion runs.

use super::*;

type Say = mpsc::Sender<Result<RegistryEvent, RegistryError>>;

struct Changing {
    running: Running,
    changes: mpsc::Sender<RegistryChange>,
}

fn changing(awaits_more: bool) -> Changing {
    let (changes, receiver) = mpsc::channel(4);
    let running = start_with(tempfile::tempdir().unwrap(), SvidSource::new(), awaits_more, receiver);
    Changing { running, changes }
}

fn lists(entries: Vec<Entry>) -> Result<RegistryEvent, RegistryError> {
    Ok(RegistryEvent::Reset { scope: Scope::All, entries })
}

impl Changing {
    async fn change(&self, change: RegistryChange) {
        self.changes.send(change).await.ok().unwrap();
    }

    async fn follows(&self, id: &str, awaited: bool) -> Say {
        let (say, said) = mpsc::channel(16);
        let registry = Box::new(Scripted { id: id.parse().unwrap(), said });
        let (mapping, supervise) = (Mapping::default(), SuperviseSettings::default());
        let followed = Followed { registry, required: false, mapping, supervise };
        self.change(RegistryChange::Follow { followed, awaited }).await;
        say
    }

    async fn has_services(&mut self, count: usize) {
        self.running.published(|p| p.snapshot.service_count() == count).await;
    }

    fn ids(&self) -> Vec<String> {
        self.running.readers.reports.borrow().keys().map(ToString::to_string).collect()
    }

    async fn is_complete_after_a_second(&self) -> bool {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.running.readers.state.borrow().resources.is_complete()
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_comes_is_followed_and_one_that_goes_takes_what_it_held_along() {
    let mut world = changing(false);
    world.running.lists(vec![service("api")]).await;
    let east = world.follows("kubernetes/east", true).await;
    east.send(lists(vec![service("web")])).await.unwrap();
    world.has_services(2).await;
    assert_eq!(world.ids(), ["kubernetes/east", "consul/dc1"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.change(RegistryChange::Forget("kubernetes/east".parse().unwrap())).await;
    world.has_services(1).await;
    assert_eq!(world.ids(), ["consul/dc1"]);
    // What its task still had to say is of no interest.
    _ = east.send(lists(vec![service("web")])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.ids(), ["consul/dc1"]);
    let directory = world.running.stop().await;
    let left = std::fs::read_dir(directory.path().join("registries")).unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left, ["consul@dc1.jsonl"], "nor is it remembered on disk");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_followed_in_another_way_keeps_what_it_held_until_it_has_been_read() {
    let mut world = changing(false);
    let before = world.follows("kubernetes/east", true).await;
    before.send(lists(vec![service("web"), service("old")])).await.unwrap();
    world.has_services(2).await;
    let after = world.follows("kubernetes/east", true).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.running.readers.state.borrow().snapshot.service_count(), 2);
    // The earlier way has no say any more.
    _ = before.send(lists(Vec::new())).await;
    after.send(lists(vec![service("web")])).await.unwrap();
    world.has_services(1).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_counts_as_gone_until_all_registries_of_the_start_are_known_and_heard() {
    let world = changing(true);
    world.running.lists(Vec::new()).await;
    assert!(!world.is_complete_after_a_second().await, "there may be more registries");
    let east = world.follows("kubernetes/east", true).await;
    world.change(RegistryChange::AllKnown).await;
    assert!(!world.is_complete_after_a_second().await, "one is not heard yet");
    east.send(lists(Vec::new())).await.unwrap();
    assert!(world.is_complete_after_a_second().await);
    let _west = world.follows("kubernetes/west", true).await;
    assert!(world.is_complete_after_a_second().await, "one that comes later takes nothing back");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_cant_be_one_holds_up_nothing() {
    let world = changing(true);
    world.running.lists(Vec::new()).await;
    let _mute = world.follows("kubernetes/wrong", false).await;
    world.change(RegistryChange::AllKnown).await;
    assert!(world.is_complete_after_a_second().await);
}
