//! What `docs/` says against the code: the proxy's settings, metrics and response flags, the metadata keys, the log lines.
//!
//! The control plane's settings and metrics are held against the same page beside their tables, in `control/server`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;
use weft_integration::Process;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn operations() -> Result<String> {
    std::fs::read_to_string(top().join("docs/operations.md")).context("docs/operations.md")
}

/// What is in backticks in the first column of the table under `heading` (and, where given, under `sub`).
fn first_column(page: &str, heading: &str, sub: Option<&str>) -> BTreeSet<String> {
    let mut lines =
        page.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    let under: Vec<&str> = match sub {
        Some(sub) => lines
            .by_ref()
            .skip_while(|line| *line != sub)
            .skip(1)
            .take_while(|line| !line.starts_with("### "))
            .collect(),
        None => lines.collect(),
    };
    let names = under.iter().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    names.map(|(name, _)| name.to_owned()).collect()
}

fn same(what: &str, documented: &BTreeSet<String>, real: &BTreeSet<String>) {
    let missing: Vec<_> = real.difference(documented).collect();
    let invented: Vec<_> = documented.difference(real).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "{what}: not documented: {missing:?}; not in the code: {invented:?}"
    );
    assert!(!real.is_empty(), "{what}: nothing was compared");
}

async fn reference() -> Result<serde_json::Value> {
    let output = Command::new(Process::program("weft-proxy")?).arg("--reference").output().await?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn names(list: &serde_json::Value, field: &str) -> BTreeSet<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|row| row[field].as_str().or(row.as_str()).map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_proxys_settings_metrics_and_flags_are_documented() -> Result<()> {
    let (page, reference) = (operations()?, reference().await?);
    let sub = Some("### weft-proxy");
    same("settings", &first_column(&page, "## Settings", sub), &names(&reference["settings"], "key"));
    same("metrics", &first_column(&page, "## Metrics", sub), &names(&reference["metrics"], "name"));
    let flags = names(&reference["response_flags"], "flag");
    same("response flags", &first_column(&page, "## Response flags", None), &flags);
    Ok(())
}

#[test]
fn the_metadata_keys_are_documented() -> Result<()> {
    let page = std::fs::read_to_string(top().join("docs/consul.md"))?;
    for key in weft_model::KEYS {
        let row = format!(
            "| `{}` | {} | {} | {} | `{}` | {} |",
            key.key,
            key.value,
            key.default,
            key.meaning,
            key.example,
            key.part.as_str()
        );
        assert!(page.contains(&row), "docs/consul.md lacks the row\n{row}");
    }
    let rows = page.lines().skip_while(|line| !line.starts_with("| Key | Value | Default |")).skip(2);
    assert_eq!(rows.take_while(|line| line.starts_with('|')).count(), weft_model::KEYS.len());
    Ok(())
}

#[test]
fn the_log_lines_are_in_the_code() -> Result<()> {
    let page = operations()?;
    let mut sources = String::new();
    for folder in ["control", "ca", "mesh-proxy", "registry-adapters"] {
        read_sources(&top().join(folder), &mut sources)?;
    }
    let lines = first_column(&page, "## Log lines", None);
    assert!(lines.len() > 10, "{lines:?}");
    for line in &lines {
        for part in
            line.split('…').map(|part| part.trim_matches([' ', ':', ';'])).filter(|part| !part.is_empty())
        {
            assert!(sources.contains(part), "no source has {part:?} of the documented log line {line:?}");
        }
    }
    Ok(())
}

fn read_sources(folder: &Path, into: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            // A string may go on in the next line.
            let text = std::fs::read_to_string(path)?;
            into.push_str(&text.split("\\\n").map(str::trim_start).collect::<String>());
        }
    }
    Ok(())
}
