//! The distributions of a run in the form that is written: percentiles, and buckets to draw.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latency::{Distribution, Summary};
use crate::session::Outcome;
use crate::timeline::Buckets;

/// One distribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The usual figures.
    pub summary: Summary,
    /// Pairs of a percentile and the milliseconds that many of a hundred are at or below.
    pub percentiles: Vec<(f64, f64)>,
    /// Pairs of a bucket's upper edge in milliseconds and how many are in it; buckets are about 3 % wide, empty ones left out.
    pub buckets: Vec<(f64, u64)>,
}

const PERCENTS: [f64; 12] = [
    1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0,
];

impl Histogram {
    pub(super) fn of(distribution: &Distribution) -> Self {
        let mut buckets = Buckets::default();
        for (micros, count) in distribution.iter() {
            buckets.record(micros, count);
        }
        Self {
            summary: distribution.summary(),
            percentiles: PERCENTS
                .map(|percent| (percent, distribution.percentile_ms(percent)))
                .into(),
            buckets: buckets
                .iter()
                .map(|(micros, count)| (to_ms(micros), count))
                .collect(),
        }
    }
}

/// Every distribution of a session that holds something, by name.
pub(super) fn all(outcome: &Outcome) -> BTreeMap<String, Histogram> {
    let both = |of: &[Distribution; 2]| {
        let mut sum = of[0].clone();
        sum.merge(&of[1]);
        sum
    };
    let spans = &outcome.spans;
    let [calm, stalled] = &outcome.result.findings.stages;
    let mut latencies = calm.clone();
    latencies.merge(stalled);
    [
        ("post_to_viewer", latencies.each),
        ("post_to_viewer_beyond_window", latencies.beyond_window),
        ("seal_to_viewer", latencies.seal),
        ("post_to_seal", spans.post_to_seal.clone()),
        ("seal_to_first_viewer", spans.seal_to_first.clone()),
        ("first_to_last_viewer", spans.first_to_last.clone()),
        ("post_to_first_viewer", both(&spans.first)),
        ("post_to_last_viewer", both(&spans.last)),
        ("connect", outcome.result.incidents.connects.clone()),
        ("post_lateness", outcome.publication.lateness.clone()),
        ("post_answer", outcome.publication.answer.clone()),
    ]
    .into_iter()
    .filter(|(_, distribution)| distribution.summary().count > 0)
    .map(|(name, distribution)| (name.to_owned(), Histogram::of(&distribution)))
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "at most 600 million")]
fn to_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_every_value_and_percentiles_ascend() {
        let mut distribution = Distribution::default();
        for step in 1..=1000_u64 {
            distribution.record(step * 137, step % 3 + 1);
        }
        let histogram = Histogram::of(&distribution);
        let sum: u64 = histogram.buckets.iter().map(|(_, count)| count).sum();
        assert_eq!(sum, histogram.summary.count);
        assert!(histogram.percentiles.is_sorted_by(|a, b| a.1 <= b.1));
        assert!(histogram.buckets.is_sorted_by(|a, b| a.0 < b.0));
    }
}
