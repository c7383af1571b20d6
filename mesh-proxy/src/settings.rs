//! Settings of the proxy: what this process is, not what the mesh is.
//!
//! Four sources, later ones win: defaults, the TOML file of `--config`, environment variables `WEFT_PROXY_…` (with `__`
//! between levels: `WEFT_PROXY_ADMIN__LISTEN`), and flags (`--set admin.listen=…`). Unknown keys are refused everywhere.
//! Every error names the source, the key and what was expected. The sections are in the files beside this one.

mod capture;
mod dns;
mod health;
mod identity;
mod limits;
mod load;
mod network;
mod table;
mod telemetry;

use std::path::PathBuf;

use serde::Deserialize;

pub(crate) use capture::{CaptureSettings, Plaintext, UnknownDestination};
pub(crate) use dns::DnsSettings;
pub(crate) use health::{GrpcProbe, Header, HealthSettings, HttpProbe, ProbeSettings, TcpProbe};
pub(crate) use identity::{
    ConsulAttestation, ControlSettings, IdentitySettings, JoinTokenSource, KubernetesAttestation,
    NomadAttestation,
};
pub(crate) use limits::{
    DrainSettings, LimitSettings, LocalitySettings, OutlierSettings, RetrySettings, TimeoutSettings,
};
pub(crate) use load::load;
pub(crate) use network::{
    AdminSettings, HttpSettings, InboundSettings, PortRef, ReadySettings, TunnelSettings, UpstreamSettings,
    WorkloadSettings,
};
pub(crate) use table::SETTINGS;
pub(crate) use telemetry::{
    AccessLogFormat, AccessLogMode, AccessLogOutput, AccessLogSettings, MetricSettings,
};

/// All settings. Reachable by everybody through `Shared`; nobody else reads file or environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Threads of the data path, each with its own runtime, listeners and pools.
    pub(crate) workers: usize,
    /// Where identity and the last known good configuration are kept.
    pub(crate) state_dir: PathBuf,
    /// Log filter: `info`, or per module: `info,weft_proxy::identity=debug`.
    pub(crate) log: String,
    /// `text` or `json` lines on standard error.
    pub(crate) log_format: LogFormat,
    /// What this workload is called in telemetry.
    pub(crate) workload: WorkloadSettings,
    /// Where the control plane is and how its first certificate is trusted.
    pub(crate) control: ControlSettings,
    /// How this proxy proves what it is, before it has a certificate.
    pub(crate) identity: IdentitySettings,
    /// The mTLS listener for other proxies.
    pub(crate) tunnel: TunnelSettings,
    /// Ports of the local application that others may reach.
    pub(crate) inbound: Vec<InboundSettings>,
    /// Local ports that lead to one service each.
    pub(crate) upstream: Vec<UpstreamSettings>,
    /// The local port that leads to any service, by `Host`. Absent: there is none.
    pub(crate) http: Option<HttpSettings>,
    /// Where redirected connections arrive.
    pub(crate) capture: CaptureSettings,
    /// Names of the mesh for the local application.
    pub(crate) dns: DnsSettings,
    /// The admin endpoint.
    pub(crate) admin: AdminSettings,
    /// The health port.
    pub(crate) health: HealthSettings,
    /// When `/ready` says yes.
    pub(crate) ready: ReadySettings,
    /// What is logged of requests and connections.
    pub(crate) access_log: AccessLogSettings,
    /// How much metrics may cost.
    pub(crate) metrics: MetricSettings,
    /// After how long what is given up.
    pub(crate) timeouts: TimeoutSettings,
    /// When a request is tried again elsewhere.
    pub(crate) retries: RetrySettings,
    /// When an endpoint that fails is left out for a while.
    pub(crate) outlier: OutlierSettings,
    /// Where this proxy runs, and whether near endpoints are preferred.
    pub(crate) locality: LocalitySettings,
    /// What happens on SIGTERM.
    pub(crate) drain: DrainSettings,
    /// Upper bounds.
    pub(crate) limits: LimitSettings,
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            state_dir: PathBuf::from("/var/lib/weft-proxy"),
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            workload: WorkloadSettings::default(),
            control: ControlSettings::default(),
            identity: IdentitySettings::default(),
            tunnel: TunnelSettings::default(),
            inbound: Vec::new(),
            upstream: Vec::new(),
            http: None,
            capture: CaptureSettings::default(),
            dns: DnsSettings::default(),
            admin: AdminSettings::default(),
            health: HealthSettings::default(),
            ready: ReadySettings::default(),
            access_log: AccessLogSettings::default(),
            metrics: MetricSettings::default(),
            timeouts: TimeoutSettings::default(),
            retries: RetrySettings::default(),
            outlier: OutlierSettings::default(),
            locality: LocalitySettings::default(),
            drain: DrainSettings::default(),
            limits: LimitSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests;
