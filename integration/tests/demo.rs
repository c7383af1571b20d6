//! `weft demo` itself, as a user starts it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;
use weft_integration::Process;

/// Runs the demo with a temporary directory of its own; status, events, and what is left in that directory.
async fn demo(arguments: &[&str], temporary: &Path) -> Result<(bool, Vec<Value>, Vec<String>)> {
    let mut command = Command::new(Process::program("weft")?);
    command.arg("demo").arg("--json").args(arguments).env("TMPDIR", temporary).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(180), command.output()).await??;
    let text = String::from_utf8(output.stdout)?;
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let left = std::fs::read_dir(temporary)?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    Ok((output.status.success(), events, left))
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
