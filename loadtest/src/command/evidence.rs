//! What the verdict on a run is based on.

use crate::limits::{Evidence, Habit, memory_mib_per_hour};
use crate::session::Outcome;
use crate::spec::Spec;
use crate::swarm::Incidents;

/// The share of the churn that has to happen: the last to leave are not back when the measured interval ends.
const CHURN_SHARE_MIN: f64 = 0.9;

/// Viewers that could not connect. One that left and could not rejoin has joined once, so only its failure counts; and in a run
/// that was ended early, not every viewer was due yet.
fn missing_viewers(spec: &Spec, incidents: &Incidents, partial: bool) -> u64 {
    let due = if partial { 0 } else { u64::from(spec.viewers) };
    let never = due.saturating_sub(incidents.joined - incidents.rejoined);
    never.max(incidents.failures.values().sum())
}

/// The figures that are judged.
pub(super) fn evidence(spec: &Spec, outcome: &Outcome, partial: bool) -> Evidence {
    let incidents = &outcome.result.incidents;
    let faults: u64 = incidents.faults.values().sum();
    let posts = outcome.publication.summary();
    let stages = &outcome.result.findings.stages;
    let p99 = stages
        .iter()
        .map(|stage| stage.each.summary().beyond(outcome.window_ms).p99_ms);
    let ended = incidents.closes.values().sum::<u64>() + incidents.silent_ends;
    Evidence {
        tally: outcome.result.findings.tally,
        delivered_min: u64::from(spec.duration_s > 0),
        // A room in a new epoch has lost its log; only a restarted server may do that.
        breaches: faults
            + outcome.publication.contradicted
            + if spec.restarts_server() {
                0
            } else {
                incidents.renumbered
            },
        p99_beyond_window_ms: p99.fold(0.0, f64::max),
        window_ms: outcome.window_ms,
        posts: [posts.due, posts.acknowledged],
        missing_viewers: missing_viewers(spec, incidents, partial),
        // A server that stops closes every viewer: that is what is measured here.
        ended_viewers: if spec.restarts_server() { 0 } else { ended },
        events: outcome
            .events
            .iter()
            .filter(|event| !event.is_churn())
            .cloned()
            .collect(),
        unreplayed: incidents.unreplayed,
        // Other scenarios have no warm-up after which growth means something.
        memory_mib_per_hour: spec
            .slo
            .memory_mib_per_hour_max
            .and_then(|_| memory_mib_per_hour(&outcome.timeline, spec.slo.warm_up_s)),
        lateness_p99_ms: posts.lateness.p99_ms,
        server_gone: outcome.server_gone,
        habits: habits(spec, outcome),
    }
}

/// What the viewers had to do, and whether they did.
fn habits(spec: &Spec, outcome: &Outcome) -> Vec<Habit> {
    let mut habits = Vec::new();
    if spec.slow_viewers() > 0 {
        let found = &outcome.result.incidents.stalled;
        habits.push(Habit {
            what: "viewers that stopped reading, or slowed down",
            done: (found.open + found.silent + found.closes.values().sum::<u64>()) as f64,
            enough: f64::from(spec.slow_viewers()),
        });
    }
    if spec.churn_per_second > 0.0 {
        habits.push(Habit {
            what: "viewers that left and were replaced, a second",
            done: outcome.events.iter().map(|event| event.per_second).sum(),
            enough: spec.churn_per_second * CHURN_SHARE_MIN,
        });
    }
    habits
}
