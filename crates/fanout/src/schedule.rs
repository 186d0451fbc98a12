//! When a shard must check which viewers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::message::ConnId;
use crate::room_sets::ViewerKey;

/// Why a viewer is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// It may have been silent for too long.
    Idle,
    /// Its close has taken long enough.
    Close,
    /// Its room may have had no frame for too long.
    Quiet,
}

/// A viewer's deadline. Only closing and silent viewers have one: an ordinary viewer needs no timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) at: Duration,
    pub(crate) due: Due,
    pub(crate) key: ViewerKey,
    /// The place may have another viewer by then.
    pub(crate) conn: ConnId,
}

/// All deadlines of a shard. Moot ones are dropped when due, so their number is bounded by what happened within the
/// longest deadline.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

impl Timers {
    pub(crate) fn push(&mut self, timer: Timer) {
        self.heap.push(Reverse(timer));
    }

    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(timer)| timer.at)
    }

    /// The earliest one, when its time has come.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Timer> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(timer)| timer)
    }
}

/// Checks every viewer once per interval, a slice at a time.
///
/// Slice `n` is all places that are `n` modulo [`SLICES`], so nobody is seen twice or not at all when others come and
/// go meanwhile.
#[derive(Debug)]
pub(crate) struct Sweep {
    slice: Duration,
    /// Slices begun since the origin of time.
    begun: u64,
}

/// Slices of one round.
pub(crate) const SLICES: usize = 64;

impl Sweep {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            slice: (interval / 64).max(Duration::from_nanos(1)),
            begun: 0,
        }
    }

    /// How long a slice is.
    pub(crate) fn slice(&self) -> Duration {
        self.slice
    }

    /// Slices whose time has come, at most one round of them.
    pub(crate) fn due(&mut self, now: Duration) -> impl Iterator<Item = usize> + use<> {
        let end = nanos(now) / nanos(self.slice);
        let begin = self.begun.max(end.saturating_sub(SLICES as u64));
        self.begun = end;
        // The remainder is below `SLICES`.
        #[expect(clippy::cast_possible_truncation)]
        (begin..end).map(|slice| (slice % SLICES as u64) as usize)
    }

    /// When the next slice is due.
    pub(crate) fn next_at(&self) -> Duration {
        Duration::from_nanos((self.begun + 1).saturating_mul(nanos(self.slice)))
    }
}

/// 584 years fit.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_and_not_early() {
        let mut timers = Timers::default();
        let timer = |ms, index| Timer {
            at: Duration::from_millis(ms),
            due: Due::Close,
            key: ViewerKey::new(index).unwrap(),
            conn: ConnId(index as u64),
        };
        for (ms, index) in [(30, 3), (10, 1), (20, 2)] {
            timers.push(timer(ms, index));
        }
        assert_eq!(timers.next_at(), Some(Duration::from_millis(10)));
        assert_eq!(timers.pop_due(Duration::from_millis(9)), None);
        assert_eq!(
            timers.pop_due(Duration::from_millis(20)),
            Some(timer(10, 1))
        );
        assert_eq!(
            timers.pop_due(Duration::from_millis(20)),
            Some(timer(20, 2))
        );
        assert_eq!(timers.pop_due(Duration::from_millis(20)), None);
    }

    #[test]
    fn a_round_visits_each_slice_once_however_time_moves() {
        let mut sweep = Sweep::new(Duration::from_millis(640));
        let mut seen = [0; SLICES];
        let mut now = Duration::ZERO;
        for step in [1, 9, 10, 25, 0, 300, 295] {
            now += Duration::from_millis(step);
            for slice in sweep.due(now) {
                seen[slice] += 1;
            }
            assert!(sweep.next_at() > now);
            assert!(sweep.next_at() <= now + sweep.slice());
        }
        assert_eq!(now, Duration::from_millis(640));
        assert_eq!(seen, [1; SLICES]);
        // After a long pause: one round, not all that were missed.
        assert_eq!(sweep.due(Duration::from_secs(60)).count(), SLICES);
    }
}
