//! A distribution small enough to keep one per second: logarithmic buckets, only those that hold something.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::latency::Summary;

/// Counts of durations in buckets no wider than a thirty-second of their value. As JSON a string, `bucket:count …`, with the
/// bucket numbered so that number `n` below 32 is `n` µs, and each following 32 span one doubling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// By bucket, ascending.
    counts: Vec<(u16, u64)>,
    micros_max: u64,
}

/// Buckets per doubling, as a power of two.
const SHARE_BITS: u32 = 5;
const SHARE: u64 = 1 << SHARE_BITS;
/// Ten minutes; what is longer counts as that.
const MICROS_MAX: u64 = 600_000_000;

impl Buckets {
    /// Adds `count` durations.
    pub fn record(&mut self, micros: u64, count: u64) {
        if count == 0 {
            return;
        }
        let micros = micros.min(MICROS_MAX);
        self.micros_max = self.micros_max.max(micros);
        self.add(bucket_of(micros), count);
    }

    /// Adds everything of another distribution.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.counts {
            self.add(*bucket, *count);
        }
        self.micros_max = self.micros_max.max(other.micros_max);
    }

    /// How many durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// The figures that are printed: quantiles are the upper edge of their bucket, the maximum is exact.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let total = self.count();
        Summary {
            count: total,
            p50_ms: self.quantile_ms(total, 500),
            p90_ms: self.quantile_ms(total, 900),
            p99_ms: self.quantile_ms(total, 990),
            max_ms: to_ms(self.micros_max),
        }
    }

    /// Upper edges of the buckets in microseconds, and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.counts
            .iter()
            .map(|(bucket, count)| (upper_edge(*bucket), *count))
    }

    fn quantile_ms(&self, total: u64, per_mille: u64) -> f64 {
        let rank = (total * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (micros, count) in self.iter() {
            seen += count;
            if seen >= rank && seen > 0 {
                return to_ms(micros.min(self.micros_max));
            }
        }
        0.0
    }

    fn add(&mut self, bucket: u16, count: u64) {
        match self
            .counts
            .binary_search_by_key(&bucket, |(bucket, _)| *bucket)
        {
            Ok(index) => self.counts[index].1 += count,
            Err(index) => self.counts.insert(index, (bucket, count)),
        }
    }
}

fn bucket_of(micros: u64) -> u16 {
    let bucket = if micros < SHARE {
        micros
    } else {
        let shift = micros.ilog2() - SHARE_BITS;
        // The leading bit is dropped, so that each doubling adds one share.
        u64::from(shift + 1) * SHARE + ((micros >> shift) - SHARE)
    };
    u16::try_from(bucket).unwrap_or(u16::MAX)
}

fn upper_edge(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < SHARE {
        bucket
    } else {
        let shift = (bucket / SHARE - 1).min(40);
        ((bucket % SHARE + SHARE + 1) << shift) - 1
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 600 million")]
fn to_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

impl Serialize for Buckets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = format!("max:{}", self.micros_max);
        for (bucket, count) in &self.counts {
            text.push_str(&format!(" {bucket}:{count}"));
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let odd = |part: &str| de::Error::custom(format!("not a bucket: {part:?}"));
        let mut buckets = Self::default();
        for part in text.split_ascii_whitespace() {
            let (bucket, count) = part.split_once(':').ok_or_else(|| odd(part))?;
            let count: u64 = count.parse().map_err(|_| odd(part))?;
            if bucket == "max" {
                buckets.micros_max = count;
            } else {
                buckets.add(bucket.parse().map_err(|_| odd(part))?, count);
            }
        }
        Ok(buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_below_the_edge_of_its_bucket_and_close_to_it() {
        let mut micros = 1_u64;
        while micros < MICROS_MAX {
            for value in [micros - 1, micros, micros + 1] {
                let edge = upper_edge(bucket_of(value));
                assert!(
                    edge >= value && edge - value <= value / 32,
                    "{value}: {edge}"
                );
            }
            micros = micros * 9 / 8 + 1;
        }
    }

    #[test]
    fn quantiles_are_weighted_and_the_maximum_is_exact() {
        let mut buckets = Buckets::default();
        assert_eq!(buckets.summary(), Summary::default());
        buckets.record(1_000, 90);
        buckets.record(50_000, 9);
        buckets.record(777_777, 1);
        let summary = buckets.summary();
        assert_eq!(summary.count, 100);
        assert!((summary.p50_ms - 1.0).abs() < 0.05, "{summary:?}");
        assert!((summary.p99_ms - 50.0).abs() < 2.0, "{summary:?}");
        assert!((summary.max_ms - 777.777).abs() < 1e-9, "{summary:?}");
    }

    #[test]
    fn one_value_is_all_quantiles() {
        let mut buckets = Buckets::default();
        buckets.record(1_234, 5);
        let summary = buckets.summary();
        assert!((summary.p50_ms - 1.234).abs() < 1e-9, "{summary:?}");
        assert!((summary.p99_ms - 1.234).abs() < 1e-9, "{summary:?}");
    }

    #[test]
    fn the_string_form_comes_back_whole() {
        let mut buckets = Buckets::default();
        for micros in [0, 5, 31, 32, 1_000_000, u64::MAX] {
            buckets.record(micros, micros % 7 + 1);
        }
        let json = serde_json::to_string(&buckets).unwrap();
        assert_eq!(serde_json::from_str::<Buckets>(&json).unwrap(), buckets);
        assert!(serde_json::from_str::<Buckets>("\"5\"").is_err());
    }
}
