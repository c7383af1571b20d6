//! What the demo says as it happens: one event a line, for people or, with `--json`, for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::output::{Style, Tone};

/// Something that happened. In JSON the kind is in the field `event`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// A part of the mesh runs.
    Started { what: String, detail: String },
    /// A scene begins.
    Scene { title: &'static str },
    /// Somebody called somebody.
    Call {
        from: &'static str,
        to: &'static str,
        answered_by: String,
        protocol: String,
        /// The caller's SPIFFE id as the callee's proxy saw it.
        caller: Option<String>,
        /// Median over some calls, with the mesh and without.
        median_ms: Option<f64>,
        direct_ms: Option<f64>,
        added_ms: Option<f64>,
    },
    /// The outcome of a time under load.
    Load {
        during: &'static str,
        calls: u64,
        failed: u64,
        p50_ms: f64,
        p99_ms: f64,
        answered_by: std::collections::BTreeMap<String, u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        first_failure: Option<String>,
    },
    /// How long a change took from its registry to the caller's proxy.
    Applied { change: &'static str, milliseconds: f64 },
    /// A fact worth a line.
    Note { text: String },
    /// A caller that may not be let in was refused, or was not.
    Refused { who: &'static str, refused: bool, caller_saw: String, proxy_says: String },
    /// A scene could not be played to its end.
    Failed { scene: &'static str, error: String },
    /// The last event.
    Summary { calls: u64, failed: u64, scenes_failed: u64, seconds: f64, ok: bool },
}

/// Prints events.
#[derive(Clone, Copy)]
pub(super) struct Reporter {
    json: bool,
    style: Style,
}

impl Reporter {
    /// For people, unless `json`.
    pub(super) fn new(json: bool, style: Style) -> Self {
        Self { json, style }
    }

    /// Says it.
    pub(super) fn say(self, event: &Event) {
        let line = match self.json {
            true => serde_json::to_string(event).unwrap_or_default(),
            false => self.words(event),
        };
        // A reader that has gone (`weft demo | head`) must not end it before it has cleaned up.
        let _ = writeln!(io::stdout(), "{line}");
    }

    fn words(self, event: &Event) -> String {
        match event {
            Event::Started { what, detail } => format!("  {what:<22}{detail}"),
            Event::Scene { title } => format!("\n{}", self.style.paint(title, Tone::Heading)),
            Event::Call { from, to, answered_by, protocol, caller, median_ms, added_ms, .. } => {
                let caller = caller.as_deref().unwrap_or("nobody");
                let cost = match (median_ms, added_ms) {
                    (Some(median), Some(added)) => format!("  {median:.2} ms, of it the mesh {added:.2} ms"),
                    _ => String::new(),
                };
                format!("  {from} -> {to:<8} {answered_by} answers over {protocol} and sees {caller}{cost}")
            }
            Event::Load { during, calls, failed, p50_ms, p99_ms, answered_by, first_failure } => {
                let by: Vec<String> = answered_by.iter().map(|(who, n)| format!("{who} {n}")).collect();
                let failed = self.verdict(*failed == 0, &format!("{failed} failed"));
                let why =
                    first_failure.as_ref().map_or(String::new(), |why| format!("\n    first failure: {why}"));
                format!(
                    "  {during}: {calls} calls, {failed}, p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms ({}){why}",
                    by.join(", ")
                )
            }
            Event::Applied { change, milliseconds } => {
                format!("  {change}: applied at the caller's proxy after {milliseconds:.1} ms")
            }
            Event::Note { text } => format!("  {text}"),
            Event::Refused { who, refused, caller_saw, proxy_says } => {
                let verdict = self.verdict(*refused, if *refused { "refused" } else { "LET IN" });
                format!(
                    "  {who}: {verdict}\n    the caller saw: {caller_saw}\n    the proxy says: {proxy_says}"
                )
            }
            Event::Failed { scene, error } => {
                format!("  {}: {error}", self.verdict(false, &format!("{scene} failed")))
            }
            Event::Summary { calls, failed, scenes_failed, seconds, ok } => {
                let verdict = self.verdict(*ok, if *ok { "all is well" } else { "NOT well" });
                format!(
                    "\n{verdict}: {calls} calls, {failed} failed, {scenes_failed} scenes failed, {seconds:.1} s"
                )
            }
        }
    }

    fn verdict(self, good: bool, text: &str) -> String {
        self.style.paint(text, if good { Tone::Good } else { Tone::Bad })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_json_object_with_the_promised_fields() {
        let summary = Event::Summary { calls: 3, failed: 0, scenes_failed: 0, seconds: 1.0, ok: true };
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(
            (json["event"].as_str(), json["calls"].as_u64(), json["failed"].as_u64()),
            (Some("summary"), Some(3), Some(0))
        );
    }

    #[test]
    fn people_get_no_escape_codes_where_there_is_no_terminal() {
        let reporter = Reporter { json: false, style: Style { colour: false } };
        let words = reporter.words(&Event::Summary {
            calls: 3,
            failed: 1,
            scenes_failed: 0,
            seconds: 1.0,
            ok: false,
        });
        assert!(!words.contains('\x1b') && words.contains("1 failed"), "{words}");
    }
}
