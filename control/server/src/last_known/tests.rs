//! What is kept, what is appended, and what a damaged file costs.

use weft_model::{RegistryEvent, Scope, Service};

use super::*;

fn service(name: &str) -> Entry {
    Entry::Service(Service {
        key: name.parse().unwrap(),
        ports: Vec::new(),
        labels: BTreeMap::new(),
        addresses: Default::default(),
        prefer: None,
    })
}

fn id() -> RegistryId {
    "consul/dc1".parse().unwrap()
}

fn listing(names: &[&str]) -> RegistryEvent {
    RegistryEvent::Reset { scope: Scope::All, entries: names.iter().map(|name| service(name)).collect() }
}

/// A catalog whose registry has said this, and its copy on disk.
struct Kept {
    directory: tempfile::TempDir,
    catalog: Catalog,
    last_known: LastKnown,
}

impl Kept {
    async fn of(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let last_known = LastKnown::new(directory.path().join("registries"));
        let mut kept = Self { directory, catalog: Catalog::new(BTreeMap::new()), last_known };
        kept.catalog.apply(&id(), listing(names));
        kept.last_known.heard(&id());
        kept.written().await;
        kept
    }

    async fn says(&mut self, event: RegistryEvent) {
        let changes = self.catalog.apply(&id(), event);
        self.last_known.changed(&id(), changes);
        self.written().await;
    }

    async fn written(&mut self) {
        self.last_known.due().await;
        self.last_known.write(&self.catalog);
        let written = self.last_known.writing.as_mut().expect("a write").await;
        self.last_known.done(written);
    }

    fn path(&self) -> PathBuf {
        self.last_known.path(&id())
    }

    fn lines(&self) -> usize {
        fs::read_to_string(self.path()).unwrap().lines().count()
    }

    /// What the next process reads.
    fn restored(&self) -> Option<Vec<String>> {
        let entries = LastKnown::new(self.directory.path().join("registries")).read(&id())?;
        let mut catalog = Catalog::new(BTreeMap::new());
        catalog.restore(&id(), entries);
        Some(catalog.snapshot().services().map(|service| service.key.to_string()).collect())
    }
}

#[tokio::test]
async fn what_was_known_survives_a_restart() {
    let kept = Kept::of(&["shop/a", "b"]).await;
    assert_eq!(kept.restored().unwrap(), ["default/b", "shop/a"]);
}

#[tokio::test]
async fn a_change_is_appended_and_costs_its_own_lines() {
    let mut kept = Kept::of(&["a", "b", "c"]).await;
    assert_eq!(kept.lines(), 1 + 3);
    kept.says(RegistryEvent::Upsert(vec![service("d")])).await;
    kept.says(RegistryEvent::Remove(vec![service("a").key()])).await;
    assert_eq!(kept.lines(), 1 + 3 + 2);
    assert_eq!(kept.restored().unwrap(), ["default/b", "default/c", "default/d"]);
}

#[tokio::test]
async fn a_file_that_grew_by_as_much_as_it_had_is_made_anew() {
    let mut kept = Kept::of(&["a"]).await;
    let names: Vec<String> = (0..2_000).map(|n| format!("service-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    kept.says(RegistryEvent::Upsert(names.iter().map(|name| service(name)).collect())).await;
    assert_eq!(kept.lines(), 1 + 1 + 2_000);
    kept.says(listing(&["a", "b"])).await;
    assert_eq!(kept.lines(), 1 + 2, "{:?}", kept.restored());
}

#[tokio::test]
async fn a_line_that_a_crash_cut_is_left_out() {
    let mut kept = Kept::of(&["a"]).await;
    kept.says(RegistryEvent::Upsert(vec![service("b")])).await;
    let bytes = fs::read(kept.path()).unwrap();
    for (cut, expected) in
        [(0, &["default/a", "default/b"][..]), (1, &["default/a"]), (9, &["default/a"]), (40, &["default/a"])]
    {
        fs::write(kept.path(), bytes.get(..bytes.len() - cut).unwrap()).unwrap();
        assert_eq!(kept.restored().unwrap(), expected, "without the last {cut} bytes");
    }
}

#[tokio::test]
async fn a_file_that_somebody_else_wrote_to_is_made_anew() {
    let mut kept = Kept::of(&["a"]).await;
    let mut text = fs::read_to_string(kept.path()).unwrap();
    text.push_str("mine\n");
    fs::write(kept.path(), text).unwrap();
    kept.last_known.changed(&id(), kept.catalog.apply(&id(), RegistryEvent::Upsert(vec![service("b")])));
    kept.last_known.finish(&kept.catalog).await;
    kept.last_known.finish(&kept.catalog).await;
    assert_eq!(kept.restored().unwrap(), ["default/a", "default/b"]);
}

#[tokio::test]
async fn a_file_that_is_garbage_or_of_another_registry_is_set_aside() {
    let kept = Kept::of(&["a"]).await;
    let good = fs::read_to_string(kept.path()).unwrap();
    let other = good.replace("dc1", "dc2");
    let middle = good.replace("{\"service", "{\"servant");
    for content in ["{", "", "[]\n", "\n\n", &other, &middle, &good.replace("\"version\":2", "\"version\":1")]
    {
        fs::write(kept.path(), content).unwrap();
        assert!(kept.restored().is_none(), "{content}");
        assert!(!kept.path().exists() && kept.path().with_extension("jsonl.bad").exists(), "{content}");
    }
    assert!(kept.restored().is_none());
}

#[tokio::test]
async fn a_failed_write_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let blocked = directory.path().join("registries");
    fs::write(&blocked, "a file where the directory should be").unwrap();
    let (mut last_known, catalog) = (LastKnown::new(blocked.clone()), Catalog::new(BTreeMap::new()));
    last_known.heard(&id());
    last_known.finish(&catalog).await;
    assert!(last_known.failing);
    fs::remove_file(&blocked).unwrap();
    last_known.due().await;
    last_known.finish(&catalog).await;
    assert!(last_known.path(&id()).exists() && last_known.due.is_none() && !last_known.failing);
}
