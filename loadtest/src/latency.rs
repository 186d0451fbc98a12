//! Latency distributions: HDR histograms in microseconds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A distribution of durations from 1 µs to 10 minutes, three digits exact. It grows with the largest value: each thread has
/// several, and all buckets of one are 170 KiB.
#[derive(Clone, Debug)]
pub struct Distribution(Histogram<u64>);

const MICROS_MAX: u64 = 600_000_000;
const DIGITS: u8 = 3;

impl Default for Distribution {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("invariant: the digits are in range"))
    }
}

/// The figures of a distribution that are printed, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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

impl Distribution {
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

    /// The figures that are printed.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let quantile_ms = |quantile| to_ms(self.0.value_at_quantile(quantile));
        Summary {
            count: self.0.len(),
            p50_ms: quantile_ms(0.5),
            p90_ms: quantile_ms(0.9),
            p99_ms: quantile_ms(0.99),
            max_ms: to_ms(self.0.max()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 600 million")]
fn to_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// As pairs of a value and a count: a value that is recorded again falls into the bucket it came from.
impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut distribution = Self::default();
        for (micros, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            distribution.record(micros, count);
        }
        Ok(distribution)
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latencies {
    /// Scheduled post to each viewer.
    pub each: Distribution,
    /// The same, minus the room's window.
    pub beyond_window: Distribution,
    /// The batch's own timestamp to each viewer.
    pub seal: Distribution,
}

impl Latencies {
    /// Adds everything of another set.
    pub fn merge(&mut self, other: &Self) {
        self.each.merge(&other.each);
        self.beyond_window.merge(&other.beyond_window);
        self.seal.merge(&other.seal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_in_milliseconds_and_weighted() {
        let mut distribution = Distribution::default();
        distribution.record(1_000, 90);
        distribution.record(50_000, 9);
        distribution.record(u64::MAX, 1);
        let summary = distribution.summary();
        assert_eq!(summary.count, 100);
        assert!((summary.p50_ms - 1.0).abs() < 0.01, "{summary:?}");
        assert!((summary.p99_ms - 50.0).abs() < 0.1, "{summary:?}");
        assert!(summary.max_ms >= 600_000.0, "{summary:?}");
    }

    #[test]
    fn the_written_form_comes_back_whole() {
        let mut distribution = Distribution::default();
        for micros in [0, 1, 2047, 2048, 4097, 1_234_567, u64::MAX] {
            distribution.record(micros, micros % 7 + 1);
        }
        let json = serde_json::to_string(&distribution).unwrap();
        let back: Distribution = serde_json::from_str(&json).unwrap();
        assert!(distribution.iter().eq(back.iter()), "{json}");
        assert_eq!(distribution.summary(), back.summary());
    }

    #[test]
    fn merged_distributions_count_together() {
        let (mut left, mut right) = (Distribution::default(), Distribution::default());
        left.record(10, 1);
        right.record(20, 2);
        left.merge(&right);
        assert_eq!(left.summary().count, 3);
        // A small distribution can take in a grown one, and the other way round.
        let mut grown = Distribution::default();
        grown.record(500_000_000, 4);
        left.merge(&grown);
        grown.merge(&right);
        assert_eq!((left.summary().count, grown.summary().count), (7, 6));
        assert_eq!(left.summary().max_ms, grown.summary().max_ms);
    }
}
