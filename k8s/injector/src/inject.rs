//! The steps of an injection: decide, read, check, change, compare.
//!
//! The pod is changed as a whole and then compared with what it was, so that what is printed and what is patched are the
//! same by construction.

use std::time::Duration;

use serde_json::{Value, json};

use crate::decide::{NamespaceView, Skip, skip};
use crate::options::{Options, key};
use crate::patch::{Operation, between};
use crate::probes::Probe;
use crate::refused::Refused;
use crate::status::Status;
use crate::{
    InjectorSettings, PROXY, PROXY_ID, STATUS, capture, container, environment, overrides, pod, port, probes,
    written,
};

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It stays as it is.
    Skipped(Skip),
    /// It gets a proxy.
    Injected(Injection),
}

/// A pod with its proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    /// The pod as it is with its proxy.
    pub pod: Value,
    /// What makes this of the pod that was given.
    pub patch: Vec<Operation>,
    /// What its owner should look at, a sentence each.
    pub warnings: Vec<String>,
}

/// Puts a pod, or the template of one, into the mesh. Idempotent: what has its proxy is left alone, but for the probes
/// of containers that came later.
///
/// # Errors
/// With everything that is wrong with it, and what is allowed.
pub fn inject(
    pod: &Value,
    namespace: &NamespaceView<'_>,
    settings: &InjectorSettings,
) -> Result<Outcome, Refused> {
    if !pod.get("spec").and_then(|spec| spec.get("containers")).is_some_and(Value::is_array) {
        return Err(Refused::because("spec.containers: expected a list, as every pod has one"));
    }
    match skip(pod, namespace)? {
        Some(Skip::AlreadyInjected) => again(pod),
        Some(reason) => Ok(Outcome::Skipped(reason)),
        None => first(pod, namespace.name, settings).map(Outcome::Injected),
    }
}

fn first(pod: &Value, namespace: &str, settings: &InjectorSettings) -> Result<Injection, Refused> {
    let mut warnings = Vec::new();
    let options = Options::read(pod, namespace, settings, &mut warnings)?;
    let mut problems = Vec::new();
    let mut changed = pod.clone();
    let own = overrides::take(&mut changed, &mut problems);
    problems.extend(obstacles(&changed, &options));
    let probes = if options.capture { probes::rewrite(&mut changed, &mut warnings) } else { Vec::new() };
    problems.extend(too_many(&probes));
    Refused::if_any(problems)?;
    warnings.extend(doubts(pod, &options, settings));
    let mut proxy = container::proxy(&changed, &options, settings, &probes);
    if let Some(own) = own {
        overrides::apply(&mut proxy, own);
    }
    stop_later(&mut changed, &options, settings);
    let status = add(&mut changed, proxy, &options, settings, probes);
    annotate(&mut changed, &options, settings, &status);
    Ok(Injection { patch: between(pod, &changed), pod: changed, warnings })
}

/// A pod that has its proxy, looked at again because another webhook changed it.
fn again(pod: &Value) -> Result<Outcome, Refused> {
    let unchanged = Ok(Outcome::Skipped(Skip::AlreadyInjected));
    // Without capture, or of another version: left as it is.
    let captured = pod::text(pod, "annotations", weft_redirect::ANNOTATION).is_some();
    let Some(mut status) = Status::read(pod).filter(|_| captured) else { return unchanged };
    let (mut changed, mut warnings) = (pod.clone(), Vec::new());
    let new = probes::rewrite(&mut changed, &mut warnings);
    if new.is_empty() {
        return unchanged;
    }
    status.probes.extend(new);
    Refused::if_any(too_many(&status.probes).into_iter().collect())?;
    let variable =
        json!({"name": environment::PROBES, "value": written::probes(&status.probes).replace('$', "$$")});
    for field in ["initContainers", "containers"] {
        let spec = changed.get_mut("spec").and_then(|spec| spec.get_mut(field)).and_then(Value::as_array_mut);
        let proxy = spec.into_iter().flatten().find(|container| pod::name(container) == PROXY);
        if let Some(proxy) = proxy {
            let env = pod::array(proxy, "env");
            env.retain(|variable| pod::name(variable) != environment::PROBES);
            env.push(variable.clone());
        }
    }
    let annotations = pod::object(&mut changed["metadata"], "annotations");
    annotations.insert(STATUS.to_owned(), status.written().into());
    Ok(Outcome::Injected(Injection { patch: between(pod, &changed), pod: changed, warnings }))
}

/// Puts containers and volumes into their places.
fn add(
    pod: &mut Value,
    proxy: Value,
    options: &Options,
    settings: &InjectorSettings,
    probes: Vec<Probe>,
) -> Status {
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        init_containers: Vec::new(),
        containers: Vec::new(),
        volumes: Vec::new(),
        probes,
    };
    let redirect = options.capture.then(|| capture::init_container(&capture::redirect(options), settings));
    let spec = &mut pod["spec"];
    if redirect.is_some() || settings.native_sidecars {
        let init = pod::array(spec, "initContainers");
        status.init_containers.extend(redirect.iter().map(|container| pod::name(container).to_owned()));
        if settings.native_sidecars {
            // First, so that the calls of the others go through it.
            status.init_containers.push(PROXY.to_owned());
            init.splice(..0, redirect.into_iter().chain([proxy]));
        } else {
            // Last: while the others run there is no proxy yet.
            init.extend(redirect);
            status.containers.push(PROXY.to_owned());
            pod::array(spec, "containers").insert(0, proxy);
        }
    } else {
        status.containers.push(PROXY.to_owned());
        pod::array(spec, "containers").insert(0, proxy);
    }
    let volumes = container::volumes(settings);
    status.volumes.extend(volumes.iter().map(|volume| pod::name(volume).to_owned()));
    pod::array(spec, "volumes").extend(volumes);
    status
}

fn annotate(pod: &mut Value, options: &Options, settings: &InjectorSettings, status: &Status) {
    let reachable = options.capture || environment::inbound(pod, options).is_some();
    // Tools that enter a pod take its first container, which should be the application's.
    let application = pod::lasting(pod).next().map(|container| pod::name(container).to_owned());
    if !pod.get("metadata").is_some_and(Value::is_object) {
        pod["metadata"] = json!({});
    }
    let annotations = pod::object(&mut pod["metadata"], "annotations");
    annotations.insert(STATUS.to_owned(), status.written().into());
    // What was there, copied from another pod or written by hand, does not stay: the CNI plugin and callers act on it.
    annotations.remove(weft_redirect::ANNOTATION);
    annotations.remove(&key("tunnel"));
    if options.capture {
        annotations
            .insert(weft_redirect::ANNOTATION.to_owned(), capture::redirect(options).annotation().into());
    }
    if reachable {
        annotations.insert(key("tunnel"), port::TUNNEL.to_string().into());
    }
    if let (false, Some(application)) = (settings.native_sidecars, application) {
        annotations.entry("kubectl.kubernetes.io/default-container").or_insert(application.into());
    }
}

/// Lets the application go on until its callers know that it stops, and the pod live long enough for that.
fn stop_later(pod: &mut Value, options: &Options, settings: &InjectorSettings) {
    let given = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    // Who asks for no time gets none.
    if given == Some(0) {
        return;
    }
    let delay = seconds(settings.stop_delay);
    if delay > 0 {
        for container in pod::lasting_mut(pod).filter(|container| !pod::is_sidecar(container)) {
            let lifecycle = pod::object(container, "lifecycle");
            lifecycle.entry("preStop").or_insert_with(|| json!({"sleep": {"seconds": delay}}));
        }
    }
    let needed = given.unwrap_or(30).max(seconds(options.drain)) + delay;
    if needed != given.unwrap_or(30) {
        pod["spec"]["terminationGracePeriodSeconds"] = needed.into();
    }
}

/// Whole seconds, rather more than less.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// What of the application's stands in the proxy's way.
fn obstacles(pod: &Value, options: &Options) -> Vec<String> {
    let mut problems = Vec::new();
    let volumes = pod::list(pod, "volumes").iter().map(pod::name);
    for name in volumes.filter(|name| [container::STATE_VOLUME, container::TOKEN_VOLUME].contains(name)) {
        problems.push(format!("the volume {name} has the name of one of the proxy's: give it another"));
    }
    let containers = || pod::list(pod, "initContainers").iter().chain(pod::list(pod, "containers"));
    for name in containers().map(pod::name) {
        if [weft_redirect::INIT_CONTAINER, weft_redirect::VERIFY_CONTAINER].contains(&name) {
            problems.push(format!("the container {name} has the name of one of the mesh's: give it another"));
        }
    }
    let user = |value: &Value| value.pointer("/securityContext/runAsUser").and_then(Value::as_u64);
    let pods_user = pod.get("spec").and_then(user);
    for container in containers().filter(|container| user(container).or(pods_user) == Some(PROXY_ID.into())) {
        problems.push(format!(
            "the container {} runs as user {PROXY_ID}: that is the proxy's, whose traffic is not captured; give it another runAsUser",
            pod::name(container)
        ));
    }
    for declared in environment::declared_ports(pod) {
        let environment::DeclaredPort { container, number, .. } = declared;
        if port::ALL.iter().any(|own| u64::from(*own) == number) {
            problems.push(format!("the container {container} has port {number}: it is one of the proxy's"));
        }
        for upstream in
            options.upstreams.iter().filter(|upstream| u64::from(upstream.listen.port()) == number)
        {
            let listen = upstream.listen;
            problems.push(format!(
                "{}: port {number} of {listen} is one of the container {container}",
                key("upstreams")
            ));
        }
    }
    problems
}

fn too_many(probes: &[Probe]) -> Option<String> {
    let tables = environment::probe_tables(probes);
    (tables > environment::MOST_TABLES).then(|| {
        format!(
            "the containers have {} probes with their headers: more than the proxy can answer for",
            probes.len()
        )
    })
}

/// What can be done, but may not do what its owner expects.
fn doubts(pod: &Value, options: &Options, settings: &InjectorSettings) -> Vec<String> {
    let mut warnings = Vec::new();
    let policy = pod.pointer("/spec/dnsPolicy").and_then(Value::as_str).unwrap_or("ClusterFirst");
    if ["Default", "None"].contains(&policy)
        && settings.control.iter().any(|address| address.contains(".svc"))
    {
        warnings
            .push(format!("dnsPolicy is {policy}: the proxy may not find {}", settings.control.join(", ")));
    }
    let init = pod::list(pod, "initContainers").iter().any(|container| pod::name(container) != PROXY);
    if init && settings.cni && options.capture && !settings.native_sidecars {
        warnings.push(
            "the init containers have no network: what they send is captured before there is a proxy"
                .to_owned(),
        );
    }
    if !options.capture && environment::inbound(pod, options).is_none() {
        warnings.push("no container declares a port and nothing is captured: the pod calls through its proxy, but is not called through it".to_owned());
    }
    if settings.root_sha256.is_empty() {
        warnings.push("no root of the mesh is given: the proxy will not trust any control plane".to_owned());
    }
    warnings
}
