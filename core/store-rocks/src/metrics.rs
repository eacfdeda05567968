//! What the committer has done: for the admin interface and for benches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Shared;

#[derive(Default)]
pub(crate) struct Metrics {
    batches: AtomicU64,
    pieces: AtomicU64,
    bytes: AtomicU64,
    write_micros: AtomicU64,
    busy: AtomicU64,
}

/// Totals since the store was opened, and what waits now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Batches written, each with one sync.
    pub batches: u64,
    /// Accepts, settlements and changes in them.
    pub pieces: u64,
    /// Their octets, about.
    pub bytes: u64,
    /// Time spent in RocksDB's write, sync included.
    pub write_time: Duration,
    /// Writes refused because too much waited.
    pub busy: u64,
    /// Writes that wait now.
    pub waiting: usize,
}

impl Metrics {
    pub(crate) fn on_batch(&self, pieces: usize, bytes: usize, took: Duration) {
        self.batches.fetch_add(1, Relaxed);
        self.pieces.fetch_add(pieces as u64, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.write_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn on_busy(&self) {
        self.busy.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self, shared: &Shared) -> Snapshot {
        Snapshot {
            batches: self.batches.load(Relaxed),
            pieces: self.pieces.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            write_time: Duration::from_micros(self.write_micros.load(Relaxed)),
            busy: self.busy.load(Relaxed),
            waiting: shared.queue.waiting(),
        }
    }
}
