//! `weft demo` itself, as a user starts it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;
use weft_integration::{Process, eventually, ran_on, skipped_on};
use weft_registry_consul::testkit::{ConsulOptions, ConsulServer, ConsulVersion};

/// Runs the demo with a temporary directory of its own; status, events, and what is left in that directory.
async fn demo(arguments: &[&str], temporary: &Path) -> Result<(bool, Vec<Value>, Vec<String>)> {
    let mut command = Command::new(Process::program("weft")?);
    command.arg("demo").arg("--json").args(arguments).env("TMPDIR", temporary).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(180), command.output()).await??;
    let text = String::from_utf8(output.stdout)?;
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok((output.status.success(), events, files_in(temporary)?))
}

fn files_in(directory: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(directory)?.filter_map(Result::ok);
    Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Processes whose command line names this directory.
fn processes_of(directory: &Path) -> Vec<String> {
    let needle = directory.display().to_string();
    let all = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|line| line.contains(&needle))
        .collect()
}

#[tokio::test]
async fn the_demo_ends_well_and_leaves_nothing() -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let (ok, events, left) = demo(&[], temporary.path()).await?;
    let summary = events.last().context("there is a last line")?;
    assert_eq!(summary["event"], "summary");
    assert_eq!((summary["failed"].as_u64(), summary["ok"].as_bool()), (Some(0), Some(true)), "{summary}");
    assert!(ok && summary["calls"].as_u64() > Some(500), "{summary}");
    assert!(left.is_empty(), "left behind: {left:?}");
    assert_eq!(processes_of(temporary.path()), Vec::<String>::new());
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).cloned().collect::<Vec<_>>();
    assert_eq!(of("refused").len(), 2);
    for call in of("call") {
        let caller = call["caller"].as_str().context("a caller")?;
        assert!(caller.starts_with("spiffe://demo.weft/ns/default/sa/"), "{call}");
    }
    let protocols: Vec<_> = of("call").iter().map(|call| call["protocol"].to_string()).collect();
    for wanted in ["HTTP/1.1", "gRPC", "TCP"] {
        assert!(
            protocols.iter().any(|protocol| protocol.contains(wanted)),
            "{wanted} is missing in {protocols:?}"
        );
    }
    Ok(())
}

/// A Consul that is somebody's: it has an `api` of its own, which nobody of the demo may call or touch.
async fn somebodys_consul(version: ConsulVersion, what: &str) -> Result<Option<ConsulServer>> {
    weft_identity::install_crypto_provider();
    let Some(consul) = ConsulServer::start(version, ConsulOptions::default()).await? else {
        skipped_on(&format!("Consul {}", version.as_str()), what);
        return Ok(None);
    };
    for name in ["api", "web"] {
        let theirs =
            json!({"ID": name, "Name": name, "Address": "127.0.0.1", "Port": 1, "Meta": {"team": "theirs"}});
        consul.put("agent/service/register", &theirs).await?;
    }
    Ok(Some(consul))
}

#[tokio::test]
async fn the_demo_with_consul_calls_across_registries_and_leaves_nothing_there() -> Result<()> {
    let what = "weft demo --consul";
    let Some(consul) = somebodys_consul(ConsulVersion::V1_20_5, what).await? else { return Ok(()) };
    let before = consul.get("agent/services").await?;
    let temporary = tempfile::tempdir()?;
    let (ok, events, left) = demo(&["--consul", &consul.address()], temporary.path()).await?;
    let summary = events.last().context("there is a last line")?;
    assert!(ok && summary["failed"] == 0 && summary["ok"] == true, "{summary}");
    let calls: Vec<&Value> = events.iter().filter(|event| event["event"] == "call").collect();
    let v2 = calls.iter().find(|call| call["answered_by"] == "api v2").context("v2 was called")?;
    assert_eq!(v2["caller"], "spiffe://demo.weft/ns/default/sa/web");
    let back = calls.iter().find(|call| call["from"] == "api v2").context("v2 called back")?;
    assert_eq!(
        (&back["to"], &back["caller"]),
        (&json!("web"), &json!("spiffe://demo.weft/ns/default/sa/api"))
    );
    assert_eq!(consul.get("agent/services").await?, before);
    assert!(left.is_empty(), "left behind: {left:?}");
    assert_eq!(processes_of(temporary.path()), Vec::<String>::new());
    ran_on("Consul 1.20.5", what);
    Ok(())
}

#[tokio::test]
async fn a_demo_that_is_interrupted_leaves_nothing_either() -> Result<()> {
    let what = "weft demo --consul, interrupted";
    let Some(consul) = somebodys_consul(ConsulVersion::V1_8_7, what).await? else { return Ok(()) };
    let before = consul.get("agent/services").await?;
    // While it starts, and under load.
    for (event, signal) in [("started", Signal::INT), ("applied", Signal::TERM)] {
        let (temporary, log) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let mut command = Command::new(Process::program("weft")?);
        command.args(["demo", "--json", "--consul", &consul.address()]).env("TMPDIR", temporary.path());
        let mut process = Process::start("demo", command, log.path())?;
        let event = format!("\"event\":\"{event}\"");
        eventually("it has come that far", async || Ok(process.log().contains(&event).then_some(()))).await?;
        assert_ne!(consul.get("agent/services").await?, before, "v2 is not registered in Consul");
        process.signal(signal)?;
        let status = eventually("it ends", async || Ok(process.ended())).await?;
        let said = process.log();
        assert!(!status.success() && said.contains("interrupted"), "{status}: {said}");
        assert_eq!(consul.get("agent/services").await?, before, "{said}");
        assert_eq!(files_in(temporary.path())?, Vec::<String>::new(), "{said}");
        assert_eq!(processes_of(temporary.path()), Vec::<String>::new());
    }
    ran_on("Consul 1.8.7", what);
    Ok(())
}
