//! The charts of a run: second by second, and the distribution of its latencies.

use crate::latency::Distribution;
use crate::report::RunReport;
use crate::report::chart::{Chart, Points, Series};
use crate::table::{amount, count, figure};
use crate::timeline::{Sample, Usage};

const TIME: &str = "seconds since the first connect";
const SECOND_MS: u64 = 1000;
/// Seconds on either side that a mean covers. With one, a tick of slightly more than a second that skips a second would look
/// like a drop by a third; more would hide real outages.
const REACH_MIN: usize = 2;
const REACH_MAX: usize = 5;
/// A latency of this many windows is so long that a linear axis would flatten the usual ones.
const WINDOWS_LINEAR_MAX: f64 = 8.0;
const BARS: u32 = 60;
const DRAWN_PERCENT: f64 = 99.9;

/// The seconds to draw.
struct Seconds<'a> {
    samples: &'a [Sample],
    marks: Vec<(f64, String)>,
    window_ms: u64,
}

/// The charts over time; those without values are not drawn.
pub(super) fn over_time(report: &RunReport) -> Vec<Chart> {
    let marks = report.timeline.marks.iter();
    let seconds = Seconds {
        samples: &report.timeline.samples,
        marks: marks.map(|mark| (mark.at_s, mark.what.clone())).collect(),
        window_ms: report.setup.window_ms,
    };
    let mut charts = seconds.latencies();
    charts.push(Chart {
        note: report.ends.stalled.is_some().then(|| {
            "A slow viewer that was cut off counts as connected until it notices.".to_owned()
        }),
        ..seconds.chart(
            "Viewers connected",
            "at the end of each second",
            vec![("viewers up", seconds.each(|it| Some(to_f64(it.viewers_up))))],
        )
    });
    charts.extend(seconds.deliveries());
    charts.extend(seconds.posts());
    charts.extend(seconds.costs());
    charts
}

impl Seconds<'_> {
    /// Latency per second. Most of it is the window, so the part beyond it has its own chart.
    fn latencies(&self) -> Vec<Chart> {
        let latency = |window_ms: u64, of: fn(&Sample) -> f64| {
            self.each(|it| (it.latency.count > 0).then(|| (of(it) - to_f64(window_ms)).max(0.0)))
        };
        let (p99, max) = (
            |it: &Sample| it.latency.p99_ms,
            |it: &Sample| it.latency.max_ms,
        );
        let window = count(self.window_ms);
        let slowest_ms = self.samples.iter().map(max).fold(0.0, f64::max);
        let mut whole = self.chart(
            "Latency from scheduled post to viewer, per second",
            "milliseconds",
            vec![
                ("p50", latency(0, |it| it.latency.p50_ms)),
                ("p99", latency(0, p99)),
            ],
        );
        // A linear axis does for a few windows; the first comments, which wait for no window, do not need another.
        whole.may_be_logarithmic = slowest_ms > to_f64(self.window_ms) * WINDOWS_LINEAR_MAX;
        // In a shorter gap nothing was due.
        whole.bridged = self.window_s().clamp(1, REACH_MAX);
        if self.window_ms == 0 {
            whole.series.push(Series::new("max", latency(0, max)));
            return vec![whole];
        }
        let note = format!(
            "Includes the window of {window} ms; a comment waits for half of it on average."
        );
        let beyond = [
            ("p99", latency(self.window_ms, p99)),
            ("max", latency(self.window_ms, max)),
        ];
        let beyond = Chart {
            title: "Latency beyond the window, per second".to_owned(),
            note: Some("The same minus the window; within 1 % of the whole.".to_owned()),
            series: beyond
                .map(|(name, points)| Series::new(name, points))
                .into(),
            may_be_logarithmic: false,
            ..whole.clone()
        };
        vec![
            Chart {
                note: Some(note),
                ..whole
            },
            beyond,
        ]
    }

    fn deliveries(&self) -> [Chart; 3] {
        let mean = |title, y_label, count: fn(&Sample) -> u64| Chart {
            note: Some(self.mean_note()),
            ..self.chart(title, y_label, vec![("", self.mean_rate(count))])
        };
        [
            mean(
                "Frames delivered, over all viewers",
                "frames per second",
                |it| it.frames,
            ),
            mean(
                "Comments delivered, over all viewers",
                "viewer-comments per second",
                |it| it.comments,
            ),
            Chart {
                is_bytes: true,
                ..mean(
                    "Payload delivered, over all viewers",
                    "bytes per second",
                    |it| it.bytes,
                )
            },
        ]
    }

    /// Posts and errors, on separate axes: a restart that closes a thousand connections would flatten the posts.
    fn posts(&self) -> [Chart; 2] {
        // The last second is cut short, and a burst in it would give too high a rate.
        let rate = |count: fn(&Sample) -> u64| {
            self.each(|it| Some(to_f64(count(it)) / it.interval_s.max(1.0)))
        };
        let errors_note = "Viewers that could not connect or were disconnected, including by the scenario's own restart, and \
                           posts refused or unanswered.";
        let errors = if self.samples.iter().all(|it| it.errors == 0) {
            Points::new()
        } else {
            rate(|it| it.errors)
        };
        [
            self.chart(
                "Posts acknowledged",
                "per second",
                vec![("", rate(|it| it.acknowledged))],
            ),
            Chart {
                note: Some(errors_note.to_owned()),
                ..self.chart("Errors", "per second", vec![("", errors)])
            },
        ]
    }

    fn costs(&self) -> [Chart; 3] {
        let server = |of: fn(&Usage) -> f64| self.each(|it| it.server.as_ref().map(of));
        let generator = |of: fn(&Usage) -> f64| self.each(|it| it.generator.as_ref().map(of));
        let lateness =
            |of: fn(&Sample) -> f64| self.each(|it| (it.lateness.count > 0).then(|| of(it)));
        let cpu = vec![
            ("server, user", server(|usage| usage.user_percent)),
            ("server, kernel", server(|usage| usage.system_percent)),
            ("generator, user + kernel", generator(Usage::cpu_percent)),
        ];
        let memory = vec![
            (
                "server, resident",
                server(|usage| to_f64(usage.resident_bytes)),
            ),
            (
                "server, anonymous",
                server(|usage| to_f64(usage.anonymous_bytes)),
            ),
            (
                "kernel TCP, this machine",
                self.each(|it| it.kernel_tcp_bytes.map(to_f64)),
            ),
            (
                "generator, resident",
                generator(|usage| to_f64(usage.resident_bytes)),
            ),
            (
                "kernel TCP, the server's machine",
                self.each(|it| it.server_kernel_tcp_bytes.map(to_f64)),
            ),
        ];
        let late = vec![
            ("p99", lateness(|it| it.lateness.p99_ms)),
            ("max", lateness(|it| it.lateness.max_ms)),
        ];
        [
            self.chart("CPU", "percent of one CPU", cpu),
            Chart {
                is_bytes: true,
                ..self.chart("Memory", "bytes", memory)
            },
            Chart {
                may_be_logarithmic: true,
                ..self.chart("Generator lateness", "milliseconds", late)
            },
        ]
    }

    fn chart(
        &self,
        title: &str,
        y_label: &'static str,
        series: Vec<(&'static str, Points)>,
    ) -> Chart {
        let series = series.into_iter();
        Chart {
            title: title.to_owned(),
            y_label,
            x_label: TIME,
            series: series
                .map(|(name, points)| Series::new(name, points))
                .collect(),
            marks: self.marks.clone(),
            ..Chart::default()
        }
    }

    fn each(&self, value: impl Fn(&Sample) -> Option<f64>) -> Points {
        let samples = self.samples.iter();
        samples.map(|sample| (sample.t_s, value(sample))).collect()
    }

    /// A rate as the mean over the surrounding seconds, fewer at the ends.
    fn mean_rate(&self, count: fn(&Sample) -> u64) -> Points {
        let reach = self.reach();
        let mean_at = |index: usize| {
            let last = (index + reach + 1).min(self.samples.len());
            let around = &self.samples[index.saturating_sub(reach)..last];
            let sum = around
                .iter()
                .fold(0_u64, |sum, it| sum.saturating_add(count(it)));
            let seconds: f64 = around.iter().map(|it| it.interval_s.max(1.0)).sum();
            to_f64(sum) / seconds
        };
        let samples = self.samples.iter().enumerate();
        samples
            .map(|(index, sample)| (sample.t_s, Some(mean_at(index))))
            .collect()
    }

    /// Why a rate is a mean over several seconds.
    fn mean_note(&self) -> String {
        let means = format!("Means of {} seconds", 2 * self.reach() + 1);
        if self.window_ms < SECOND_MS {
            return format!("{means}.");
        }
        let window = amount(to_f64(self.window_ms) / to_f64(SECOND_MS));
        format!("{means}: rooms tick about every {window} s, so a second may have no tick, or two.")
    }

    /// Seconds on either side that a mean covers: as many as the window is long, so that every mean includes a burst unless
    /// something is wrong.
    fn reach(&self) -> usize {
        self.window_s().clamp(REACH_MIN, REACH_MAX)
    }

    /// The window in whole seconds.
    fn window_s(&self) -> usize {
        usize::try_from(self.window_ms.div_ceil(SECOND_MS)).unwrap_or(REACH_MAX)
    }
}

/// How latencies are distributed; empty without deliveries.
pub(super) fn distributions(report: &RunReport) -> Vec<Chart> {
    let Some(all) = report.distributions.get("post_to_viewer") else {
        return Vec::new();
    };
    let window_ms = report.setup.window_ms;
    let summary = all.summary();
    let marks = [("p50", summary.p50_ms), ("p99", summary.p99_ms)];
    let mut curves = vec![("post to viewer", curve(all))];
    for (name, key) in [
        ("post to seal", "post_to_seal"),
        ("seal to first viewer", "seal_to_first_viewer"),
        ("first to last viewer", "first_to_last_viewer"),
    ] {
        curves.extend(report.distributions.get(key).map(|it| (name, curve(it))));
    }
    if window_ms > 0 {
        curves.push((
            "post to viewer, beyond the window",
            curve(&all.beyond(window_ms)),
        ));
    }
    vec![
        Chart {
            title: "Latency from scheduled post to viewer, all deliveries".to_owned(),
            note: (window_ms > 0)
                .then(|| format!("Includes the window of {} ms.", count(window_ms))),
            y_label: "percent of deliveries",
            x_label: "milliseconds, up to p99.9",
            series: vec![Series::new("", bars(all))],
            marks: marks
                .map(|(name, ms)| (ms, format!("{name} {} ms", figure(ms))))
                .into(),
            is_filled: true,
            ..Chart::default()
        },
        Chart {
            title: "Latency by percentile".to_owned(),
            y_label: "milliseconds",
            x_label: "percent of deliveries (or comments) at or below",
            series: curves
                .into_iter()
                .map(|(name, points)| Series::new(name, points))
                .collect(),
            x_ticks: [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99]
                .map(|percent| (nines(percent), percent.to_string()))
                .into(),
            may_be_logarithmic: true,
            ..Chart::default()
        },
    ]
}

/// Percentiles from the median on, as many nines as there are values for.
fn curve(distribution: &Distribution) -> Points {
    let percents = [
        50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99,
    ];
    let ms = |percent| Some(distribution.percentile_ms(percent)).filter(|ms| *ms > 0.0);
    percents.map(|percent| (nines(percent), ms(percent))).into()
}

/// 90 percent is 1, 99 is 2, 99.9 is 3.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).max(1e-9).log10()
}

/// The shares of all values, in percent, from the edge of each bar to the next, as far as nearly all values reach: how long
/// the tail is, percentiles show better.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index of a bar"
)]
fn bars(distribution: &Distribution) -> Points {
    let width = distribution.percentile_ms(DRAWN_PERCENT).max(0.001) / f64::from(BARS);
    let mut shares = [0.0; BARS as usize + 1];
    for (micros, count) in distribution.iter() {
        let bar = (to_f64(micros.saturating_sub(1)) / 1000.0 / width) as usize;
        if bar < BARS as usize {
            shares[bar] += 100.0 * to_f64(count) / to_f64(distribution.count());
        }
    }
    let edges = (0..=BARS).map(|bar| f64::from(bar) * width);
    edges.zip(shares.map(Some)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "for drawing")]
fn to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample_report;

    fn means(frames: &[u64], window_ms: u64) -> Vec<f64> {
        let mut samples: Vec<Sample> = (1_u32..)
            .zip(frames)
            .map(|(second, frames)| Sample {
                t_s: f64::from(second),
                interval_s: 1.0,
                frames: *frames,
                ..Sample::default()
            })
            .collect();
        samples.last_mut().unwrap().interval_s = 0.3;
        let seconds = Seconds {
            samples: &samples,
            marks: Vec::new(),
            window_ms,
        };
        let points = seconds.mean_rate(|sample| sample.frames);
        points.into_iter().filter_map(|(_, value)| value).collect()
    }

    /// Regression: a tick that fell just after the end of its second, or skipped one, looked like an outage.
    #[test]
    fn a_burst_at_the_edge_of_a_second_does_not_look_like_an_outage() {
        let edge = means(&[90, 90, 0, 180, 90, 90, 90], 1000);
        assert!(edge.iter().all(|mean| *mean >= 60.0), "{edge:?}");
        let skipped = means(&[90, 90, 90, 90, 0, 90, 90, 90, 90], 1000);
        assert!(
            skipped[2..7].iter().all(|mean| *mean == 72.0),
            "{skipped:?}"
        );
        let long = means(&[0, 0, 300, 0, 0, 300, 0, 0, 300], 3000);
        assert!(long.iter().all(|mean| *mean > 50.0), "{long:?}");
        let outage = means(&[90, 90, 0, 0, 0, 0, 0, 90, 90], 1000);
        assert_eq!(
            outage,
            [60.0, 45.0, 36.0, 18.0, 0.0, 18.0, 36.0, 45.0, 60.0]
        );
    }

    fn chart(report: &RunReport, title: &str) -> Chart {
        let mut charts = over_time(report).into_iter();
        charts.find(|it| it.title == title).unwrap()
    }

    #[test]
    fn errors_have_a_chart_if_there_are_any() {
        let mut report = sample_report();
        assert!(chart(&report, "Errors").render().is_none());
        report.timeline.samples[3].errors = 1000;
        assert!(chart(&report, "Errors").render().is_some());
    }

    #[test]
    fn bars_hold_every_value_but_the_tail() {
        let mut distribution = Distribution::default();
        for (micros, count) in [(500, 800), (30_000, 1000), (60_000, 199), (1_000_000, 1)] {
            distribution.record(micros, count);
        }
        let bars = bars(&distribution);
        let share = |bar: usize| bars[bar].1.unwrap();
        assert!(
            (share(0) - 40.0).abs() + (share(59) - 9.95).abs() < 0.01,
            "{bars:?}"
        );
        let sum: f64 = (0..=60).map(share).sum();
        assert!((sum - 99.95).abs() < 0.01, "{sum}");
    }

    #[test]
    fn the_part_beyond_the_window_is_drawn_if_there_is_a_window() {
        let mut report = sample_report();
        let curves = |report: &RunReport| distributions(report)[1].series.len();
        assert_eq!(curves(&report), 5);
        report.setup.window_ms = 0;
        assert_eq!(curves(&report), 4);
        report.distributions.clear();
        assert!(distributions(&report).is_empty());
    }
}
