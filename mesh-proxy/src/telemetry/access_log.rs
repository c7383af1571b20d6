//! Writes the access log: one thread, one bounded queue.
//!
//! A worker hands over a copy of the record (reference counts, no text) and goes on; the thread makes the lines and
//! writes them in batches. A slow output costs lines, which are counted, never requests. The thread sleeps until a
//! record comes and then gathers for a moment, so that a busy worker wakes it twenty times a second and not at every request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::line;
use super::output::Output;
use crate::record::{Record, RequestProtocol};
use crate::settings::{AccessLogFormat, AccessLogMode, AccessLogSettings};

/// Records that wait. At 16,384 and a batch each 50 ms, up to 300,000 lines a second get through.
const QUEUE: usize = 16_384;
const GATHER: Duration = Duration::from_millis(50);

/// The access log. Dropping it writes what waits.
pub(crate) struct AccessLog {
    mode: AccessLogMode,
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    records: Vec<Record>,
    closed: bool,
}

impl AccessLog {
    /// Opens the output and starts the thread, unless the log is off.
    pub(super) fn start(settings: &AccessLogSettings) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let thread = if settings.mode == AccessLogMode::Off {
            None
        } else {
            let output = Output::open(&settings.output)?;
            let (queue, format) = (queue.clone(), settings.format);
            let run = move || queue.write_all(output, format);
            Some(std::thread::Builder::new().name("access-log".to_owned()).spawn(run)?)
        };
        Ok(Self { mode: settings.mode, queue, thread: Mutex::new(thread) })
    }

    /// Queues the record, if the mode wants it.
    pub(super) fn push(&self, record: &Record) {
        let wanted = match self.mode {
            AccessLogMode::Off => false,
            AccessLogMode::Errors => failed(record),
            AccessLogMode::All => true,
        };
        if wanted {
            self.queue.push(record);
        }
    }

    /// Writes what waits and ends the thread. What is pushed later is lost.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.queue.filled.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It ends after the last batch. If it panicked there is nothing left to write.
            _ = thread.join();
        }
    }

    /// Lines that were lost because the output was too slow or failed.
    pub(super) fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the mode `errors` logs.
fn failed(record: &Record) -> bool {
    let status = if record.protocol == RequestProtocol::Tcp { 0 } else { record.status };
    record.flag.is_some() || status >= 500 || record.grpc_status.is_some_and(|status| status != 0)
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A record is pushed whole or not at all, so a panic elsewhere leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, record: &Record) {
        let mut waiting = self.lock();
        if waiting.records.len() >= QUEUE {
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.records.push(record.clone());
        let first = waiting.records.len() == 1;
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
    }

    /// The thread: batch after batch until closed and empty.
    fn write_all(&self, mut output: Output, format: AccessLogFormat) {
        let mut text = Vec::with_capacity(64 * 1024);
        let mut failing = false;
        while let Some(records) = self.batch() {
            text.clear();
            for record in &records {
                line::write(&mut text, record, format);
            }
            let written = output.write(&text, Instant::now());
            if let Err(error) = &written {
                self.dropped.fetch_add(records.len() as u64, Ordering::Relaxed);
                if !failing {
                    tracing::error!("access log: lines are lost: {error}");
                }
            }
            failing = written.is_err();
        }
    }

    /// Waits for the first record, then a moment for more. `None` when closed and empty.
    fn batch(&self) -> Option<Vec<Record>> {
        let mut waiting = self.lock();
        while waiting.records.is_empty() && !waiting.closed {
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if !waiting.closed {
            // Only closing ends this wait early: a push notifies only when the queue was empty.
            let gathered = self.filled.wait_timeout(waiting, GATHER);
            (waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        }
        (!waiting.records.is_empty()).then(|| std::mem::take(&mut waiting.records))
    }
}
