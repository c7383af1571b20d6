//! Settings of the control plane: what this process is, not what the mesh is.
//!
//! Four sources, later ones win: defaults, the TOML file of `--config`, environment variables `WEFT_CONTROL_…`
//! (with `__` between levels: `WEFT_CONTROL_ADMIN__SOCKET`), and flags (`--set admin.socket=…`). Unknown keys are
//! refused everywhere. Every error names the source, the key and what was expected.

mod flags;
mod load;
mod registry;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use weft_ca::RateLimit;
use weft_ca::transport::ConnectionLimits;
use weft_model::TrustDomain;
use weft_process::settings::duration;

pub(crate) use flags::Flags;
pub(crate) use load::load;
pub(crate) use registry::RegistrySettings;

use crate::ca::CaSettings;
use crate::registry_secrets::RegistrySecretSettings;
use crate::webhook::WebhookSettings;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where proxies connect: resources and certificates over one mTLS port.
    pub(crate) listen: SocketAddr,
    /// The mesh's trust domain. It is part of every identity, so it can't change later.
    pub(crate) trust_domain: TrustDomain,
    /// Where keys, tokens, the last known state and the admin socket are kept.
    pub(crate) state_dir: PathBuf,
    /// Log filter: `info`, or per module: `info,weft_control::ads=debug`.
    pub(crate) log: String,
    /// `text` or `json` lines on standard error.
    pub(crate) log_format: LogFormat,
    /// The admin endpoint.
    pub(crate) admin: AdminSettings,
    /// Where services and workloads come from.
    pub(crate) registry: Vec<RegistrySettings>,
    /// Follows clusters that Secrets describe, too. Absent: only those of the settings.
    pub(crate) registry_secrets: Option<RegistrySecretSettings>,
    /// The certificate authority.
    pub(crate) ca: CaSettings,
    /// How much is served at once.
    pub(crate) limits: LimitSettings,
    /// When this process counts as ready.
    pub(crate) ready: ReadySettings,
    /// The injection webhook of a Kubernetes cluster. Absent: there is none.
    pub(crate) webhook: Option<WebhookSettings>,
    /// What happens on SIGTERM.
    pub(crate) shutdown: ShutdownSettings,
}

/// The form of the process's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[admin]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminSettings {
    /// The Unix socket; default `admin.sock` in `state_dir`. Only the own user can open it, and it does everything.
    pub(crate) socket: Option<PathBuf>,
    /// A TCP address besides, which only reads. It must be of the loopback interface: nobody is authenticated.
    pub(crate) listen: Option<SocketAddr>,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitSettings {
    /// Discovery streams at once; a proxy has one.
    #[serde(deserialize_with = "streams")]
    pub(crate) streams: usize,
    /// Of them with one identity.
    #[serde(deserialize_with = "streams")]
    pub(crate) streams_per_identity: usize,
    /// How much a stream may ask; acknowledgements are free.
    pub(crate) requests: RateLimit,
    /// How long a response may be unacknowledged.
    #[serde(deserialize_with = "duration")]
    pub(crate) ack_timeout: Duration,
    /// Connections to the proxies' port.
    pub(crate) connections: ConnectionLimits,
}

/// `[ready]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReadySettings {
    /// How long a registry that is not `required` is waited for at the start.
    #[serde(deserialize_with = "duration")]
    pub(crate) registry_deadline: Duration,
}

/// `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ShutdownSettings {
    /// How long requests in progress may take to finish.
    #[serde(deserialize_with = "duration")]
    pub(crate) deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 15010)),
            trust_domain: default_trust_domain(),
            state_dir: PathBuf::from(weft_control_api::DEFAULT_STATE_DIR),
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            admin: AdminSettings::default(),
            registry: Vec::new(),
            registry_secrets: None,
            ca: CaSettings::default(),
            limits: LimitSettings::default(),
            ready: ReadySettings::default(),
            webhook: None,
            shutdown: ShutdownSettings::default(),
        }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            // Each costs some 10 kB and what its proxy subscribes to; more proxies take another replica.
            streams: 20_000,
            // The instances of the largest service; a stolen certificate leaves the rest to others.
            streams_per_identity: 5_000,
            // A proxy asks when its application calls a new service: a start with a thousand of them at once.
            requests: RateLimit { per_second: 100.0, burst: 2_000 },
            // HTTP/2's ping finds a dead peer within 40 s; this finds one that is alive and does not do its part.
            ack_timeout: Duration::from_secs(60),
            connections: ConnectionLimits::default(),
        }
    }
}

impl Default for ReadySettings {
    fn default() -> Self {
        Self { registry_deadline: Duration::from_secs(10) }
    }
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10) }
    }
}

#[expect(clippy::expect_used, reason = "a constant that the tests parse")]
fn default_trust_domain() -> TrustDomain {
    "weft.local".parse().expect("a legal trust domain")
}

impl Settings {
    /// The admin socket's path.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.admin.socket.clone().unwrap_or_else(|| self.state_dir.join(weft_control_api::SOCKET_NAME))
    }
}

/// As many as a semaphore counts, and at least one.
fn streams<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let most = tokio::sync::Semaphore::MAX_PERMITS;
    let streams = usize::deserialize(deserializer)?;
    match (1..=most).contains(&streams) {
        true => Ok(streams),
        false => Err(de::Error::custom(format_args!("{streams} is not in 1 to {most}"))),
    }
}

#[cfg(test)]
mod tests;
