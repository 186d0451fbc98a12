//! The run over time: a chart for each kind of figure, all over the same seconds.

use crate::report::RunReport;
use crate::report::chart::{Chart, Points, Series, Unit};
use crate::timeline::{Sample, Usage};

const TIME: &str = "seconds since the first dial";
/// The seconds that are drawn, and what began when.
struct Seconds<'a> {
    samples: &'a [Sample],
    marks: Vec<(f64, String)>,
}

/// The charts, of which those without values are left out when drawn.
pub(super) fn over_time(report: &RunReport) -> Vec<Chart> {
    let timeline = &report.timeline;
    let marks = timeline.marks.iter();
    let seconds = Seconds {
        samples: &timeline.samples,
        marks: marks.map(|mark| (mark.at_s, mark.what.clone())).collect(),
    };
    let mut charts = seconds.deliveries();
    charts.extend(seconds.costs());
    charts
}

#[expect(clippy::cast_precision_loss, reason = "for drawing")]
impl Seconds<'_> {
    fn deliveries(&self) -> Vec<Chart> {
        let latency = |of: fn(&Sample) -> f64| {
            self.each(|sample| (sample.latency.count > 0).then(|| of(sample)))
        };
        let viewers = self.each(|sample| Some(sample.viewers_up as f64));
        vec![
            Chart {
                may_be_logarithmic: true,
                ..self.chart(
                    "Latency, scheduled post to viewer, of each second",
                    "milliseconds",
                    vec![
                        ("p50", latency(|sample| sample.latency.p50_ms)),
                        ("p90", latency(|sample| sample.latency.p90_ms)),
                        ("p99", latency(|sample| sample.latency.p99_ms)),
                        ("max", latency(|sample| sample.latency.max_ms)),
                    ],
                )
            },
            self.chart(
                "Viewers connected",
                "viewers",
                vec![("viewers up", viewers)],
            ),
            self.chart(
                "Frames delivered, over all viewers",
                "frames per second",
                vec![("frames/s", self.rate(|sample| sample.frames))],
            ),
            self.chart(
                "Comments delivered, over all viewers",
                "viewer-comments per second",
                vec![("comments/s", self.rate(|sample| sample.comments))],
            ),
            Chart {
                unit: Unit::Bytes,
                ..self.chart(
                    "Payload delivered, over all viewers",
                    "bytes per second",
                    vec![("payload/s", self.rate(|sample| sample.bytes))],
                )
            },
            self.chart(
                "Posts and errors",
                "per second",
                vec![
                    (
                        "posts acknowledged/s",
                        self.rate(|sample| sample.acknowledged),
                    ),
                    ("errors/s", self.rate(|sample| sample.errors)),
                ],
            ),
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
                    "How late the generator posted",
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

    /// A count of each second. The last one is cut short: what arrives in bursts would seem to come faster in it.
    fn rate(&self, count: fn(&Sample) -> u64) -> Points {
        self.each(|sample| Some(count(sample) as f64 / sample.interval_s.max(1.0)))
    }
}
