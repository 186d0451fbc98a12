//! Charts over time, one per kind of figure, all with the same time axis.

use crate::report::RunReport;
use crate::report::chart::{Chart, Points, Series, Unit};
use crate::session::Event;
use crate::table::{amount, count, figure};
use crate::timeline::{Sample, Usage};

use super::slow::connected_note;

const TIME: &str = "seconds since the first connect";
/// Milliseconds of a second.
const SECOND_MS: u64 = 1000;
/// Most events noted below the chart of viewers.
const EVENTS_NOTED_MAX: usize = 3;
/// What counts as an error.
const ERRORS_NOTE: &str = "Viewers that could not connect or were disconnected, including by the scenario's own restart, \
                           and posts refused or unanswered.";
/// Fewest seconds on either side that a mean covers. With one, a tick of slightly more than a second that skips a second would
/// look like a drop by a third.
const REACH_MIN: usize = 2;
/// Most seconds on either side that a mean covers: more would hide real outages.
const REACH_MAX: usize = 5;
/// A latency of this many windows is so long that a linear axis would flatten the usual ones.
const WINDOWS_LINEAR_MAX: f64 = 8.0;
/// Relative width of the latency buckets of a second.
const BUCKET_WIDTH: f64 = 1.0 / 32.0;

/// The seconds to draw, and when each phase began.
struct Seconds<'a> {
    samples: &'a [Sample],
    marks: Vec<(f64, String)>,
    window_ms: u64,
}

/// The charts; those without values are not drawn.
pub(super) fn over_time(report: &RunReport) -> Vec<Chart> {
    let timeline = &report.timeline;
    let marks = timeline.marks.iter();
    let seconds = Seconds {
        samples: &timeline.samples,
        marks: marks.map(|mark| (mark.at_s, mark.what.clone())).collect(),
        window_ms: report.setup.window_ms,
    };
    let mut charts = seconds.latencies();
    charts.push(seconds.connected(report));
    charts.extend(seconds.deliveries());
    charts.extend(seconds.posts());
    charts.extend(seconds.costs());
    charts
}

#[expect(clippy::cast_precision_loss, reason = "for drawing")]
impl Seconds<'_> {
    /// Latency per second. Most of it is the window, so the part beyond it has its own chart.
    fn latencies(&self) -> Vec<Chart> {
        let latency = |of: fn(&Sample) -> f64| {
            self.bridged(self.each(|sample| (sample.latency.count > 0).then(|| of(sample))))
        };
        let window_ms = self.window_ms as f64;
        let beyond = |of: fn(&Sample) -> f64| {
            let less =
                |(at, value): (f64, Option<f64>)| (at, value.map(|ms| (ms - window_ms).max(0.0)));
            latency(of).into_iter().map(less).collect()
        };
        let p99 = |sample: &Sample| sample.latency.p99_ms;
        let max = |sample: &Sample| sample.latency.max_ms;
        let mut whole = self.chart(
            "Latency from scheduled post to viewer, per second",
            "milliseconds",
            vec![
                ("p50", latency(|sample| sample.latency.p50_ms)),
                ("p99", latency(p99)),
            ],
        );
        let slowest_ms = self.samples.iter().map(max).fold(0.0, f64::max);
        // A linear axis does for a few windows; the first comments, which wait for no window, do not need another.
        whole.may_be_logarithmic = slowest_ms > window_ms * WINDOWS_LINEAR_MAX;
        if self.window_ms == 0 {
            whole.series.push(Series::line("max", latency(max)));
            return vec![whole];
        }
        whole.note = Some(format!(
            "Includes the window of {} ms; a comment waits for half of it on average.",
            count(self.window_ms)
        ));
        let past = Chart {
            note: Some(format!(
                "The same minus the window. The maximum is exact; p99 may be up to {} ms too high.",
                figure(window_ms * BUCKET_WIDTH)
            )),
            ..self.chart(
                "Latency beyond the window, per second",
                "milliseconds",
                vec![("p99", beyond(p99)), ("max", beyond(max))],
            )
        };
        vec![whole, past]
    }

    /// The viewers connected at the end of each second, with a note on what happened in between.
    fn connected(&self, report: &RunReport) -> Chart {
        let viewers = self.each(|sample| Some(sample.viewers_up as f64));
        let away = report.events.iter().filter(|event| !event.is_churn());
        let mut notes: Vec<String> = away.take(EVENTS_NOTED_MAX).map(noted).collect();
        if !notes.is_empty() {
            notes.insert(0, "Sampled once a second.".to_owned());
        }
        notes.extend(connected_note(report).map(str::to_owned));
        Chart {
            note: (!notes.is_empty()).then(|| notes.join(" ")),
            ..self.chart(
                "Viewers connected",
                "viewers",
                vec![("viewers up", viewers)],
            )
        }
    }

    fn deliveries(&self) -> Vec<Chart> {
        let mean = |title, y_label, name, count: fn(&Sample) -> u64| Chart {
            note: Some(self.mean_note()),
            ..self.chart(title, y_label, vec![(name, self.mean_rate(count))])
        };
        vec![
            mean(
                "Frames delivered, over all viewers",
                "frames per second",
                "frames/s",
                |sample| sample.frames,
            ),
            mean(
                "Comments delivered, over all viewers",
                "viewer-comments per second",
                "comments/s",
                |sample| sample.comments,
            ),
            Chart {
                unit: Unit::Bytes,
                ..mean(
                    "Payload delivered, over all viewers",
                    "bytes per second",
                    "payload/s",
                    |sample| sample.bytes,
                )
            },
        ]
    }

    /// Posts and errors, on separate axes: a restart that closes a thousand connections would flatten the posts.
    fn posts(&self) -> Vec<Chart> {
        let posts = (
            "posts acknowledged/s",
            self.rate(|sample| sample.acknowledged),
        );
        let errors = ("errors/s", self.rate(|sample| sample.errors));
        let label = "per second";
        if self.samples.iter().all(|sample| sample.errors == 0) {
            return vec![self.chart("Posts and errors", label, vec![posts, errors])];
        }
        vec![
            self.chart("Posts acknowledged", label, vec![posts]),
            Chart {
                note: Some(ERRORS_NOTE.to_owned()),
                ..self.chart("Errors", label, vec![errors])
            },
        ]
    }

    fn costs(&self) -> Vec<Chart> {
        let server = |of: fn(&Usage) -> f64| self.each(|sample| sample.server.as_ref().map(of));
        let generator =
            |of: fn(&Usage) -> f64| self.each(|sample| sample.generator.as_ref().map(of));
        let lateness = |of: fn(&Sample) -> f64| {
            self.each(|sample| (sample.lateness.count > 0).then(|| of(sample)))
        };
        let kernel = self.each(|sample| sample.kernel_tcp_bytes.map(|bytes| bytes as f64));
        let server_kernel =
            self.each(|sample| sample.server_kernel_tcp_bytes.map(|bytes| bytes as f64));
        vec![
            self.chart(
                "CPU",
                "percent of one CPU",
                vec![
                    ("server, user", server(|usage| usage.user_percent)),
                    ("server, kernel", server(|usage| usage.system_percent)),
                    ("generator, user + kernel", generator(Usage::cpu_percent)),
                ],
            ),
            Chart {
                unit: Unit::Bytes,
                ..self.chart(
                    "Memory",
                    "bytes",
                    vec![
                        (
                            "server, resident",
                            server(|usage| usage.resident_bytes as f64),
                        ),
                        (
                            "server, anonymous",
                            server(|usage| usage.anonymous_bytes as f64),
                        ),
                        ("kernel TCP, this machine", kernel),
                        (
                            "generator, resident",
                            generator(|usage| usage.resident_bytes as f64),
                        ),
                        ("kernel TCP, the server's machine", server_kernel),
                    ],
                )
            },
            Chart {
                may_be_logarithmic: true,
                ..self.chart(
                    "Generator lateness",
                    "milliseconds",
                    vec![
                        ("p99", lateness(|sample| sample.lateness.p99_ms)),
                        ("max", lateness(|sample| sample.lateness.max_ms)),
                    ],
                )
            },
        ]
    }

    fn chart(
        &self,
        title: &str,
        y_label: &'static str,
        series: Vec<(&'static str, Points)>,
    ) -> Chart {
        Chart {
            title: title.to_owned(),
            y_label,
            x_label: TIME,
            x_from: Some(0.0),
            series: series
                .into_iter()
                .map(|(name, points)| Series::line(name, points))
                .collect(),
            marks: self.marks.clone(),
            ..Chart::default()
        }
    }

    fn each(&self, value: impl Fn(&Sample) -> Option<f64>) -> Points {
        self.samples
            .iter()
            .map(|sample| (sample.t_s, value(sample)))
            .collect()
    }

    /// A count per second, without the last one: it is cut short, and a burst in it would give too high a rate.
    fn rate(&self, count: fn(&Sample) -> u64) -> Points {
        self.each(|sample| Some(count(sample) as f64 / sample.interval_s.max(1.0)))
    }

    /// Closes gaps no longer than the time between bursts; in a longer one really nothing arrived.
    fn bridged(&self, points: Points) -> Points {
        let mut bridged = Points::new();
        let mut gap = Points::new();
        for point in points {
            if point.1.is_none() {
                gap.push(point);
                continue;
            }
            if gap.len() > self.window_s().clamp(1, REACH_MAX) {
                bridged.append(&mut gap);
            }
            gap.clear();
            bridged.push(point);
        }
        bridged.append(&mut gap);
        bridged
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

    /// Why a rate is a mean over several seconds.
    fn mean_note(&self) -> String {
        let means = format!("Means of {} seconds", 2 * self.reach() + 1);
        match self.window_ms {
            0..SECOND_MS => format!("{means}."),
            SECOND_MS => {
                format!(
                    "{means}: rooms tick about once a second, so one second may have no tick or two."
                )
            }
            _ => format!(
                "{means}: rooms tick about once every {} seconds, so a second may have no tick.",
                amount(self.window_ms as f64 / SECOND_MS as f64)
            ),
        }
    }

    /// A rate as the mean over the surrounding seconds, fewer at the ends.
    fn mean_rate(&self, count: fn(&Sample) -> u64) -> Points {
        let reach = self.reach();
        let mean_at = |index: usize| {
            let last = (index + reach + 1).min(self.samples.len());
            let around = &self.samples[index.saturating_sub(reach)..last];
            let sum = around
                .iter()
                .fold(0_u64, |sum, sample| sum.saturating_add(count(sample)));
            // The last one is cut short: a burst in it would give too high a rate.
            let seconds: f64 = around.iter().map(|it| it.interval_s.max(1.0)).sum();
            sum as f64 / seconds
        };
        self.samples
            .iter()
            .enumerate()
            .map(|(index, sample)| (sample.t_s, Some(mean_at(index))))
            .collect()
    }
}

/// How many lost the connection and when they were back, often within the same second.
fn noted(event: &Event) -> String {
    let back = match event.last_back_s {
        Some(seconds) => format!("all back after {} s", figure(seconds)),
        None => format!("{} back", count(event.back)),
    };
    format!("{}: {} cut off, {back}.", event.what, count(event.viewers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{faulty_report, sample_report};

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

    /// Regression: a tick that fell just after the end of its second looked like an outage.
    #[test]
    fn a_burst_at_the_edge_of_a_second_does_not_look_like_an_outage() {
        let edge = means(&[90, 90, 0, 180, 90, 90, 90], 1000);
        assert!(edge.iter().all(|mean| *mean >= 60.0), "{edge:?}");
        assert_eq!(edge[3], 90.0);
        let outage = means(&[90, 90, 0, 0, 0, 0, 0, 90, 90], 1000);
        assert_eq!(
            outage,
            [60.0, 45.0, 36.0, 18.0, 0.0, 18.0, 36.0, 45.0, 60.0]
        );
    }

    /// Regression: a tick of 1.05 windows skips a second without a double one beside it, and a third was missing there.
    #[test]
    fn a_skipped_second_does_not_look_like_a_dip() {
        let means = means(&[90, 90, 90, 90, 0, 90, 90, 90, 90], 1000);
        assert!(means[2..7].iter().all(|mean| *mean == 72.0), "{means:?}");
    }

    #[test]
    fn the_note_of_a_mean_fits_the_window() {
        let note = |window_ms| {
            Seconds {
                samples: &[],
                marks: Vec::new(),
                window_ms,
            }
            .mean_note()
        };
        assert_eq!(
            note(1000),
            "Means of 5 seconds: rooms tick about once a second, so one second may have no tick or two."
        );
        assert_eq!(note(0), "Means of 5 seconds.");
        assert_eq!(note(100), note(0));
        assert_eq!(
            note(3000),
            "Means of 7 seconds: rooms tick about once every 3 seconds, so a second may have no tick."
        );
    }

    #[test]
    fn a_long_window_does_not_look_like_outages() {
        let means = means(&[0, 0, 300, 0, 0, 300, 0, 0, 300], 3000);
        assert!(means.iter().all(|mean| *mean > 50.0), "{means:?}");
    }

    fn chart(report: &RunReport, title: &str) -> Option<Chart> {
        over_time(report).into_iter().find(|it| it.title == title)
    }

    #[test]
    fn viewers_cut_off_and_back_between_two_samples_are_noted() {
        let note = |report: &RunReport| chart(report, "Viewers connected").unwrap().note;
        let mut report = sample_report();
        assert_eq!(
            note(&report).unwrap(),
            "Sampled once a second. storm: 500 cut off, all back after 1.25 s."
        );
        report.events[0].last_back_s = None;
        report.events[0].back = 499;
        let some = note(&report).unwrap();
        assert!(some.ends_with("storm: 500 cut off, 499 back."), "{some}");
        report.events[0].what = "churn".to_owned();
        assert_eq!(note(&report), None);
        let slow = note(&faulty_report()).unwrap();
        assert!(slow.contains("s. A viewer that does not read"), "{slow}");
    }

    #[test]
    fn errors_have_their_own_axis_if_there_are_any() {
        let mut report = sample_report();
        let both = chart(&report, "Posts and errors").unwrap();
        assert_eq!(both.series.len(), 2);
        report.timeline.samples[3].errors = 1000;
        assert!(chart(&report, "Posts and errors").is_none());
        for title in ["Posts acknowledged", "Errors"] {
            assert_eq!(chart(&report, title).unwrap().series.len(), 1, "{title}");
        }
    }

    #[test]
    fn only_several_seconds_without_a_burst_are_a_gap() {
        let seconds = Seconds {
            samples: &[],
            marks: Vec::new(),
            window_ms: 1000,
        };
        let gaps = |values: &[Option<f64>]| {
            let points = values.iter().map(|value| (0.0, *value)).collect();
            let bridged = seconds.bridged(points);
            bridged.iter().filter(|(_, value)| value.is_none()).count()
        };
        let some = Some(5.0);
        assert_eq!(gaps(&[some, None, some]), 0);
        assert_eq!(gaps(&[some, None, None, some]), 2);
    }
}
