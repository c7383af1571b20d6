//! One group of a job: whether it gets a sidecar, what stands in the way, and the change itself.

use serde_json::{Value, json};
use weft_injector::Probe;
use weft_model::{InboundPlaintext, Metadata, Namespace};

use crate::network::{self, Mode};
use crate::options::{self, Options, key};
use crate::settings::Driver;
use crate::status::Status;
use crate::tasks::{Tasks, nanoseconds};
use crate::{
    NomadInjectorSettings, READY_TASK, REDIRECT_TASK, SIDECAR_TASK, STATUS, checks, environment, job,
};

/// Gives the group its sidecar, where its `meta` asks for one. Whether it did.
pub(crate) fn inject(
    whole: &Value,
    group: &mut Value,
    settings: &NomadInjectorSettings,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> bool {
    let meta = job::meta(whole, group);
    let namespace = match job::text(whole, "Namespace") {
        "" => Namespace::default_namespace(),
        name => match name.parse() {
            Ok(namespace) => namespace,
            Err(invalid) => {
                problems.push(format!("Namespace: {invalid}"));
                return false;
            }
        },
    };
    let metadata = options::metadata(&meta, &namespace, problems, warnings);
    if metadata.proxy().inject != Some(true) {
        return false;
    }
    change(whole, group, metadata, settings, problems, warnings);
    true
}

fn change(
    whole: &Value,
    group: &mut Value,
    metadata: Metadata,
    settings: &NomadInjectorSettings,
    problems: &mut Vec<String>,
    warnings: &mut Vec<String>,
) {
    let before = problems.len();
    let mode = Mode::of(group).map_err(|problem| problems.push(problem)).unwrap_or(Mode::Own);
    let driver = driver(group, settings).map_err(|problem| problems.push(problem)).unwrap_or(Driver::Exec);
    let options = Options::new(metadata, mode, settings, problems, warnings);
    problems.extend(obstacles(group, mode, driver, &options, settings));
    if problems.len() > before {
        return;
    }
    warnings.extend(doubts(group, &options, settings));
    let mut left = Vec::new();
    let (probes, replaced) =
        if options.capture { checks::replace(group, &mut left) } else { (Vec::new(), Vec::new()) };
    match options.inbound_plaintext {
        InboundPlaintext::Strict => problems
            .extend(left.into_iter().map(|why| format!("{why}; under strict mTLS it could never pass"))),
        InboundPlaintext::Permissive => {
            warnings.extend(left.into_iter().map(|why| format!("{why}; it is left as it is")))
        }
    }
    if probes.len() > MOST_CHECKS {
        problems
            .push(format!("its services have {} checks; the proxy can ask for {MOST_CHECKS}", probes.len()));
    }
    let added = network::add(group, mode, &options);
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tasks: Vec::new(),
        ports: added.labels,
        network: added.network,
        checks: replaced,
        shutdown_delay: stop_later(whole, group, settings),
    };
    add_tasks(group, &Tasks { driver, mode, options: &options, settings }, &probes, &mut status);
}

fn add_tasks(group: &mut Value, tasks: &Tasks<'_>, probes: &[Probe], status: &mut Status) {
    let variables = environment::variables(group, tasks.mode, tasks.options, tasks.settings, probes);
    let mut added = vec![tasks.proxy(variables)];
    if tasks.options.capture {
        added.push(tasks.redirect());
    }
    if tasks.options.hold {
        added.push(tasks.ready());
    }
    status.tasks = added.iter().map(|task| job::text(task, "Name").to_owned()).collect();
    added[0]["Meta"] = json!({STATUS: status.written()});
    job::list_mut(group, "Tasks").extend(added);
}

/// Lets the application go on until its callers know that it stops: Nomad takes its services away first. `None` where the
/// group says itself how long, or has no services.
fn stop_later(whole: &Value, group: &mut Value, settings: &NomadInjectorSettings) -> Option<String> {
    let lasts = matches!(job::text(whole, "Type"), "" | "service" | "system");
    let own = group.get("ShutdownDelay").cloned().unwrap_or(Value::Null);
    let has_own = own.as_u64().is_some_and(|delay| delay > 0);
    if !lasts || has_own || settings.stop_delay.is_zero() || environment::services(group).next().is_none() {
        return None;
    }
    group["ShutdownDelay"] = json!(nanoseconds(settings.stop_delay));
    Some(own.to_string())
}

/// What runs the sidecar's tasks: what the settings say, else what runs the application.
fn driver(group: &Value, settings: &NomadInjectorSettings) -> Result<Driver, String> {
    if settings.driver != Driver::Auto {
        return Ok(settings.driver);
    }
    let lasting = |task: &&Value| task.get("Lifecycle").is_none_or(Value::is_null);
    let Some(task) = job::list(group, "Tasks").iter().find(lasting) else {
        return Err("it has no task of its own beside prestart and poststop ones".to_owned());
    };
    match job::text(task, "Driver") {
        "docker" => Ok(Driver::Docker),
        "podman" => Ok(Driver::Podman),
        "raw_exec" => Ok(Driver::RawExec),
        "exec" | "java" => Ok(Driver::Exec),
        other => Err(format!(
            "task {:?}: driver {other:?} can't run a proxy; say by --set driver=raw_exec (or exec, docker, podman) what does",
            job::text(task, "Name")
        )),
    }
}

/// What of the application's stands in the proxy's way.
fn obstacles(
    group: &Value,
    mode: Mode,
    driver: Driver,
    options: &Options,
    settings: &NomadInjectorSettings,
) -> Vec<String> {
    let mut problems = Vec::new();
    for task in job::list(group, "Tasks") {
        let name = job::text(task, "Name");
        if [SIDECAR_TASK, READY_TASK, REDIRECT_TASK].contains(&name) {
            problems.push(format!("task {name:?} has the name of one of the mesh's: give it another"));
        }
        let networks = task.get("Resources").map(|resources| job::list(resources, "Networks"));
        if networks.is_some_and(|networks| !networks.is_empty()) {
            problems.push(format!(
                "task {name:?}: resources.network is of before Nomad 0.12; move it to the group"
            ));
        }
        if options.capture && job::text(task, "User") == settings.user {
            problems.push(format!(
                "task {name:?} runs as user {:?}, which is the proxy's, whose traffic is not captured: give one of them another user \
                 (--set user=NAME)",
                settings.user
            ));
        }
        // Nomad's default for exec and java.
        let isolated = matches!(job::text(task, "Driver"), "exec" | "java");
        if options.capture && isolated && job::text(task, "User").is_empty() && settings.user == "nobody" {
            problems.push(format!(
                "task {name:?} runs as \"nobody\", which is the proxy's user: set another by --set user=NAME"
            ));
        }
        if mode == Mode::Own && job::text(task, "Driver") == "qemu" {
            problems.push(format!(
                "task {name:?}: a virtual machine is not in the group's network; run the VM agent in it"
            ));
        }
    }
    for label in network::taken(group) {
        problems.push(format!("network: port {label:?} has the name of one of the mesh's: give it another"));
    }
    if mode == Mode::Host && driver.is_container() {
        let shared = job::list(group, "Tasks").iter().any(|task| {
            task.get("Config")
                .map(|config| job::text(config, "network_mode"))
                .is_some_and(|mode| mode == "host")
        });
        if !shared {
            problems.push("its containers have networks of their own, which no sidecar shares: set network { mode = \"bridge\" }".to_owned());
        }
    }
    for service in environment::services(group) {
        problems.extend(service_obstacles(group, service));
    }
    if mode == Mode::Own {
        problems.extend(port_clashes(group, options));
    }
    problems
}

fn service_obstacles(group: &Value, service: &Value) -> Vec<String> {
    let (name, label) = (job::text(service, "Name"), job::text(service, "PortLabel"));
    let mut problems = Vec::new();
    if service.get("Connect").is_some_and(|connect| !connect.is_null()) {
        problems.push(format!(
            "service {name:?}: it has a connect block, which brings a proxy of Consul's; take one of the two"
        ));
    }
    if job::text(service, "AddressMode") == "driver" {
        problems.push(format!("service {name:?}: address_mode \"driver\" is an address outside the group's network; use \"auto\", \"host\" or \"alloc\""));
    }
    let known = label.is_empty() || network::port(group, label).is_some() || label.parse::<u16>().is_ok();
    if !known {
        problems.push(format!("service {name:?}: port {label:?} is not a port of the group's network"));
    }
    problems
}

/// Ports inside the allocation's network that the proxy needs.
fn port_clashes(group: &Value, options: &Options) -> Vec<String> {
    let mut problems = Vec::new();
    for (label, number) in network::inner_ports(group) {
        if weft_injector::port::ALL.contains(&number) {
            problems.push(format!(
                "network: port {label:?} leads to {number}, which is one of the proxy's: use another"
            ));
        }
        if options.upstreams.iter().any(|upstream| upstream.listen.port() == number) {
            problems.push(format!(
                "meta: {}: {number} is where port {label:?} leads: use another",
                key("upstreams")
            ));
        }
    }
    problems
}

/// What can be done, but may not do what its owner expects.
fn doubts(group: &Value, options: &Options, settings: &NomadInjectorSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let early = |task: &&Value| {
        task.get("Lifecycle").is_some_and(|lifecycle| job::text(lifecycle, "Hook") == "prestart")
    };
    if options.capture
        && options.hold
        && let Some(task) = job::list(group, "Tasks").iter().find(early)
    {
        warnings.push(format!(
            "task {:?} is a prestart task: Nomad starts it together with the proxy, so what it calls may be captured before the proxy is ready",
            job::text(task, "Name")
        ));
    }
    if settings.root_sha256.is_empty() {
        warnings.push("no root of the mesh is given: the proxy will not trust any control plane".to_owned());
    }
    warnings
}

/// Gives the group back as it was; nothing where it has no sidecar of ours.
pub(crate) fn take_away(group: &mut Value) {
    let Some(status) = Status::read(group) else { return };
    checks::restore(group, &status.checks);
    job::list_mut(group, "Tasks")
        .retain(|task| !status.tasks.iter().any(|name| name == job::text(task, "Name")));
    network::take_away(group, &status.ports, status.network);
    if let Some(delay) = status.shutdown_delay {
        group["ShutdownDelay"] = serde_json::from_str(&delay).unwrap_or(Value::Null);
    }
}

/// More tables in one variable the proxy does not read.
const MOST_CHECKS: usize = 31;
