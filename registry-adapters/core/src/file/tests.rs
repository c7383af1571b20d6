//! The adapter on real directories: how people and tools change files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::time::{Instant, sleep, timeout};
use weft_model::{Entry, EntryKey, Scope};

use super::*;
use crate::error::RegistryErrorKind;

type Item = Result<RegistryEvent, RegistryError>;

struct Bench {
    root: tempfile::TempDir,
    stream: BoxStream<'static, Item>,
    entries: BTreeMap<EntryKey, Entry>,
    errors: Vec<RegistryError>,
    resets: usize,
    trigger: crate::RereadTrigger,
}

/// Follows `services` within a new directory, prepared by `prepare`; the slow look comes almost never.
fn bench(prepare: impl FnOnce(&Path)) -> Bench {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("services")).unwrap();
    prepare(&root.path().join("services"));
    let rescan = Duration::from_secs(3600);
    let settings = FileSettings { directory: root.path().join("services"), rescan };
    let registry = FileRegistry::new("file/t".parse().unwrap(), settings, "weft.local".parse().unwrap());
    let (trigger, reread) = Reread::channel();
    let stream = Box::new(registry).watch(reread);
    Bench { root, stream, entries: BTreeMap::new(), errors: Vec::new(), resets: 0, trigger }
}

impl Bench {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("services").join(name)
    }

    fn names(&self) -> Vec<&str> {
        self.entries
            .keys()
            .map(|key| match key {
                EntryKey::Service(key) => key.name.as_str(),
                EntryKey::Workload(id) => id.as_str(),
            })
            .collect()
    }

    /// Takes items until the names are these.
    async fn until(&mut self, names: &[&str]) {
        let end = Instant::now() + Duration::from_secs(5);
        while self.names() != names || self.resets == 0 {
            assert!(self.take(end).await, "{:?} and not {names:?}; {:?}", self.names(), self.errors);
        }
    }

    /// Takes items until the last error fits.
    async fn until_error(&mut self, what: &str, fits: impl Fn(&RegistryError) -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        while !self.errors.last().is_some_and(&fits) {
            assert!(self.take(end).await, "no error: {what}; {:?}", self.errors);
        }
    }

    async fn until_problem(&mut self, start: &str) {
        self.until_error(start, |error| error.wrong_objects().iter().any(|p| p.to_string().contains(start)))
            .await;
    }

    /// Takes what comes in a moment in which nothing should change.
    async fn nothing_changes(&mut self) {
        let before = self.entries.clone();
        let end = Instant::now() + Duration::from_millis(300);
        while self.take(end).await {
            assert_eq!(self.entries, before);
        }
    }

    async fn take(&mut self, end: Instant) -> bool {
        let Ok(Some(item)) = tokio::time::timeout_at(end, self.stream.next()).await else { return false };
        match item {
            Ok(RegistryEvent::Reset { scope, entries }) => {
                assert_eq!(scope, Scope::All);
                self.resets += 1;
                self.entries = entries.into_iter().map(|entry| (entry.key(), entry)).collect();
            }
            Ok(RegistryEvent::Upsert(entries)) => {
                self.entries.extend(entries.into_iter().map(|entry| (entry.key(), entry)));
            }
            Ok(RegistryEvent::Remove(keys)) => keys.iter().for_each(|key| {
                assert!(self.entries.remove(key).is_some(), "{key:?} was not there");
            }),
            Err(error) => self.errors.push(error),
        }
        true
    }
}

fn service(name: &str) -> String {
    format!("kind: Service\nname: {name}\n")
}

/// Written elsewhere and moved into place, as good tools do.
fn replace(path: &Path, text: &str) {
    let hidden = path.with_extension("tmp");
    fs::write(&hidden, text).unwrap();
    fs::rename(hidden, path).unwrap();
}

#[tokio::test]
async fn files_that_are_written_moved_and_deleted_are_followed() {
    let mut bench = bench(|dir| fs::write(dir.join("a.yaml"), service("a")).unwrap());
    bench.until(&["a"]).await;
    fs::write(bench.path("b.yml"), service("b") + "---\n" + &service("c")).unwrap();
    bench.until(&["a", "b", "c"]).await;
    replace(&bench.path("b.yml"), &service("b2"));
    bench.until(&["a", "b2"]).await;
    fs::rename(bench.path("a.yaml"), bench.path("a.yaml.off")).unwrap();
    bench.until(&["b2"]).await;
    fs::rename(bench.path("a.yaml.off"), bench.path("z.yaml")).unwrap();
    bench.until(&["a", "b2"]).await;
    fs::remove_file(bench.path("z.yaml")).unwrap();
    bench.until(&["b2"]).await;
    fs::write(bench.path(".hidden.yaml"), "garbage: [").unwrap();
    fs::write(bench.path("notes.txt"), "garbage: [").unwrap();
    bench.nothing_changes().await;
    assert_eq!((bench.resets, bench.errors.len()), (1, 0));
}

#[tokio::test]
async fn a_bad_file_keeps_its_last_good_content_and_is_reported_until_it_is_good() {
    let mut bench = bench(|dir| fs::write(dir.join("a.yaml"), service("a")).unwrap());
    bench.until(&["a"]).await;
    for (bad, expected) in [
        (&b"kind: Service\nname: [\n"[..], "a.yaml:"),
        (b"kind: Service\nname: a\ncolour: red\n", "a.yaml:3: colour: there is no such field"),
        (b"kind: Service\nname: \xff\n", "a.yaml:2: expected UTF-8 text"),
        (&vec![b'#'; (8 << 20) + 1], "a.yaml: it has more than 8 MiB; split it"),
    ] {
        fs::write(bench.path("a.yaml"), bad).unwrap();
        bench.until_problem(expected).await;
        assert_eq!(bench.names(), ["a"]);
        fs::write(bench.path("a.yaml"), service("a")).unwrap();
        bench.until_error("good again", |error| error.wrong_objects().is_empty()).await;
    }
    assert_eq!(bench.resets, 1);
}

#[tokio::test]
async fn what_is_no_file_is_reported_and_never_read() {
    let mut bench = bench(|dir| {
        fs::create_dir(dir.join("dir.yaml")).unwrap();
        symlink("/nowhere/at/all", dir.join("link.yaml")).unwrap();
        // Reading a FIFO that nobody writes to would never end.
        let made = std::process::Command::new("mkfifo").arg(dir.join("pipe.yaml")).status().unwrap();
        assert!(made.success());
        fs::write(dir.join("a.yaml"), service("a")).unwrap();
    });
    bench.until(&["a"]).await;
    for expected in
        ["dir.yaml: it is not a file", "pipe.yaml: it is not a file", "link.yaml: it can't be read"]
    {
        bench.until_problem(expected).await;
    }
}

#[tokio::test]
async fn the_same_name_in_two_files_is_reported_on_the_newcomer() {
    let mut bench = bench(|dir| fs::write(dir.join("b.yaml"), service("x")).unwrap());
    bench.until(&["x"]).await;
    fs::write(bench.path("a.yaml"), service("n") + "---\n" + &service("x")).unwrap();
    bench.until_problem("a.yaml:4: name: the same name is already in").await;
    assert_eq!(bench.names(), ["x"]);
    fs::remove_file(bench.path("b.yaml")).unwrap();
    bench.until(&["n", "x"]).await;
}

#[tokio::test]
async fn links_that_are_swapped_as_kubernetes_does_for_config_maps_are_followed() {
    let mut bench = bench(|dir| {
        fs::create_dir(dir.join("..v1")).unwrap();
        fs::write(dir.join("..v1/a.yaml"), service("a")).unwrap();
        symlink("..v1", dir.join("..data")).unwrap();
        symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
    });
    bench.until(&["a"]).await;
    fs::create_dir(bench.path("..v2")).unwrap();
    fs::write(bench.path("..v2/a.yaml"), service("a2")).unwrap();
    symlink("..v2", bench.path("..data_tmp")).unwrap();
    fs::rename(bench.path("..data_tmp"), bench.path("..data")).unwrap();
    bench.until(&["a2"]).await;
    fs::remove_dir_all(bench.path("..v1")).unwrap();
    bench.nothing_changes().await;
    assert_eq!(bench.errors.len(), 0);
}

#[tokio::test]
async fn a_directory_that_is_deleted_keeps_everything_until_it_is_back() {
    let mut bench = bench(|dir| fs::write(dir.join("a.yaml"), service("a")).unwrap());
    bench.until(&["a"]).await;
    fs::remove_dir_all(bench.path("")).unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while !bench.errors.iter().any(|error| error.kind() == RegistryErrorKind::SourceDown) {
        assert!(bench.take(end).await);
        // Deleting takes the files first: a look in between may see none of them.
        assert!(bench.names() == ["a"] || bench.resets == 2);
    }
    fs::create_dir(bench.path("")).unwrap();
    fs::write(bench.path("b.yaml"), service("b")).unwrap();
    bench.until(&["b"]).await;
    // And the new directory is watched, not the old one.
    fs::write(bench.path("c.yaml"), service("c")).unwrap();
    bench.until(&["b", "c"]).await;
}

#[tokio::test]
async fn a_directory_that_comes_late_is_found() {
    let mut bench = bench(|dir| fs::remove_dir(dir).unwrap());
    bench.until_error("missing", |error| error.kind() == RegistryErrorKind::SourceDown).await;
    assert_eq!(bench.resets, 0);
    fs::create_dir(bench.path("")).unwrap();
    bench.until(&[]).await;
    assert_eq!(bench.resets, 1);
}

#[tokio::test]
async fn a_directory_that_answers_again_unchanged_says_so() {
    let mut bench = bench(|dir| fs::write(dir.join("a.yaml"), service("a")).unwrap());
    bench.until(&["a"]).await;
    let away = bench.root.path().join("away");
    fs::rename(bench.path(""), &away).unwrap();
    bench.until_error("away", |error| error.kind() == RegistryErrorKind::SourceDown).await;
    fs::rename(&away, bench.path("")).unwrap();
    let answered = async {
        loop {
            if let Some(Ok(event)) = bench.stream.next().await {
                return event;
            }
        }
    };
    let event = timeout(Duration::from_secs(5), answered).await.unwrap();
    assert_eq!(event, RegistryEvent::Upsert(Vec::new()));
}

#[tokio::test]
async fn a_reread_lists_everything_also_if_nothing_changed() {
    let mut bench = bench(|dir| fs::write(dir.join("a.yaml"), service("a")).unwrap());
    bench.until(&["a"]).await;
    bench.trigger.fire();
    let end = Instant::now() + Duration::from_secs(5);
    while bench.resets < 2 {
        assert!(bench.take(end).await);
    }
    assert_eq!(bench.names(), ["a"]);
}

#[tokio::test]
async fn the_slow_look_finds_what_no_event_tells() {
    let root = tempfile::tempdir().unwrap();
    let (services, elsewhere) = (root.path().join("services"), root.path().join("elsewhere.yaml"));
    fs::create_dir(&services).unwrap();
    fs::write(&elsewhere, service("a")).unwrap();
    symlink(&elsewhere, services.join("a.yaml")).unwrap();
    let settings = FileSettings { directory: services, rescan: Duration::from_millis(50) };
    let registry = FileRegistry::new("file/t".parse().unwrap(), settings, "weft.local".parse().unwrap());
    let mut stream = Box::new(registry).watch(Reread::never());
    assert!(matches!(stream.next().await, Some(Ok(RegistryEvent::Reset { .. }))));
    sleep(Duration::from_millis(50)).await;
    fs::write(&elsewhere, service("b")).unwrap();
    let change = timeout(Duration::from_secs(5), stream.next()).await.unwrap();
    assert!(matches!(change, Some(Ok(RegistryEvent::Upsert(entries))) if entries.len() == 1));
}
