//! The checks of captured applications, led through the proxy: Nomad or Consul asks the proxy's health port, and the proxy
//! asks the application on loopback.
//!
//! Who asks has no certificate, so under strict mTLS it would be refused; and through a capture a check of TCP would say of
//! the proxy what is asked of the application. Scripts are left as they are: they don't come from outside.

use serde_json::{Value, json};
use weft_injector::{Header, Probe, Target, port};

use crate::status::ReplacedCheck;
use crate::{HEALTH_PORT, job, network};

/// Where services with checks are: the group, or one of its tasks by name.
pub(crate) fn owners(group: &mut Value) -> impl Iterator<Item = (String, &mut Value)> {
    let Value::Object(fields) = group else { return Vec::new().into_iter() };
    let mut owners = Vec::new();
    for (field, value) in fields.iter_mut() {
        match field.as_str() {
            "Services" => owners.push((String::new(), value)),
            "Tasks" => {
                for task in value.as_array_mut().into_iter().flatten() {
                    let name = job::text(task, "Name").to_owned();
                    if let Some(services) = task.get_mut("Services") {
                        owners.push((name, services));
                    }
                }
            }
            _ => {}
        }
    }
    owners.into_iter()
}

/// Replaces what the proxy can ask; what it can't is among `left`, a sentence each.
pub(crate) fn replace(group: &mut Value, left: &mut Vec<String>) -> (Vec<Probe>, Vec<ReplacedCheck>) {
    let (mut probes, mut replaced) = (Vec::new(), Vec::new());
    let view = group.clone();
    for (task, services) in owners(group) {
        for (s, service) in services.as_array_mut().into_iter().flatten().enumerate() {
            let (name, label) =
                (job::text(service, "Name").to_owned(), job::text(service, "PortLabel").to_owned());
            for (c, check) in job::each_mut(service, "Checks").enumerate() {
                let place = format!("service {name:?}, check {c}");
                let target = match target(check, &label, &view) {
                    Ok(Some(target)) => target,
                    Ok(None) => continue,
                    Err(why) => {
                        left.push(format!("{place}: {why}"));
                        continue;
                    }
                };
                let probe =
                    Probe { name: format!("check-{}", probes.len()), timeout: seconds(check), target };
                let was = check.clone();
                point_at(check, &probe.name);
                replaced.push(ReplacedCheck { task: task.clone(), service: s, check: c, was });
                probes.push(probe);
            }
        }
    }
    (probes, replaced)
}

/// Gives a group its own checks back.
pub(crate) fn restore(group: &mut Value, replaced: &[ReplacedCheck]) {
    for (task, services) in owners(group) {
        for one in replaced.iter().filter(|one| one.task == task) {
            let service = services.as_array_mut().and_then(|services| services.get_mut(one.service));
            let checks = service.and_then(|service| service.get_mut("Checks")).and_then(Value::as_array_mut);
            if let Some(check) = checks.and_then(|checks| checks.get_mut(one.check)) {
                *check = one.was.clone();
            }
        }
    }
}

/// What the check asks, where that goes to the allocation; `None` for what does not come from outside.
fn target(check: &Value, service_label: &str, group: &Value) -> Result<Option<Target>, String> {
    let kind = job::text(check, "Type");
    if !matches!(kind, "http" | "tcp" | "grpc") {
        return Ok(None);
    }
    let label = match job::text(check, "PortLabel") {
        "" => service_label,
        label => label,
    };
    let inside = network::port(group, label).and_then(|port| port.to).or_else(|| label.parse().ok());
    let Some(number) = inside else {
        return Err(format!(
            "port {label:?} has no `to`, so where the application listens is not known before it runs"
        ));
    };
    if port::ALL.contains(&number) {
        return Err(format!("port {number} is one of the proxy's"));
    }
    Ok(Some(match kind {
        "http" => http(check, number)?,
        "tcp" => Target::Tcp { port: number },
        _ => Target::Grpc { port: number, service: job::text(check, "GRPCService").to_owned() },
    }))
}

fn http(check: &Value, number: u16) -> Result<Target, String> {
    let method = job::text(check, "Method");
    if !matches!(method, "" | "GET") || !job::text(check, "Body").is_empty() {
        return Err("the proxy asks only by GET and without a body".to_owned());
    }
    let headers = check.get("Header").and_then(Value::as_object).into_iter().flatten();
    let headers = headers.flat_map(|(name, values)| {
        let values = values.as_array().into_iter().flatten().filter_map(Value::as_str);
        values.map(move |value| Header { name: name.clone(), value: value.to_owned() })
    });
    // The request's host, too.
    let (hosts, headers): (Vec<_>, Vec<_>) =
        headers.partition(|header| header.name.eq_ignore_ascii_case("host"));
    Ok(Target::Http {
        port: number,
        path: Some(job::text(check, "Path")).filter(|path| !path.is_empty()).unwrap_or("/").to_owned(),
        host: hosts.into_iter().next().map(|header| header.value),
        https: job::text(check, "Protocol").eq_ignore_ascii_case("https"),
        headers,
    })
}

/// The check's own time-out, in whole seconds, rather more than less.
fn seconds(check: &Value) -> u64 {
    let nanoseconds = check.get("Timeout").and_then(Value::as_u64).unwrap_or(0);
    nanoseconds.div_ceil(1_000_000_000).max(1)
}

/// Puts the proxy in the place of what was asked. How often, and after how many failures, is as it was.
fn point_at(check: &mut Value, probe: &str) {
    let Value::Object(fields) = check else { return };
    let values = [
        ("Type", json!("http")),
        ("PortLabel", json!(HEALTH_PORT)),
        ("Path", json!(format!("/probe/{probe}"))),
        ("Protocol", json!("http")),
        ("Method", json!("GET")),
        ("Header", Value::Null),
        ("Body", json!("")),
        ("GRPCService", json!("")),
        ("GRPCUseTLS", json!(false)),
        ("TLSSkipVerify", json!(false)),
        ("TLSServerName", json!("")),
        ("AddressMode", json!("")),
    ];
    for (field, value) in values {
        // Fields that the server does not know are not put there.
        if fields.contains_key(field) || matches!(field, "Type" | "PortLabel" | "Path") {
            fields.insert(field.to_owned(), value);
        }
    }
}
