//! What the documentation must say, as data: every setting, metric and response flag. A test of the docs compares.

use serde_json::json;

use crate::record::ResponseFlag;
use crate::settings::SETTINGS;
use crate::telemetry::metrics;

/// `weft-proxy --reference`.
pub(crate) fn json() -> serde_json::Result<String> {
    let flags: Vec<&str> = ResponseFlag::ALL.iter().map(|flag| flag.as_str()).collect();
    serde_json::to_string_pretty(
        &json!({"settings": SETTINGS, "metrics": metrics(), "response_flags": flags}),
    )
}
