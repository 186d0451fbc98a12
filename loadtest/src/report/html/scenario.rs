//! What a scenario adds to the page: its limits, the steps of a search, disruptions, the audit by room.

use std::fmt::Write as _;

use crate::report::scenario::mark;
use crate::report::{RoomReport, RunReport, ScenarioReport};
use crate::session::Event;
use crate::table::{amount, count, figure};

use super::grid::{Grid, Last, Tone, section, tone_of};
use super::slow::slow_viewers;

/// Rooms shown on the page.
const ROOMS_SHOWN_MAX: usize = 20;

/// Limits, steps, events and returns, if any.
pub(super) fn write_scenario(report: &RunReport, html: &mut String) {
    if let Some(scenario) = &report.scenario {
        let title = format!("Limits of {}", scenario.fields.scenario);
        section(&title, &[limits(scenario), steps(scenario)], html);
    }
    let grids = [
        slow_viewers(report),
        events(&report.events),
        returns(report),
    ];
    section("Disruptions", &grids, html);
}

/// The audit by room, if there are several.
pub(super) fn write_rooms(report: &RunReport, html: &mut String) {
    section("Audit by room", &[rooms(report)], html);
}

/// Which step of a search the page shows.
pub(super) fn step_shown(report: &RunReport) -> Option<String> {
    let scenario = report.scenario.as_ref()?;
    // If none met the limits, the report shows the first.
    let shown = scenario
        .most()
        .or_else(|| Some(scenario.steps.first()?.value))?;
    Some(format!(
        "Except for the list of steps, everything here is of the step with {} {}.",
        amount(shown),
        scenario.searched()
    ))
}

fn limits(scenario: &ScenarioReport) -> Option<Grid<'_>> {
    let rows = scenario.checks.iter().map(|check| {
        (
            tone_of(check.met),
            vec![
                check.what.clone(),
                check.measured(),
                check.allowed(),
                mark(check.met).to_owned(),
            ],
        )
    });
    (!scenario.checks.is_empty()).then(|| Grid {
        title: "Figures against their limits",
        heads: vec!["figure", "measured", "limit", "verdict"],
        rows: rows.collect(),
        last: Last::Words,
        note: None,
    })
}

fn steps(scenario: &ScenarioReport) -> Option<Grid<'_>> {
    let rows: Vec<(Tone, Vec<String>)> = scenario
        .steps
        .iter()
        .map(|step| {
            let mut text = mark(step.met).to_owned();
            if !step.failed.is_empty() {
                let _ = write!(text, ": {}", step.failed.join("; "));
            }
            let cells = vec![amount(step.value), text];
            (tone_of(step.met), cells)
        })
        .collect();
    let searched = scenario.searched();
    let note = match scenario.most() {
        Some(most) => format!(
            "Highest value within all limits: {} {searched}.",
            amount(most)
        ),
        None => "No step met all limits.".to_owned(),
    };
    (!rows.is_empty()).then_some(Grid {
        title: "Steps of the search, in order",
        heads: vec![searched, "verdict"],
        rows,
        last: Last::Words,
        note: Some(note),
    })
}

fn events(events: &[Event]) -> Option<Grid<'_>> {
    let or_none = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
    let rows: Vec<(Tone, Vec<String>)> = events
        .iter()
        .map(|event| {
            let mut cells = vec![event.what.clone(), amount(event.at_s), count(event.viewers)];
            // Churn lasts until the end of the run.
            if event.is_churn() {
                cells.extend(std::iter::repeat_n("-".to_owned(), 4));
                cells.push("continues until the end".to_owned());
                return (Tone::Neutral, cells);
            }
            let (tone, mark) = match (&event.problem, event.last_back_s) {
                (Some(problem), _) => (Tone::Bad, format!("PROBLEM: {problem}")),
                (None, None) => (Tone::Bad, "NOT ALL BACK".to_owned()),
                (None, Some(_)) => (Tone::Good, "all back".to_owned()),
            };
            let server = event
                .server_pid
                .map_or_else(String::new, |pid| format!("; the server is now pid {pid}"));
            cells.extend([
                or_none(event.down_s),
                count(event.back),
                or_none(event.last_back_s),
                figure(event.per_second),
                format!("{mark}{server}"),
            ]);
            (tone, cells)
        })
        .collect();
    (!rows.is_empty()).then_some(Grid {
        title: "Events",
        heads: vec![
            "event",
            "at, s of posting",
            "viewers up",
            "server down, s",
            "came back",
            "last back after, s",
            "back per second",
            "outcome",
        ],
        rows,
        last: Last::Words,
        note: None,
    })
}

fn returns(report: &RunReport) -> Option<Grid<'_>> {
    let returns = report.returns.as_ref()?;
    let latency = &returns.latency;
    let note = "Times are from losing the connection to rejoining.";
    Some(Grid {
        title: if report.has_churned() {
            "Viewers that left and were replaced"
        } else {
            "Viewers that came back"
        },
        heads: vec![
            "came back",
            "resumed",
            "joined in a new epoch",
            "viewer-comments lost to the new epoch",
            "viewer-comments replayed",
            "failed connection attempts",
            "p50, ms",
            "p90, ms",
            "p99, ms",
            "max, ms",
        ],
        rows: vec![(
            Tone::Neutral,
            vec![
                count(returns.rejoined),
                count(returns.resumed),
                count(returns.renumbered),
                count(returns.unreplayed),
                count(report.audit.replayed),
                count(returns.retries),
                figure(latency.p50_ms),
                figure(latency.p90_ms),
                figure(latency.p99_ms),
                figure(latency.max_ms),
            ],
        )],
        last: Last::Figure,
        note: Some(note.to_owned()),
    })
}

fn rooms(report: &RunReport) -> Option<Grid<'_>> {
    // With one room this would repeat the whole audit.
    if report.rooms.len() < 2 {
        return None;
    }
    let rows = report.rooms.iter().take(ROOMS_SHOWN_MAX).map(room_row);
    Some(Grid {
        title: "In viewer-comments; rooms with faults first, then those with the most deliveries",
        heads: vec![
            "room",
            "lost",
            "duplicate",
            "reordered",
            "corrupt",
            "late",
            "shed",
            "skipped",
            "delivered",
            "verdict",
        ],
        rows: rows.collect(),
        last: Last::Words,
        note: rooms_note(report),
    })
}

fn room_row(room: &RoomReport) -> (Tone, Vec<String>) {
    let audit = &room.audit;
    let name = if room.renumbered {
        format!("{} (new epoch)", room.room)
    } else {
        room.room.clone()
    };
    let mut cells = vec![name];
    cells.extend(
        [
            audit.lost,
            audit.duplicate,
            audit.reordered,
            audit.corrupt,
            audit.late,
            audit.shed,
            audit.skipped,
            audit.delivered,
        ]
        .map(count),
    );
    if audit.is_clean() {
        cells.push("ok".to_owned());
        return (Tone::Good, cells);
    }
    let mut mark = "FAULTS".to_owned();
    for (what, number) in [
        ("undecodable frames", audit.undecodable),
        ("breaks in the chain", audit.unchained),
        ("contradictions", audit.contradicted),
    ] {
        if number > 0 {
            let _ = write!(mark, ", {} {what}", count(number));
        }
    }
    cells.push(mark);
    (Tone::Bad, cells)
}

/// What the table leaves out, and where to find it.
fn rooms_note(report: &RunReport) -> Option<String> {
    let hidden = report.rooms.len().saturating_sub(ROOMS_SHOWN_MAX) as u64;
    let names = report.rooms.iter().filter(|room| !room.renumbered).count() as u64;
    let unlisted = u64::from(report.setup.rooms).saturating_sub(names);
    let mut notes = Vec::new();
    if hidden > 0 {
        notes.push(format!("{} more rooms are in the JSON.", count(hidden)));
    }
    if unlisted > 0 {
        notes.push(format!(
            "The remaining {} of {} rooms had fewer deliveries, or none.",
            count(unlisted),
            count(report.setup.rooms.into())
        ));
    }
    (!notes.is_empty()).then(|| notes.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Tally;
    use crate::report::tests::{faulty_report, sample_report};
    use crate::spec::Searched;

    fn written(report: &RunReport) -> String {
        let mut html = String::new();
        write_scenario(report, &mut html);
        write_rooms(report, &mut html);
        html
    }

    #[test]
    fn every_limit_says_whether_it_is_met() {
        let good = written(&sample_report());
        assert!(good.contains("Limits of storm") && good.contains(">ok</td>"));
        assert!(!good.contains("NOT MET") && !good.contains("unmet"));
        assert!(good.contains("at most 10") && good.contains("at least 1"));
        let bad = written(&faulty_report());
        let unmet = bad.matches("<tr class=\"unmet\"><td ").count();
        // A limit, a step of the search, an event.
        assert_eq!((unmet, bad.matches("NOT MET").count()), (3, 2));
    }

    #[test]
    fn a_search_names_the_step_its_page_shows() {
        assert_eq!(step_shown(&sample_report()), None);
        let mut report = faulty_report();
        let shown = |report: &RunReport| step_shown(report).unwrap();
        assert!(shown(&report).ends_with("of the step with 500 viewers."));
        let scenario = report.scenario.as_mut().unwrap();
        scenario.steps.reverse();
        scenario.fields.search = Some(Searched::Rate);
        assert!(shown(&report).ends_with("the step with 500 comments a second."));
        for step in &mut report.scenario.as_mut().unwrap().steps {
            step.met = false;
        }
        assert!(shown(&report).ends_with("the step with 4,000 comments a second."));
    }

    #[test]
    fn events_and_returns_are_shown() {
        let page = written(&faulty_report());
        for text in [
            "PROBLEM: exit code 1",
            "Viewers that came back",
            "failed connection attempts",
        ] {
            assert!(page.contains(text), "{text}");
        }
        let mut report = sample_report();
        report.events[0].last_back_s = None;
        assert!(written(&report).contains("NOT ALL BACK"));
        let fields = report.scenario.take().unwrap().fields;
        report.set_scenario(ScenarioReport::unjudged(&fields));
        assert!(!report.passed && !written(&report).contains("Limits of"));
        report.events.clear();
        report.returns = None;
        report.scenario = None;
        assert_eq!(written(&report), "", "a run has none of it");
    }

    #[test]
    fn only_twenty_rooms_are_shown() {
        let mut report = sample_report();
        report.setup.rooms = 5000;
        report.rooms = (0..100_u64)
            .map(|number| RoomReport {
                room: format!("room-{number}"),
                renumbered: number == 1,
                audit: Tally {
                    lost: u64::from(number == 0),
                    delivered: 1000 - number,
                    ..Tally::default()
                },
            })
            .collect();
        let page = written(&report);
        assert!(page.contains("room-19<") && !page.contains("room-20<"));
        assert!(page.contains("80 more rooms are in the JSON."));
        assert!(page.contains("The remaining 4,901 of 5,000 rooms"));
        assert!(page.contains("room-1 (new epoch)"));
        assert_eq!(page.matches("FAULTS").count(), 1);
    }
}
