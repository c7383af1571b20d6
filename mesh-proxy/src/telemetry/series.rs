//! The series of requests and TCP connections, counted without contention.
//!
//! Each thread has its own cell for a label set and is the only one that writes it, so counting is plain adds; the
//! scrape sums the cells. A thread finds its cell by the addresses of the label values (they are shared, long-lived
//! `Arc`s), and only a set that it has not seen is compared by value. The number of label sets is bounded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use weft_model::SpiffeId;

use super::labels::Labels;
use crate::record::{Destination, Record, Reporter, RequestProtocol, ResponseFlag};
use crate::settings::{Settings, WorkloadSettings};

/// Upper bounds of the histograms, in milliseconds or bytes: Envoy's.
pub(super) const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Label sets that one thread finds by address. More than that (each connection brings its own copy of the caller's
/// identity) and the thread starts over; the search by value is behind it.
const FAST_ENTRIES: usize = 4096;

/// All series.
pub(super) struct SeriesTable {
    /// Distinguishes tables in a thread's cache; there is more than one in tests only.
    id: u64,
    limit: usize,
    pub(super) own: WorkloadSettings,
    all: Mutex<HashMap<Labels, Vec<Arc<Cell>>>>,
}

/// What is counted for one label set by one thread.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// Requests, or TCP connections that ended.
    pub(super) ended: Single,
    /// TCP only.
    pub(super) opened: Single,
    pub(super) duration_ms: Histogram,
    pub(super) received: Histogram,
    pub(super) sent: Histogram,
}

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub(super) struct Single(AtomicU64);

impl Single {
    /// Not an atomic addition: nobody else writes.
    fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram over [`BUCKETS`].
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Not cumulative; the last one is for what is above all bounds.
    pub(super) counts: [Single; BUCKETS.len() + 1],
    /// In thousandths, so that fractions of a millisecond count.
    pub(super) sum_thousandths: Single,
}

impl Histogram {
    fn observe(&self, value: f64) {
        let bucket = BUCKETS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        self.sum_thousandths.add((value * 1000.0) as u64);
    }

    /// For TCP only the sum matters.
    fn observe_bytes(&self, bytes: u64) {
        let bucket = BUCKETS.partition_point(|bound| *bound < bytes as f64);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        self.sum_thousandths.add(bytes.saturating_mul(1000));
    }
}

/// The label values by address.
#[derive(PartialEq, Eq, Hash)]
struct FastKey {
    reporter: Reporter,
    source: usize,
    destination: usize,
    protocol: RequestProtocol,
    status: u16,
    grpc_status: Option<u16>,
    flag: Option<ResponseFlag>,
    mtls: Option<bool>,
}

/// Hashes [`FastKey`]s: addresses and small numbers of our own, none of which a client chooses, so that it need not
/// withstand anybody.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        // Fibonacci hashing; the rotation brings the high bits, which are the good ones, to where the next step mixes them.
        self.0 = (self.0.rotate_left(26) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

struct FastEntry {
    cell: Arc<Cell>,
    /// Held so that no other value can get their addresses.
    _source: Option<SpiffeId>,
    _destination: Option<Arc<Destination>>,
}

#[derive(Default)]
struct ThreadCells {
    fast: HashMap<FastKey, FastEntry, BuildHasherDefault<Mix>>,
    slow: HashMap<Labels, Arc<Cell>>,
}

thread_local! {
    static CELLS: RefCell<Vec<(u64, ThreadCells)>> = const { RefCell::new(Vec::new()) };
}

impl SeriesTable {
    pub(super) fn new(settings: &Settings) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            limit: settings.metrics.max_series,
            own: settings.workload.clone(),
            all: Mutex::default(),
        }
    }

    pub(super) fn record(&self, record: &Record) {
        self.with_cells(|cells| {
            let key = FastKey::of(record);
            let cell = match cells.fast.get(&key) {
                Some(entry) => &entry.cell,
                None => {
                    let cell = self.cell(cells, Labels::of(record));
                    if cells.fast.len() >= FAST_ENTRIES {
                        cells.fast.clear();
                    }
                    let (source, destination) = (record.source.clone(), record.destination.clone());
                    let entry = FastEntry { cell, _source: source, _destination: destination };
                    &cells.fast.entry(key).insert_entry(entry).into_mut().cell
                }
            };
            cell.ended.add(1);
            cell.duration_ms.observe(record.duration.as_secs_f64() * 1000.0);
            cell.received.observe_bytes(record.bytes_received);
            cell.sent.observe_bytes(record.bytes_sent);
        });
    }

    pub(super) fn tcp_opened(
        &self,
        reporter: Reporter,
        source: Option<&SpiffeId>,
        destination: Option<&Arc<Destination>>,
        mtls: Option<bool>,
    ) {
        let labels = Labels::of_opened(reporter, source, destination, mtls);
        self.with_cells(|cells| self.cell(cells, labels).opened.add(1));
    }

    /// Every label set with its cells, in no order.
    pub(super) fn collect(&self) -> Vec<(Labels, Vec<Arc<Cell>>)> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(labels, cells)| (labels.clone(), cells.clone())).collect()
    }

    fn with_cells(&self, work: impl FnOnce(&mut ThreadCells)) {
        CELLS.with_borrow_mut(|tables| {
            let at = tables.iter().position(|(id, _)| *id == self.id).unwrap_or_else(|| {
                tables.push((self.id, ThreadCells::default()));
                tables.len() - 1
            });
            if let Some((_, cells)) = tables.get_mut(at) {
                work(cells);
            }
        });
    }

    /// This thread's cell for `labels`, or for the overflow where there are too many.
    fn cell(&self, cells: &mut ThreadCells, labels: Labels) -> Arc<Cell> {
        if let Some(cell) = cells.slow.get(&labels) {
            return cell.clone();
        }
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let labels =
            if all.len() < self.limit || all.contains_key(&labels) { labels } else { labels.overflow() };
        let cell = cells.slow.entry(labels.clone()).or_insert_with(|| {
            let cell = Arc::new(Cell::default());
            all.entry(labels).or_default().push(cell.clone());
            cell
        });
        cell.clone()
    }
}

impl FastKey {
    fn of(record: &Record) -> Self {
        Self {
            reporter: record.reporter,
            source: record.source.as_ref().map_or(0, |id| id.as_str().as_ptr().addr()),
            destination: record.destination.as_ref().map_or(0, |to| Arc::as_ptr(to).addr()),
            protocol: record.protocol,
            status: record.status,
            grpc_status: record.grpc_status,
            flag: record.flag,
            mtls: record.mtls,
        }
    }
}
