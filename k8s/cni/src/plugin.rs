//! The plugin: one command of the runtime, one answer.
//!
//! A pod that could be in the mesh never starts without its rules: where that cannot be found out, or the rules cannot be
//! brought in, `ADD` fails, and the kubelet tries again. What is not of Kubernetes, and pods of excluded namespaces, are
//! passed through without asking anybody. `DEL` never asks and hardly ever fails, so that no pod is held in its end.

use std::io;
use std::path::Path;

use weft_redirect::RedirectSettings;
use weft_redirect::netlink::{Kernel, NetlinkError};

use crate::answer::{Answer, Code, PluginError};
use crate::api;
use crate::decision::{Decision, decide};
use crate::kubeconfig::Kubeconfig;
use crate::request::{Configuration, Environment};

/// Before a configuration is read, an answer is of this version.
const BEFORE: &str = "1.0.0";

/// Does what the runtime asks.
pub(crate) fn run(environment: &Environment, input: io::Result<&str>) -> Answer {
    let configuration = input
        .map_err(|error| PluginError::new(Code::Input, format!("standard input: {error}")))
        .and_then(Configuration::parse);
    let configuration = match configuration {
        Ok(configuration) => configuration,
        Err(error) => return Answer::error(BEFORE, &error),
    };
    let version = if configuration.version.is_empty() { BEFORE } else { &configuration.version };
    if environment.command == "VERSION" {
        return Answer::versions(version);
    }
    let done = configuration.supported().and_then(|()| command(environment, &configuration));
    done.map_or_else(|error| Answer::error(version, &error), Answer::result)
}

fn command(environment: &Environment, configuration: &Configuration) -> Result<String, PluginError> {
    match environment.command.as_str() {
        "ADD" => add(environment, configuration),
        "CHECK" => check(environment, configuration).map(|()| String::new()),
        "DEL" => delete(environment).map(|()| String::new()),
        "STATUS" => match Kubeconfig::read(&configuration.kubeconfig) {
            Ok(_) => Ok(String::new()),
            Err(text) => Err(PluginError::new(Code::Unavailable, text)),
        },
        // The rules end with their namespace: nothing is ever left over.
        "GC" => Ok(String::new()),
        other => Err(PluginError::new(Code::Environment, format!("CNI_COMMAND {other:?} is not known"))),
    }
}

fn add(environment: &Environment, configuration: &Configuration) -> Result<String, PluginError> {
    let Some(previous) = &configuration.previous else {
        let text = "there is no prevResult: weft-cni comes after the plugins that make the network";
        return Err(PluginError::new(Code::Configuration, text));
    };
    if let Some(settings) = wanted(environment, configuration)? {
        let kernel = kernel(environment)?;
        kernel.apply(&settings.ruleset()).map_err(refused)?;
    }
    Ok(previous.get().to_owned())
}

fn check(environment: &Environment, configuration: &Configuration) -> Result<(), PluginError> {
    let Some(settings) = wanted(environment, configuration)? else { return Ok(()) };
    let differences = kernel(environment)?.check(&settings.ruleset()).map_err(refused)?;
    if differences.is_empty() {
        return Ok(());
    }
    let texts: Vec<_> = differences.iter().map(ToString::to_string).collect();
    Err(PluginError::new(Code::Differs, format!("the rules differ: {}", texts.join("; "))))
}

fn delete(environment: &Environment) -> Result<(), PluginError> {
    let Some(path) = environment.netns() else { return Ok(()) };
    match Kernel::in_namespace(path).and_then(|kernel| kernel.clean()) {
        // It is gone, and the rules with it.
        Ok(_) | Err(NetlinkError::Namespace { .. } | NetlinkError::NoNfTables(_)) => Ok(()),
        Err(error) => Err(refused(error)),
    }
}

/// The rules that are this plugin's to apply.
fn wanted(
    environment: &Environment,
    configuration: &Configuration,
) -> Result<Option<Box<RedirectSettings>>, PluginError> {
    let Some(pod) = environment.pod()? else { return Ok(None) };
    if configuration.exclude_namespaces.contains(&pod.namespace) {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| PluginError::new(Code::Later, error.to_string()))?;
    let json = runtime.block_on(api::pod(&configuration.kubeconfig, &pod))?;
    match decide(&json, pod.uid.as_deref())? {
        Decision::Leave => Ok(None),
        Decision::Redirect(settings) => Ok(Some(settings)),
    }
}

fn kernel(environment: &Environment) -> Result<Kernel, PluginError> {
    let missing = || PluginError::new(Code::Environment, "CNI_NETNS is missing");
    let path: &Path = environment.netns().ok_or_else(missing)?;
    Kernel::in_namespace(path).map_err(refused)
}

fn refused(error: NetlinkError) -> PluginError {
    PluginError::new(Code::Rules, format!("the pod's capture rules: {error}"))
}
