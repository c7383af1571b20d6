//! A line of the report's first table: what was asked for, what was measured, whether it holds.
//!
//! Lost lines stay in it. A line that the load spoilt has no verdict, rather than a flattering one.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) limit: &'static str,
    pub(crate) measured: String,
    /// The same of who is measured beside it, or was on such a machine.
    pub(crate) peer: String,
    /// `None`: refused, since the load was the bottleneck or a peer was not there.
    pub(crate) holds: Option<bool>,
    /// All figures behind it, where no section has them.
    pub(crate) figures: Value,
}

/// The rows as a table.
pub(crate) fn markdown<'a>(rows: impl Iterator<Item = &'a Row>) -> Result<String> {
    let mut text = "| work | at most | measured | holds | beside it |\n|---|---|---|---|---|\n".to_owned();
    for Row { work, limit, measured, peer, holds, .. } in rows {
        let holds = match holds {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "refused",
        };
        writeln!(text, "| {work} | {limit} | {measured} | {holds} | {peer} |")?;
    }
    Ok(text)
}
