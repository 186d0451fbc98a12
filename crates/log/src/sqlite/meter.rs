//! What the store did so far, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters of a store. Updated once per group.
#[derive(Debug, Default)]
pub(super) struct Meter {
    buckets: [AtomicU64; COMMIT_MS_BOUNDS.len() + 1],
    commit_nanos: AtomicU64,
    rows: AtomicU64,
    errors: AtomicU64,
    queued: AtomicU64,
}

/// What a store did since it was started, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Whether it takes appends.
    pub up: bool,
    /// Groups committed, by time: up to each of [`COMMIT_MS_BOUNDS`] but over the one before, and those over the last.
    pub commits: [u64; COMMIT_MS_BOUNDS.len() + 1],
    /// Time that these commits took together.
    pub commit_time: Duration,
    /// Entries and changes in them.
    pub rows: u64,
    /// Writes that failed.
    pub errors: u64,
    /// Appends and changes that wait for their commit.
    pub queued: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of its write-ahead log.
    pub wal_bytes: u64,
}

impl Meter {
    pub(super) fn committed(&self, rows: usize, time: Duration) {
        let ms = time.as_secs_f64() * 1e3;
        let bucket = COMMIT_MS_BOUNDS.partition_point(|&bound| bound < ms);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.commit_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn queued(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// A message that was [`Meter::queued`] before is no longer in the queue.
    pub(super) fn taken(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }

    /// Its counters; whoever asks knows the rest.
    pub(super) fn read(&self) -> StoreStats {
        StoreStats {
            up: false,
            commits: self.buckets.each_ref().map(|it| it.load(Ordering::Relaxed)),
            commit_time: Duration::from_nanos(self.commit_nanos.load(Ordering::Relaxed)),
            rows: self.rows.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            file_bytes: 0,
            wal_bytes: 0,
        }
    }
}

/// Bounds of the buckets that commits are counted in, in milliseconds: from a fast drive's to those of a failing one.
pub const COMMIT_MS_BOUNDS: [f64; 12] = [
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_in_the_bucket_of_its_time() {
        #[track_caller]
        fn check(micros: u64, bucket: usize) {
            let meter = Meter::default();
            meter.committed(3, Duration::from_micros(micros));
            let stats = meter.read();
            assert_eq!(stats.commits[bucket], 1, "{:?}", stats.commits);
            assert_eq!(stats.rows, 3);
            assert_eq!(stats.commit_time, Duration::from_micros(micros));
        }
        check(0, 0);
        check(250, 0);
        check(251, 1);
        check(1_000, 2);
        check(1_000_000, 11);
        check(1_000_001, 12);
    }
}
