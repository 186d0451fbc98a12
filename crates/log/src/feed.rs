//! A room's ring, and the notifications about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use danmaku_wire::{Epoch, Seq};
use tokio::sync::Notify;

use crate::config::LogConfig;
use crate::entry::{Append, AppendError, Appended, Entry, Unavailable};
use crate::page::Page;
use crate::ring::{Overflow, Ring, Taken};

/// The ring of a room behind a short lock. A store feeds it after its commits.
#[derive(Debug)]
pub(crate) struct Feed {
    config: LogConfig,
    epoch: Epoch,
    ring: Mutex<Ring>,
    fed: Notify,
    /// Notified when the tail has reached half its allowed lag.
    crowded: Notify,
    /// The room began a new epoch: this feed gets nothing more.
    ended: AtomicBool,
}

impl Feed {
    /// An empty ring that continues after `after`.
    pub(crate) fn new(config: LogConfig, epoch: Epoch, after: Seq, overflow: Overflow) -> Self {
        Self {
            config,
            epoch,
            ring: Mutex::new(Ring::new(after, overflow)),
            fed: Notify::new(),
            crowded: Notify::new(),
            ended: AtomicBool::new(false),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring> {
        // The ring is whole between any two statements that can panic.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries when there is no store.
    pub(crate) fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let seqs = {
            let mut ring = self.ring();
            self.check_lag(&ring)?;
            let seqs = ring.append(append.entries, append.now_ms);
            self.pushed(&mut ring);
            seqs
        };
        Ok(Appended {
            epoch: self.epoch,
            seqs,
        })
    }

    /// Refuses while the tail is too far behind. An array may overshoot the
    /// bound by its own length; otherwise one longer than the bound would never
    /// pass.
    pub(crate) fn check_lag(&self, ring: &Ring) -> Result<(), AppendError> {
        let behind = ring.untaken();
        if behind >= self.config.tail_lag_max {
            return Err(AppendError::Overloaded {
                behind: behind as u64,
            });
        }
        Ok(())
    }

    /// Adds committed entries that follow the one at `previous`.
    pub(crate) fn fed(&self, previous: Seq, entries: impl IntoIterator<Item = Entry>) {
        let mut ring = self.ring();
        ring.feed(previous, entries);
        self.pushed(&mut ring);
    }

    /// Records that `seq` is committed.
    #[cfg(feature = "double")]
    pub(crate) fn announce(&self, seq: Seq) {
        self.ring().announce(seq);
        self.fed.notify_one();
    }

    /// Ends the feed: the room's positions began a new epoch.
    #[cfg(feature = "double")]
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.fed.notify_one();
        self.crowded.notify_one();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Appends up to `max` entries after the tail to `out`.
    pub(crate) fn drain(&self, out: &mut Vec<Entry>, max: usize) -> Taken {
        let mut ring = self.ring();
        let taken = ring.drain(out, max);
        ring.trim(&self.config);
        taken
    }

    /// Adds what the tail read from the store.
    pub(crate) fn fill(&self, page: &Page) {
        let mut ring = self.ring();
        ring.fill(page);
        ring.trim(&self.config);
    }

    /// Drops from `entries` the comments retracted since `retractions` were
    /// counted: a slow read may have seen them before.
    pub(crate) fn drop_retracted(
        &self,
        entries: &mut Vec<Entry>,
        retractions: u64,
    ) -> Result<(), Unavailable> {
        let retracted = self
            .ring()
            .retracted_since(retractions)
            .ok_or(Unavailable)?;
        if !retracted.is_empty() {
            entries.retain(|entry| !entry.is_comment() || !retracted.contains(&entry.seq));
        }
        Ok(())
    }

    /// Waits for something new. For one consumer; a notification that comes
    /// before the wait is kept.
    pub(crate) async fn more(&self) {
        self.fed.notified().await;
    }

    /// See [`Tail::crowded`](crate::Tail::crowded).
    pub(crate) async fn crowded(&self) {
        self.crowded.notified().await;
    }

    fn pushed(&self, ring: &mut Ring) {
        ring.trim(&self.config);
        self.fed.notify_one();
        // With a store the ring drops what it has no room for.
        let lag_max = self.config.tail_lag_max.min(self.config.entries_max);
        if ring.untaken() * 2 >= lag_max {
            self.crowded.notify_one();
        }
    }
}
