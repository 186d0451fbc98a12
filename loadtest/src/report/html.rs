//! A run as one page: the verdict, the figures, the run over time, the distribution of latencies, all tables.
//!
//! The page needs nothing but itself: no script, no font, no picture from elsewhere.

mod scenario;

use std::fmt::Write as _;

use crate::report::RunReport;
use crate::report::chart::{Chart, Form, Series, Unit, escape, plain};
use crate::table::{Table, bytes, bytes_f64, count, figure, rate};
use crate::timeline::{Sample, Usage};

const CSS: &str = include_str!("page.css");
const TIME: &str = "seconds since the first dial";
/// A last second shorter than this has no rates to speak of.
const INTERVAL_MIN_S: f64 = 0.5;
const BARS: u32 = 60;
/// From this ratio of the maximum to the median on, the distribution is drawn over a logarithmic axis.
const TAIL_FROM: f64 = 8.0;

/// The page.
pub(super) fn page(report: &RunReport) -> String {
    let setup = &report.setup;
    let what = report.scenario.as_ref().map_or_else(
        || "danmaku-loadtest".to_owned(),
        |scenario| format!("danmaku-loadtest {}", scenario.fields.scenario.name()),
    );
    let title = format!("{what}: {} viewers", count(setup.viewers.into()));
    let tone = match (report.passed, report.partial) {
        (false, _) => "bad",
        (true, true) => "warn",
        (true, false) => "good",
    };
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{CSS}</style></head><body><h1>{}</h1>",
        escape(&title),
        escape(&title)
    );
    let _ = write!(
        html,
        "<p class=\"soft\">{} · {} {} · {} · {}</p><p class=\"verdict {tone}\">{}</p>",
        escape(&setup.url),
        count(setup.rooms.into()),
        if setup.rooms == 1 { "room" } else { "rooms" },
        escape(&setup.encodings.join(", ")),
        escape(&date(report.timeline.started_unix_ms)),
        escape(&report.verdict)
    );
    tiles(report, &mut html);
    scenario::write_scenario(report, &mut html);
    section("Over time", &over_time(report), &mut html);
    section(
        "How the latencies are spread",
        &distributions(report),
        &mut html,
    );
    scenario::write_rooms(report, &mut html);
    html.push_str("<h2>All figures</h2><div class=\"tables\">");
    for table in report.figures() {
        write_table(&table, &mut html);
    }
    html.push_str("</div>");
    repeat(report, &mut html);
    html.push_str("</body></html>\n");
    html
}

fn section(title: &str, charts: &[Chart], html: &mut String) {
    let charts: Vec<String> = charts.iter().filter_map(Chart::render).collect();
    if !charts.is_empty() {
        let _ = write!(
            html,
            "<h2>{}</h2><div class=\"charts\">{}</div>",
            escape(title),
            charts.concat()
        );
    }
}

fn tiles(report: &RunReport, html: &mut String) {
    let audit = &report.audit;
    let wrong = audit.lost + audit.duplicate + audit.reordered + audit.corrupt;
    let mut tiles = vec![
        (count(report.connect.viewers), "viewers connected"),
        (count(report.total.frames), "frames delivered"),
        (count(audit.delivered), "viewer-comments audited"),
        (count(wrong), "lost, duplicate, reordered or corrupt"),
    ];
    if report.total.frames > 0 {
        tiles.push((rate(report.total.frames_per_s), "frames/s"));
        tiles.push((
            format!("{}/s", bytes_f64(report.total.bytes_per_s)),
            "payload",
        ));
    }
    if let Some(histogram) = report.histograms.get("post_to_viewer") {
        let ms = |ms: f64| format!("{} ms", figure(ms));
        tiles.push((ms(histogram.summary.p50_ms), "post to viewer, median"));
        tiles.push((ms(histogram.summary.p99_ms), "post to viewer, p99"));
    }
    if let Some(server) = &report.server {
        tiles.push((
            format!("{} µs", figure(server.frame_micros)),
            "server CPU per delivered frame",
        ));
        if let Some(memory) = server.memory {
            tiles.push((bytes(memory.resident_bytes), "server memory at the end"));
        }
    }
    if let Some(ratio) = report.floor.and_then(|floor| floor.ratio) {
        tiles.push((format!("{ratio:.2} x"), "server CPU over the floor's"));
    }
    html.push_str("<ul class=\"tiles\">");
    for (figure, name) in tiles {
        let _ = write!(
            html,
            "<li><b>{}</b><span>{}</span></li>",
            escape(&figure),
            escape(name)
        );
    }
    html.push_str("</ul>");
}

/// One value of every sample.
type Points = Vec<(f64, Option<f64>)>;

/// The seconds that are drawn, and what began when.
struct Seconds<'a> {
    samples: &'a [Sample],
    marks: Vec<(f64, String)>,
}

fn over_time(report: &RunReport) -> Vec<Chart> {
    let timeline = &report.timeline;
    let mut samples: &[Sample] = &timeline.samples;
    if let Some((last, before)) = samples.split_last()
        && last.interval_s < INTERVAL_MIN_S
    {
        samples = before;
    }
    let marks = timeline.marks.iter();
    let seconds = Seconds {
        samples,
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

    fn rate(&self, count: fn(&Sample) -> u64) -> Points {
        self.each(|sample| Some(sample.per_second(count(sample))))
    }
}

fn distributions(report: &RunReport) -> Vec<Chart> {
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

/// A table of the terminal as one of the page.
fn write_table(table: &Table, html: &mut String) {
    let columns = table.rows().iter().map(Vec::len).max().unwrap_or_default();
    let _ = write!(
        html,
        "<div class=\"table\"><h3>{}</h3><table>",
        escape(table.title())
    );
    for row in table.rows() {
        let is_head = row.first().is_some_and(String::is_empty);
        html.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let text = escape(cell);
            let _ = match (index, is_head) {
                (_, true) => write!(html, "<th scope=\"col\">{text}</th>"),
                (0, false) => write!(html, "<th scope=\"row\">{text}</th>"),
                _ if row.len() == 2 => write!(
                    html,
                    "<td class=\"prose\" colspan=\"{}\">{text}</td>",
                    columns.saturating_sub(1).max(1)
                ),
                _ => write!(html, "<td>{text}</td>"),
            };
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
}

fn repeat(report: &RunReport, html: &mut String) {
    let setup = &report.setup;
    let machine = &setup.machine;
    let memory = machine.memory_bytes.map_or_else(String::new, |memory| {
        format!(", {} of memory", bytes(memory))
    });
    let cpu = machine
        .cpu
        .as_ref()
        .map_or_else(String::new, |cpu| format!(" ({cpu})"));
    let _ = write!(
        html,
        "<h2>To repeat it</h2><p><code>{}</code></p>\
         <p class=\"soft\">danmaku-loadtest {}, seed {}, report schema {} · {}, kernel {}, {} CPUs{}{}</p>",
        escape(&setup.command.join(" ")),
        escape(&setup.version),
        setup.seed,
        report.schema,
        escape(&machine.platform),
        escape(&machine.kernel),
        machine.cores,
        escape(&cpu),
        escape(&memory)
    );
}

/// `2026-01-31 09:30:00 UTC`, by the civil-from-days algorithm of H. Hinnant.
fn date(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{faulty_report, sample_report};

    #[test]
    fn every_series_is_on_the_page() {
        let page = page(&sample_report());
        for name in [
            "p50",
            "p90",
            "p99",
            "max",
            "Viewers connected",
            "Frames delivered",
            "Comments delivered",
            "Payload delivered",
            "posts acknowledged/s",
            "errors/s",
            "server, user",
            "server, kernel",
            "generator, user + kernel",
            "server, resident",
            "server, anonymous",
            "kernel TCP",
            "generator, resident",
            "How late the generator posted",
            "every delivery",
            "Latency by percentile",
            "post to seal",
            "seal to first viewer",
            "first to last viewer",
            "percent of one CPU",
            "milliseconds",
            "seconds since the first dial",
            "PASS: storm is within all",
            "danmaku-loadtest storm: 500 viewers",
            ">posting</text>",
            ">storm</text>",
            ">drain</text>",
        ] {
            assert!(page.contains(name), "{name}");
        }
        assert!(!page.contains("NaN"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&sample_report());
        for word in ["src=", "href=", "@import", "url(", "<script", "<link"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let mut report = faulty_report();
        let evil = "</style><script>alert('x')</script>\"";
        report.setup.url = evil.to_owned();
        report.setup.corpus = evil.to_owned();
        report.setup.command = vec![evil.to_owned()];
        report.verdict = evil.to_owned();
        report.posts.refused.insert(evil.to_owned(), 3);
        report.ends.faults.insert(evil.to_owned(), 3);
        report.timeline.marks[0].what = evil.to_owned();
        report.events[0].problem = Some(evil.to_owned());
        report.rooms = vec![report.rooms[0].clone(); 2];
        report.rooms[0].room = evil.to_owned();
        if let Some(scenario) = &mut report.scenario {
            scenario.checks[0].what = evil.to_owned();
            scenario.steps[1].failed = vec![evil.to_owned()];
        }
        report.counters = Some([(evil.to_owned(), 5.0)].into());
        let page = page(&report);
        assert!(!page.contains("<script"));
        assert_eq!(page.matches("</style>").count(), 1);
    }

    #[test]
    fn a_run_that_was_ended_before_it_began_has_a_page_too() {
        let mut report = RunReport::interrupted(sample_report().setup, 17);
        let page_of = page(&report);
        assert!(page_of.contains("17 of"), "{page_of}");
        report.timeline.samples.push(Sample::default());
        assert!(!page(&report).contains("NaN"));
    }

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

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_827_696_000), "2000-02-29 12:34:56 UTC");
        assert_eq!(date(1_767_225_599_999), "2025-12-31 23:59:59 UTC");
    }
}
