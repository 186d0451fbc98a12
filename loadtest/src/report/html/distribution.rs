//! How the latencies of a run are spread: over their range, and by percentile.

use crate::report::RunReport;
use crate::report::chart::{Chart, Form, Points, Series, plain};
use crate::table::figure;

const BARS: u32 = 60;
/// From this ratio of the maximum to the median on, the distribution is drawn over a logarithmic axis.
const TAIL_FROM: f64 = 8.0;

/// The charts; none without a delivery.
pub(super) fn distributions(report: &RunReport) -> Vec<Chart> {
    let Some(histogram) = report.histograms.get("post_to_viewer") else {
        return Vec::new();
    };
    let summary = &histogram.summary;
    let logarithmic = summary.max_ms > summary.p50_ms * TAIL_FROM;
    let (bars, width) = bars(&histogram.buckets, logarithmic);
    let place = |ms: f64| {
        if logarithmic {
            ms.max(1e-3).log10()
        } else {
            ms
        }
    };
    let named = |name: &str, ms: f64| (place(ms), format!("{name} {} ms", figure(ms)));
    let curve = |name: &'static str, key: &str| {
        let points = report.histograms.get(key).map(|histogram| {
            histogram
                .percentiles
                .iter()
                .filter(|(percent, _)| (50.0..100.0).contains(percent))
                .map(|(percent, ms)| (nines(*percent), Some(*ms)))
                .collect()
        });
        Series::line(name, points.unwrap_or_default())
    };
    vec![
        Chart {
            title: "Latency, scheduled post to viewer, every delivery".to_owned(),
            y_label: "percent of deliveries",
            x_label: if logarithmic {
                "milliseconds (log scale)"
            } else {
                "milliseconds"
            },
            x_ticks: if logarithmic {
                (-3..=6)
                    .flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)))
                    .filter(|ms| {
                        let at = place(*ms);
                        let last = bars.last().map_or(0.0, |(at, _)| at + width);
                        (bars.first().map_or(0.0, |(at, _)| *at)..=last).contains(&at)
                    })
                    .map(|ms| (place(ms), plain(ms)))
                    .collect()
            } else {
                Vec::new()
            },
            series: vec![Series {
                name: "deliveries",
                points: bars,
                form: Form::Bars(width),
            }],
            marks: vec![named("p50", summary.p50_ms), named("p99", summary.p99_ms)],
            ..Chart::default()
        },
        Chart {
            title: "Latency by percentile".to_owned(),
            y_label: "milliseconds",
            x_label: "percent of deliveries (or comments) at or below",
            series: vec![
                curve("post to viewer", "post_to_viewer"),
                curve("post to seal", "post_to_seal"),
                curve("seal to first viewer", "seal_to_first_viewer"),
                curve("first to last viewer", "first_to_last_viewer"),
            ],
            x_ticks: [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99]
                .map(|percent| (nines(percent), format!("{percent}")))
                .into(),
            may_be_logarithmic: true,
            ..Chart::default()
        },
    ]
}

/// 90 percent is 1, 99 is 2, 99.9 is 3.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).max(1e-9).log10()
}

/// The buckets of a histogram as bars of equal width, in percent: what a bucket holds is spread over the bars it touches.
#[expect(clippy::cast_precision_loss, reason = "for drawing")]
fn bars(buckets: &[(f64, u64)], logarithmic: bool) -> (Points, f64) {
    let place = |ms: f64| {
        if logarithmic {
            ms.max(1e-3).log10()
        } else {
            ms
        }
    };
    let below = |edge: f64| place(edge * 32.0 / 33.0);
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    let (Some((first, _)), Some((last, _))) = (buckets.first(), buckets.last()) else {
        return (Vec::new(), 1.0);
    };
    let low = if logarithmic { below(*first) } else { 0.0 };
    let width = ((place(*last) - low) / f64::from(BARS)).max(1e-6);
    let mut shares = vec![0.0; BARS as usize];
    for (edge, count) in buckets {
        let (from, to) = (below(*edge), place(*edge));
        let percent = *count as f64 / total.max(1) as f64 * 100.0;
        for (share, index) in shares.iter_mut().zip(0_u32..) {
            let left = low + f64::from(index) * width;
            let overlap = to.min(left + width) - from.max(left);
            if overlap > 0.0 && to > from {
                *share += percent * overlap / (to - from);
            }
        }
    }
    let bars = shares
        .into_iter()
        .zip(0_u32..)
        .map(|(share, index)| (low + f64::from(index) * width, Some(share)))
        .collect();
    (bars, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_hold_everything() {
        for logarithmic in [false, true] {
            let buckets = [(0.5, 10), (33.0, 500), (1000.0, 90), (1031.25, 400)];
            let (bars, width) = bars(&buckets, logarithmic);
            let sum: f64 = bars.iter().filter_map(|(_, share)| *share).sum();
            assert!((sum - 100.0).abs() < 0.1, "{sum}");
            assert!(width > 0.0);
        }
    }
}
