//! Outcome of the viewers that were made to read slowly or not at all.

use danmaku_wire::CloseReason;

use crate::report::RunReport;
use crate::swarm::StalledEnds;
use crate::table::{amount, count, figure};

use super::grid::{Grid, Last, Tone};

/// How they ended and what they missed; `None` if no viewer was slowed.
pub(super) fn slow_viewers(report: &RunReport) -> Option<Grid<'static>> {
    let stalled = report.ends.stalled.as_ref()?;
    let mut rows: Vec<(String, u64)> = stalled
        .closes
        .iter()
        .map(|(code, viewers)| (closed(*code), *viewers))
        .collect();
    rows.extend([
        (
            "cut off without a readable close frame".to_owned(),
            stalled.silent,
        ),
        (
            "still connected when the run ended".to_owned(),
            stalled.open,
        ),
        ("frames read after slowing down".to_owned(), stalled.frames),
        ("`gap` messages received".to_owned(), stalled.gaps),
        (
            "comments missed according to those".to_owned(),
            stalled.skipped,
        ),
    ]);
    let mut rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(what, number)| vec![what, count(number)])
        .collect();
    // A viewer that was cut off cannot know whether it was evicted.
    let counters = report.counters.as_ref();
    if let Some(evicted) = counters.and_then(|counters| counters.get("evicted")) {
        let what = "evictions counted by the server, all viewers";
        rows.push(vec![what.to_owned(), amount(*evicted)]);
    }
    let (title, how) = if reads_a_little(report) {
        ("Viewers that read slowly", "read slowly")
    } else {
        ("Viewers that stopped reading", "stopped reading")
    };
    Some(Grid {
        title,
        heads: vec!["outcome", "count"],
        rows: rows.into_iter().map(|row| (Tone::Neutral, row)).collect(),
        last: Last::Figure,
        note: Some(format!(
            "{} viewers {how}. The server may cut them off; the others must not notice. A viewer that does not read sees the \
             close frame late, or never if the connection is reset.",
            count(slow(stalled))
        )),
    })
}

/// The scenario's question, answered by two figures; `None` if no viewer was slowed or a figure is missing.
pub(super) fn question(report: &RunReport) -> Option<String> {
    let stalled = report.ends.stalled.as_ref()?;
    let [(before, calm_ms), (during, stall_ms)] = beyond_by_stage(report)[..] else {
        return None;
    };
    let how = if reads_a_little(report) {
        "read slowly"
    } else {
        "stopped reading"
    };
    Some(format!(
        "Do {} viewers that {how} delay the others? p99 beyond the window: {} ms {before}, {} ms for the others {during}.",
        count(slow(stalled)),
        figure(calm_ms),
        figure(stall_ms)
    ))
}

/// Name and 99th percentile beyond the window in milliseconds of each stage with deliveries; empty if no viewer was slowed.
pub(super) fn beyond_by_stage(report: &RunReport) -> Vec<(&'static str, f64)> {
    if report.ends.stalled.is_none() {
        return Vec::new();
    }
    let names = ["before the stall", "during the stall"];
    let stages = names.into_iter().zip(&report.latency);
    stages
        .filter(|(_, stage)| stage.each_beyond_window.count > 0)
        .map(|(name, stage)| (name, stage.each_beyond_window.p99_ms))
        .collect()
}

/// Why the count of connected viewers is too high when some are slow.
pub(super) fn connected_note(report: &RunReport) -> Option<&'static str> {
    report.ends.stalled.as_ref()?;
    Some(if reads_a_little(report) {
        "A viewer that reads slowly notices late that it was cut off; until then it counts as connected."
    } else {
        "A viewer that does not read cannot notice that it was cut off; until it reads again it counts as connected."
    })
}

/// How many the server cut off, and how many there were.
pub(super) fn cut_off(stalled: &StalledEnds) -> (u64, u64) {
    let all = slow(stalled);
    (all.saturating_sub(stalled.open), all)
}

/// All slowed viewers: each ended in exactly one way.
fn slow(stalled: &StalledEnds) -> u64 {
    let ends = stalled.closes.values().copied();
    ends.chain([stalled.silent, stalled.open])
        .fold(0, u64::saturating_add)
}

fn reads_a_little(report: &RunReport) -> bool {
    let scenario = report.scenario.as_ref();
    scenario.is_some_and(|scenario| scenario.fields.slow_bytes_per_second > 0)
}

/// A close code in words; an unknown one by its number.
fn closed(code: u16) -> String {
    let reason = CloseReason::ALL
        .into_iter()
        .find(|reason| reason.code() == code);
    match reason {
        Some(CloseReason::SlowConsumer) => {
            format!("evicted by the server for reading too slowly (close code {code})")
        }
        Some(reason) if !reason.reason().is_empty() => {
            format!(
                "closed by the server: {} (close code {code})",
                reason.reason()
            )
        }
        _ => format!("closed by the server with code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Summary;
    use crate::report::StageReport;
    use crate::report::tests::{faulty_report, sample_report};

    #[test]
    fn the_ends_of_slow_viewers_are_in_words() {
        assert!(slow_viewers(&sample_report()).is_none());
        let mut report = faulty_report();
        let stalled = report.ends.stalled.as_mut().unwrap();
        stalled.closes.insert(4999, 8);
        assert_eq!(cut_off(stalled), (11, 14));
        report.counters = Some([("evicted".to_owned(), 3.0)].into());
        let grid = slow_viewers(&report).unwrap();
        assert_eq!(grid.title, "Viewers that stopped reading");
        let rows: Vec<&[String]> = grid.rows.iter().map(|(_, cells)| &cells[..]).collect();
        for expected in [
            [
                "evicted by the server for reading too slowly (close code 4001)",
                "2",
            ],
            ["closed by the server with code 4999", "8"],
            ["cut off without a readable close frame", "1"],
            ["still connected when the run ended", "3"],
            ["evictions counted by the server, all viewers", "3"],
            ["frames read after slowing down", "70"],
            ["comments missed according to those", "90"],
        ] {
            assert!(rows.iter().any(|row| *row == expected), "{expected:?}");
        }
        assert!(grid.note.unwrap().starts_with("14 viewers stopped"));
    }

    #[test]
    fn the_question_is_answered_only_with_both_stages() {
        assert_eq!(question(&sample_report()), None);
        let mut report = faulty_report();
        report.latency = [(5, 38.1), (7, 0.75), (0, 0.0)]
            .map(|(count, p99_ms)| StageReport {
                each_beyond_window: Summary {
                    count,
                    p99_ms,
                    ..Summary::default()
                },
                ..StageReport::default()
            })
            .into();
        let asked = question(&report).unwrap();
        assert!(asked.starts_with("Do 6 viewers that stopped reading delay the others?"));
        assert!(
            asked.ends_with(": 38.1 ms before the stall, 0.75 ms for the others during the stall.")
        );
        report.latency[1].each_beyond_window.count = 0;
        assert_eq!(question(&report), None);
    }

    #[test]
    fn a_slow_reader_is_not_reported_as_stopped() {
        let mut report = faulty_report();
        let note = connected_note(&report).unwrap();
        assert!(note.starts_with("A viewer that does not read"), "{note}");
        if let Some(scenario) = &mut report.scenario {
            scenario.fields.slow_bytes_per_second = 100;
        }
        assert_eq!(
            slow_viewers(&report).unwrap().title,
            "Viewers that read slowly"
        );
        let note = connected_note(&report).unwrap();
        assert!(note.starts_with("A viewer that reads slowly"), "{note}");
        assert_eq!(connected_note(&sample_report()), None);
    }
}
