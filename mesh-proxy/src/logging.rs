//! The process's own log: to standard error, with a filter that the admin endpoint can change.

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::settings::{LogFormat, Settings};

/// The current filter.
#[derive(Clone)]
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// Why the filter was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// It can't be read.
    #[error(transparent)]
    Filter(#[from] ParseError),
    /// There is no log to change.
    #[error(transparent)]
    Gone(#[from] reload::Error),
}

/// Starts the log.
///
/// # Errors
/// When the setting `log` is not a filter.
pub(crate) fn start(settings: &Settings) -> Result<LogLevel, LogError> {
    let (log, layer) = LogLevel::new(&settings.log)?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.log_format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // Only a test that started one before has a log already; that one stays.
    _ = tracing_subscriber::registry().with(layer).with(lines).try_init();
    Ok(log)
}

impl LogLevel {
    /// A filter and its layer.
    pub(crate) fn new(filter: &str) -> Result<(Self, reload::Layer<EnvFilter, Registry>), LogError> {
        let (layer, handle) = reload::Layer::new(EnvFilter::try_new(filter)?);
        Ok((Self(handle), layer))
    }

    /// The filter as text.
    pub(crate) fn current(&self) -> String {
        self.0.with_current(EnvFilter::to_string).unwrap_or_default()
    }

    /// Changes it.
    pub(crate) fn set(&self, filter: &str) -> Result<(), LogError> {
        Ok(self.0.reload(EnvFilter::try_new(filter)?)?)
    }
}
