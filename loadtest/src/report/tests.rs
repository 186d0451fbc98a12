//! Tests of the report as a whole.

mod sample;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::error::HarnessError;

pub(crate) use sample::{faulty_report, sample_report};

struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!(
            "danmaku-loadtest-report-{}-{name}",
            std::process::id()
        )))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The same but for the last digit of a floating-point number, which the reader of JSON may round.
fn assert_same(path: &str, left: &Value, right: &Value) {
    match (left, right) {
        (Value::Object(mine), Value::Object(theirs)) => {
            assert!(mine.keys().eq(theirs.keys()), "{path}");
            for (name, member) in mine {
                assert_same(&format!("{path}.{name}"), member, &theirs[name]);
            }
        }
        (Value::Array(mine), Value::Array(theirs)) => {
            assert_eq!(mine.len(), theirs.len(), "{path}");
            for (mine, theirs) in mine.iter().zip(theirs) {
                assert_same(path, mine, theirs);
            }
        }
        (Value::Number(mine), Value::Number(theirs)) => {
            let (mine, theirs) = (mine.as_f64().unwrap(), theirs.as_f64().unwrap());
            assert!((mine - theirs).abs() <= theirs.abs() * 1e-12, "{path}");
        }
        (mine, theirs) => assert_eq!(mine, theirs, "{path}"),
    }
}

#[test]
fn a_report_comes_back_from_its_file_as_it_was() {
    let file = File::new("round-trip.json");
    let report = sample_report();
    write_json(&file.0, &report).unwrap();
    let read = read_json(&file.0).unwrap();
    assert_eq!(read.timeline.marks, report.timeline.marks);
    let value = |report: &RunReport| serde_json::to_value(report).unwrap();
    assert_same("", &value(&read), &value(&report));
    assert!(!file.0.with_extension("json.part").exists());
}

#[test]
fn what_is_not_a_report_of_this_form_is_refused_with_a_reason() {
    let file = File::new("odd.json");
    for (content, reason) in [
        ("{", "not JSON"),
        ("{}", "no `schema`"),
        (r#"{"schema": 99}"#, "schema 99"),
        (r#"{"schema": 1}"#, "missing field"),
    ] {
        fs::write(&file.0, content).unwrap();
        let error = read_json(&file.0).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    fs::remove_file(&file.0).unwrap();
    assert!(matches!(read_json(&file.0), Err(HarnessError::File { .. })));
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_behind() {
    let file = File::new("a-folder");
    fs::create_dir(&file.0).unwrap();
    let part = PathBuf::from(format!("{}.part", file.0.display()));
    assert!(write_html(&file.0, &sample_report()).is_err());
    assert!(!part.exists());
    fs::remove_dir(&file.0).unwrap();
}

/// Every member of the JSON by its path; a list is one member, and so is a map whose keys are data.
fn members(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    // Described elsewhere: the fields of a scenario in its file, the counts of a room as those of `audit`.
    if ["scenario.fields", "rooms.audit"].contains(&path) {
        return;
    }
    const MAPS: [&str; 9] = [
        "connect_failures",
        "counters",
        "posts.refused",
        "posts.failed",
        "ends.closes",
        "ends.faults",
        "ends.stalled.closes",
        "traffic",
        "histograms",
    ];
    match value {
        Value::Object(object) => {
            for (name, member) in object {
                let step = if MAPS.contains(&path) { "*" } else { name };
                let path = if path.is_empty() {
                    step.to_owned()
                } else {
                    format!("{path}.{step}")
                };
                found.insert(path.clone());
                members(&path, member, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                members(path, item, found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_member_of_the_json_is_documented_and_nothing_else_is() {
    let mut found = BTreeSet::new();
    let json = serde_json::to_value(faulty_report()).unwrap();
    members("", &json, &mut found);
    // A summary is described once.
    let is_summary = |path: &String| {
        path.rsplit_once('.').is_some_and(|(_, last)| {
            ["count", "p50_ms", "p90_ms", "p99_ms", "max_ms"].contains(&last)
        })
    };
    found.retain(|path| !is_summary(path));
    let text = include_str!("../../REPORT.md");
    let documented: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(path, _)| path.to_owned())
        .collect();
    let missing: Vec<&String> = found.difference(&documented).collect();
    assert!(missing.is_empty(), "not in REPORT.md: {missing:#?}");
    let gone: Vec<&String> = documented.difference(&found).collect();
    assert!(gone.is_empty(), "only in REPORT.md: {gone:#?}");
    assert!(text.contains(&format!("`schema` is {SCHEMA}")));
}

/// Members that hold nothing: the test of the documentation sees nothing inside them.
fn empty_members(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (name, member) in object {
                empty_members(&format!("{path}.{name}"), member, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            // It is enough if one of them has it.
            let of_each = items.iter().map(|item| {
                let mut empty = Vec::new();
                empty_members(path, item, &mut empty);
                empty
            });
            found.extend(of_each.min_by_key(Vec::len).unwrap_or_default());
        }
        Value::Object(_) | Value::Array(_) | Value::Null => found.push(path.to_owned()),
        _ => {}
    }
}

#[test]
fn the_sample_has_something_in_every_member() {
    let mut json = serde_json::to_value(faulty_report()).unwrap();
    // These depend on the scenario, and the machine.
    json["scenario"]["fields"].take();
    json["setup"]["machine"].take();
    let mut empty = Vec::new();
    empty_members("", &json, &mut empty);
    assert_eq!(empty, [".scenario.fields", ".setup.machine"]);
}

#[test]
fn a_report_from_before_the_scenarios_is_read() {
    let file = File::new("older.json");
    let mut json = serde_json::to_value(sample_report()).unwrap();
    for member in ["rooms", "events", "returns", "scenario"] {
        json.as_object_mut().unwrap().remove(member).unwrap();
    }
    fs::write(&file.0, json.to_string()).unwrap();
    assert!(read_json(&file.0).unwrap().events.is_empty());
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
        let mut scenario = report.scenario.take().unwrap();
        scenario.fields.to = 4000.0;
        let values = [500.0, 4000.0, 1414.0].into_iter();
        scenario.steps = values
            .zip(met)
            .map(|(value, met)| Step {
                value,
                met: *met,
                failed: vec!["late".to_owned()],
                ..Step::default()
            })
            .collect();
        scenario.found().unwrap()
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
