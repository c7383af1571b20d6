//! Settings of the health port: what a kubelet or another supervisor may ask of this host, without a certificate.
//!
//! Whom a probe may ask is written here and nowhere else: a caller names a probe and can add nothing to it.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use serde::{Deserialize, Deserializer, de};

/// `[health]`. Without an address there is none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HealthSettings {
    /// The address, which may be one that others reach: nothing can be changed there.
    pub(crate) listen: Option<SocketAddr>,
    /// What of the application may be asked.
    pub(crate) probe: Vec<ProbeSettings>,
}

/// `[[health.probe]]`: a question to the local application, and one of three ways to ask it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProbeSettings {
    /// It is asked at `/probe/NAME`.
    pub(crate) name: String,
    /// For all of it, from the connection to the answer.
    #[serde(default = "one_second", deserialize_with = "weft_process::settings::duration")]
    pub(crate) timeout: Duration,
    /// A `GET`.
    #[serde(default)]
    pub(crate) http: Option<HttpProbe>,
    /// A connection.
    #[serde(default)]
    pub(crate) tcp: Option<TcpProbe>,
    /// `grpc.health.v1.Health/Check`.
    #[serde(default)]
    pub(crate) grpc: Option<GrpcProbe>,
}

/// `[health.probe.http]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpProbe {
    /// The application's port.
    pub(crate) port: u16,
    /// With its query.
    #[serde(default = "root", deserialize_with = "path")]
    pub(crate) path: PathAndQuery,
    /// What the request's `Host` says. Default: address and port.
    #[serde(default, deserialize_with = "host")]
    pub(crate) host: Option<HeaderValue>,
    /// Over TLS. Whose certificate it is is not looked at, as a kubelet does it.
    #[serde(default)]
    pub(crate) https: bool,
    /// Further headers.
    #[serde(default)]
    pub(crate) headers: Vec<Header>,
}

/// A header of a probe.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// Its name.
    #[serde(deserialize_with = "header_name")]
    pub(crate) name: HeaderName,
    /// Its value.
    #[serde(deserialize_with = "header_value")]
    pub(crate) value: HeaderValue,
}

/// `[health.probe.tcp]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TcpProbe {
    /// The application's port.
    pub(crate) port: u16,
}

/// `[health.probe.grpc]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrpcProbe {
    /// The application's port, without TLS.
    pub(crate) port: u16,
    /// The service whose health is asked. Empty: the server's.
    #[serde(default)]
    pub(crate) service: String,
}

impl ProbeSettings {
    /// The ports of the ways that are set; one is expected.
    fn ports(&self) -> Vec<u16> {
        let http = self.http.as_ref().map(|way| way.port);
        let tcp = self.tcp.as_ref().map(|way| way.port);
        let grpc = self.grpc.as_ref().map(|way| way.port);
        [http, tcp, grpc].into_iter().flatten().collect()
    }
}

impl HealthSettings {
    /// What does not fit together, a sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (n, probe) in self.probe.iter().enumerate() {
            let mut check = |broken: bool, problem: &str| {
                if broken {
                    problems.push(format!("health.probe[{n}].{problem}"));
                }
            };
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            check(
                !(1..=LONGEST_NAME).contains(&probe.name.len()) || !probe.name.bytes().all(legal),
                "name: expected 1 to 253 letters, digits, '.', '-' and '_'",
            );
            check(self.probe[..n].iter().any(|other| other.name == probe.name), "name: it is there twice");
            check(probe.timeout.is_zero(), "timeout: expected more than 0");
            let ports = probe.ports();
            check(ports.len() != 1, "http, tcp or grpc: expected exactly one of them");
            check(ports.contains(&0), "port: expected 1 to 65535");
            let own = self.listen.map(|listen| listen.port()).filter(|port| *port != 0);
            check(own.is_some_and(|own| ports.contains(&own)), "port: it is the health port itself");
        }
        if self.listen.is_none() && !self.probe.is_empty() {
            problems.push("health.probe needs health.listen, as in \"0.0.0.0:15021\"".to_owned());
        }
        problems
    }
}

/// As Kubernetes does it: what is not legal in a path is encoded, and a `/` is put before it where there is none.
fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathAndQuery, D::Error> {
    let text = String::deserialize(deserializer)?;
    let path = text.split('#').next().unwrap_or_default();
    let mut encoded = String::from(if path.starts_with('/') { "" } else { "/" });
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                encoded += &format!("%{byte:02X}")
            }
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded.parse().map_err(|error| de::Error::custom(format_args!("{text:?} is no path: {error}")))
}

fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HeaderValue>, D::Error> {
    header_value(deserializer).map(Some)
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| de::Error::custom(format_args!("{text:?} is not the name of a header")))
}

fn header_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderValue, D::Error> {
    let text = String::deserialize(deserializer)?;
    // Not shown: probes carry passwords.
    HeaderValue::try_from(text).map_err(|_| de::Error::custom("expected text without control characters"))
}

fn root() -> PathAndQuery {
    PathAndQuery::from_static("/")
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

/// A container's name and what is asked of it.
const LONGEST_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn problems(text: &str) -> String {
        Settings::from_toml(text).health.problems().join("\n")
    }

    #[test]
    fn each_kind_of_probe_is_read() {
        let text = "health.listen = '0.0.0.0:15021'\n\
            [[health.probe]]\nname = 'app.readiness'\n\
            http = { port = 8080, path = 'healthz?full=1', host = 'app', https = true, headers = [{ name = 'X-A', value = 'b c' }] }\n\
            [[health.probe]]\nname = 'app.liveness'\ntimeout = '3s'\ntcp = { port = 5432 }\n\
            [[health.probe]]\nname = 'app.startup'\ngrpc = { port = 9000, service = 'shop' }\n";
        assert_eq!(problems(text), "");
        let health = Settings::from_toml(text).health;
        let http = health.probe[0].http.as_ref().unwrap();
        assert_eq!((http.path.as_str(), http.headers[0].name.as_str()), ("/healthz?full=1", "x-a"));
        assert_eq!(health.probe[0].timeout.as_secs(), 1);
        assert_eq!(health.probe[1].timeout.as_secs(), 3);
        assert_eq!(health.probe[2].grpc.as_ref().unwrap().service, "shop");
    }

    #[test]
    fn what_is_not_legal_in_a_path_is_encoded() {
        for (given, expected) in [
            ("", "/"),
            ("/a b", "/a%20b"),
            ("/é", "/%C3%A9"),
            ("/a#b", "/a"),
            ("/%41?x={1}", "/%41?x=%7B1%7D"),
        ] {
            let text = format!("[[health.probe]]\nname = 'a'\nhttp = {{ port = 1, path = '{given}' }}");
            assert_eq!(
                Settings::from_toml(&text).health.probe[0].http.as_ref().unwrap().path.as_str(),
                expected
            );
        }
    }

    #[test]
    fn what_does_not_fit_together_is_said_with_the_probe() {
        let probe =
            |text: &str| problems(&format!("health.listen = '0.0.0.0:15021'\n[[health.probe]]\n{text}"));
        for (text, says) in [
            ("name = 'a'", "health.probe[0].http, tcp or grpc"),
            ("name = 'a'\ntcp.port = 1\ngrpc.port = 1", "exactly one"),
            ("name = 'a'\ntcp.port = 0", "1 to 65535"),
            ("name = 'a'\ntcp.port = 15021", "the health port itself"),
            ("name = 'a/b'\ntcp.port = 1", "name: expected"),
            ("name = ''\ntcp.port = 1", "name: expected"),
            ("name = 'a'\ntimeout = '0s'\ntcp.port = 1", "timeout"),
            (
                "name = 'a'\ntcp.port = 1\n[[health.probe]]\nname = 'a'\ntcp.port = 2",
                "health.probe[1].name: it is there twice",
            ),
        ] {
            let problems = probe(text);
            assert!(problems.contains(says), "{text}: {problems}");
        }
        let deaf = problems("[[health.probe]]\nname = 'a'\ntcp.port = 1");
        assert!(deaf.contains("needs health.listen"), "{deaf}");
    }
}
