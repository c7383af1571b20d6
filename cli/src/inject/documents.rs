//! The documents of a YAML file: those with workloads are written anew, the others stay byte for byte.
//!
//! YAML is read as kubectl does: `0644` is octal, `yes` is a boolean. What is written anew loses its comments and has
//! its fields in alphabetical order.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use weft_injector::{INJECT, InjectorSettings, NamespaceView, WorkloadOutcome, inject_object};
use weft_model::Namespace;

use crate::output::Format;

/// A file with its workloads in the mesh.
#[derive(Debug)]
pub(super) struct Injected {
    /// The file.
    pub(super) text: String,
    /// What became of each workload, a line each.
    pub(super) report: Vec<String>,
}

/// Puts the workloads of a file into the mesh. Who runs this asks for it, so the namespaces need no label; a pod's own
/// `weft.dev/inject: "false"` holds.
pub(super) fn inject(
    text: &str,
    namespace: &Namespace,
    settings: &InjectorSettings,
    format: Format,
) -> Result<Injected> {
    let labels = BTreeMap::from([(INJECT.to_owned(), "enabled".to_owned())]);
    let view = NamespaceView { name: namespace.as_str(), labels: &labels };
    let mut injected = Injected { text: String::new(), report: Vec::new() };
    let (mut problems, mut line) = (Vec::new(), 1);
    for document in split(text) {
        let object = read(document).with_context(|| format!("the document from line {line} on"))?;
        line += document.lines().count();
        match inject_object(&object, &view, settings) {
            Ok(result) => {
                injected.report.extend(result.workloads.iter().flat_map(told));
                injected.text.push_str(&written(document, &result.object, result.changed, format)?);
            }
            Err(refused) => problems.extend(refused.problems),
        }
    }
    if problems.is_empty() { Ok(injected) } else { Err(anyhow!("{}", problems.join("\n"))) }
}

/// The documents as they stand in the text, each with the line of hyphens before it. In a document no line begins with
/// three hyphens (YAML 1.2, 9.1.2), so nothing needs to be parsed for it.
fn split(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at, mut content) = (0, 0, false);
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        // What is before the first marker may be directives and comments, which belong to what follows.
        if marker && content {
            documents.push(text.get(start..at).unwrap_or_default());
            (start, content) = (at, false);
        }
        content |= marker || !(line.trim().is_empty() || line.starts_with(['#', '%']));
        at += line.len();
    }
    documents.push(text.get(start..).unwrap_or_default());
    documents
}

fn read(document: &str) -> Result<Value> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    // Comments alone are a document that is null.
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(document, options)?;
    Ok(values.into_iter().next().unwrap_or(Value::Null))
}

fn written(document: &str, object: &Value, changed: bool, format: Format) -> Result<String> {
    if format == Format::Json {
        return Ok(match object {
            Value::Null => String::new(),
            object => serde_json::to_string_pretty(object).context("writing JSON")? + "\n",
        });
    }
    if !changed {
        let end = if document.is_empty() || document.ends_with('\n') { "" } else { "\n" };
        return Ok(format!("{document}{end}"));
    }
    // Lines are folded nowhere: what is long is one line in what users wrote, too.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: 1 << 20 };
    let yaml = serde_saphyr::to_string_with_options(object, options).context("writing YAML")?;
    let marker = document.lines().find(|line| line.starts_with("---"));
    // The comment behind the marker is where tools say which file it is from.
    let head = match marker.map(|line| line.trim_start_matches('-').trim()) {
        None => String::new(),
        Some(rest) if rest.starts_with('#') => format!("--- {rest}\n"),
        Some(_) => "---\n".to_owned(),
    };
    Ok(format!("{head}{yaml}"))
}

fn told(workload: &WorkloadOutcome) -> Vec<String> {
    let name = &workload.name;
    let first = match &workload.skipped {
        None => format!("{name}: has a proxy now"),
        Some(reason) => format!("{name}: left as it is: {reason}"),
    };
    let warnings = workload.warnings.iter().map(|warning| format!("{name}: warning: {warning}"));
    std::iter::once(first).chain(warnings).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "# a comment\napiVersion: v1\nkind: Service   # kept\nmetadata: {name: web}\n";

    fn run(text: &str, format: Format) -> Result<Injected> {
        let settings = InjectorSettings { root_sha256: vec!["ab".repeat(32)], ..InjectorSettings::default() };
        inject(text, &Namespace::default_namespace(), &settings, format)
    }

    fn deployment(extra: &str) -> String {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    metadata:\n      \
             labels: {{app: web}}\n{extra}    spec:\n      containers:\n      - name: app\n        image: a\n        \
             args: ['yes', \"0644\", '1e3', '12:30', '~', \"a\\nb\"]\n      volumes:\n      - name: s\n        \
             secret: {{secretName: s, defaultMode: 0644}}\n"
        )
    }

    #[test]
    fn what_has_no_pods_stays_byte_for_byte() {
        for text in [
            "",
            "# only a comment\n",
            SERVICE,
            &format!("---\n{SERVICE}---\n---\n{SERVICE}...\n"),
            "%YAML 1.2\n---\na: 1\n",
        ] {
            let injected = run(text, Format::Table).unwrap();
            assert_eq!((injected.text.as_str(), injected.report.len()), (text, 0));
        }
    }

    #[test]
    fn a_workload_among_others_is_written_anew_and_the_others_are_not() {
        let text = format!("{SERVICE}--- # Source: web.yaml\n{}---\n{SERVICE}", deployment(""));
        let injected = run(&text, Format::Table).unwrap();
        assert!(
            injected.text.starts_with(&format!("{SERVICE}--- # Source: web.yaml\napiVersion: apps/v1\n"))
        );
        assert!(injected.text.ends_with(&format!("---\n{SERVICE}")), "{}", injected.text);
        assert!(injected.text.contains("name: weft-proxy"), "{}", injected.text);
        assert_eq!(injected.report, ["Deployment default/web: has a proxy now"]);
    }

    #[test]
    fn values_mean_the_same_to_kubectl_as_before() {
        let injected = run(&deployment(""), Format::Table).unwrap();
        let object = read(&injected.text).unwrap();
        let spec = &object["spec"]["template"]["spec"];
        assert_eq!(
            spec["containers"][0]["args"],
            serde_json::json!(["yes", "0644", "1e3", "12:30", "~", "a\nb"])
        );
        assert_eq!(spec["volumes"][0]["secret"]["defaultMode"], 0o644);
        // As texts also to a reader of YAML 1.1, which kubectl's is.
        for quoted in ["\"yes\"", "\"0644\"", "\"1e3\"", "\"12:30\"", "\"~\""] {
            assert!(injected.text.contains(quoted), "{quoted} in {}", injected.text);
        }
    }

    #[test]
    fn injected_text_can_be_injected_again() {
        let once = run(&deployment(""), Format::Table).unwrap();
        let twice = run(&once.text, Format::Table).unwrap();
        assert_eq!(twice.text, once.text);
        assert_eq!(twice.report, ["Deployment default/web: left as it is: the pod has its proxy already"]);
    }

    #[test]
    fn json_is_a_stream_of_objects() {
        let injected =
            run(&format!("{SERVICE}---\n# nothing\n---\n{}", deployment("")), Format::Json).unwrap();
        let objects: Vec<Value> =
            serde_json::Deserializer::from_str(&injected.text).into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(
            (objects.len(), &objects[0]["kind"], &objects[1]["kind"]),
            (2, &"Service".into(), &"Deployment".into())
        );
    }

    #[test]
    fn everything_that_is_refused_is_said_at_once() {
        let wrong = deployment("      annotations: {weft.dev/hold: 'no'}\n");
        let error = run(&format!("{wrong}---\n{wrong}"), Format::Table).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 2, "{error}");
        assert!(
            error.contains("Deployment default/web: weft.dev/hold is \"no\": expected true or false"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        let error = format!("{:#}", run(&format!("{SERVICE}---\na: [\n"), Format::Table).unwrap_err());
        assert!(error.contains("the document from line 5 on"), "{error}");
    }
}
