//! What the shards count.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// The counts of a shard, or of all of them, at one moment.
        ///
        /// `frames_offered` is always `frames_written` + all of `frames_skipped_*` + what waits in outboxes.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct StatsSnapshot {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        /// The counts of one shard, written by its thread after each pass and read by anybody.
        #[derive(Debug, Default)]
        pub struct ShardStats {
            $($name: AtomicU64,)*
        }

        impl StatsSnapshot {
            /// Every count with its name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        impl AddAssign for StatsSnapshot {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl ShardStats {
            /// Makes `counts` visible to others.
            pub(crate) fn publish(&self, counts: &StatsSnapshot) {
                $(self.$name.store(counts.$name, Ordering::Relaxed);)*
            }

            /// The counts after the shard's latest pass.
            #[must_use]
            pub fn snapshot(&self) -> StatsSnapshot {
                StatsSnapshot {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Viewers now, closing ones included.
    viewers,
    /// Viewers with something in their outbox now.
    viewers_behind,
    /// Bytes in outboxes when last checked. Viewers that wait for the same frame share its memory, but each is counted
    /// here.
    outbox_bytes,
    /// Passes over a room's viewers.
    passes,
    /// Frames that were to be written to a viewer: once per viewer and frame.
    frames_offered,
    /// Frames written whole.
    frames_written,
    /// Frames skipped because too many bytes waited.
    frames_skipped_bytes,
    /// Frames skipped because they had waited too long.
    frames_skipped_age,
    /// Frames that waited for a viewer when it was evicted.
    frames_skipped_evicted,
    /// Frames that waited for a viewer, or were partly written, when its connection ended.
    frames_skipped_closed,
    /// Bytes written, of all kinds.
    bytes_written,
    /// Writes that took only a part of what they were given.
    partial_writes,
    /// Gap messages written.
    gaps_written,
    /// Messages other than frames and gaps that were written: heartbeats, pongs and closes too.
    controls_written,
    /// Messages for a viewer that had left or was closing.
    controls_unsent,
    /// Pings and other heartbeats written.
    pings_written,
    /// Viewers evicted because they stayed behind.
    evicted_behind,
    /// Viewers evicted because too many unskippable bytes waited.
    evicted_control,
    /// Viewers evicted because the events of the frames they missed were too many to keep for them.
    evicted_events,
    /// Viewers closed because they were silent.
    closed_idle,
    /// Closes begun, for any reason.
    closes_begun,
    /// Connections reset because a close took too long.
    closes_forced,
    /// Connections that failed while they were written to.
    broken,
}

impl StatsSnapshot {
    /// Frames skipped for any reason.
    #[must_use]
    pub fn frames_skipped(&self) -> u64 {
        self.frames_skipped_bytes
            + self.frames_skipped_age
            + self.frames_skipped_evicted
            + self.frames_skipped_closed
    }

    /// Viewers evicted for any reason.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted_behind + self.evicted_control + self.evicted_events
    }
}

/// Why a frame was not written to a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipReason {
    Bytes,
    Age,
    Evicted,
    Closed,
}

/// Why a viewer was evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EvictReason {
    Behind,
    Control,
    Events,
}

impl StatsSnapshot {
    pub(crate) fn skip(&mut self, reason: SkipReason, frames: u64) {
        *match reason {
            SkipReason::Bytes => &mut self.frames_skipped_bytes,
            SkipReason::Age => &mut self.frames_skipped_age,
            SkipReason::Evicted => &mut self.frames_skipped_evicted,
            SkipReason::Closed => &mut self.frames_skipped_closed,
        } += frames;
    }

    pub(crate) fn evict(&mut self, reason: EvictReason) {
        *match reason {
            EvictReason::Behind => &mut self.evicted_behind,
            EvictReason::Control => &mut self.evicted_control,
            EvictReason::Events => &mut self.evicted_events,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read_and_sums_up() {
        let mut counts = StatsSnapshot::default();
        counts.skip(SkipReason::Age, 2);
        counts.evict(EvictReason::Control);
        let stats = ShardStats::default();
        stats.publish(&counts);
        let mut sum = stats.snapshot();
        assert_eq!(sum, counts);
        sum += counts;
        assert_eq!((sum.frames_skipped(), sum.evicted()), (4, 2));
        assert!(sum.named().contains(&("frames_skipped_age", 4)));
    }
}
