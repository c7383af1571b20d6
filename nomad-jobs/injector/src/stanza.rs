//! What an injection adds, as blocks of HCL to be pasted into one's own job file.
//!
//! Only what the injector itself makes is written, so this is no printer of jobs: it knows the fields of our tasks and ports.

use std::fmt::Write;

use serde_json::Value;

use crate::inject::Injection;
use crate::status::Status;
use crate::{HEALTH_PORT, job};

/// The blocks, group by group.
pub fn stanza(injection: &Injection) -> String {
    let mut text = String::new();
    for group in job::list(&injection.job, "TaskGroups") {
        let Some(status) = Status::read(group) else { continue };
        // Writing into a String does not fail.
        let _ = writeln!(text, "group {} {{", quoted(job::text(group, "Name")));
        if status.shutdown_delay.is_some() {
            let _ = writeln!(text, "  shutdown_delay = {}\n", duration(&group["ShutdownDelay"]));
        }
        network(&mut text, group, &status);
        for check in &status.checks {
            text.push_str(&replaced(group, check));
        }
        for task in job::list(group, "Tasks") {
            if status.tasks.iter().any(|name| name == job::text(task, "Name")) {
                task_block(&mut text, task);
            }
        }
        text.push_str("}\n");
    }
    text
}

fn network(text: &mut String, group: &Value, status: &Status) {
    let _ = writeln!(text, "  # Into the group's network block:\n  network {{");
    let Some(network) = job::list(group, "Networks").first() else { return };
    for (field, reserved) in [("DynamicPorts", false), ("ReservedPorts", true)] {
        for port in job::list(network, field) {
            let label = job::text(port, "Label");
            if !status.ports.iter().any(|ours| ours == label) {
                continue;
            }
            let _ = writeln!(text, "    port {} {{", quoted(label));
            if reserved {
                let _ = writeln!(text, "      static = {}", port["Value"]);
            }
            if port["To"].as_i64().is_some_and(|to| to > 0) {
                let _ = writeln!(text, "      to = {}", port["To"]);
            }
            text.push_str("    }\n");
        }
    }
    text.push_str("  }\n\n");
}

/// What becomes of a check, as a comment: where it stands is the user's own file.
fn replaced(group: &Value, check: &crate::status::ReplacedCheck) -> String {
    let owner = match check.task.as_str() {
        "" => Some(group),
        task => job::list(group, "Tasks").iter().find(|one| job::text(one, "Name") == task),
    };
    let service = owner.and_then(|owner| job::list(owner, "Services").get(check.service));
    let now = service.and_then(|service| job::list(service, "Checks").get(check.check));
    let (name, path) =
        (service.map_or("", |s| job::text(s, "Name")), now.map_or("", |c| job::text(c, "Path")));
    format!(
        "  # Check {} of service {} asks the proxy: type = \"http\", port = \"{HEALTH_PORT}\", path = {}\n",
        check.check,
        quoted(name),
        quoted(path)
    )
}

fn task_block(text: &mut String, task: &Value) {
    let _ = writeln!(text, "\n  task {} {{", quoted(job::text(task, "Name")));
    let _ = writeln!(text, "    driver = {}", quoted(job::text(task, "Driver")));
    for (field, name) in [("User", "user"), ("KillSignal", "kill_signal")] {
        if !job::text(task, field).is_empty() {
            let _ = writeln!(text, "    {name} = {}", quoted(job::text(task, field)));
        }
    }
    if !task["KillTimeout"].is_null() {
        let _ = writeln!(text, "    kill_timeout = {}", duration(&task["KillTimeout"]));
    }
    let lifecycle = &task["Lifecycle"];
    block(
        text,
        "lifecycle",
        &[("hook", quoted(job::text(lifecycle, "Hook"))), ("sidecar", lifecycle["Sidecar"].to_string())],
    );
    for identity in job::list(task, "Identities") {
        block(
            text,
            "identity",
            &[
                ("name", quoted(job::text(identity, "Name"))),
                ("aud", value(&identity["Audience"])),
                ("file", identity["File"].to_string()),
                ("ttl", duration(&identity["TTL"])),
                ("change_mode", quoted(job::text(identity, "ChangeMode"))),
            ],
        );
    }
    let config: Vec<(&str, String)> = task["Config"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, one)| (key.as_str(), value(one)))
        .collect();
    block(text, "config", &config);
    map(text, "env", &task["Env"]);
    let resources = &task["Resources"];
    let limits =
        [("CPU", "cpu"), ("MemoryMB", "memory"), ("MemoryMaxMB", "memory_max"), ("SecretsMB", "secrets")];
    let limits: Vec<(&str, String)> = limits
        .into_iter()
        .filter(|(field, _)| !resources[*field].is_null())
        .map(|(field, name)| (name, resources[field].to_string()))
        .collect();
    block(text, "resources", &limits);
    let restart = &task["RestartPolicy"];
    if !restart.is_null() {
        let fields = [
            ("attempts", restart["Attempts"].to_string()),
            ("interval", duration(&restart["Interval"])),
            ("delay", duration(&restart["Delay"])),
            ("mode", quoted(job::text(restart, "Mode"))),
        ];
        block(text, "restart", &fields);
    }
    map(text, "meta", &task["Meta"]);
    text.push_str("  }\n");
}

fn block(text: &mut String, name: &str, fields: &[(&str, String)]) {
    let _ = writeln!(text, "    {name} {{");
    for (key, value) in fields {
        let _ = writeln!(text, "      {key} = {value}");
    }
    text.push_str("    }\n");
}

/// A map whose keys may hold anything.
fn map(text: &mut String, name: &str, map: &Value) {
    let Some(map) = map.as_object().filter(|map| !map.is_empty()) else { return };
    let _ = writeln!(text, "    {name} = {{");
    for (key, one) in map {
        let _ = writeln!(text, "      {} = {}", quoted(key), value(one));
    }
    text.push_str("    }\n");
}

/// Texts and lists of them.
fn value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(self::value).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A text of HCL. `${NOMAD_…}` stays what Nomad replaces on the node; `%{` would be a directive.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted.replace("%{", "%%{")
}

/// Nanoseconds, as HCL has durations.
fn duration(nanoseconds: &Value) -> String {
    format!("\"{}ms\"", nanoseconds.as_u64().unwrap_or_default() / 1_000_000)
}
