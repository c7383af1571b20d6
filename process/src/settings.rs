//! Puts a program's settings together: defaults (serde's), a TOML file, the environment, flags; later ones win.
//!
//! Each error says which key, what is wrong, what was expected and which source it is from; all that a source has wrong
//! is said at once where serde can. Which settings there are, and whether they fit each other, is each program's.

mod duration;
mod flag;
mod service_link;
mod size;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Toml};
use serde::de::DeserializeOwned;

pub use duration::{duration, optional_duration};
use flag::Flag;
pub use size::optional_size;

/// Why the settings can't be used. Each line says where, which key, and what was expected.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// The file of `--config` is not there or not readable.
    #[error("reading the settings file {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        cause: std::io::Error,
    },
    /// A source has a syntax error, an unknown key or a value of the wrong form, or values don't fit each other.
    #[error("{}", .0.iter().map(|line| format!("settings: {line}")).collect::<Vec<_>>().join("\n"))]
    Values(Vec<String>),
}

/// Reads settings from `file`, the variables that begin with `environment_prefix` (`__` is between levels), and `flags`
/// (`KEY=VALUE` each, of `--set`).
///
/// # Errors
/// What is wrong where.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    environment_prefix: &str,
    flags: &[String],
) -> Result<T, InvalidSettings> {
    let sources = Sources::default().file(file)?.environment(environment_prefix, &[]);
    flags.iter().try_fold(sources, |sources, flag| sources.set(flag))?.read()
}

/// The sources one by one, for a program that has flags of its own for some settings. Later ones win.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Sources {
    figment: Figment,
    /// What was wrong before figment could read it.
    problems: Vec<String>,
}

impl Sources {
    /// A TOML file.
    ///
    /// # Errors
    /// When it can't be read; what is in it, [`Self::read`] judges.
    pub fn file(self, path: Option<&Path>) -> Result<Self, InvalidSettings> {
        let Some(path) = path else { return Ok(self) };
        // Figment would tell that it can't be read without its kind, as one of the wrong values.
        std::fs::File::open(path).map_err(|cause| InvalidSettings::File { path: path.to_owned(), cause })?;
        Ok(self.merge(Toml::file_exact(path)))
    }

    /// All variables of this prefix but `not_settings`, which the program reads itself (without the prefix, in lower
    /// case), and what Kubernetes says of Services whose names begin so.
    pub fn environment(mut self, prefix: &str, not_settings: &[&str]) -> Self {
        let mut variables = Env::prefixed(prefix).ignore(not_settings);
        for link in service_links(prefix) {
            variables = variables.ignore(&[&link]);
        }
        let unreadable: Vec<(String, &str)> = variables
            .iter()
            .filter_map(|(key, value)| Some((key.to_string(), flag::unreadable(key.as_str(), "__", &value)?)))
            .collect();
        for (key, problem) in unreadable {
            variables = variables.ignore(&[&key]);
            self.problems.push(format!("{key}: {problem} (from the environment)"));
        }
        self.merge(variables.split("__"))
    }

    /// One `--set KEY=VALUE`.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn set(self, text: &str) -> Result<Self, InvalidSettings> {
        Ok(self.merge(Flag::set(text)?))
    }

    /// The flag of one setting: its name with the dashes, as in `--leaf-ttl`, its key, and its value, which is text.
    pub fn flag(self, name: &str, key: &str, value: &str) -> Self {
        self.merge(Flag::named(name, key, value))
    }

    /// The settings.
    ///
    /// # Errors
    /// What is unknown or of the wrong form, and where it was read.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, InvalidSettings> {
        if !self.problems.is_empty() {
            return Err(InvalidSettings::Values(self.problems));
        }
        let read = self.figment.extract();
        read.map_err(|errors| InvalidSettings::Values(errors.into_iter().map(describe).collect()))
    }

    fn merge(self, provider: impl figment::Provider) -> Self {
        Self { figment: self.figment.merge(provider), ..self }
    }
}

/// The variables of this prefix that are about Services: without the prefix, in lower case, as figment names them.
fn service_links(prefix: &str) -> Vec<String> {
    let text = |name: OsString| name.into_string().ok();
    let all: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    service_link::of_services(&all)
        .filter_map(|name| Some(name.strip_prefix(prefix)?.to_ascii_lowercase()))
        .collect()
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

#[cfg(test)]
mod tests;
