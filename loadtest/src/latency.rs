//! Latency distributions: HDR histograms in microseconds.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A distribution of durations from 1 µs to 10 minutes. It grows with the largest value: with three digits all buckets of
/// one are 170 KiB, and each thread has several.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(into = "Written")]
#[schemars(with = "Written")]
pub struct Distribution(Histogram<u64>);

/// The figures of a distribution, in milliseconds; zeros if it holds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// How many values.
    pub count: u64,
    /// The median.
    pub p50_ms: f64,
    /// The 90th percentile.
    pub p90_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

/// The written form of a distribution.
#[derive(Serialize, JsonSchema)]
struct Written {
    #[serde(flatten)]
    summary: Summary,
    /// Every value: pairs of microseconds and a count, as `1007:90 50015:9`, each value at most 0.1 % too high.
    values: String,
}

const MICROS_MAX: u64 = 600_000_000;
/// Digits that are exact.
const DIGITS: u8 = 3;
/// The same where there is a distribution for every second of a run.
const DIGITS_OF_A_SECOND: u8 = 2;

impl Default for Distribution {
    fn default() -> Self {
        Self::with_digits(DIGITS)
    }
}

impl Distribution {
    /// One for a single second: values are within 1 %, and it takes an eighth of the memory.
    #[must_use]
    pub fn of_a_second() -> Self {
        Self::with_digits(DIGITS_OF_A_SECOND)
    }

    fn with_digits(digits: u8) -> Self {
        Self(Histogram::new(digits).expect("invariant: the digits are in range"))
    }

    /// Adds `count` values of `micros`; what is over ten minutes counts as ten minutes.
    ///
    /// # Panics
    /// Never: ten minutes need few buckets.
    #[inline]
    pub fn record(&mut self, micros: u64, count: u64) {
        self.0
            .record_n(micros.min(MICROS_MAX), count)
            .expect("invariant: a distribution grows to ten minutes");
    }

    /// Adds everything of another distribution.
    ///
    /// # Panics
    /// Never: a distribution grows to what any other holds.
    pub fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("invariant: a distribution grows to what any other holds");
    }

    /// How many values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration in milliseconds that this share of all values, in percent, is at or below.
    #[must_use]
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        to_ms(self.0.value_at_quantile(percent / 100.0))
    }

    /// The values that occur, in microseconds and ascending, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    /// Its figures.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            p50_ms: self.percentile_ms(50.0),
            p90_ms: self.percentile_ms(90.0),
            p99_ms: self.percentile_ms(99.0),
            max_ms: to_ms(self.0.max()),
        }
    }

    /// What of each value is beyond a window; zero within it.
    #[must_use]
    pub fn beyond(&self, window_ms: u64) -> Self {
        let mut beyond = Self::default();
        for (micros, count) in self.iter() {
            beyond.record(micros.saturating_sub(window_ms * 1000), count);
        }
        beyond
    }
}

impl Summary {
    /// The figures of what is beyond a window: the order of values stays, so each figure just loses the window.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a window is seconds")]
    pub fn beyond(self, window_ms: u64) -> Self {
        let less = |ms: f64| (ms - window_ms as f64).max(0.0);
        Self {
            count: self.count,
            p50_ms: less(self.p50_ms),
            p90_ms: less(self.p90_ms),
            p99_ms: less(self.p99_ms),
            max_ms: less(self.max_ms),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 600 million")]
fn to_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

impl From<Distribution> for Written {
    fn from(distribution: Distribution) -> Self {
        let values = distribution
            .iter()
            .map(|(micros, count)| format!("{micros}:{count}"))
            .collect::<Vec<_>>();
        Self {
            summary: distribution.summary(),
            values: values.join(" "),
        }
    }
}

/// Which part of the measured interval a comment belongs to, by its scheduled time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before viewers were made to stall, or all of a run without stalling.
    Calm,
    /// While some viewers stall.
    Stalled,
}

/// The distributions of one stage, over every comment and every viewer that is measured.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// Scheduled post to each viewer.
    pub each: Distribution,
    /// The batch's own timestamp to each viewer.
    pub seal: Distribution,
}

impl Latencies {
    /// Adds everything of another set.
    pub fn merge(&mut self, other: &Self) {
        self.each.merge(&other.each);
        self.seal.merge(&other.seal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[(u64, u64)]) -> Distribution {
        let mut distribution = Distribution::default();
        for (micros, count) in values {
            distribution.record(*micros, *count);
        }
        distribution
    }

    #[test]
    fn figures_are_in_milliseconds_and_weighted() {
        let summary = of(&[(1_000, 90), (50_000, 9), (u64::MAX, 1)]).summary();
        assert_eq!(summary.count, 100);
        assert!((summary.p50_ms - 1.0).abs() < 0.01, "{summary:?}");
        assert!((summary.p99_ms - 50.0).abs() < 0.1, "{summary:?}");
        assert!(summary.max_ms >= 600_000.0, "{summary:?}");
        assert_eq!(Distribution::default().summary(), Summary::default());
    }

    #[test]
    fn the_written_form_has_the_figures_and_every_value() {
        let json = serde_json::to_value(of(&[(7, 2), (4_000, 1)])).unwrap();
        assert_eq!(
            (&json["count"], &json["values"]),
            (&3.into(), &"7:2 4001:1".into())
        );
    }

    #[test]
    fn merged_distributions_count_together() {
        let (mut small, mut grown) = (of(&[(10, 1)]), of(&[(500_000_000, 4)]));
        small.merge(&of(&[(20, 2)]));
        assert_eq!(small.count(), 3);
        // A small distribution can take in a grown one, and the other way round.
        grown.merge(&small);
        small.merge(&of(&[(500_000_000, 4)]));
        assert_eq!(small.summary(), grown.summary());
        let mut second = Distribution::of_a_second();
        second.merge(&grown);
        assert_eq!(second.count(), 7);
    }

    #[test]
    fn what_is_beyond_a_window_is_never_negative() {
        let all = of(&[(400_000, 97), (1_010_000, 2), (1_500_000, 1)]);
        let beyond = all.beyond(1000).summary();
        let less = all.summary().beyond(1000);
        assert_eq!((beyond.count, beyond.p50_ms, less.p50_ms), (100, 0.0, 0.0));
        for (one, other) in [(beyond.p99_ms, less.p99_ms), (beyond.max_ms, less.max_ms)] {
            assert!((one - other).abs() < 1.5, "{beyond:?} {less:?}");
        }
        assert!((less.p99_ms - 10.0).abs() < 1.5, "{less:?}");
    }
}
