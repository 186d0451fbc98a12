//! What one seed is about.

use std::num::NonZeroUsize;
use std::time::Duration;

use danmaku_engine::SplitMix64;
use danmaku_fanout::FanoutConfig;

use crate::live::index_below;

/// The numbers of one world.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) fanout: FanoutConfig,
    pub(crate) positions: Positions,
    pub(crate) rooms: usize,
    pub(crate) viewers: usize,
    pub(crate) partings: Partings,
    /// Of a million viewers, how many leave in a step.
    pub(crate) leaves_per_million: u64,
    pub(crate) stalled: Stalled,
}

/// How the log numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    /// One after the other.
    Dense,
    /// With holes, as a log that rooms share.
    Sparse,
}

/// Whether viewers end before the world does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partings {
    /// They leave and are evicted.
    Some,
    /// Nobody leaves or is evicted, so that every count is exact.
    None,
}

/// What stalled viewers do when viewers of their shard are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stalled {
    /// They read again: those that are evicted must be told.
    Wake,
    /// Nothing: they must be cut off.
    Sleep,
}

impl Plan {
    pub(crate) fn draw(random: &mut SplitMix64) -> Self {
        let fanout = fanout(random);
        let positions = if random.below(2) == 0 {
            Positions::Dense
        } else {
            Positions::Sparse
        };
        let rooms = 1 + index_below(4, random);
        let viewers = 5 + index_below(50, random);
        let stalled = if random.below(2) == 0 {
            Stalled::Wake
        } else {
            Stalled::Sleep
        };
        if random.below(4) > 0 {
            let leaves_per_million = random.below(1_000);
            return Self {
                fanout,
                positions,
                rooms,
                viewers,
                partings: Partings::Some,
                leaves_per_million,
                stalled,
            };
        }
        let never = Duration::from_secs(3_600);
        let fanout = FanoutConfig {
            evict_after: never,
            idle_deadline: never,
            control_bytes_max: 1 << 20,
            ..fanout
        };
        Self {
            fanout,
            positions,
            rooms,
            viewers,
            partings: Partings::None,
            leaves_per_million: 0,
            stalled,
        }
    }
}

fn fanout(random: &mut SplitMix64) -> FanoutConfig {
    let ms = |ms: u64| Duration::from_millis(ms);
    // The look at all viewers, a slice at a time, wakes a shard too; rarely enough, it hides no timer that is missing.
    let ping_interval = ms(if random.below(3) == 0 {
        60_000
    } else {
        100 + random.below(2_000)
    });
    FanoutConfig {
        shards: NonZeroUsize::MIN.saturating_add(index_below(3, random)),
        inbox_len: 1,
        // Less than a room has, or more than there are.
        slice_viewers_max: NonZeroUsize::MIN.saturating_add(if random.below(3) == 0 {
            1_000
        } else {
            2 + index_below(12, random)
        }),
        outbox_bytes_max: 1 << (9 + random.below(8)),
        outbox_age_max: ms(100 + random.below(3_000)),
        control_bytes_max: 1 << (8 + random.below(8)),
        evict_after: ms(300 + random.below(5_000)),
        ping_interval,
        // A shard that gets no processor for long would take its own silence for the viewers'.
        idle_deadline: ping_interval * 2 + ms(200 + random.below(5_000)),
        close_deadline: ms(50 + random.below(1_000)),
    }
}
