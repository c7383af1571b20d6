//! Metrics and access log of this process.
//!
//! The data path calls [`Telemetry::record`] once a request; it costs a lookup in a map of this thread and some adds
//! to counters that only this thread writes. Text is made at the scrape, and access log lines by the log's own thread.

mod access_log;
mod counters;
mod exposition;
mod labels;
mod line;
mod output;
mod runtimes;
mod series;
mod throttle;

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use weft_http::Malformed;
use weft_identity::RefusalReason;
use weft_model::SpiffeId;

pub(crate) use access_log::AccessLog;
pub(crate) use counters::{Count, DnsOutcome, Level, Message, Refused};
pub(crate) use exposition::{Observed, metrics};

use crate::record::{Destination, Record, Reporter};
use crate::settings::Settings;
use counters::Counters;
use runtimes::Runtimes;
use series::SeriesTable;
use throttle::Throttle;

/// The metrics and the access log.
pub(crate) struct Telemetry {
    series: SeriesTable,
    counters: Counters,
    access_log: AccessLog,
    refusals: Mutex<Throttle>,
    malformed: Mutex<Throttle>,
    limits: Mutex<Throttle>,
    runtimes: Runtimes,
}

impl Telemetry {
    /// Starts the access log's thread where it has something to write.
    ///
    /// # Errors
    /// When the access log's file can't be opened.
    pub(crate) fn new(settings: &Settings) -> std::io::Result<Self> {
        Ok(Self {
            series: SeriesTable::new(settings),
            counters: Counters::default(),
            access_log: AccessLog::start(&settings.access_log)?,
            // What a person can read of what strangers cause, and of what all callers see at once.
            refusals: Mutex::new(Throttle::new(10, Duration::from_secs(1))),
            malformed: Mutex::new(Throttle::new(10, Duration::from_secs(1))),
            limits: Mutex::new(Throttle::new(1, Duration::from_secs(10))),
            runtimes: Runtimes::default(),
        })
    }

    /// Counts and logs one request or connection, at its end.
    pub(crate) fn record(&self, record: &Record) {
        self.series.record(record);
        if record.retries > 0 {
            self.counters.add(Count::Retries, u64::from(record.retries));
        }
        self.access_log.push(record);
    }

    /// Counts a TCP connection at its start; its [`Record`] at its end counts the rest.
    pub(crate) fn tcp_opened(
        &self,
        reporter: Reporter,
        source: Option<&SpiffeId>,
        destination: Option<&Arc<Destination>>,
        mtls: Option<bool>,
    ) {
        self.series.tcp_opened(reporter, source, destination, mtls);
    }

    /// Counts and logs a TLS handshake that was refused, by this side or by the peer's.
    pub(crate) fn handshake_refused(
        &self,
        reporter: Reporter,
        reason: RefusalReason,
        peer: SocketAddr,
        detail: &dyn Display,
    ) {
        self.counters.refused(reporter, reason);
        let pass = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now());
        let Some(withheld) = pass else { return };
        let (reporter, reason) = (reporter.as_str(), reason.as_str());
        tracing::warn!(reporter, reason, %peer, withheld, "TLS handshake refused: {detail}");
    }

    /// Counts and logs a message that was refused as malformed. `detail` says what was wrong, and quotes nothing of it.
    pub(crate) fn malformed(
        &self,
        message: Message,
        kind: Malformed,
        peer: Option<SocketAddr>,
        detail: &str,
    ) {
        self.counters.malformed(message, kind);
        let pass = self.malformed.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now());
        let Some(withheld) = pass else { return };
        let (kind, peer) = (kind.as_str(), peer.map(tracing::field::display));
        tracing::warn!(kind, peer, withheld, "malformed {} refused: {detail}", message.as_str());
    }

    /// Counts and logs what was refused because a limit was reached.
    pub(crate) fn refused_by_limit(&self, refused: Refused) {
        self.counters.refused_by_limit(refused);
        let pass = self.limits.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now());
        let Some(withheld) = pass else { return };
        let (_, of, limit) = Refused::ALL[refused as usize];
        tracing::warn!(of, limit, withheld, "refused, since a limit is reached");
    }

    /// Counts a DNS query at its end.
    pub(crate) fn dns(&self, outcome: DnsOutcome) {
        self.counters.dns(outcome);
    }

    /// The value of a gauge.
    pub(crate) fn level(&self, level: Level) -> i64 {
        self.counters.level(level)
    }

    /// Adds to a counter.
    pub(crate) fn add(&self, count: Count, n: u64) {
        self.counters.add(count, n);
    }

    /// One more of what a gauge counts.
    pub(crate) fn rise(&self, level: Level) {
        self.counters.change(level, 1);
    }

    /// One less of what a gauge counts.
    pub(crate) fn fall(&self, level: Level) {
        self.counters.change(level, -1);
    }

    /// Counts the tasks of this runtime from now on.
    pub(crate) fn watch(&self, name: String, runtime: &tokio::runtime::Handle) {
        self.runtimes.add(name, runtime);
    }

    /// Tasks that have not ended, by runtime.
    pub(crate) fn tasks(&self) -> Vec<(String, usize)> {
        self.runtimes.tasks()
    }

    /// Writes what the access log still holds: the process ends now.
    pub(crate) fn close(&self) {
        self.access_log.close();
    }

    /// All metrics in Prometheus' text format. `observed` is what the shell knows and nobody counts.
    pub(crate) fn exposition(&self, observed: &Observed) -> String {
        exposition::write(&self.series, &self.counters, self.access_log.dropped(), observed)
    }
}

#[cfg(test)]
mod tests;
