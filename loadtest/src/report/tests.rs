//! Tests of the report as a whole.

mod sample;

use serde_json::Value;

use super::*;

pub(crate) use sample::{faulty_report, sample_report};

/// Members of a schema that do not say what they are, by their path in it.
fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
    let children = schema.as_object().into_iter().flatten();
    for (name, child) in children {
        let path = format!("{path}/{name}");
        if name == "properties" {
            let members = child.as_object().into_iter().flatten();
            found.extend(
                members
                    .filter(|(_, member)| member["description"].as_str().is_none_or(str::is_empty))
                    .map(|(member, _)| format!("{path}/{member}")),
            );
        }
        undescribed(&path, child, found);
    }
}

#[test]
fn the_schema_says_what_every_member_is() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut found = Vec::new();
    undescribed("", &schema, &mut found);
    assert!(found.is_empty(), "{found:#?}");
    let described = include_str!("../../REPORT.md");
    assert!(described.contains(&format!("`schema` is {SCHEMA}")));
    // Every member of the report itself has its place in the overview.
    for name in schema["properties"].as_object().unwrap().keys() {
        assert!(described.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn rates_are_over_the_measured_stretch() {
    let report = sample_report();
    assert_eq!(report.total.frames, 10_000);
    assert!((report.total.frames_per_s - 500.0).abs() < 1e-9);
    assert!((report.total.comments_per_s - 5000.0).abs() < 1e-9);
}

/// Regression: a run whose viewers were all cut off, or got nothing, passed.
#[test]
fn a_run_that_shows_nothing_has_not_passed_and_says_what_it_lacks() {
    let judged = |change: fn(&mut RunReport)| {
        let mut report = RunReport {
            scenario: None,
            ..sample_report()
        };
        report.posts.lateness = Summary::default();
        report.posts.answer = Summary::default();
        change(&mut report);
        (report.faults().is_empty(), report.judge())
    };
    assert_eq!(
        judged(|_| {}),
        (
            true,
            "PASS: nothing lost, duplicate, reordered or corrupt".to_owned()
        )
    );
    type Case<'a> = (fn(&mut RunReport), bool, &'a str);
    let cases: [Case<'_>; 7] = [
        (
            |report| report.ends.silent = 3,
            false,
            "FAIL: 3 connections broke",
        ),
        (
            |report| report.audit.delivered = 0,
            false,
            "nothing was delivered",
        ),
        (|report| report.audit.lost = 1, false, "the audit found"),
        (
            |report| {
                report.posts.refused = [("rate_limited".to_owned(), 5)].into();
                report.posts.failed = [("interrupted".to_owned(), 9)].into();
            },
            false,
            "FAIL: 5 of 200 posts were not accepted: 5 rate_limited",
        ),
        (
            |report| report.server_gone = true,
            false,
            "FAIL: the server exited before the run ended, or hangs",
        ),
        (
            |report| report.audit.late = 7,
            true,
            "7 of 100,000 deliveries were late",
        ),
        (
            |report| report.audit.skipped = u64::MAX,
            true,
            "were reported as shed or skipped",
        ),
    ];
    let late = judged(|report| report.posts.lateness.p99_ms = 900.0).1;
    assert!(late.contains("the generator, not the server"), "{late}");
    let slow = judged(|report| {
        report.posts.lateness.p99_ms = 900.0;
        report.posts.answer.p99_ms = 3000.0;
    });
    assert!(
        slow.1.contains("the server was the bottleneck"),
        "{}",
        slow.1
    );
    for (change, passes, said) in cases {
        let (passed, verdict) = judged(change);
        assert!(passed == passes && verdict.contains(said), "{verdict}");
    }
}

#[test]
fn a_search_says_where_in_its_range_it_ended() {
    let found = |met: &[bool]| {
        let mut report = sample_report();
        let scenario = report.scenario.take().unwrap();
        report.setup.spec.to = 4000.0;
        let values = [500.0, 4000.0, 1414.0].into_iter();
        let steps = values
            .zip(met)
            .map(|(value, met)| Step {
                value,
                met: *met,
                failed: vec!["late".to_owned()],
                ..Step::default()
            })
            .collect();
        scenario
            .searched_by(steps)
            .found(&report.setup.spec)
            .unwrap()
    };
    assert_eq!(
        found(&[false]),
        "even the lowest value, 500 viewers, missed them"
    );
    let end = found(&[true, true]);
    assert!(
        end.starts_with("all 4,000 viewers met them, the end of the range"),
        "{end}"
    );
    assert_eq!(
        found(&[true, false, true]),
        "the most that met them is 1,414 viewers; 4,000 did not: late"
    );
}
