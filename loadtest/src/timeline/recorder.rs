//! What only working threads know, by second.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use crate::clock::Moment;
use crate::latency::{Distribution, Summary};

/// Shared by the audits of all threads and by the publisher. Locked once per distinct frame and thread, and once per post.
#[derive(Debug, Default)]
pub struct Recorder {
    seconds: Mutex<BTreeMap<u64, Second>>,
}

/// What was recorded of one second.
#[derive(Clone, Debug, Default)]
pub(super) struct Second {
    pub(super) latency: Durations,
    pub(super) lateness: Durations,
    pub(super) posts: u64,
    pub(super) acknowledged: u64,
    pub(super) failed: u64,
}

/// The durations of a second. Only a recent second keeps all of them: in a run of hours they would be gigabytes.
#[derive(Clone, Debug)]
pub(super) enum Durations {
    Open(Distribution),
    Settled(Summary),
}

/// The lock, held while one frame's arrivals are entered.
pub struct Arrivals<'a>(MutexGuard<'a, BTreeMap<u64, Second>>);

const SECOND_MICROS: u64 = 1_000_000;
/// A little over a day. Later events are only in the totals.
const SECONDS_MAX: usize = 100_000;

impl Recorder {
    /// To enter arrivals at viewers.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals<'_> {
        Arrivals(self.lock())
    }

    /// A post has left, this late.
    pub fn posted(&self, at: Moment, lateness_micros: u64) {
        let mut seconds = self.lock();
        if let Some(second) = second(&mut seconds, number(at)) {
            second.posts += 1;
            second.lateness.record(lateness_micros, 1);
        }
    }

    /// A post was acknowledged.
    pub fn acknowledged(&self, at: Moment) {
        if let Some(second) = second(&mut self.lock(), number(at)) {
            second.acknowledged += 1;
        }
    }

    /// A post was refused, or has got no answer.
    pub fn failed(&self, at: Moment) {
        if let Some(second) = second(&mut self.lock(), number(at)) {
            second.failed += 1;
        }
    }

    /// The latencies known so far of the second with this number.
    #[must_use]
    pub fn latency_of(&self, number: u64) -> Summary {
        let seconds = self.lock();
        let second = seconds.get(&number);
        second.map_or_else(Summary::default, |second| second.latency.summary())
    }

    /// Keeps only the figures of the second with this number; what still comes in only counts.
    pub(super) fn settle(&self, number: u64) {
        if let Some(second) = self.lock().get_mut(&number) {
            for durations in [&mut second.latency, &mut second.lateness] {
                *durations = Durations::Settled(durations.summary());
            }
        }
    }

    /// Posts so far: sent, acknowledged, failed.
    #[must_use]
    pub fn posts(&self) -> [u64; 3] {
        self.lock()
            .values()
            .fold([0; 3], |[sent, acknowledged, failed], second| {
                [
                    sent + second.posts,
                    acknowledged + second.acknowledged,
                    failed + second.failed,
                ]
            })
    }

    /// Posts that failed so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.lock().values().map(|second| second.failed).sum()
    }

    /// What was recorded of these seconds together.
    pub(super) fn seconds(&self, numbers: Range<u64>) -> Second {
        let mut sum = Second::default();
        for second in self.lock().range(numbers).map(|(_, second)| second) {
            sum.latency.add(&second.latency);
            sum.lateness.add(&second.lateness);
            sum.posts += second.posts;
            sum.acknowledged += second.acknowledged;
            sum.failed += second.failed;
        }
        sum
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Second>> {
        self.seconds
            .lock()
            .expect("invariant: no thread panics while it records")
    }
}

impl Arrivals<'_> {
    /// Viewers got a comment at a moment, this long after it was due.
    pub fn record(&mut self, at: Moment, micros: u64, viewers: u64) {
        if let Some(second) = second(&mut self.0, number(at)) {
            second.latency.record(micros, viewers);
        }
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self::Open(Distribution::of_a_second())
    }
}

impl Durations {
    pub(super) fn summary(&self) -> Summary {
        match self {
            Self::Open(distribution) => distribution.summary(),
            Self::Settled(summary) => *summary,
        }
    }

    fn record(&mut self, micros: u64, count: u64) {
        match self {
            Self::Open(distribution) => distribution.record(micros, count),
            Self::Settled(summary) => summary.count += count,
        }
    }

    fn add(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Open(distribution), Self::Open(more)) => distribution.merge(more),
            // Only the last seconds of a run are added up, and none of those is settled.
            _ => *self = other.clone(),
        }
    }
}

fn number(at: Moment) -> u64 {
    at.micros() / SECOND_MICROS
}

fn second(seconds: &mut BTreeMap<u64, Second>, number: u64) -> Option<&mut Second> {
    if seconds.len() >= SECONDS_MAX && !seconds.contains_key(&number) {
        return None;
    }
    Some(seconds.entry(number).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_micros(ms * 1000)
    }

    #[test]
    fn everything_lands_in_its_own_second() {
        let recorder = Recorder::default();
        recorder.arrivals().record(at(999), 5_000, 3);
        recorder.arrivals().record(at(1000), 8_000, 2);
        recorder.posted(at(1500), 100);
        recorder.acknowledged(at(1600));
        recorder.failed(at(2100));
        assert_eq!(recorder.latency_of(0).count, 3);
        assert_eq!(recorder.latency_of(1).count, 2);
        assert_eq!(recorder.latency_of(7), Summary::default());
        let counts = |numbers| {
            let second = recorder.seconds(numbers);
            (second.posts, second.acknowledged, second.failed)
        };
        assert_eq!(counts(1..2), (1, 1, 0));
        assert_eq!(counts(1..u64::MAX), (1, 1, 1));
        assert_eq!(recorder.failures(), 1);
    }

    #[test]
    fn a_settled_second_keeps_its_figures_and_goes_on_counting() {
        let recorder = Recorder::default();
        recorder.arrivals().record(at(100), 5_000, 3);
        let figures = recorder.latency_of(0);
        recorder.settle(0);
        recorder.settle(9);
        recorder.arrivals().record(at(200), 9_000, 2);
        let settled = recorder.seconds(0..1).latency.summary();
        assert_eq!(
            settled,
            Summary {
                count: 5,
                ..figures
            }
        );
    }
}
