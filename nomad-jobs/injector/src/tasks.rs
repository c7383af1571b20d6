//! The tasks that are added: the proxy, what waits for it, and what captures.
//!
//! Nomad starts a group's own tasks when all prestart tasks that are no sidecars have ended, and kills sidecars after all others
//! have ended. So the proxy is a prestart sidecar, which outlives the application, and a second prestart task waits until it is
//! ready: a sidecar that merely runs does not hold the application back.

use std::time::Duration;

use serde_json::{Map, Value, json};
use weft_injector::port;
use weft_model::Memory;
use weft_redirect::RedirectSettings;
use weft_registry_nomad::sidecar::IDENTITY_NAME;

use crate::network::Mode;
use crate::options::Options;
use crate::settings::Driver;
use crate::{HEALTH_PORT, NomadInjectorSettings, READY_TASK, REDIRECT_TASK, SIDECAR_TASK};

/// What all tasks of one group have in common.
pub(crate) struct Tasks<'a> {
    pub(crate) driver: Driver,
    pub(crate) mode: Mode,
    pub(crate) options: &'a Options,
    pub(crate) settings: &'a NomadInjectorSettings,
}

impl Tasks<'_> {
    /// The proxy.
    pub(crate) fn proxy(&self, environment: Map<String, Value>) -> Value {
        let mut task = self.task(SIDECAR_TASK, "weft-proxy", &[], true);
        task["Env"] = environment.into();
        task["Identities"] = json!([{
            "Name": IDENTITY_NAME, "Audience": [self.settings.audience], "File": true, "Env": false,
            "TTL": nanoseconds(TOKEN_TTL), "ChangeMode": "noop", "ChangeSignal": "",
        }]);
        task["Resources"] = resources(self.options.cpu_mhz, self.options.memory, self.options.memory_limit);
        // Its key and what it last knew are there, in memory.
        task["Resources"]["SecretsMB"] = json!(SECRETS_MB);
        task["KillSignal"] = json!("SIGTERM");
        // Beyond the drain, so that Nomad never cuts what the proxy would still end by itself.
        task["KillTimeout"] = json!(nanoseconds(self.options.drain + Duration::from_secs(5)));
        // A proxy that fails is started again, for ever; it never fails the application.
        task["RestartPolicy"] = json!({
            "Attempts": 60, "Interval": nanoseconds(Duration::from_mins(10)),
            "Delay": nanoseconds(Duration::from_secs(1)), "Mode": "delay",
        });
        if self.options.capture {
            task["User"] = json!(self.user());
        }
        task
    }

    /// What keeps the application waiting.
    pub(crate) fn ready(&self) -> Value {
        let address = match self.mode {
            Mode::Own => format!("127.0.0.1:{}", port::HEALTH),
            Mode::Host => format!("${{NOMAD_IP_{HEALTH_PORT}}}:${{NOMAD_PORT_{HEALTH_PORT}}}"),
        };
        self.task(READY_TASK, "weft-proxy", &["--await-ready", &address], false)
    }

    /// What puts the rules of the capture into the allocation's network. They go with that.
    pub(crate) fn redirect(&self) -> Value {
        let settings = self.rules().annotation();
        let mut words = vec!["apply", "--settings", &settings];
        if !self.driver.is_container() {
            // Which number the user has is known on the node alone.
            words.extend(["--proxy-user", &self.settings.user]);
        }
        let mut task = self.task(REDIRECT_TASK, "weft-redirect", &words, false);
        task["User"] = json!("root");
        match self.driver {
            Driver::Docker | Driver::Podman => task["Config"]["cap_add"] = json!(["net_admin"]),
            Driver::Exec => task["Config"]["cap_add"] = json!(["net_admin"]),
            Driver::RawExec | Driver::Auto => {}
        }
        task
    }

    fn rules(&self) -> RedirectSettings {
        let options = self.options;
        let cidrs = options.skip_outbound_cidrs.iter().filter_map(|cidr| cidr.to_string().parse().ok());
        RedirectSettings {
            proxy_uid: weft_injector::PROXY_ID,
            // A user's groups on a node are whatever they are there; the user alone decides.
            proxy_gid: None,
            outbound_port: port::OUTBOUND,
            inbound_port: port::INBOUND,
            tunnel_port: port::TUNNEL,
            health_port: port::HEALTH,
            admin_port: port::ADMIN,
            dns_port: options.dns.then_some(port::DNS),
            exclude_inbound_ports: options.skip_inbound_ports.iter().copied().collect(),
            exclude_outbound_ports: options.skip_outbound_ports.iter().copied().collect(),
            exclude_outbound_cidrs: cidrs.collect(),
            ..RedirectSettings::default()
        }
    }

    fn task(&self, name: &str, program: &str, words: &[&str], sidecar: bool) -> Value {
        let config = match self.driver.is_container() {
            true => {
                json!({"image": self.settings.image, "command": format!("/usr/bin/{program}"), "args": words})
            }
            false => json!({"command": format!("{}/{program}", self.settings.directory), "args": words}),
        };
        json!({
            "Name": name,
            "Driver": self.driver.as_str(),
            "Config": config,
            "Lifecycle": {"Hook": "prestart", "Sidecar": sidecar},
            "Resources": resources(HELPER_MHZ, HELPER_MEMORY, None),
        })
    }

    /// In an image there are numbers, on a node there are names.
    fn user(&self) -> String {
        match self.driver.is_container() {
            true => weft_injector::PROXY_ID.to_string(),
            false => self.settings.user.clone(),
        }
    }
}

fn resources(cpu_mhz: u32, memory: Memory, limit: Option<Memory>) -> Value {
    let mebibytes = |Memory(bytes): Memory| bytes.div_ceil(1 << 20);
    let mut resources = json!({"CPU": cpu_mhz, "MemoryMB": mebibytes(memory)});
    if let Some(limit) = limit {
        resources["MemoryMaxMB"] = mebibytes(limit).into();
    }
    resources
}

/// As Nomad's API has durations.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nomad replaces a token at half of it.
const TOKEN_TTL: Duration = Duration::from_hours(1);
/// As much as a pod has for the same.
const SECRETS_MB: u32 = 16;
/// For tasks that end before the application starts, whose share the application gets then.
const HELPER_MHZ: u32 = 50;
const HELPER_MEMORY: Memory = Memory(32 << 20);
