//! Pods and what becomes of them, as files: `golden/NAME.in.yaml` has what is given (settings, namespace, pod), and
//! `golden/NAME.out.yaml` what comes out. `WEFT_REFRESH_GOLDEN=1 cargo test -p weft-injector` writes the latter anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use weft_injector::{InjectorSettings, NamespaceView, Outcome, inject};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    settings: Value,
    namespace: Namespace,
    pod: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Namespace {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The settings of the file over those that every case has.
    fn settings(&self) -> InjectorSettings {
        let mut settings = serde_json::to_value(InjectorSettings {
            image: "weft.dev/proxy:test".to_owned(),
            root_sha256: vec!["ab".repeat(32)],
            registry: "kubernetes/prod".parse().unwrap(),
            ..InjectorSettings::default()
        })
        .unwrap();
        for (key, value) in self.settings.as_object().into_iter().flatten() {
            settings[key] = value.clone();
        }
        let settings: InjectorSettings = serde_json::from_value(settings).unwrap();
        assert_eq!(settings.problems(), Vec::<String>::new());
        settings
    }

    fn inject(&self, pod: &Value) -> Result<Outcome, weft_injector::Refused> {
        let view = NamespaceView { name: &self.namespace.name, labels: &self.namespace.labels };
        inject(pod, &view, &self.settings())
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(".in.yaml")).collect();
    cases.sort();
    assert!(cases.len() > 15, "{cases:?}");
    cases
}

/// What came out, for reading: where the patch touches the pod, and the pod that it makes.
fn told(outcome: Result<Outcome, weft_injector::Refused>) -> Value {
    match outcome {
        Err(refused) => json!({"refused": refused.problems}),
        Ok(Outcome::Skipped(reason)) => {
            json!({"skipped": reason.to_string(), "told": reason.is_surprise()})
        }
        Ok(Outcome::Injected(injection)) => {
            let patch = serde_json::to_value(&injection.patch).unwrap();
            let touched: Vec<String> = patch
                .as_array()
                .unwrap()
                .iter()
                .map(|operation| {
                    format!("{} {}", operation["op"].as_str().unwrap(), operation["path"].as_str().unwrap())
                })
                .collect();
            json!({"warnings": injection.warnings, "patch": touched, "pod": injection.pod})
        }
    }
}

#[test]
fn every_pod_becomes_what_its_file_says() {
    let refresh = std::env::var_os("WEFT_REFRESH_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for path in cases() {
        let case = Case::read(&path);
        let now = serde_saphyr::to_string(&told(case.inject(&case.pod))).unwrap();
        let expected = PathBuf::from(path.to_string_lossy().replace(".in.yaml", ".out.yaml"));
        if refresh {
            std::fs::write(&expected, &now).unwrap();
        }
        let expected_text = std::fs::read_to_string(&expected).unwrap_or_default();
        if expected_text != now {
            wrong.push(format!("{}\n{}", expected.display(), difference(&expected_text, &now)));
        }
    }
    assert!(wrong.is_empty(), "{}\nWEFT_REFRESH_GOLDEN=1 writes them anew", wrong.join("\n"));
}

/// The lines between the common beginning and the common end.
fn difference(expected: &str, now: &str) -> String {
    let (expected, now): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), now.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let start = expected.iter().zip(&now).take_while(same).count();
    let end = expected[start..].iter().rev().zip(now[start..].iter().rev()).take_while(same).count();
    let old = expected[start..expected.len() - end].iter().map(|line| format!("-{line}"));
    let new = now[start..now.len() - end].iter().map(|line| format!("+{line}"));
    let head = format!("@@ line {} @@", start + 1);
    std::iter::once(head).chain(old).chain(new).collect::<Vec<_>>().join("\n")
}

#[test]
fn injecting_twice_changes_nothing() {
    for path in cases() {
        let case = Case::read(&path);
        let Ok(Outcome::Injected(first)) = case.inject(&case.pod) else { continue };
        match case.inject(&first.pod) {
            Ok(Outcome::Skipped(weft_injector::Skip::AlreadyInjected)) => {}
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

#[test]
fn every_value_that_a_proxy_gets_is_text_that_kubernetes_leaves_alone() {
    for path in cases() {
        let case = Case::read(&path);
        let Ok(Outcome::Injected(injection)) = case.inject(&case.pod) else { continue };
        let spec = &injection.pod["spec"];
        let all =
            ["initContainers", "containers"].into_iter().filter_map(|field| spec[field].as_array()).flatten();
        let proxy = all.into_iter().find(|container| container["name"] == "weft-proxy").unwrap();
        for variable in proxy["env"].as_array().unwrap() {
            let Some(value) = variable["value"].as_str() else { continue };
            let ours = value.replace("$(POD_NAME)", "").replace("$(POD_IPS)", "").replace("$$", "");
            assert!(value.is_ascii() && !ours.contains('$'), "{}: {variable}", path.display());
        }
    }
}
