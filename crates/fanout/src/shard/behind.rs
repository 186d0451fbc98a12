//! Viewers with something in their outbox or sink: retries, and giving up.

use std::time::Duration;

use danmaku_wire::CloseReason;

use super::{Shard, open};
use crate::link::Ready;
use crate::message::ConnId;
use crate::outbox::Flushed;
use crate::room_sets::ViewerKey;
use crate::stats::EvictReason;
use crate::viewer::{Phase, Sent};

impl Shard {
    /// Lists a viewer as behind, unless it is.
    pub(super) fn add_behind(&mut self, key: ViewerKey, now: Duration) {
        let Some(viewer) = self.viewers.get_mut(key.index()) else {
            return;
        };
        let Some(outbox) = viewer.outbox.as_mut().filter(|it| it.listed.is_none()) else {
            return;
        };
        if self.behind.is_empty() {
            self.retry_at = now + RETRY_INTERVAL;
        }
        outbox.listed = Some(self.behind.len());
        self.behind.push(key);
    }

    /// Takes the viewer at this place off the list.
    pub(super) fn remove_behind(&mut self, listed: Option<usize>) {
        let Some(place) = listed.filter(|&place| place < self.behind.len()) else {
            return;
        };
        self.behind.swap_remove(place);
        let moved = self.behind.get(place);
        if let Some(moved) = moved.and_then(|key| self.viewers.get_mut(key.index()))
            && let Some(outbox) = &mut moved.outbox
        {
            outbox.listed = Some(place);
        }
    }

    /// Retries the viewers that are behind. A socket that is still full costs no system call.
    pub(super) fn retry_behind(&mut self, now: Duration) {
        if self.behind.is_empty() || now < self.retry_at {
            return;
        }
        self.retry_at = now + RETRY_INTERVAL;
        let mut place = 0;
        while let Some(&key) = self.behind.get(place) {
            self.retry(key, now);
            // A viewer that leaves the list is replaced by the last one.
            if self.behind.get(place) == Some(&key) {
                place += 1;
            }
        }
        self.counts.outbox_bytes = self.bytes_waiting() as u64;
    }

    /// Has a viewer's sink write what it owes. The rest is retried with the others.
    pub(super) fn flush_sink(&mut self, conn: ConnId, now: Duration) {
        let key = self.by_conn.get(&conn).copied();
        if let Some(key) = key
            && let Some(viewer) = open(&mut self.viewers, key)
        {
            let sent = viewer.flush_sink(now);
            self.settle(key, sent, now);
        }
    }

    /// Writes what it can, skips what is too old, and evicts a viewer that is behind for too long.
    fn retry(&mut self, key: ViewerKey, now: Duration) {
        let Some(viewer) = self.viewers.get_mut(key.index()) else {
            debug_assert!(false, "a viewer that is behind is in the shard");
            return;
        };
        let Some(outbox) = &viewer.outbox else {
            debug_assert!(false, "a viewer that is behind has an outbox");
            return;
        };
        let (listed, behind) = (outbox.listed, now.saturating_sub(outbox.behind_since));
        if viewer.phase == Phase::Open
            && let Sent::Overflow(reason) = viewer.skip_stale(now, &self.config, &mut self.counts)
        {
            self.evict(key, reason, now);
            return;
        }
        match viewer.flush(Ready::Retried, &mut self.counts) {
            Flushed::All => {
                let phase = viewer.phase;
                self.remove_behind(listed);
                if phase == Phase::Closing {
                    self.close_written(key, now);
                }
            }
            Flushed::Blocked => {
                if behind >= self.config.evict_after {
                    self.evict(key, EvictReason::Behind, now);
                }
            }
            Flushed::Broken(error) => self.settle(key, Sent::Broken(error), now),
        }
    }

    /// Drops what waits for a viewer and closes it.
    pub(super) fn evict(&mut self, key: ViewerKey, reason: EvictReason, now: Duration) {
        let Some(viewer) = open(&mut self.viewers, key) else {
            return;
        };
        tracing::debug!(conn = viewer.conn.0, ?reason, "viewer evicted");
        if let Some(outbox) = &mut viewer.outbox {
            outbox.evict(&mut self.counts);
        }
        self.counts.evict(reason);
        let deadline = self.config.close_deadline;
        self.close_now(key, CloseReason::SlowConsumer, deadline, now);
    }
}

/// How often a viewer that is behind is retried: short compared to a window, long compared to the cost of a try.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
