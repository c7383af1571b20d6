//! The plugin as a runtime starts it: with an API server that is a small TLS server here, and a real network namespace.
//!
//! What needs a namespace needs root; it says so where it is not, and is skipped.

mod support;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;
use support::{Api, Namespace, PREVIOUS, Plugin, Reply, injected, pod};
use weft_redirect::RedirectSettings;

fn settings() -> Result<RedirectSettings> {
    Ok(RedirectSettings::parse(r#"{"version":1,"exclude_inbound_ports":[22]}"#)?)
}

/// In how much the namespace's rules differ from those of the annotation.
fn differences(namespace: &Namespace) -> Result<Vec<String>> {
    let found = namespace.kernel()?.check(&settings()?.ruleset())?;
    Ok(found.iter().map(ToString::to_string).collect())
}

const NO_RULES: [&str; 1] = ["table inet weft: it is missing"];

#[test]
fn an_injected_pod_gets_its_rules_and_the_result_goes_on_as_it_was() -> Result<()> {
    let Some(namespace) = Namespace::new("ADD of an injected pod")? else { return Ok(()) };
    let api = Api::start(|request| {
        assert_eq!(request.path, "/api/v1/namespaces/shop/pods/web-0");
        assert_eq!(request.token, "the-token");
        Reply(200, pod(injected()))
    })?;
    let plugin = Plugin::new(&api, &namespace)?;
    assert_eq!(plugin.run("ADD")?, (true, PREVIOUS.to_owned()));
    assert_eq!(differences(&namespace)?, Vec::<String>::new());
    assert_eq!(plugin.run("ADD")?, (true, PREVIOUS.to_owned()));
    assert_eq!(plugin.run("CHECK")?, (true, String::new()));
    namespace.kernel()?.clean()?;
    let (_, answer) = plugin.run("CHECK")?;
    let answer: Value = serde_json::from_str(&answer)?;
    assert_eq!(answer["code"], 101);
    assert_eq!(answer["msg"], "weft-cni: the rules differ: table inet weft: it is missing");
    Ok(())
}

#[test]
fn a_pod_outside_the_mesh_is_passed_through_without_rules() -> Result<()> {
    let Some(namespace) = Namespace::new("ADD of a plain pod")? else { return Ok(()) };
    let api = Api::start(|_| Reply(200, pod(serde_json::json!({}))))?;
    let plugin = Plugin::new(&api, &namespace)?;
    assert_eq!(plugin.run("ADD")?, (true, PREVIOUS.to_owned()));
    assert_eq!(differences(&namespace)?, NO_RULES);
    assert_eq!(plugin.run("CHECK")?, (true, String::new()));
    Ok(())
}

#[test]
fn a_pod_of_an_excluded_namespace_waits_for_nobody() -> Result<()> {
    let Some(namespace) = Namespace::new("ADD in an excluded namespace")? else { return Ok(()) };
    let plugin = Plugin::without_api(&namespace)?;
    let start = Instant::now();
    let args = "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=web-0";
    assert_eq!(plugin.with_args(args).run("ADD")?, (true, PREVIOUS.to_owned()));
    assert_eq!(plugin.with_args("").run("ADD")?, (true, PREVIOUS.to_owned()));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    Ok(())
}

#[test]
fn a_pod_that_cannot_be_asked_about_does_not_start() -> Result<()> {
    let Some(namespace) = Namespace::new("ADD without an API server")? else { return Ok(()) };
    let plugin = Plugin::without_api(&namespace)?;
    let start = Instant::now();
    let (done, answer) = plugin.run("ADD")?;
    let answer: Value = serde_json::from_str(&answer)?;
    assert!(!done && start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!((&answer["code"], &answer["cniVersion"]), (&11.into(), &"1.0.0".into()));
    let message = answer["msg"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("weft-cni: whether pod shop/web-0 is in the mesh cannot be asked"),
        "{message}"
    );
    assert_eq!(differences(&namespace)?, NO_RULES);
    Ok(())
}

#[test]
fn an_api_server_that_comes_back_in_time_is_waited_for() -> Result<()> {
    let Some(namespace) = Namespace::new("ADD while the API server restarts")? else { return Ok(()) };
    let left = Mutex::new(vec![401, 429, 503]);
    let api = Api::start(move |_| match left.lock().map_or(None, |mut left| left.pop()) {
        Some(status) => Reply(status, String::new()),
        None => Reply(200, pod(injected())),
    })?;
    assert_eq!(Plugin::new(&api, &namespace)?.run("ADD")?, (true, PREVIOUS.to_owned()));
    assert_eq!(differences(&namespace)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn what_will_not_pass_by_itself_is_said_at_once() -> Result<()> {
    let Some(namespace) = Namespace::new("ADD that is refused")? else { return Ok(()) };
    let unknown =
        serde_json::json!({ "weft.dev/status": "{}", "weft.dev/redirect": r#"{"version":1,"x":1}"# });
    for (status, body, code, text) in [
        (403, String::new(), 11, "needs get on pods"),
        (200, pod(unknown), 102, "unknown field `x`"),
        (200, pod(injected()).replace("\"u1\"", "\"u2\""), 11, "uid"),
        (200, "{}".to_owned(), 11, "the API server's pod"),
    ] {
        let api = Api::start(move |_| Reply(status, body.clone()))?;
        let start = Instant::now();
        let (done, answer) = Plugin::new(&api, &namespace)?.run("ADD")?;
        let answer: Value = serde_json::from_str(&answer)?;
        assert!(!done && start.elapsed() < Duration::from_secs(4), "{answer}");
        assert_eq!(answer["code"], code, "{answer}");
        assert!(answer["msg"].as_str().is_some_and(|message| message.contains(text)), "{answer}");
        assert_eq!(differences(&namespace)?, NO_RULES);
    }
    Ok(())
}

#[test]
fn deletion_removes_the_rules_and_never_asks_anybody() -> Result<()> {
    let Some(namespace) = Namespace::new("DEL")? else { return Ok(()) };
    let plugin = Plugin::without_api(&namespace)?;
    namespace.kernel()?.apply(&settings()?.ruleset())?;
    assert_eq!(plugin.run("DEL")?, (true, String::new()));
    assert_eq!(differences(&namespace)?, NO_RULES);
    assert_eq!(plugin.run("DEL")?, (true, String::new()));
    assert_eq!(plugin.with_netns("/run/netns/weft-no-such").run("DEL")?, (true, String::new()));
    assert_eq!(plugin.with_netns("").run("DEL")?, (true, String::new()));
    Ok(())
}

#[test]
fn commands_of_the_specification_are_answered_and_others_refused() -> Result<()> {
    let api = Api::start(|_| Reply(500, String::new()))?;
    let plugin = Plugin::nowhere(&api)?;
    let (_, versions) = plugin.run("VERSION")?;
    let versions: Value = serde_json::from_str(&versions)?;
    assert_eq!(versions["cniVersion"], "1.0.0");
    assert_eq!(
        versions["supportedVersions"],
        serde_json::json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
    );
    assert_eq!(plugin.run("STATUS")?, (true, String::new()));
    assert_eq!(plugin.run("GC")?, (true, String::new()));
    let code = |answer: (bool, String)| -> Result<(bool, Value)> {
        Ok((answer.0, serde_json::from_str::<Value>(&answer.1)?["code"].clone()))
    };
    assert_eq!(code(plugin.run("SUB")?)?, (false, 4.into()));
    let bad_name = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=../secrets";
    assert_eq!(code(plugin.with_args(bad_name).run("ADD")?)?, (false, 4.into()));
    assert_eq!(code(plugin.with_input("{").run("ADD")?)?, (false, 6.into()));
    assert_eq!(code(plugin.with_input(r#"{"cniVersion":"0.2.0"}"#).run("ADD")?)?, (false, 1.into()));
    let first = r#"{"cniVersion":"1.0.0","name":"n","type":"weft-cni"}"#;
    assert_eq!(code(plugin.with_input(first).run("ADD")?)?, (false, 7.into()));
    assert_eq!(code(plugin.with_input(first).run("STATUS")?)?, (false, 50.into()));
    Ok(())
}
