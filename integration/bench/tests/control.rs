//! The load driver of the control plane works: a run of small sizes answers every question. The figures mean nothing.

use std::process::Command;

use serde_json::Value;
use weft_registry_kubernetes::testkit::ApiServer;

#[test]
fn a_small_run_of_the_control_plane_fills_every_row() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weft-bench"))
        .args(["--out", directory.path().to_str().unwrap(), "control", "--quick"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report = std::fs::read_to_string(directory.path().join("benchmarks.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let rows = report["sections"][0]["rows"].as_array().unwrap();
    // One is of a real API server, where there is one.
    let expected = if ApiServer::is_there() { 9 } else { 8 };
    assert_eq!(rows.len(), expected, "{report}");
    // What does not depend on the machine holds here as well.
    let bytes = rows[1]["figures"]["bytes"]["framed"].as_u64().unwrap();
    assert!((1..=300).contains(&bytes), "{bytes} bytes a change");
    assert_eq!(rows[1]["figures"]["bytes"]["resources"], 1);
    assert_eq!(rows[4]["figures"]["other_bytes"], 0);
    assert_eq!(rows[5]["figures"]["received"]["resources"], 0);
    let table = std::fs::read_to_string(directory.path().join("benchmarks.md")).unwrap();
    assert!(table.contains("one endpoint change applied by 12 clients"), "{table}");
}
