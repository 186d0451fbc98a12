use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::audit::Findings;
use crate::clock::Moment;
use crate::ingest::PostCost;
use crate::latency::Distribution;
use crate::timeline::{Mark, Recorder, Sample, Usage};

/// The report of a run that never was, with something in every member.
pub(crate) fn sample_report() -> RunReport {
    let mut report = RunReport::new(setup(), connect(), &outcome(), false);
    report.set_post_cost(PostCost {
        posts: 100,
        post_micros: 30.0,
    });
    let floor = Floor {
        sends: 1000,
        send_micros: 5.0,
        ..Floor::default()
    };
    report.set_floor([floor, floor], 2);
    report
}

fn setup() -> Setup {
    Setup {
        command: ["danmaku-loadtest", "run", "--viewers", "500"]
            .map(str::to_owned)
            .into(),
        version: "0.0.0".to_owned(),
        url: "http://127.0.0.1:8080".to_owned(),
        viewers: 500,
        rooms: 1,
        processes: 1,
        encodings: vec!["deflate".to_owned()],
        corpus: "made up".to_owned(),
        speed: 1.0,
        seed: 7,
        duration_s: 20,
        window_ms: 0,
        late_ms: 1000,
        cpus: 2,
        machine: Machine::this(),
    }
}

fn connect() -> ConnectReport {
    ConnectReport {
        viewers: 500,
        seconds: 0.4,
        server_micros: Some(60.0),
        memory_before: Some(Memory::default()),
        memory_idle: Some(Memory {
            resident_bytes: 20 << 20,
            anonymous_bytes: 9 << 20,
        }),
        server_bytes_per_viewer: Some(900),
        own_bytes_per_viewer: Some(300),
    }
}

fn distribution(base: u64) -> Distribution {
    let mut distribution = Distribution::default();
    for step in 0..1000_u64 {
        distribution.record(base + step * 900 + step * step / 3, 1 + step % 4);
    }
    distribution
}

fn outcome() -> Outcome {
    let mut outcome = Outcome {
        seconds: 20.0,
        window_ms: 1000,
        server_cpu: Some(CpuTime {
            user_ms: 400.0,
            system_ms: 900.0,
        }),
        server_memory: Some(Memory {
            resident_bytes: 30 << 20,
            anonymous_bytes: 12 << 20,
        }),
        own_cpu: Some(CpuTime {
            user_ms: 100.0,
            system_ms: 200.0,
        }),
        counters: Some([("posts".to_owned(), 200.0)].into()),
        caught_up: true,
        ..Outcome::default()
    };
    outcome.delivered[2] = Delivered {
        frames: 10_000,
        bytes: 3_000_000,
        comments: 100_000,
    };
    outcome.publication.due = 200;
    outcome.publication.acknowledged = 200;
    outcome.publication.lateness = distribution(5);
    outcome.publication.answer = distribution(100);
    outcome.result.findings = Findings::default();
    outcome.result.findings.tally.delivered = 100_000;
    outcome.result.findings.stages[0].each = distribution(1_000);
    outcome.result.findings.stages[0].seal = distribution(400);
    outcome.result.tolls.connects = distribution(300);
    outcome.spans.post_to_seal = distribution(500);
    outcome.spans.seal_to_first = distribution(50);
    outcome.spans.first_to_last = distribution(900);
    outcome.spans.last[0] = distribution(2_000);
    outcome.timeline = timeline();
    outcome
}

fn timeline() -> Timeline {
    let recorder = Recorder::default();
    let samples = (1..=22_u32)
        .map(|second| {
            let at = f64::from(second);
            recorder.posted(Moment::from_micros(u64::from(second) * 1_000_000), 20);
            let usage = Usage {
                user_percent: 2.0 + at,
                system_percent: 5.0,
                resident_bytes: (20 << 20) + u64::from(second) * 4096,
                anonymous_bytes: 9 << 20,
            };
            let mut sample = Sample {
                t_s: at,
                interval_s: 1.0,
                viewers_up: 500,
                frames: 500,
                comments: 5000,
                bytes: 150_000,
                posts: 10,
                acknowledged: 10,
                server: Some(usage),
                generator: Some(usage),
                kernel_tcp_bytes: Some(3 << 20),
                ..Sample::default()
            };
            for step in 0..500 {
                sample
                    .latency_buckets
                    .record(step * 2_000 + u64::from(second), 1);
            }
            sample.latency = sample.latency_buckets.summary();
            sample.lateness_buckets.record(120, 10);
            sample.lateness = sample.lateness_buckets.summary();
            sample
        })
        .collect();
    Timeline {
        started_unix_ms: 1_767_225_600_000,
        marks: vec![Mark {
            at_s: 1.5,
            what: "posting".to_owned(),
        }],
        samples,
    }
}

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
    const MAPS: [&str; 8] = [
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
    let json = serde_json::to_value(sample_report()).unwrap();
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

#[test]
fn rates_are_over_the_measured_stretch() {
    let report = sample_report();
    assert_eq!(report.total.frames, 10_000);
    assert!((report.total.frames_per_s - 500.0).abs() < 1e-9);
    assert!((report.total.comments_per_s - 5000.0).abs() < 1e-9);
}
