//! `search`: finds the highest value within the limits by running one scenario again and again.

use tokio_util::sync::CancellationToken;

use crate::bisection::Bisection;
use crate::command::plan::party;
use crate::command::run::perform;
use crate::command::say;
use crate::error::HarnessError;
use crate::report::{RunReport, Step};
use crate::spec::{Searched, Spec, whole};
use crate::table::amount;

/// The state of a search.
#[derive(Default)]
struct Found {
    steps: Vec<Step>,
    /// The best step that met every limit, or the first one when that did not.
    best: Option<RunReport>,
}

/// Bisects the range. Each step has its own rooms, so that nothing is left over from the previous one. Returns the report of the
/// best step that met every limit, or of the first one if none did. A step after the first that cannot run counts as failed.
pub(super) async fn search(
    spec: &Spec,
    stop: &CancellationToken,
) -> Result<RunReport, HarnessError> {
    let searched = spec.search.unwrap_or(Searched::Viewers);
    if searched == Searched::Viewers {
        // Reject unreachable steps now, not after running the others.
        party(&Spec {
            viewers: whole(spec.to),
            ..spec.clone()
        })?;
    }
    let mut bisection = Bisection::new(spec.from, spec.to, spec.precision_percent);
    let mut found = Found::default();
    while let Some(value) = bisection.next() {
        let (mut step, value) = at(spec, searched, value);
        step.room_prefix = format!("{}-s{}", spec.room_prefix, found.steps.len());
        let performed = perform(&step, stop).await;
        let is_stopped = stop.is_cancelled();
        match performed {
            // A step that was cut short says nothing about its value.
            Ok(report) if is_stopped => {
                found.best.get_or_insert(report);
                break;
            }
            Ok(report) => bisection.tell(found.judged(value, report)),
            // Keep what earlier steps found: a server that the last one brought down is
            // what a search may well find.
            Err(error) if !found.steps.is_empty() => {
                if is_stopped {
                    break;
                }
                found.failed(value, &error);
                bisection.tell(false);
            }
            Err(error) => return Err(error),
        }
    }
    found.report(stop.is_cancelled())
}

/// The scenario of a step, and its value; viewers are whole numbers.
fn at(spec: &Spec, searched: Searched, value: f64) -> (Spec, f64) {
    let mut step = spec.clone();
    match searched {
        Searched::Viewers => {
            step.viewers = whole(value);
            let value = f64::from(step.viewers);
            (step, value)
        }
        Searched::Rate => {
            step.rate = value;
            (step, value)
        }
    }
}

impl Found {
    /// Records a step; returns whether it met the limits.
    fn judged(&mut self, value: f64, report: RunReport) -> bool {
        let (failed, checks) = report
            .scenario
            .as_ref()
            .map(|scenario| (scenario.failed(), scenario.checks.clone()))
            .unwrap_or_default();
        let met = report.passed;
        let judged = if met {
            "within all limits".to_owned()
        } else {
            format!("not within: {}", failed.join("; "))
        };
        say(&format!("{}: {judged}", amount(value)));
        self.steps.push(Step {
            value,
            met,
            failed,
            checks,
        });
        if met || self.best.is_none() {
            self.best = Some(report);
        }
        met
    }

    /// Records a step that could not run.
    fn failed(&mut self, value: f64, error: &HarnessError) {
        let why = format!("could not run: {error}");
        say(&format!("{}: {why}", amount(value)));
        self.steps.push(Step {
            value,
            failed: vec![why],
            ..Step::default()
        });
    }

    fn report(self, partial: bool) -> Result<RunReport, HarnessError> {
        let Self { steps, best } = self;
        let mut report = best.expect("invariant: the first step has a report or is an error");
        report.partial = partial;
        let has_judged = !partial || !steps.is_empty();
        if let Some(scenario) = report.scenario.take() {
            report.set_scenario(scenario.searched_by(steps));
        }
        if !has_judged {
            report.passed = false;
            report.verdict =
                "FAIL (partial: ended early): the search was ended in its first step".to_owned();
        }
        Ok(report)
    }
}
