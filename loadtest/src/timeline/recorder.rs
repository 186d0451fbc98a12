//! What only working threads know, by second.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use crate::clock::Moment;
use crate::latency::Summary;
use crate::timeline::buckets::Buckets;

/// Shared by the audits of all threads and by the publisher. Locked once per distinct frame and thread, and once per post.
#[derive(Debug, Default)]
pub struct Recorder {
    seconds: Mutex<BTreeMap<u64, Second>>,
}

/// What was recorded of one second.
#[derive(Clone, Debug, Default)]
pub(super) struct Second {
    pub(super) latency: Buckets,
    pub(super) lateness: Buckets,
    pub(super) posts: u64,
    pub(super) acknowledged: u64,
    pub(super) failed: u64,
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

    /// Takes the latencies recorded so far, by second. What was recorded of posts goes with them: this is for a process that
    /// only watches.
    #[must_use]
    pub fn take_latencies(&self) -> Vec<(u64, Buckets)> {
        std::mem::take(&mut *self.lock())
            .into_iter()
            .map(|(number, second)| (number, second.latency))
            .collect()
    }

    /// Adds latencies that another process recorded of the second with this number.
    pub fn add_latencies(&self, number: u64, latencies: &Buckets) {
        if let Some(second) = second(&mut self.lock(), number) {
            second.latency.merge(latencies);
        }
    }

    /// The latencies known so far of the second with this number.
    #[must_use]
    pub fn latency_of(&self, number: u64) -> Summary {
        self.lock()
            .get(&number)
            .map(|second| second.latency.summary())
            .unwrap_or_default()
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
            sum.latency.merge(&second.latency);
            sum.lateness.merge(&second.lateness);
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

    #[test]
    fn everything_lands_in_its_own_second() {
        let recorder = Recorder::default();
        let at = |ms: u64| Moment::from_micros(ms * 1000);
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
    fn latencies_of_another_process_are_added_once() {
        let (here, elsewhere) = (Recorder::default(), Recorder::default());
        let at = |ms: u64| Moment::from_micros(ms * 1000);
        here.arrivals().record(at(1200), 5_000, 3);
        elsewhere.arrivals().record(at(1700), 9_000, 2);
        for _ in 0..2 {
            for (number, latencies) in elsewhere.take_latencies() {
                here.add_latencies(number, &latencies);
            }
        }
        let summary = here.latency_of(1);
        assert_eq!((summary.count, summary.max_ms), (5, 9.0));
    }
}
