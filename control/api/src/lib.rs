//! What the control plane's admin API says: the types that `weft-control` writes and the CLI reads.
//!
//! One crate of its own, so that neither side guesses the other's JSON and the CLI needs nothing of the control
//! plane. A reader ignores fields it does not know, so that an older CLI can talk to a newer control plane; what is
//! sent to the control plane ([`NewToken`], [`Rotate`]) is refused when it has unknown fields. Times are Unix milliseconds. No
//! IO, no logic beyond what both sides must agree on.

mod ca;
mod identity;
mod listing;
mod proxy;
mod status;
mod token;

pub use ca::{CaView, Rotate, RotationPhase};
pub use identity::identity;
pub use listing::{HealthCount, ServiceView, SnapshotView};
pub use proxy::{ProxyDump, ProxyStatus, ProxySync, Refusal, TypeStatus};
pub use status::{
    ControlPlaneStatus, HeldReset, ProblemView, RegistryError, RegistryState, RegistryStatus, RootView,
    Status,
};
pub use token::{NewToken, TokenCreated, TokenState, TokenView};

use serde::{Deserialize, Serialize};

/// Where a control plane keeps its state and its admin socket, where nobody says otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/weft";

/// The admin socket's name within the state directory.
pub const SOCKET_NAME: &str = "admin.sock";

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What went wrong, in words for the person at the CLI.
    pub error: String,
}

/// Where each thing is asked for.
pub mod path {
    /// [`Status`](crate::Status).
    pub const STATUS: &str = "/v1/status";
    /// A list of [`ServiceView`](crate::ServiceView).
    pub const SERVICES: &str = "/v1/services";
    /// A list of [`Workload`](weft_model::Workload).
    pub const WORKLOADS: &str = "/v1/workloads";
    /// A list of [`ProxyStatus`](crate::ProxyStatus); below it, each proxy's [`ProxyDump`](crate::ProxyDump).
    pub const PROXIES: &str = "/v1/proxies";
    /// [`SnapshotView`](crate::SnapshotView).
    pub const SNAPSHOT: &str = "/v1/snapshot";
    /// A list of [`TokenView`](crate::TokenView); `POST` makes one; `DELETE` of what is below revokes one.
    pub const TOKENS: &str = "/v1/tokens";

    /// [`CaView`](crate::CaView).
    pub const CA: &str = "/v1/ca";
    /// `POST` of [`Rotate`](crate::Rotate) begins or hastens the replacement of the root.
    pub const ROTATION: &str = "/v1/ca/rotation";

    /// `collection/name`, with everything in `name` that has a meaning in a URL percent-encoded.
    pub fn of(collection: &str, name: &str) -> String {
        let mut path = format!("{collection}/");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        path
    }

    /// The name in `path`, where that is `collection/name`. `None` also for what [`of`] can't have made.
    pub fn name_in(collection: &str, path: &str) -> Option<String> {
        let mut rest = path.strip_prefix(collection)?.strip_prefix('/')?.bytes();
        let mut name = Vec::new();
        while let Some(byte) = rest.next() {
            let decoded = match byte {
                b'%' => {
                    let mut digit = || char::from(rest.next()?).to_digit(16);
                    u8::try_from(digit()? * 16 + digit()?).ok()?
                }
                b'/' => return None,
                other => other,
            };
            name.push(decoded);
        }
        String::from_utf8(name).ok().filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_path() {
        for name in ["a", "spiffe://td/ns/a/sa/b~web-1", "100 %/é", "..", "a?b#c"] {
            let path = path::of(path::PROXIES, name);
            assert!(!path["/v1/proxies/".len()..].contains(['/', '?', '#', ' ']), "{path}");
            assert_eq!(path::name_in(path::PROXIES, &path).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_path_that_is_not_one_name_is_none() {
        for bad in [
            "/v1/proxies",
            "/v1/proxies/",
            "/v1/proxies/a/b",
            "/v1/proxies/%4",
            "/v1/proxies/%zz",
            "/v1/proxies/%ff",
        ] {
            assert_eq!(path::name_in(path::PROXIES, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_reader_ignores_what_it_does_not_know_and_a_token_request_refuses_it() {
        let view = r#"{"id":"a","identity":"b","expires_unix_ms":1,"state":"unused","new_field":true}"#;
        assert!(serde_json::from_str::<TokenView>(view).is_ok());
        let request = r#"{"identity":"a/b","ttl_seconds":1,"uses":2}"#;
        assert!(serde_json::from_str::<NewToken>(request).is_err());
    }
}
