//! Two reports side by side: what changed, and what got worse.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::HarnessError;
use crate::report::SCHEMA;
use crate::table::{Table, amount, paragraph};

use Direction::{Fault, Higher, Kept, Lower};
use Noise::{Fixed, Ticks};

/// How two runs compare.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// Differences between the setups, one line each.
    unlike: Vec<String>,
    rows: Vec<Row>,
    tolerance_percent: f64,
}

/// One figure of both runs.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    before: Option<f64>,
    after: Option<f64>,
    change: Change,
}

/// How a figure changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
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
enum Direction {
    /// More is worse, beyond the tolerance and the noise.
    Lower(Noise),
    /// Less is worse, beyond the tolerance.
    Higher,
    /// Any increase is worse.
    Fault,
    /// Any decrease is worse.
    Kept,
}

/// How much a figure differs between runs of the same server.
#[derive(Clone, Copy, Debug)]
enum Noise {
    Fixed(f64),
    /// A tenth of the window, and this at least: the server lets a busy room's ticks drift by a twentieth of the window, so
    /// two runs may be a tenth apart in all that waits for a tick.
    Ticks(f64),
}

/// The name of a figure with its unit, where it is in the report, and when it is worse. An object counts as the sum of its
/// members.
type Figure = (&'static str, &'static str, Direction);

/// How far medians and tails are apart on a machine that does other things too.
const MEDIAN_MS: f64 = 10.0;
const TAIL_MS: f64 = 50.0;

#[rustfmt::skip]
const FIGURES: [Figure; 43] = [
    ("passed", "/passed", Kept),
    ("lost", "/audit/lost", Fault),
    ("duplicate", "/audit/duplicate", Fault),
    ("reordered", "/audit/reordered", Fault),
    ("corrupt", "/audit/corrupt", Fault),
    ("late", "/audit/late", Fault),
    ("shed", "/audit/shed", Fault),
    ("skipped", "/audit/skipped", Fault),
    ("evicted", "/ends/evicted", Fault),
    ("connections broken", "/ends/silent", Fault),
    ("posts refused", "/posts/refused", Fault),
    ("posts unanswered", "/posts/failed", Fault),
    ("frames/s", "/total/frames_per_s", Higher),
    ("comments/s", "/total/comments_per_s", Higher),
    ("post to viewer, p50, ms", "/latency/0/each_viewer/p50_ms", Lower(Ticks(MEDIAN_MS))),
    ("post to viewer, p99, ms", "/latency/0/each_viewer/p99_ms", Lower(Ticks(TAIL_MS))),
    ("post to viewer beyond the window, p99, ms", "/latency/0/each_beyond_window/p99_ms", Lower(Ticks(TAIL_MS))),
    ("the same during the stall, p99, ms", "/latency/1/each_beyond_window/p99_ms", Lower(Ticks(TAIL_MS))),
    ("post to last viewer, p50, ms", "/latency/0/last_viewer/p50_ms", Lower(Ticks(MEDIAN_MS))),
    ("post to last viewer, p99, ms", "/latency/0/last_viewer/p99_ms", Lower(Ticks(TAIL_MS))),
    ("post to seal, p50, ms", "/distributions/post_to_seal/p50_ms", Lower(Ticks(MEDIAN_MS))),
    ("post to seal, p99, ms", "/distributions/post_to_seal/p99_ms", Lower(Ticks(TAIL_MS))),
    ("seal to first viewer, p50, ms", "/distributions/seal_to_first_viewer/p50_ms", Lower(Fixed(MEDIAN_MS))),
    ("seal to first viewer, p99, ms", "/distributions/seal_to_first_viewer/p99_ms", Lower(Fixed(TAIL_MS))),
    ("first to last viewer, p50, ms", "/distributions/first_to_last_viewer/p50_ms", Lower(Fixed(MEDIAN_MS))),
    ("first to last viewer, p99, ms", "/distributions/first_to_last_viewer/p99_ms", Lower(Fixed(TAIL_MS))),
    ("post to answer, p50, ms", "/posts/answer/p50_ms", Lower(Fixed(MEDIAN_MS))),
    ("post to answer, p99, ms", "/posts/answer/p99_ms", Lower(Fixed(TAIL_MS))),
    ("connect, p50, ms", "/connect_latency/p50_ms", Lower(Fixed(MEDIAN_MS))),
    ("connect, p99, ms", "/connect_latency/p99_ms", Lower(Fixed(TAIL_MS))),
    ("identity, bytes per comment", "/traffic/identity/bytes_per_comment", Lower(Fixed(0.1))),
    ("gzip, bytes per comment", "/traffic/gzip/bytes_per_comment", Lower(Fixed(0.1))),
    ("deflate, bytes per comment", "/traffic/deflate/bytes_per_comment", Lower(Fixed(0.1))),
    ("viewer-comments not replayed", "/returns/unreplayed", Fault),
    ("reconnect, p50, ms", "/returns/latency/p50_ms", Lower(Fixed(20.0))),
    ("reconnect, p99, ms", "/returns/latency/p99_ms", Lower(Fixed(20.0))),
    ("server down, s", "/events/0/down_s", Lower(Fixed(0.2))),
    ("highest value a search found", "/scenario/most", Higher),
    ("server CPU per frame, µs", "/server/frame_micros", Lower(Fixed(0.05))),
    ("server / floor", "/floor/ratio", Lower(Fixed(0.02))),
    ("server CPU per connect, µs", "/connect/server_micros", Lower(Fixed(30.0))),
    ("server bytes per idle viewer", "/connect/server_bytes_per_viewer", Lower(Fixed(256.0))),
    ("server resident at the end, bytes", "/server/memory/resident_bytes", Lower(Fixed(2_097_152.0))),
];

/// What a figure may change by and still be the same, as a share of its limit.
const LIMIT_NOISE: f64 = 0.1;
/// Fields that say nothing about what was measured.
const UNCOMPARED: [&str; 4] = ["url", "room_prefix", "server_pid", "start"];

impl Comparison {
    /// Compares the reports in two files; figures may get worse by `tolerance_percent`.
    ///
    /// # Errors
    /// A file cannot be read, or is not the report of a run.
    pub(crate) fn of_files(
        before: &Path,
        after: &Path,
        tolerance_percent: f64,
    ) -> Result<Self, HarnessError> {
        Ok(Self::of(&read(before)?, &read(after)?, tolerance_percent))
    }

    fn of(before: &Value, after: &Value, tolerance_percent: f64) -> Self {
        let window_ms = number(before, "/setup/window_ms").unwrap_or_default();
        let figures = FIGURES.iter().map(|(name, path, direction)| {
            let (before, after) = (number(before, path), number(after, path));
            let change = direction.judge(before, after, window_ms, tolerance_percent);
            Row {
                name: (*name).to_owned(),
                before,
                after,
                change,
            }
        });
        let figures = figures.filter(|row| row.before.is_some() || row.after.is_some());
        Self {
            unlike: unlike(before, after),
            rows: figures
                .chain(limits(before, after, tolerance_percent))
                .collect(),
            tolerance_percent,
        }
    }

    /// Whether anything got worse.
    pub(crate) fn is_worse(&self) -> bool {
        self.worse() > 0
    }

    fn worse(&self) -> usize {
        let rows = self.rows.iter();
        rows.filter(|row| matches!(row.change, Change::Worse | Change::Broken))
            .count()
    }

    /// The comparison as text.
    pub(crate) fn render(&self) -> String {
        let mut table = Table::new(format!(
            "A and B side by side; flagged if worse by more than {} %, faults and missed limits always",
            amount(self.tolerance_percent)
        ));
        table.heads(["", "A", "B", "B / A", ""]);
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), amount);
        for row in &self.rows {
            let ratio = match (row.before, row.after) {
                (Some(before), Some(after)) if before > 0.0 => format!("{:.3}", after / before),
                _ => String::new(),
            };
            let flag = match row.change {
                Change::Same => "",
                Change::Better => "better",
                Change::Worse => "WORSE",
                Change::Broken => "WORSE, NOT MET",
                Change::OneSided => "only in one",
            };
            table.row([&row.name, &cell(row.before), &cell(row.after), &ratio, flag]);
        }
        let unlike = self.unlike.iter();
        let mut text: String = unlike
            .map(|line| paragraph(&format!("the runs differ: {line}"), 0))
            .collect();
        text.push_str(if text.is_empty() { "" } else { "\n" });
        text.push_str(&table.render());
        text.push_str(&match self.worse() {
            0 => "\nnothing got worse\n".to_owned(),
            1 => "\n1 figure got worse\n".to_owned(),
            worse => format!("\n{worse} figures got worse\n"),
        });
        text
    }
}

impl Direction {
    fn judge(
        self,
        before: Option<f64>,
        after: Option<f64>,
        window_ms: f64,
        tolerance_percent: f64,
    ) -> Change {
        let (Some(before), Some(after)) = (before, after) else {
            return Change::OneSided;
        };
        let tolerance = before.abs() * tolerance_percent / 100.0;
        let (growth, slack) = match self {
            Lower(Fixed(noise)) => (after - before, tolerance.max(noise)),
            Lower(Ticks(least)) => (after - before, tolerance.max(least).max(window_ms / 10.0)),
            Higher => (before - after, tolerance),
            Fault => (after - before, 0.0),
            Kept => (before - after, 0.0),
        };
        match growth {
            growth if growth > slack => Change::Worse,
            growth if -growth > slack => Change::Better,
            _ => Change::Same,
        }
    }
}

/// Reads the report of a run.
fn read(path: &Path) -> Result<Value, HarnessError> {
    let odd = |what: String| HarnessError::Report {
        path: path.to_owned(),
        what,
    };
    let json = fs::read(path).map_err(|source| HarnessError::File {
        path: path.to_owned(),
        source,
    })?;
    let value: Value =
        serde_json::from_slice(&json).map_err(|error| odd(format!("not JSON: {error}")))?;
    match value.get("schema").and_then(Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => Ok(value),
        Some(schema) => Err(odd(format!(
            "schema {schema}, and this harness reads {SCHEMA}"
        ))),
        None => Err(odd("no `schema`, so not the report of a run".to_owned())),
    }
}

/// A figure of a report. A summary of nothing has none.
fn number(report: &Value, path: &str) -> Option<f64> {
    if let Some((of, _)) = path.rsplit_once('/')
        && report.pointer(of)?.get("count") == Some(&Value::from(0))
    {
        return None;
    }
    match report.pointer(path)? {
        Value::Bool(is) => Some(f64::from(u8::from(*is))),
        Value::Object(members) => Some(members.values().filter_map(Value::as_f64).sum()),
        other => other.as_f64(),
    }
}

/// Each limit of either run, in the order of the first.
fn limits(before: &Value, after: &Value, tolerance_percent: f64) -> Vec<Row> {
    let checks = |report: &Value| -> Vec<Value> {
        let checks = report.pointer("/scenario/checks").and_then(Value::as_array);
        checks.cloned().unwrap_or_default()
    };
    let (left, right) = (checks(before), checks(after));
    let find = |checks: &[Value], what: &Value| {
        checks.iter().find(|check| check["what"] == *what).cloned()
    };
    let new = right
        .iter()
        .filter(|check| find(&left, &check["what"]).is_none());
    let all = left.iter().chain(new);
    all.map(|check| {
        let what = &check["what"];
        let (before, after) = (find(&left, what), find(&right, what));
        let value =
            |check: &Option<Value>| check.as_ref().and_then(|check| check["value"].as_f64());
        let met = |check: &Option<Value>| check.as_ref().map(|check| check["met"] == true);
        let direction = match check["bound"].as_str() {
            Some("least") => Higher,
            _ => Lower(Fixed(
                check["limit"].as_f64().unwrap_or_default().abs() * LIMIT_NOISE,
            )),
        };
        Row {
            name: format!("limit: {}", what.as_str().unwrap_or_default()),
            change: match (met(&before), met(&after)) {
                (Some(true), Some(false)) => Change::Broken,
                (Some(false), Some(true)) => Change::Better,
                _ => direction.judge(value(&before), value(&after), 0.0, tolerance_percent),
            },
            before: value(&before),
            after: value(&after),
        }
    })
    .collect()
}

/// A line for each difference between the setups.
fn unlike(before: &Value, after: &Value) -> Vec<String> {
    let (left, right) = (fields(before), fields(after));
    let new = right.keys().filter(|name| !left.contains_key(*name));
    let mut lines: Vec<String> = left
        .keys()
        .chain(new)
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| {
            let text = |fields: &BTreeMap<String, String>| {
                fields
                    .get(name)
                    .cloned()
                    .unwrap_or_else(|| "none".to_owned())
            };
            format!("{name} {} in A, {} in B", text(&left), text(&right))
        })
        .collect();
    for (report, letter) in [(before, "A"), (after, "B")] {
        if report["partial"] == true {
            lines.push(format!("{letter} was ended early"));
        }
    }
    lines
}

/// The setup as text, by name.
fn fields(report: &Value) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let setup = &report["setup"];
    for member in ["version", "server_version", "window_ms"] {
        flatten(member, &setup[member], &mut fields);
    }
    flatten("", &setup["spec"], &mut fields);
    flatten("machine", &setup["machine"], &mut fields);
    fields.retain(|name, _| !UNCOMPARED.contains(&name.as_str()));
    fields
}

/// The values of an object as text, those of an object inside as `object.name`. What is null is left out.
pub(super) fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let dot = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{dot}{name}"), member, into);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            into.insert(prefix.to_owned(), text.clone());
        }
        Value::Array(items) => {
            let texts = items.iter().map(|item| {
                item.as_str()
                    .map_or_else(|| item.to_string(), str::to_owned)
            });
            into.insert(prefix.to_owned(), texts.collect::<Vec<_>>().join(","));
        }
        // 30.0 and 30 are the same number.
        other => {
            let number = other.as_f64().map(|number| number.to_string());
            into.insert(
                prefix.to_owned(),
                number.unwrap_or_else(|| other.to_string()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::tests::faulty_report;

    fn sample() -> Value {
        serde_json::to_value(faulty_report()).unwrap()
    }

    /// What is worse when the value at a path changes.
    fn worse(path: &str, value: impl Into<Value>) -> Vec<String> {
        let before = sample();
        let mut after = before.clone();
        *after.pointer_mut(path).unwrap() = value.into();
        let comparison = Comparison::of(&before, &after, 10.0);
        let text = comparison.render();
        assert_eq!(text.matches("WORSE").count(), comparison.worse(), "{text}");
        let rows = comparison.rows.into_iter();
        rows.filter(|row| matches!(row.change, Change::Worse | Change::Broken))
            .map(|row| row.name)
            .collect()
    }

    /// A path that is misspelt, or gone, would never be worse.
    #[test]
    fn every_figure_is_in_a_report() {
        let report = sample();
        let absent = FIGURES
            .iter()
            .filter(|(_, path, _)| report.pointer(path).is_none());
        let absent: Vec<&str> = absent.map(|(_, path, _)| *path).collect();
        assert_eq!(
            absent,
            [
                "/latency/1/each_beyond_window/p99_ms",
                "/traffic/identity/bytes_per_comment",
                "/traffic/gzip/bytes_per_comment",
            ]
        );
    }

    #[test]
    fn only_what_got_worse_is_flagged() {
        let nothing: [&str; 0] = [];
        let mut good = sample();
        good["passed"] = true.into();
        assert_eq!(worse("/setup/spec/seed", 99), nothing);
        assert_eq!(worse("/audit/lost", 13), ["lost"]);
        assert_eq!(worse("/audit/lost", 1), nothing);
        assert_eq!(
            worse("/posts/refused", json!({"rate_limited": 2, "full": 3})),
            ["posts refused"]
        );
        assert_eq!(worse("/total/frames_per_s", 400), ["frames/s"]);
        assert_eq!(
            worse("/total/frames_per_s", 475),
            nothing,
            "within the tolerance"
        );
        assert_eq!(worse("/total/frames_per_s", 900), nothing, "better");
        let p99 = "/latency/0/each_viewer/p99_ms";
        let now = sample().pointer(p99).and_then(Value::as_f64).unwrap();
        assert_eq!(worse(p99, now * 1.05), nothing, "within the noise of ticks");
        assert_eq!(worse(p99, now * 1.1 + 100.0), ["post to viewer, p99, ms"]);
        assert_eq!(
            worse("/server/frame_micros", 900.0),
            ["server CPU per frame, µs"]
        );
        let (mut passed, failed) = (sample(), sample());
        passed["passed"] = true.into();
        assert_eq!(Comparison::of(&passed, &failed, 1000.0).worse(), 1);
    }

    #[test]
    fn a_limit_no_longer_met_is_flagged_whatever_the_tolerance() {
        let before = sample();
        let checks = before["scenario"]["checks"].as_array().unwrap();
        let index = |what: &str| {
            checks
                .iter()
                .position(|check| check["what"] == what)
                .unwrap()
        };
        let back = index("the last viewer is back, s");
        let met = format!("/scenario/checks/{back}/met");
        assert_eq!(worse(&met, false), ["limit: the last viewer is back, s"]);
        // 1.5 of 64.
        let growth = format!("/scenario/checks/{}/value", index("memory growth, MiB/h"));
        assert_eq!(worse(&growth, 20), ["limit: memory growth, MiB/h"]);
        assert_eq!(worse(&growth, 7.5), Vec::<String>::new(), "noise");
    }

    #[test]
    fn what_only_one_run_has_is_shown_but_not_judged() {
        let before = sample();
        let mut after = before.clone();
        after["server"].take();
        after["scenario"].take();
        let comparison = Comparison::of(&before, &after, 10.0);
        assert!(!comparison.is_worse());
        assert!(comparison.render().contains("only in one"));
    }

    #[test]
    fn different_setups_are_named_once() {
        let before = sample();
        let mut after = before.clone();
        let spec = &mut after["setup"]["spec"];
        spec["url"] = "http://elsewhere".into();
        spec["viewers"] = 501.into();
        spec["rate"] = 10.into();
        spec["slo"]["last_back_s_max"].take();
        after["partial"] = true.into();
        assert_eq!(unlike(&before, &before), Vec::<String>::new());
        assert_eq!(
            unlike(&before, &after),
            [
                "slo.last_back_s_max 10 in A, none in B",
                "viewers 500 in A, 501 in B",
                "B was ended early",
            ]
        );
    }

    #[test]
    fn what_is_not_a_report_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("odd.json");
        for (content, reason) in [
            ("{", "not JSON"),
            ("{}", "no `schema`"),
            (r#"{"schema": 99}"#, "schema 99"),
        ] {
            fs::write(&file, content).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let gone = read(&folder.path().join("gone"));
        assert!(matches!(gone, Err(HarnessError::File { .. })));
    }
}
