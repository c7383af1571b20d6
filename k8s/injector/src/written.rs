//! How the proxy's settings are written into environment variables, on every platform where somebody else starts it.
//!
//! Every text is quoted, or a workload called `1` would be a number; and written in ASCII, since the proxy's reader takes no
//! other characters beside an escape.

use weft_model::{Namespace, Upstream};

use crate::probes::{Probe, Target};

/// `[[health.probe]]`.
pub fn probes(probes: &[Probe]) -> String {
    list(probes.iter().map(|probe| {
        let target = match &probe.target {
            Target::Http { port, path, host, https, headers } => {
                let headers = headers
                    .iter()
                    .map(|header| table(&[("name", quoted(&header.name)), ("value", quoted(&header.value))]));
                let mut http = vec![("port", port.to_string()), ("path", quoted(path))];
                http.extend(host.as_ref().map(|host| ("host", quoted(host))));
                http.extend(https.then(|| ("https", "true".to_owned())));
                http.extend((headers.len() > 0).then(|| ("headers", list(headers))));
                ("http", table(&http))
            }
            Target::Tcp { port } => ("tcp", table(&[("port", port.to_string())])),
            Target::Grpc { port, service } if service.is_empty() => {
                ("grpc", table(&[("port", port.to_string())]))
            }
            Target::Grpc { port, service } => {
                ("grpc", table(&[("port", port.to_string()), ("service", quoted(service))]))
            }
        };
        table(&[("name", quoted(&probe.name)), ("timeout", quoted(&format!("{}s", probe.timeout))), target])
    }))
}

/// `[[upstream]]`; those without a namespace are of `own`.
pub fn upstreams(upstreams: &[Upstream], own: &Namespace) -> String {
    list(upstreams.iter().map(|upstream| {
        let namespace = upstream.namespace.as_ref().unwrap_or(own);
        let mut fields = vec![("service", quoted(&format!("{namespace}/{}", upstream.service)))];
        fields.extend(upstream.port.as_ref().map(|port| ("port", quoted(port.as_str()))));
        fields.push(("listen", quoted(&upstream.listen.to_string())));
        table(&fields)
    }))
}

/// A listener of each family at one port.
pub fn both_families(v4: &str, v6: &str, port: u16) -> String {
    list([v4, v6].iter().map(|address| quoted(&format!("{address}:{port}"))))
}

/// A list of what is written already.
pub fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A table of what is written already.
pub fn table(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// A text.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_in_ascii() {
        assert_eq!(quoted("a\"b\\c\té😀"), r#""a\"b\\c\u0009\u00e9\U0001f600""#);
    }
}
