//! This process's log: lines on standard error, as text or JSON. Colours only where a person looks.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Settings};

/// Sets it up, once.
pub(crate) fn to_stderr(settings: &Settings) -> Result<()> {
    let filter =
        EnvFilter::try_new(&settings.log).with_context(|| format!("settings: log: {:?}", settings.log))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}
