//! The books of a world: which frames its shards were told to write, which ones arrived, and what became of the rest.

use std::ops::AddAssign;

use danmaku_fanout::{ConnId, StatsSnapshot};
use danmaku_wire::CloseReason;

use crate::viewer::{Outcome, Viewer};

/// Frames that viewers got, as far as they can be told from gaps that shards made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Received {
    low: u64,
    high: u64,
}

impl Received {
    fn add(&mut self, viewer: &Viewer) {
        self.low += viewer.account.batches;
        self.high += viewer.account.batches + viewer.gap_frames_max();
    }
}

/// What is known of viewers that ended. A shard may have stopped writing before they noticed, so of the frames that
/// were offered to them only the bounds are known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    frames_received: Received,
    frames_offered_max: u64,
    told_slow: u64,
    /// Ended so that they would not have heard of an eviction.
    untold: u64,
}

impl Gone {
    /// Enters a viewer that has ended.
    pub(crate) fn enter(&mut self, viewer: &Viewer) {
        self.frames_received.add(viewer);
        self.frames_offered_max += viewer.offered;
        match viewer.outcome {
            Outcome::Closed(code) if code == CloseReason::SlowConsumer.code() => {
                self.told_slow += 1;
            }
            Outcome::Closed(_) => {}
            Outcome::Cut => {
                assert!(
                    !viewer.must_be_told,
                    "an evicted viewer that reads is told so: {viewer:#?}"
                );
                self.untold += 1;
            }
            Outcome::Left | Outcome::Online => self.untold += 1,
        }
    }

    /// Viewers that were told they were too slow.
    pub(crate) fn told_slow(&self) -> u64 {
        self.told_slow
    }

    /// Every frame that was to be written arrived at one of the `alive` viewers, at one that is gone, or was counted as
    /// skipped. Exact when nobody is gone and no room was told a gap.
    pub(crate) fn check(&self, alive: &[Viewer], stats: &StatsSnapshot) {
        let (mut offered, mut received) = (0, Received::default());
        for viewer in alive {
            offered += viewer.offered;
            received.add(viewer);
        }
        let between = |count: u64, low: u64, high: u64| {
            assert!(
                (low..=high).contains(&count),
                "{count} is not in {low}..={high}: {stats:#?} {self:#?}"
            );
        };
        between(
            stats.frames_offered,
            offered + self.frames_received.low,
            offered + self.frames_offered_max,
        );
        between(
            stats.frames_skipped(),
            offered - received.high,
            offered - received.low + self.frames_offered_max - self.frames_received.low,
        );
        assert_eq!(
            stats.frames_offered,
            stats.frames_written + stats.frames_skipped(),
            "{stats:#?}"
        );
        between(
            stats.evicted(),
            self.told_slow,
            self.told_slow + self.untold,
        );
        assert_eq!(stats.viewers, alive.len() as u64, "{stats:#?}");
        assert_eq!(
            (stats.viewers_behind, stats.outbox_bytes),
            (0, 0),
            "{stats:#?}"
        );
    }
}

/// What a run came across.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) stats: StatsSnapshot,
    pub(crate) frames_chained: u64,
    pub(crate) told_slow: u64,
    pub(crate) losses: u64,
    pub(crate) epochs_ended: u64,
    pub(crate) slices: u64,
    /// What each viewer was told in the end, where that can depend on nothing but the plan.
    pub(crate) told: Vec<Told>,
}

/// Where a viewer ended, and the events it was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) conn: ConnId,
    pub(crate) last: Option<u64>,
    pub(crate) events: Vec<u64>,
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.stats += other.stats;
        self.frames_chained += other.frames_chained;
        self.told_slow += other.told_slow;
        self.losses += other.losses;
        self.epochs_ended += other.epochs_ended;
        self.slices += other.slices;
    }
}

impl Coverage {
    /// Over all seeds every step of the ladder was climbed: a simulation in which nothing goes wrong shows nothing.
    pub(crate) fn check(&self) {
        let stats = &self.stats;
        for (name, count) in [
            ("partial writes", stats.partial_writes),
            ("frames skipped for bytes", stats.frames_skipped_bytes),
            ("frames skipped for age", stats.frames_skipped_age),
            ("frames of evicted viewers", stats.frames_skipped_evicted),
            ("gaps", stats.gaps_written),
            ("evicted for staying behind", stats.evicted_behind),
            ("evicted for control messages", stats.evicted_control),
            ("evicted for events", stats.evicted_events),
            ("evicted and told", self.told_slow),
            ("losses of a log", self.losses),
            ("epochs ended", self.epochs_ended),
            ("deliveries in slices", self.slices),
            ("silent ones closed", stats.closed_idle),
            ("closes forced", stats.closes_forced),
            ("chained frames", self.frames_chained),
        ] {
            assert!(count > 0, "no {name} in any seed: {self:#?}");
        }
    }
}
