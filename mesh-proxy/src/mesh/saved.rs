//! The last known good configuration on disk: the control plane's resources as they were held, with their versions.
//!
//! A restarted proxy serves from them, and tells the control plane what it has, so that only what changed is sent. Changes
//! are gathered for a second; writing happens off the runtime's thread, since a disk may take its time.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};
use weft_proto::discovery::{Any, Resource};
use weft_xds_client::Command;

use crate::state::{RESOURCES, StateDir};

/// The file. A reader that finds another version starts without it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    resources: Vec<Saved>,
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    type_url: String,
    name: String,
    version: String,
    /// The encoded resource, base64.
    body: String,
}

/// The saved resources, or none.
pub(super) fn restore(state: &StateDir) -> Vec<Resource> {
    state.restore(RESOURCES, read).unwrap_or_default()
}

/// Asks the client for what it holds and writes it, after each change. Ends with the client.
pub(super) async fn keep(
    commands: mpsc::Sender<Command>,
    state: Arc<StateDir>,
    changed: &Notify,
    after: Duration,
) {
    let mut failing = false;
    loop {
        changed.notified().await;
        tokio::time::sleep(after).await;
        let (answer, held) = oneshot::channel();
        if commands.send(Command::Held(answer)).await.is_err() {
            return;
        }
        let Ok(held) = held.await else { return };
        let state = state.clone();
        let written = tokio::task::spawn_blocking(move || state.write(RESOURCES, &text(held))).await;
        match written {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) => {
                if !failing {
                    tracing::error!(
                        "the configuration is in use but not saved; a restart would need the control plane: {error}"
                    );
                }
                failing = true;
                // A full disk may have room later, also without another change.
                changed.notify_one();
                tokio::time::sleep(after * 10).await;
            }
            Err(ended) => tracing::error!("saving the configuration: {ended}"),
        }
    }
}

fn text(held: Vec<Resource>) -> Vec<u8> {
    let saved = held.into_iter().filter_map(|resource| {
        let Any { type_url, value } = resource.resource?;
        Some(Saved { type_url, name: resource.name, version: resource.version, body: STANDARD.encode(value) })
    });
    // Strings and lists of them always have a JSON form.
    serde_json::to_vec(&File { version: VERSION, resources: saved.collect() }).unwrap_or_default()
}

fn read(text: &str) -> Result<Vec<Resource>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("it has version {}; this build reads version {VERSION}", file.version));
    }
    let resource = |saved: Saved| {
        let body = STANDARD.decode(&saved.body).map_err(|error| format!("{}: {error}", saved.name))?;
        Ok(Resource {
            name: saved.name,
            version: saved.version,
            resource: Some(Any { type_url: saved.type_url, value: body.into() }),
            aliases: Vec::new(),
        })
    };
    file.resources.into_iter().map(resource).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Vec<Resource> {
        let resource = |name: &str| Resource {
            name: name.to_owned(),
            version: "v1".to_owned(),
            resource: Some(Any { type_url: "t".to_owned(), value: vec![0, 255, 1].into() }),
            aliases: Vec::new(),
        };
        vec![resource("a"), resource("b")]
    }

    #[test]
    fn what_is_restored_is_what_was_held() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        state.write(RESOURCES, &text(held())).unwrap();
        assert_eq!(restore(&state), held());
    }

    #[test]
    fn a_file_of_another_version_a_cut_one_and_one_with_a_damaged_body_are_set_aside() {
        let whole = String::from_utf8(text(held())).unwrap();
        for damaged in [
            whole.replace("\"version\":1", "\"version\":2"),
            whole[..40].to_owned(),
            whole.replace("AP8B", "?"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let state = StateDir::open(directory.path()).unwrap();
            state.write(RESOURCES, damaged.as_bytes()).unwrap();
            assert_eq!(restore(&state), [], "{damaged}");
            assert!(directory.path().join("resources.json.bad").exists());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_changes_are_one_write() {
        let directory = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(directory.path()).unwrap());
        let changed = Notify::new();
        let (commands, mut asked) = mpsc::channel(1);
        let drive = async {
            changed.notify_one();
            tokio::time::sleep(Duration::from_millis(500)).await;
            changed.notify_one();
            assert!(asked.try_recv().is_err(), "nothing is asked for within the second");
            let Some(Command::Held(answer)) = asked.recv().await else { panic!("expected a question") };
            answer.send(held()).unwrap();
            // Time stands still while the file is written.
            while state.read(RESOURCES).unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = keep(commands, state.clone(), &changed, Duration::from_secs(1)) => panic!("it ended"),
            () = drive => {}
        }
        assert_eq!(restore(&state), held());
    }
}
