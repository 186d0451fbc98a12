//! Compares two runs: what changed, and what got worse.

mod likeness;
mod limits;

use crate::report::{RunReport, ScenarioReport};
use crate::table::{COLUMNS_MAX, Table, amount, wrapped};

/// How two runs compare.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// Differences between the setups, one line each.
    pub(crate) unlike: Vec<String>,
    /// The figures.
    pub(crate) rows: Vec<Row>,
}

/// One figure of both runs.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) before: Option<f64>,
    pub(crate) after: Option<f64>,
    pub(crate) verdict: Change,
}

/// How a figure changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Within the tolerance, or neither better nor worse.
    Same,
    /// Better by more than the tolerance.
    Better,
    /// Worse by more than the tolerance.
    Worse,
    /// A limit that was met and no longer is.
    Broken,
    /// Only one of the runs has it.
    OneSided,
}

/// When a figure is worse.
#[derive(Clone, Copy, Debug)]
enum Sense {
    /// More is worse, if beyond the tolerance and by at least this much: less is noise.
    Lower { noise: f64 },
    /// Less is worse, beyond the tolerance.
    Higher,
    /// Any increase is worse.
    Fault,
}

/// How much repeated runs differ on a machine that does other things too: the server lets a busy
/// room's ticks drift by a twentieth of the window, so that two runs may be a tenth apart in all that waits for a tick.
const WINDOW_NOISE: f64 = 0.1;
const MEDIAN_NOISE_MS: f64 = 10.0;
const TAIL_NOISE_MS: f64 = 50.0;

impl Difference {
    /// Compares two runs; figures may get worse by `tolerance_percent`.
    pub(crate) fn of(before: &RunReport, after: &RunReport, tolerance_percent: f64) -> Self {
        let (left, right) = (figures(before), figures(after));
        let mut rows: Vec<Row> = left
            .into_iter()
            .zip(right)
            .filter(|((_, _, before), (_, _, after))| before.is_some() || after.is_some())
            .map(|((name, sense, before), (_, _, after))| Row {
                verdict: sense.judge(before, after, tolerance_percent),
                name,
                before,
                after,
            })
            .collect();
        rows.extend(limits::rows(before, after, tolerance_percent));
        Self {
            unlike: likeness::unlike(before, after),
            rows,
        }
    }

    /// Whether anything got worse.
    pub(crate) fn is_worse(&self) -> bool {
        self.rows.iter().any(|row| row.verdict.is_worse())
    }

    /// The comparison as text.
    pub(crate) fn render(&self, tolerance_percent: f64) -> String {
        let mut table = Table::new(format!(
            "A and B side by side; flagged if worse by more than {} %, faults and missed limits always",
            amount(tolerance_percent)
        ));
        table.row(["", "A", "B", "B / A", ""]);
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), amount);
        for row in &self.rows {
            let ratio = match (row.before, row.after) {
                (Some(before), Some(after)) if before > 0.0 => format!("{:.3}", after / before),
                _ => String::new(),
            };
            let flag = match row.verdict {
                Change::Same => "",
                Change::Better => "better",
                Change::Worse => "WORSE",
                Change::Broken => "WORSE, NOT MET",
                Change::OneSided => "only in one",
            };
            table.row([&row.name, &cell(row.before), &cell(row.after), &ratio, flag]);
        }
        let mut text = String::new();
        for line in &self.unlike {
            let lines = wrapped(&format!("the runs differ: {line}"), COLUMNS_MAX - 2);
            text.push_str(&format!("{}\n", lines.join("\n  ")));
        }
        if !self.unlike.is_empty() {
            text.push('\n');
        }
        text.push_str(&table.render());
        let worse = self
            .rows
            .iter()
            .filter(|row| row.verdict.is_worse())
            .count();
        text.push_str(&match worse {
            0 => "\nnothing got worse\n".to_owned(),
            1 => "\n1 figure got worse\n".to_owned(),
            worse => format!("\n{worse} figures got worse\n"),
        });
        text
    }
}

impl Change {
    fn is_worse(self) -> bool {
        matches!(self, Self::Worse | Self::Broken)
    }
}

impl Sense {
    fn judge(self, before: Option<f64>, after: Option<f64>, tolerance_percent: f64) -> Change {
        let (Some(before), Some(after)) = (before, after) else {
            return Change::OneSided;
        };
        let slack = before.abs() * tolerance_percent / 100.0;
        let grown = after - before;
        let (worse, better) = match self {
            Self::Lower { noise } => {
                let slack = slack.max(noise);
                (grown > slack, -grown > slack)
            }
            Self::Higher => (-grown > slack, grown > slack),
            Self::Fault => (grown > 0.0, grown < 0.0),
        };
        if worse {
            Change::Worse
        } else if better {
            Change::Better
        } else {
            Change::Same
        }
    }
}

/// A name with its unit, when it counts as worse, and its value in a report.
type Figure = (String, Sense, Option<f64>);

/// What is compared, in the order it is printed; the same list for every report.
fn figures(report: &RunReport) -> Vec<Figure> {
    let mut figures = faults(report);
    figures.extend(deliveries(report));
    figures.extend(returns(report));
    figures.extend(costs(report));
    figures
}

fn faults(report: &RunReport) -> Vec<Figure> {
    let audit = &report.audit;
    let unposted =
        report.posts.refused.values().sum::<u64>() + report.posts.failed.values().sum::<u64>();
    [
        ("failed", u64::from(!report.passed)),
        ("lost", audit.lost),
        ("duplicate", audit.duplicate),
        ("reordered", audit.reordered),
        ("corrupt", audit.corrupt),
        ("late", audit.late),
        ("shed", audit.shed),
        ("skipped", audit.skipped),
        ("evicted", report.ends.evicted),
        ("connections broken", report.ends.silent),
        ("posts refused or unanswered", unposted),
    ]
    .map(|(name, count)| (name.to_owned(), Sense::Fault, Some(to_f64(count))))
    .into()
}

fn deliveries(report: &RunReport) -> Vec<Figure> {
    let total = &report.total;
    let mut figures = vec![
        (
            "frames/s".to_owned(),
            Sense::Higher,
            Some(total.frames_per_s),
        ),
        (
            "comments/s".to_owned(),
            Sense::Higher,
            Some(total.comments_per_s),
        ),
    ];
    let tick = to_f64(report.setup.window_ms) * WINDOW_NOISE;
    for (title, name, waits) in [
        ("post to viewer", "post_to_viewer", true),
        ("post to last viewer", "post_to_last_viewer", true),
        ("post to seal", "post_to_seal", true),
        ("seal to first viewer", "seal_to_first_viewer", false),
        ("first to last viewer", "first_to_last_viewer", false),
        (
            "post to viewer beyond the window",
            "post_to_viewer_beyond_window",
            true,
        ),
        ("post to answer", "post_answer", false),
        ("connect", "connect", false),
    ] {
        let histogram = report.histograms.get(name);
        let summary = histogram.map(|histogram| histogram.summary);
        let drift = if waits { tick } else { 0.0 };
        for (quantile, noise, ms) in [
            (
                "p50",
                MEDIAN_NOISE_MS,
                summary.map(|summary| summary.p50_ms),
            ),
            ("p99", TAIL_NOISE_MS, summary.map(|summary| summary.p99_ms)),
        ] {
            let noise = drift.max(noise);
            let sense = Sense::Lower { noise };
            figures.push((format!("{title}, {quantile}, ms"), sense, ms));
        }
    }
    for encoding in ["identity", "gzip", "deflate"] {
        let traffic = report.traffic.get(encoding);
        figures.push((
            format!("{encoding}, bytes per comment"),
            Sense::Lower { noise: 0.1 },
            traffic.map(|traffic| traffic.bytes_per_comment),
        ));
    }
    figures
}

/// Figures of returning viewers and of a search.
fn returns(report: &RunReport) -> Vec<Figure> {
    let returns = report.returns.as_ref();
    let mut downs = report.events.iter().map(|event| event.down_s);
    let down_s = downs.find(Option::is_some).flatten();
    let most = report.scenario.as_ref().and_then(ScenarioReport::most);
    [
        (
            "viewer-comments not replayed",
            Sense::Fault,
            returns.map(|returns| to_f64(returns.unreplayed)),
        ),
        (
            "reconnect, p50, ms",
            Sense::Lower { noise: 20.0 },
            returns.map(|returns| returns.latency.p50_ms),
        ),
        (
            "reconnect, p99, ms",
            Sense::Lower { noise: 20.0 },
            returns.map(|returns| returns.latency.p99_ms),
        ),
        ("server down, s", Sense::Lower { noise: 0.2 }, down_s),
        ("highest value a search found", Sense::Higher, most),
    ]
    .map(|(name, sense, value)| (name.to_owned(), sense, value))
    .into()
}

fn costs(report: &RunReport) -> Vec<Figure> {
    let server = report.server.as_ref();
    let memory = server.and_then(|server| server.memory);
    let floor = report.floor.as_ref();
    let per_viewer = report.connect.server_bytes_per_viewer;
    let resident = memory.map(|memory| to_f64(memory.resident_bytes) / 1_048_576.0);
    [
        (
            "server CPU per frame, µs",
            0.05,
            server.map(|server| server.frame_micros),
        ),
        ("server / floor", 0.02, floor.and_then(|floor| floor.ratio)),
        (
            "server CPU per connect, µs",
            30.0,
            report.connect.server_micros,
        ),
        (
            "server bytes per idle viewer",
            256.0,
            per_viewer.map(|bytes| to_f64(u64::try_from(bytes).unwrap_or_default())),
        ),
        ("server resident at the end, MiB", 2.0, resident),
    ]
    .map(|(name, noise, value)| (name.to_owned(), Sense::Lower { noise }, value))
    .into()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::tests::sample_report;

    /// The names of what is worse after a change.
    pub(super) fn worse(change: impl FnOnce(&mut RunReport)) -> Vec<String> {
        let before = sample_report();
        let mut after = before.clone();
        change(&mut after);
        let difference = Difference::of(&before, &after, 10.0);
        let worse: Vec<String> = difference
            .rows
            .iter()
            .filter(|row| row.verdict.is_worse())
            .map(|row| row.name.clone())
            .collect();
        assert_eq!(difference.is_worse(), !worse.is_empty());
        assert_eq!(
            difference.render(10.0).matches("WORSE").count(),
            worse.len()
        );
        worse
    }

    fn p99(report: &mut RunReport, ms: f64) {
        let histogram = report.histograms.get_mut("post_to_viewer").unwrap();
        histogram.summary.p99_ms = ms;
    }

    #[test]
    fn only_what_got_worse_is_flagged() {
        assert_eq!(worse(|_| {}), Vec::<String>::new());
        assert_eq!(worse(|report| report.audit.lost = 1), ["lost"]);
        assert_eq!(worse(|report| report.passed = false), ["failed"]);
        assert_eq!(
            worse(|report| report.total.frames_per_s *= 0.8),
            ["frames/s"]
        );
        assert_eq!(
            worse(|report| report.total.frames_per_s *= 0.95),
            Vec::<String>::new(),
            "within the tolerance"
        );
        assert_eq!(
            worse(|report| report.total.frames_per_s *= 2.0),
            Vec::<String>::new(),
            "better"
        );
        let now = sample_report().histograms["post_to_viewer"].summary.p99_ms;
        assert_eq!(
            worse(|report| p99(report, now * 1.5 + 3.0)),
            ["post to viewer, p99, ms"]
        );
        assert_eq!(
            worse(|report| report.server.as_mut().unwrap().frame_micros *= 1.5),
            ["server CPU per frame, µs"]
        );
    }

    #[test]
    fn noise_in_small_figures_is_not_flagged() {
        let mut before = sample_report();
        p99(&mut before, 0.5);
        let mut after = before.clone();
        p99(&mut after, 1.5);
        assert!(!Difference::of(&before, &after, 10.0).is_worse());
    }

    #[test]
    fn a_figure_of_only_one_run_is_shown_but_not_judged() {
        let before = sample_report();
        let mut after = before.clone();
        after.server = None;
        let difference = Difference::of(&before, &after, 10.0);
        assert!(!difference.is_worse());
        assert!(difference.render(10.0).contains("only in one"));
    }
}
