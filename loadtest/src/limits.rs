//! A run's figures against the limits of its specification.

use serde::Serialize;

use crate::audit::Tally;
use crate::session::Event;
use crate::spec::Slo;
use crate::timeline::Timeline;

/// The figures a verdict is based on.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The audit.
    pub tally: Tally,
    /// Deliveries without which nothing is proved.
    pub delivered_min: u64,
    /// Protocol violations, and acknowledgements that contradict earlier ones.
    pub breaches: u64,
    /// The slowest stage's 99th percentile, minus the window.
    pub p99_beyond_window_ms: f64,
    /// The rooms' window.
    pub window_ms: u64,
    /// Posts that were due, and those that were acknowledged.
    pub posts: [u64; 2],
    /// Viewers that could not join.
    pub missing_viewers: u64,
    /// Viewers that were cut off by the server.
    pub ended_viewers: u64,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// Acknowledged viewer-comments that could not be replayed because rooms began a new epoch.
    pub unreplayed: u64,
    /// Growth of the server's memory.
    pub memory_mib_per_hour: Option<f64>,
    /// How late posts were sent: 99 in 100 were at or below.
    pub lateness_p99_ms: f64,
    /// The server ended before the run did, or hangs.
    pub server_gone: bool,
    /// What viewers had to do besides watching, where that has no figure of its own.
    pub habits: Vec<Habit>,
}

/// How much of their task the viewers did.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// What.
    pub what: &'static str,
    /// How much they did.
    pub done: f64,
    /// How much is enough for the run to prove anything.
    pub enough: f64,
}

/// One figure against its limit.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Check {
    /// What.
    pub what: String,
    /// As it was; absent when it could not be measured.
    pub value: Option<f64>,
    /// As it may be.
    pub limit: f64,
    /// Which side of the limit is good.
    pub bound: Bound,
    /// Whether it is within.
    pub met: bool,
}

/// Which side of a limit is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The limit and below.
    Most,
    /// The limit and above.
    Least,
}

/// When posts leave later than this, the generator and not the server may have set the pace: every report says so.
pub const LATENESS_P99_MS_MAX: f64 = 50.0;
const MIB: f64 = 1_048_576.0;

/// Every figure against its limit. Faults have none; other figures are judged if the specification says so.
#[must_use]
pub fn judge(slo: &Slo, evidence: &Evidence) -> Vec<Check> {
    let tally = &evidence.tally;
    let faults = tally.faults().saturating_add(evidence.breaches);
    let [due, acknowledged] = evidence.posts;
    let untaken = percent(due.saturating_sub(acknowledged), due);
    let mut checks = vec![
        most("faults of the audit", to_f64(faults), 0.0),
        // A server that delivered nothing has not passed anything.
        least(
            "viewer-comments delivered",
            to_f64(tally.delivered),
            to_f64(evidence.delivered_min),
        ),
        most(
            "viewers that did not get in",
            to_f64(evidence.missing_viewers),
            0.0,
        ),
    ];
    if evidence.server_gone {
        checks.push(most("servers that ended or hang", 1.0, 0.0));
    }
    let habits = evidence.habits.iter();
    checks.extend(habits.map(|habit| least(habit.what, habit.done, habit.enough)));
    let figures = [
        (
            "p99 beyond the window, ms",
            Some(evidence.p99_beyond_window_ms),
            slo.p99_beyond_window_ms,
        ),
        (
            "the rooms' window, ms",
            Some(to_f64(evidence.window_ms)),
            slo.window_ms_max,
        ),
        (
            "late, %",
            Some(percent(tally.late, tally.delivered)),
            slo.late_percent_max,
        ),
        (
            "shed or skipped, %",
            Some(percent(tally.left_out(), tally.delivered)),
            slo.shed_or_skipped_percent_max,
        ),
        (
            "viewers cut off",
            Some(to_f64(evidence.ended_viewers)),
            slo.ended_viewers_max,
        ),
        (
            "the last viewer is back, s",
            last_back_s(&evidence.events),
            slo.last_back_s_max,
        ),
        (
            "not replayed after a new epoch, %",
            Some(percent(evidence.unreplayed, tally.delivered)),
            slo.unreplayed_percent_max,
        ),
        (
            "posts not taken, %",
            Some(untaken),
            slo.failed_posts_percent_max,
        ),
        (
            "posts left late, p99 ms",
            Some(evidence.lateness_p99_ms),
            slo.lateness_p99_ms_max,
        ),
        (
            "memory growth, MiB/h",
            evidence.memory_mib_per_hour,
            slo.memory_mib_per_hour_max,
        ),
    ];
    let judged = figures
        .into_iter()
        .filter_map(|(what, value, limit)| Some(measured(what, value, limit?)));
    checks.extend(judged);
    checks
}

/// The slowest return; unknown when somebody never came back, or nobody had to.
fn last_back_s(events: &[Event]) -> Option<f64> {
    let mut last = events.iter().map(|event| event.last_back_s);
    let slowest = last.try_fold(0.0_f64, |slowest, last| Some(slowest.max(last?)));
    slowest.filter(|_| !events.is_empty())
}

fn percent(part: u64, of: u64) -> f64 {
    100.0 * to_f64(part) / to_f64(of.max(1))
}

fn most(what: &str, value: f64, limit: f64) -> Check {
    measured(what, Some(value), limit)
}

fn least(what: &str, value: f64, limit: f64) -> Check {
    Check {
        what: what.to_owned(),
        value: Some(value),
        limit,
        bound: Bound::Least,
        met: value >= limit,
    }
}

fn measured(what: &str, value: Option<f64>, limit: f64) -> Check {
    Check {
        what: what.to_owned(),
        value,
        limit,
        bound: Bound::Most,
        met: value.is_some_and(|value| value <= limit),
    }
}

/// The slope of the server's anonymous memory: the line that fits the seconds after `warm_up_s` best.
#[must_use]
pub fn memory_mib_per_hour(timeline: &Timeline, warm_up_s: u64) -> Option<f64> {
    let begin_s = timeline.samples.first()?.t_s + to_f64(warm_up_s);
    let points: Vec<(f64, f64)> = timeline
        .samples
        .iter()
        .filter(|sample| sample.t_s >= begin_s)
        .filter_map(|sample| {
            let bytes = sample.server?.anonymous_bytes;
            Some((sample.t_s / 3600.0, to_f64(bytes) / MIB))
        })
        .collect();
    slope(&points)
}

/// Least squares. At least three points, or it says nothing.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < 3 {
        return None;
    }
    let count = to_f64(points.len() as u64);
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (variance > 0.0).then(|| covariance / variance)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
fn to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(evidence: &Evidence, slo: &Slo) -> Vec<String> {
        let checks = judge(slo, evidence).into_iter();
        checks
            .filter(|check| !check.met)
            .map(|check| check.what)
            .collect()
    }

    fn good() -> (Evidence, Slo) {
        let mut evidence = Evidence {
            posts: [10, 10],
            delivered_min: 1,
            ..Evidence::default()
        };
        evidence.tally.delivered = 100;
        let slo = Slo {
            p99_beyond_window_ms: Some(500.0),
            lateness_p99_ms_max: Some(100.0),
            shed_or_skipped_percent_max: Some(0.0),
            ..Slo::default()
        };
        (evidence, slo)
    }

    #[test]
    fn a_clean_run_meets_everything_and_one_fault_does_not() {
        let (mut evidence, slo) = good();
        assert!(failed(&evidence, &slo).is_empty());
        evidence.tally.reordered = 1;
        assert_eq!(failed(&evidence, &slo), ["faults of the audit"]);
    }

    /// Regression: what a server claims saturates its count, and the sum of the counts wrapped to none.
    #[test]
    fn unbounded_claims_do_not_wrap_to_zero() {
        let (mut evidence, slo) = good();
        evidence.tally.lost = u64::MAX;
        evidence.tally.duplicate = 1;
        evidence.tally.skipped = u64::MAX;
        evidence.tally.shed = 1;
        assert_eq!(
            failed(&evidence, &slo),
            ["faults of the audit", "shed or skipped, %"]
        );
    }

    #[test]
    fn comments_lost_by_a_new_epoch_count_if_the_log_is_durable() {
        let (mut evidence, mut slo) = good();
        evidence.unreplayed = 1;
        assert!(failed(&evidence, &slo).is_empty());
        slo.unreplayed_percent_max = Some(0.0);
        assert_eq!(
            failed(&evidence, &slo),
            ["not replayed after a new epoch, %"]
        );
    }

    #[test]
    fn a_run_whose_viewers_missed_their_task_fails() {
        let (mut evidence, slo) = good();
        for (done, expected) in [(90.0, None), (89.0, Some("viewers that left, a second"))] {
            evidence.habits = vec![Habit {
                what: "viewers that left, a second",
                done,
                enough: 90.0,
            }];
            assert_eq!(
                failed(&evidence, &slo).first().map(String::as_str),
                expected
            );
        }
    }

    #[test]
    fn an_unmeasured_figure_misses_its_limit() {
        let (evidence, mut slo) = good();
        slo.last_back_s_max = Some(5.0);
        slo.memory_mib_per_hour_max = Some(5.0);
        assert_eq!(
            failed(&evidence, &slo),
            ["the last viewer is back, s", "memory growth, MiB/h"]
        );
    }

    #[test]
    fn nothing_delivered_fails_and_a_late_generator_is_reported() {
        let (mut evidence, slo) = good();
        evidence.tally.delivered = 0;
        evidence.lateness_p99_ms = 250.0;
        let failed = failed(&evidence, &slo);
        assert_eq!(failed.len(), 2);
        assert!(failed[1].contains("posts left late"), "{failed:?}");
    }

    #[test]
    fn the_slope_is_that_of_the_fitted_line() {
        let line: Vec<(f64, f64)> = (0..10)
            .map(|x| (f64::from(x), 5.0 + 3.0 * f64::from(x)))
            .collect();
        assert!((slope(&line).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(slope(&line[..2]), None);
    }
}
