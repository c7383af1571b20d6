//! Which instance a service is that Nomad registered, in its own registry or in Consul: both show the same one.

/// `nomad/ALLOC/PORT` of `_nomad-task-ALLOC-TASK-SERVICE-PORT` or `_nomad-group-…`, where the parts behind the allocation's
/// UUID may hold dashes themselves. `else_port` stands for a port without a label. `None`: Nomad did not register it.
pub fn nomad_instance(id: &str, service: &str, else_port: &str) -> Option<String> {
    let rest = id.strip_prefix("_nomad-task-").or_else(|| id.strip_prefix("_nomad-group-"))?;
    let (alloc, rest) = rest.split_at_checked(36)?;
    let is_uuid = alloc.bytes().enumerate().all(|(at, b)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    });
    if !is_uuid || !rest.starts_with('-') {
        return None;
    }
    let marked = format!("-{service}-");
    let label = rest.rfind(&marked).and_then(|at| rest.get(at + marked.len()..)).unwrap_or("");
    let label = if label.is_empty() { else_port } else { label };
    Some(format!("nomad/{alloc}/{label}"))
}

#[cfg(test)]
mod tests {
    use super::nomad_instance;

    const ALLOC: &str = "187a454a-bf68-1da5-f4bf-45afaeef30c6";

    #[test]
    fn a_service_of_nomads_is_its_allocations_port_and_no_other_is() {
        for (rest, service, wanted) in [
            ("group-g-web-http", "web", "http"),
            ("group-my-group-web-api-my-port", "web-api", "my-port"),
            ("app-web-", "web", "8080"),
            ("app-other-http", "web", "8080"),
        ] {
            let id = format!("_nomad-task-{ALLOC}-{rest}");
            assert_eq!(
                nomad_instance(&id, service, "8080").unwrap(),
                format!("nomad/{ALLOC}/{wanted}"),
                "{rest}"
            );
        }
        for other in ["web-1", "_nomad-task-web", &format!("_nomad-task-{ALLOC}"), "_nomad-task-é"] {
            assert_eq!(nomad_instance(other, "web", "1"), None, "{other}");
        }
    }
}
