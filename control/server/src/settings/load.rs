//! Puts the sources together, reads them into [`Settings`], and checks what no type can: that parts fit each other.
//!
//! All problems that can be found at once are reported at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Env, Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use weft_model::RegistryKind;

use super::{RegistrySettings, Settings};

/// Why the settings can't be used. Each line says where, which key, and what was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidSettings {
    /// The file of `--config` is not there or not readable.
    #[error("reading the settings file {}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    /// A source has a syntax error, an unknown key or a value of the wrong form.
    #[error("{}", .0.iter().map(|line| format!("settings: {line}")).collect::<Vec<_>>().join("\n"))]
    Values(Vec<String>),
}

/// Reads the settings: defaults, `file`, the environment, `flags` (`KEY=VALUE` each).
pub(crate) fn load(file: Option<&Path>, flags: &[String]) -> Result<Settings, InvalidSettings> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        let read = |cause| InvalidSettings::File { path: path.to_owned(), cause };
        std::fs::File::open(path).map_err(read)?;
        figment = figment.merge(Toml::file_exact(path));
    }
    figment = figment.merge(Env::prefixed("WEFT_CONTROL_").split("__"));
    for flag in flags {
        figment = figment.merge(Flag::parse(flag)?);
    }
    let settings: Settings = figment
        .extract()
        .map_err(|errors| InvalidSettings::Values(errors.into_iter().map(describe).collect()))?;
    let problems = problems(&settings);
    if problems.is_empty() { Ok(settings) } else { Err(InvalidSettings::Values(problems)) }
}

/// Key, what is wrong and what was expected, and where it was read.
fn describe(error: figment::Error) -> String {
    let key = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path.join(".")) };
    let from = error.metadata.as_ref().map_or(String::new(), |metadata| match &metadata.source {
        Some(source) => format!(" (in {source})"),
        None => format!(" (from {})", metadata.name),
    });
    format!("{key}{}{from}", describe_kind(&error.kind))
}

/// As figment says it, but with each legal name in marks of its own and not in double ones.
fn describe_kind(kind: &Kind) -> String {
    let one_of = |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match kind {
        Kind::UnknownField(found, known) => {
            format!("unknown field `{found}`, expected one of {}", one_of(known))
        }
        Kind::UnknownVariant(found, known) => {
            format!("unknown value `{found}`, expected one of {}", one_of(known))
        }
        other => other.to_string(),
    }
}

/// One `--set KEY=VALUE`.
struct Flag {
    text: String,
    values: Dict,
}

impl Flag {
    fn parse(text: &str) -> Result<Self, InvalidSettings> {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            let problem = format!("flag --set {text}: expected KEY=VALUE, as in listen=127.0.0.1:0");
            return Err(InvalidSettings::Values(vec![problem]));
        };
        // Figment's own reading of a bare value: numbers, booleans, [lists], {tables}; everything else is text.
        let value: Value = value.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        let values = figment::util::nest(key, value).into_dict().unwrap_or_default();
        Ok(Self { text: text.to_owned(), values })
    }
}

impl Provider for Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("flag --set {}", self.text))
            .interpolater(|_: &Profile, keys: &[&str]| keys.join("."))
    }
    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// What does not fit together, a sentence each.
fn problems(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(address) = settings.admin.listen.filter(|address| !address.ip().is_loopback()) {
        problems.push(format!(
            "admin.listen: {address} is not a loopback address; nobody is authenticated there: use 127.0.0.1 or [::1]"
        ));
    }
    let mut ids = BTreeSet::new();
    for (n, registry) in settings.registry.iter().enumerate() {
        if !ids.insert(&registry.id) {
            problems.push(format!("registry[{n}].id: {} is there twice", registry.id));
        }
        problems.extend(registry_problems(registry).map(|problem| format!("registry[{n}].{problem}")));
    }
    let registries = &settings.registry;
    for id in settings.ca.consul.keys() {
        if !registries.iter().any(|registry| registry.id == *id && id.kind() == RegistryKind::Consul) {
            problems.push(format!("ca.consul: {id} is no consul registry of these settings"));
        }
    }
    problems
}

fn registry_problems(registry: &RegistrySettings) -> impl Iterator<Item = String> {
    let kind = registry.id.kind();
    let (file, consul) = (kind == RegistryKind::File, kind == RegistryKind::Consul);
    let fraction = registry.guard.fraction;
    [
        (
            !file && !consul,
            format!(
                "id: registries of kind {} are not built in; expected file/NAME or consul/NAME",
                kind.as_str()
            ),
        ),
        (
            file && registry.directory.is_none(),
            format!("directory: {} needs it: the directory of its YAML files", registry.id),
        ),
        (
            !file && registry.directory.is_some(),
            format!("directory: {} has none; only file registries do", registry.id),
        ),
        (
            !consul && registry.consul.is_some(),
            format!("consul: {} has none; only consul registries do", registry.id),
        ),
        (!(0.0..=1.0).contains(&fraction), format!("guard.fraction: expected 0 to 1, not {fraction}")),
    ]
    .into_iter()
    .filter_map(|(broken, problem)| broken.then_some(problem))
}
