//! The limits of two scenarios side by side.

use std::collections::BTreeSet;

use crate::limits::{Bound, Check};
use crate::report::RunReport;
use crate::report::difference::{Change, Row, Sense};

/// What a figure may change by and still be the same, as a share of its limit.
const NOISE: f64 = 0.1;
/// Figures of every run, which are compared elsewhere.
const ALSO_IN_EVERY_RUN: [&str; 2] = ["faults of the audit", "viewer-comments delivered"];

/// Each limit of either, in the order of the first.
pub(super) fn rows(before: &RunReport, after: &RunReport, tolerance_percent: f64) -> Vec<Row> {
    let (left, right) = (checks(before), checks(after));
    let mut seen = BTreeSet::new();
    left.iter()
        .chain(right)
        .map(|check| check.what.as_str())
        .filter(|what| seen.insert(*what))
        .filter_map(|what| {
            let of = |checks: &[Check]| checks.iter().find(|check| check.what == what).cloned();
            let (before, after) = (of(left), of(right));
            let verdict = judge(before.as_ref(), after.as_ref(), tolerance_percent);
            let is_shown = verdict == Change::Broken || !ALSO_IN_EVERY_RUN.contains(&what);
            is_shown.then(|| Row {
                name: what.to_owned(),
                before: before.and_then(|check| check.value),
                after: after.and_then(|check| check.value),
                verdict,
            })
        })
        .collect()
}

fn checks(report: &RunReport) -> &[Check] {
    report
        .scenario
        .as_ref()
        .map_or(&[], |scenario| scenario.checks.as_slice())
}

fn judge(before: Option<&Check>, after: Option<&Check>, tolerance_percent: f64) -> Change {
    let (Some(before), Some(after)) = (before, after) else {
        return Change::OneSided;
    };
    match (before.met, after.met) {
        (true, false) => return Change::Broken,
        (false, true) => return Change::Better,
        _ => {}
    }
    let sense = match before.bound {
        Bound::Most => Sense::Lower {
            noise: before.limit.abs() * NOISE,
        },
        Bound::Least => Sense::Higher,
    };
    sense.judge(before.value, after.value, tolerance_percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::difference::tests::worse;

    fn check<'a>(report: &'a mut RunReport, what: &str) -> &'a mut Check {
        let checks = &mut report.scenario.as_mut().unwrap().checks;
        checks.iter_mut().find(|check| check.what == what).unwrap()
    }

    fn set(report: &mut RunReport, what: &str, value: f64) {
        let check = check(report, what);
        check.value = Some(value);
        check.met = value <= check.limit;
    }

    #[test]
    fn a_limit_no_longer_met_is_flagged_whatever_the_tolerance() {
        let back = "the last viewer is back, s";
        assert_eq!(worse(|report| set(report, back, 30.5)), [back]);
        let unmeasured = |report: &mut RunReport| {
            let check = check(report, back);
            (check.value, check.met) = (None, false);
        };
        assert_eq!(worse(unmeasured), [back]);
        // The audit's own figures are not repeated.
        let faults = "faults of the audit";
        assert_eq!(worse(|report| set(report, faults, 1.0)), [faults]);
    }

    #[test]
    fn a_figure_within_its_limit_may_be_worse_too_but_noise_is_not() {
        let growth = "memory growth, MiB/h";
        // The sample has 1.5 of 64.
        assert_eq!(worse(|report| set(report, growth, 20.0)), [growth]);
        let nothing: [&str; 0] = [];
        assert_eq!(worse(|report| set(report, growth, 7.5)), nothing);
        assert_eq!(worse(|report| set(report, growth, -9.0)), nothing);
    }

    #[test]
    fn limits_of_only_one_run_are_shown_but_not_judged() {
        let nothing: [&str; 0] = [];
        assert_eq!(worse(|report| report.scenario = None), nothing);
    }
}
