//! What submitting a job would change, as Nomad's planner says it.

use std::fmt::Write;

use serde_json::Value;

use crate::output::printable;

/// The differences, the placements that would fail, and the warnings.
pub(super) fn shown(answer: &Value) -> String {
    let mut text = String::new();
    difference(&mut text, &answer["Diff"], "job", 0);
    for group in list(&answer["Diff"], "TaskGroups") {
        difference(&mut text, group, "group", 1);
        for task in list(group, "Tasks") {
            difference(&mut text, task, "task", 2);
        }
    }
    if text.is_empty() {
        text.push_str("nothing would change\n");
    }
    for failure in failures(answer) {
        let _ = writeln!(text, "{failure}");
    }
    if let Some(warnings) = answer["Warnings"].as_str().filter(|warnings| !warnings.is_empty()) {
        text.push_str(&super::warned(warnings));
    }
    text
}

/// The groups that could not be placed, and why.
pub(super) fn failures(answer: &Value) -> Vec<String> {
    let failed = answer["FailedTGAllocs"].as_object().into_iter().flatten();
    failed.map(|(group, failure)| format!("group {group:?} could not be placed: {}", why(failure))).collect()
}

fn difference(text: &mut String, diff: &Value, kind: &str, depth: usize) {
    let Some(sign) = sign(diff) else { return };
    let indent = "  ".repeat(depth);
    let name = diff["Name"].as_str().or(diff["ID"].as_str()).unwrap_or_default();
    let _ = writeln!(text, "{sign} {indent}{kind} {:?}", printable(name));
    fields(text, diff, depth + 1);
}

fn fields(text: &mut String, diff: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    for field in list(diff, "Fields") {
        let Some(sign) = sign(field) else { continue };
        let of = |key: &str| printable(field[key].as_str().unwrap_or_default());
        let _ = match sign {
            '~' => writeln!(text, "{sign} {indent}{}: {:?} => {:?}", of("Name"), of("Old"), of("New")),
            '+' => writeln!(text, "{sign} {indent}{}: {:?}", of("Name"), of("New")),
            _ => writeln!(text, "{sign} {indent}{}: {:?}", of("Name"), of("Old")),
        };
    }
    for object in list(diff, "Objects") {
        let Some(sign) = sign(object) else { continue };
        let _ = writeln!(text, "{sign} {indent}{}", printable(object["Name"].as_str().unwrap_or_default()));
        fields(text, object, depth + 1);
    }
}

fn sign(diff: &Value) -> Option<char> {
    match diff["Type"].as_str()? {
        "Added" => Some('+'),
        "Deleted" => Some('-'),
        "Edited" => Some('~'),
        _ => None,
    }
}

fn why(failure: &Value) -> String {
    let filtered = ["ConstraintFiltered", "DimensionExhausted", "ClassFiltered"];
    let reasons = filtered.iter().flat_map(|key| failure[*key].as_object().into_iter().flatten());
    let reasons: Vec<String> =
        reasons.map(|(reason, nodes)| format!("{} ({nodes} nodes)", printable(reason))).collect();
    match reasons.is_empty() {
        true => format!("no node of {} fits", failure["NodesEvaluated"]),
        false => reasons.join("; "),
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changes_is_shown_with_its_sign_and_what_does_not_is_not() {
        let answer = json!({
            "Diff": {"Type": "Edited", "ID": "web", "Fields": [], "Objects": null, "TaskGroups": [{
                "Type": "Edited", "Name": "g", "Fields": [{"Type": "None", "Name": "Count"}], "Tasks": [
                    {"Type": "Added", "Name": "weft-proxy", "Fields": [{"Type": "Added", "Name": "Driver", "Old": "", "New": "exec"}]},
                    {"Type": "None", "Name": "app"},
                ]}]},
            "FailedTGAllocs": {"g": {"NodesEvaluated": 2, "ConstraintFiltered": {"missing drivers": 2}}},
            "Warnings": "",
        });
        let wanted = "~ job \"web\"\n~   group \"g\"\n+     task \"weft-proxy\"\n+       Driver: \"exec\"\n\
            group \"g\" could not be placed: missing drivers (2 nodes)\n";
        assert_eq!(shown(&answer), wanted);
        assert_eq!(shown(&json!({"Diff": {"Type": "None"}})), "nothing would change\n");
    }
}
