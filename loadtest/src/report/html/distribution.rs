//! Latency distributions of a run: histograms and percentiles.

use crate::report::RunReport;
use crate::report::chart::{Chart, Form, Points, Series, plain};
use crate::table::{count, figure};

const BARS: u32 = 60;
/// Above this ratio of maximum to median the axis is logarithmic.
const TAIL_FROM: f64 = 8.0;

/// The charts; empty without deliveries.
pub(super) fn distributions(report: &RunReport) -> Vec<Chart> {
    let mut charts = vec![whole(report), beyond(report)];
    charts.push(
        report
            .histograms
            .contains_key(EVERY)
            .then(|| by_percentile(report)),
    );
    charts.into_iter().flatten().collect()
}

/// The name of the histogram of all latencies.
const EVERY: &str = "post_to_viewer";
/// The name of the histogram that is judged.
const BEYOND: &str = "post_to_viewer_beyond_window";

fn whole(report: &RunReport) -> Option<Chart> {
    let histogram = report.histograms.get(EVERY)?;
    let summary = &histogram.summary;
    let logarithmic = summary.max_ms > summary.p50_ms * TAIL_FROM;
    let title = "Latency from scheduled post to viewer, all deliveries";
    let marks = [("p50", summary.p50_ms), ("p99", summary.p99_ms)];
    Some(Chart {
        note: report.has_window().then(|| {
            format!(
                "Includes the window of {} ms.",
                count(report.setup.window_ms)
            )
        }),
        ..spread(
            title,
            &histogram.buckets,
            total(&histogram.buckets),
            logarithmic,
            &marks,
        )
    })
}

/// The judged latency. Without a window it would be the same as the whole.
fn beyond(report: &RunReport) -> Option<Chart> {
    let histogram = report.histograms.get(BEYOND)?;
    let is_late = |bucket: &&(f64, u64)| bucket.0 > 0.0;
    let late: Vec<(f64, u64)> = histogram.buckets.iter().filter(is_late).copied().collect();
    if !report.has_window() || late.is_empty() {
        return None;
    }
    let (all, drawn) = (total(&histogram.buckets), total(&late));
    let summary = &histogram.summary;
    let logarithmic = median(&late)? * TAIL_FROM < late.last()?.0;
    let stages = if report.ends.stalled.is_some() {
        " Before and during the stall combined."
    } else {
        ""
    };
    Some(Chart {
        note: Some(format!(
            "{} % of all deliveries arrived within the window of {} ms and are not shown.{stages}",
            figure(100.0 - share(drawn, all)),
            count(report.setup.window_ms)
        )),
        ..spread(
            "Latency beyond the window, all deliveries",
            &late,
            all,
            logarithmic,
            &[("p99", summary.p99_ms), ("max", summary.max_ms)],
        )
    })
}

/// Bars over milliseconds, with the named values as marks.
fn spread(
    title: &str,
    buckets: &[(f64, u64)],
    all: u64,
    logarithmic: bool,
    marks: &[(&str, f64)],
) -> Chart {
    let (bars, width) = bars(buckets, all, logarithmic);
    let first = bars.first().map_or(0.0, |(at, _)| *at);
    let last = bars.last().map_or(0.0, |(at, _)| at + width);
    let x_ticks = (-3..=6)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)))
        .map(|ms| (place(ms, true), plain(ms)))
        .filter(|(at, _)| logarithmic && (first..=last).contains(at));
    Chart {
        title: title.to_owned(),
        y_label: "percent of deliveries",
        x_label: if logarithmic {
            "milliseconds (log scale)"
        } else {
            "milliseconds"
        },
        x_ticks: x_ticks.collect(),
        series: vec![Series {
            name: "deliveries",
            points: bars,
            form: Form::Bars(width),
        }],
        marks: marks
            .iter()
            .map(|(name, ms)| {
                let text = format!("{name} {} ms", figure(*ms));
                // The last bucket ends a little below the maximum when that is rounded.
                (place(*ms, logarithmic).min(last), text)
            })
            .collect(),
        ..Chart::default()
    }
}

fn by_percentile(report: &RunReport) -> Chart {
    let curve = |name: &'static str, key: &str| {
        let points = report.histograms.get(key).map(|histogram| {
            histogram
                .percentiles
                .iter()
                .filter(|(percent, _)| (50.0..100.0).contains(percent))
                // Zero cannot be drawn on a logarithmic axis.
                .map(|(percent, ms)| (nines(*percent), Some(*ms).filter(|ms| *ms > 0.0)))
                .collect()
        });
        Series::line(name, points.unwrap_or_default())
    };
    let mut series = vec![
        curve("post to viewer", EVERY),
        curve("post to seal", "post_to_seal"),
        curve("seal to first viewer", "seal_to_first_viewer"),
        curve("first to last viewer", "first_to_last_viewer"),
    ];
    if report.has_window() {
        series.push(curve("post to viewer, beyond the window", BEYOND));
    }
    Chart {
        title: "Latency by percentile".to_owned(),
        y_label: "milliseconds",
        x_label: "percent of deliveries (or comments) at or below",
        series,
        x_ticks: [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99]
            .map(|percent| (nines(percent), format!("{percent}")))
            .into(),
        may_be_logarithmic: true,
        ..Chart::default()
    }
}

fn place(ms: f64, logarithmic: bool) -> f64 {
    if logarithmic {
        ms.max(1e-3).log10()
    } else {
        ms
    }
}

/// Upper bound of the bucket with the median.
fn median(buckets: &[(f64, u64)]) -> Option<f64> {
    let half = total(buckets).div_ceil(2);
    let mut seen = 0;
    let middle = buckets.iter().find(|(_, count)| {
        seen += count;
        seen >= half
    });
    middle.map(|(edge, _)| *edge)
}

fn total(buckets: &[(f64, u64)]) -> u64 {
    buckets.iter().map(|(_, count)| count).sum()
}

#[expect(clippy::cast_precision_loss, reason = "for drawing")]
fn share(part: u64, all: u64) -> f64 {
    part as f64 / all.max(1) as f64 * 100.0
}

impl RunReport {
    /// Whether latencies include a window, which says nothing about the server.
    fn has_window(&self) -> bool {
        self.setup.window_ms > 0
    }
}

/// 90 percent is 1, 99 is 2, 99.9 is 3.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).max(1e-9).log10()
}

/// The buckets of a histogram as bars of equal width, in percent of `all`: what a bucket holds is spread over the bars it
/// touches.
fn bars(buckets: &[(f64, u64)], all: u64, logarithmic: bool) -> (Points, f64) {
    let place = |ms: f64| place(ms, logarithmic);
    let below = |edge: f64| place(edge * 32.0 / 33.0);
    let (Some((first, _)), Some((last, _))) = (buckets.first(), buckets.last()) else {
        return (Vec::new(), 1.0);
    };
    let low = if logarithmic { below(*first) } else { 0.0 };
    let width = ((place(*last) - low) / f64::from(BARS)).max(1e-6);
    let mut shares = vec![0.0; BARS as usize];
    for (edge, count) in buckets {
        let (from, to) = (below(*edge), place(*edge));
        let percent = share(*count, all);
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
    use crate::report::Histogram;
    use crate::report::tests::sample_report;
    use crate::swarm::StalledEnds;

    #[test]
    fn bars_hold_everything() {
        for logarithmic in [false, true] {
            let buckets = [(0.5, 10), (33.0, 500), (1000.0, 90), (1031.25, 400)];
            let (bars, width) = bars(&buckets, 1000, logarithmic);
            let sum: f64 = bars.iter().filter_map(|(_, share)| *share).sum();
            assert!((sum - 100.0).abs() < 0.1, "{sum}");
            assert!(width > 0.0);
        }
    }

    #[test]
    fn latencies_within_the_window_are_counted_but_have_no_bar() {
        let mut report = sample_report();
        assert!(beyond(&report).is_none());
        let mut histogram = Histogram {
            buckets: vec![(0.0, 900), (2.0, 80), (40.0, 20)],
            ..Histogram::default()
        };
        histogram.summary.p99_ms = 40.0;
        report.histograms.insert(BEYOND.to_owned(), histogram);
        let chart = beyond(&report).unwrap();
        assert!(chart.note.unwrap().starts_with("90.0 % of all"));
        let mut stalled = report.clone();
        stalled.ends.stalled = Some(StalledEnds::default());
        let note = beyond(&stalled).unwrap().note.unwrap();
        assert!(note.ends_with("during the stall combined."), "{note}");
        let drawn: f64 = chart.series[0].points.iter().filter_map(|it| it.1).sum();
        assert!((drawn - 10.0).abs() < 0.1, "{drawn}");
        report.setup.window_ms = 0;
        assert!(beyond(&report).is_none());
        assert_eq!(distributions(&report).len(), 2);
    }
}
