//! Running other programs: their output is held back, and is the error where they fail.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command that reads nothing.
pub(crate) fn of(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Running to the end.
pub(crate) trait Run {
    /// What it said, where it succeeded.
    fn said(&mut self) -> Result<String>;
}

impl Run for Command {
    fn said(&mut self) -> Result<String> {
        let output = self.output().with_context(|| format!("starting {}", line(self)))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {}: {}{}", line(self), output.status, stderr.trim(), stdout.trim());
        }
        Ok(stdout)
    }
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
