//! Differences between the setups of two runs, which make their figures hard to compare.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::publisher::PostVia;
use crate::report::{RunReport, ScenarioReport, Setup};

/// A line for each difference, the scenario first.
pub(super) fn unlike(before: &RunReport, after: &RunReport) -> Vec<String> {
    let mut lines = Vec::new();
    let name = |report: &RunReport| match &report.scenario {
        Some(scenario) => format!("the scenario {}", scenario.fields.scenario),
        None => "a run without a scenario".to_owned(),
    };
    if name(before) != name(after) {
        lines.push(format!("{} in A, {} in B", name(before), name(after)));
    }
    if let (Some(before), Some(after)) = (&before.scenario, &after.scenario) {
        lines.extend(unlike_fields(before, after));
    }
    lines.extend(unlike_setups(&before.setup, &after.setup));
    for (report, letter) in [(before, "A"), (after, "B")] {
        if report.partial {
            lines.push(format!("{letter} was ended early"));
        }
    }
    lines
}

/// Fields of the setup that scenarios have too: they are compared there.
const ALSO_IN_SETUP: [&str; 10] = [
    "corpus",
    "drain_s",
    "duration_s",
    "encodings",
    "late_ms",
    "rate",
    "rooms",
    "seed",
    "speed",
    "viewers",
];

fn unlike_fields(before: &ScenarioReport, after: &ScenarioReport) -> Vec<String> {
    let (left, right) = (fields(before), fields(after));
    left.iter()
        .filter_map(|(name, before)| {
            let after = right.get(name)?;
            (before != after).then(|| format!("{name} {before} in A, {after} in B"))
        })
        .collect()
}

/// The fields as text, those of a table inside as `table.field`. In a report every scenario has all names; only those of its
/// file are its own.
fn fields(scenario: &ScenarioReport) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    if let Ok(Value::Object(members)) = serde_json::to_value(&scenario.fields) {
        for (name, value) in members {
            if let Value::Object(inner) = value {
                let inner = inner.into_iter();
                fields.extend(inner.map(|(key, value)| (format!("{name}.{key}"), text(&value))));
            } else if name != "scenario" && !ALSO_IN_SETUP.contains(&name.as_str()) {
                fields.insert(name, text(&value));
            }
        }
    }
    fields
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        // 30.0 and 30 are the same number.
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |number| number.to_string()),
        other => other.to_string(),
    }
}

/// Missing in old reports and in runs without it.
fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn unlike_setups(before: &Setup, after: &Setup) -> Vec<String> {
    let describe = |setup: &Setup| {
        [
            ("version", setup.version.clone()),
            (
                "server_version",
                setup
                    .server_version
                    .clone()
                    .unwrap_or_else(|| "unknown".to_owned()),
            ),
            ("viewers", setup.viewers.to_string()),
            ("rooms", setup.rooms.to_string()),
            ("processes", setup.processes.to_string()),
            ("threads", shown(setup.threads)),
            ("connecting_max", shown(setup.connecting_max)),
            ("settle_s", shown(setup.settle_s)),
            ("drain_s", shown(setup.drain_s)),
            ("stall_viewers", shown(setup.stall_viewers)),
            ("stall_after_s", shown(setup.stall_after_s)),
            ("connects_per_second", shown(setup.connects_per_second)),
            ("sample", shown(setup.sample)),
            ("protocol", setup.protocol.name().to_owned()),
            ("encodings", setup.encodings.join(",")),
            ("corpus", setup.corpus.clone()),
            ("rate", shown(setup.rate)),
            ("skip_s", setup.skip_s.to_string()),
            ("replicate", setup.replicate.to_string()),
            ("post_via", shown(setup.post_via.map(PostVia::name))),
            ("post_connections", shown(setup.post_connections)),
            ("speed", setup.speed.to_string()),
            ("seed", setup.seed.to_string()),
            ("duration_s", setup.duration_s.to_string()),
            ("window_ms", setup.window_ms.to_string()),
            ("late_ms", setup.late_ms.to_string()),
            ("platform", setup.machine.platform.clone()),
            ("cpu", shown(setup.machine.cpu.clone())),
            ("memory_bytes", shown(setup.machine.memory_bytes)),
            ("kernel", setup.machine.kernel.clone()),
            ("cpus", setup.machine.cores.to_string()),
        ]
    };
    describe(before)
        .into_iter()
        .zip(describe(after))
        .filter(|((_, before), (_, after))| before != after)
        .map(|((name, before), (_, after))| format!("{name} {before} in A, {after} in B"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample_report;
    use crate::spec::Spec;

    /// The differences between a report and the same report after a change.
    fn lines(change: impl FnOnce(&mut RunReport)) -> Vec<String> {
        let before = sample_report();
        let mut after = before.clone();
        change(&mut after);
        unlike(&before, &after)
    }

    fn fields_of(report: &mut RunReport) -> &mut Spec {
        &mut report.scenario.as_mut().unwrap().fields
    }

    #[test]
    fn different_setups_are_reported() {
        assert_eq!(lines(|_| {}), Vec::<String>::new());
        let lines = lines(|report| {
            report.setup.viewers += 1;
            report.setup.seed += 1;
            report.partial = true;
        });
        assert_eq!(
            lines,
            [
                "viewers 500 in A, 501 in B",
                "seed 7 in A, 8 in B",
                "B was ended early"
            ]
        );
    }

    #[test]
    fn fields_that_differ_are_listed_once() {
        let lines = lines(|report| {
            // A field that the setup has as well.
            report.setup.viewers = 9;
            let fields = fields_of(report);
            fields.viewers = 9;
            fields.storm_at_s = Some(11);
            fields.slo.last_back_s_max = None;
        });
        assert_eq!(
            lines,
            [
                "slo.last_back_s_max 10 in A, none in B",
                "storm_at_s 10 in A, 11 in B",
                "viewers 500 in A, 9 in B",
            ]
        );
    }

    #[test]
    fn a_different_scenario_is_listed_first() {
        let other = lines(|report| fields_of(report).scenario = "churn".to_owned());
        assert_eq!(other[0], "the scenario storm in A, the scenario churn in B");
        let none = lines(|report| report.scenario = None);
        assert_eq!(
            none[0],
            "the scenario storm in A, a run without a scenario in B"
        );
        assert_eq!(none.len(), 1);
    }
}
