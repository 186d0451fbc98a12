//! What a scenario adds to the figures: rooms with faults, slow viewers, disruptions, the steps of a search, limits.

use danmaku_wire::CloseReason;

use crate::report::scenario::searched;
use crate::report::{Returns, RunReport, ScenarioReport};
use crate::session::Event;
use crate::spec::Spec;
use crate::swarm::StalledEnds;
use crate::table::{Table, amount, count, figure};

/// Rooms with faults that are named.
const ROOMS_SHOWN_MAX: usize = 10;

impl RunReport {
    /// The tables, the limits last.
    pub(super) fn findings(&self) -> Vec<Table> {
        let mut tables = vec![self.rooms_table(), self.events_table()];
        let stalled = self.ends.stalled.as_ref();
        tables.extend(stalled.map(|stalled| self.slow_table(stalled)));
        if let Some(scenario) = &self.scenario {
            let spec = &self.setup.spec;
            tables.extend([scenario.steps_table(spec), scenario.limits_table(spec)]);
        }
        tables.retain(|table| !table.is_empty());
        tables
    }

    /// The rooms the audit found faults in. One room is what the audit as a whole is already.
    fn rooms_table(&self) -> Table {
        let mut table = Table::new("rooms with faults, in viewer-comments");
        table.heads([
            "",
            "lost",
            "duplicate",
            "reordered",
            "corrupt",
            "undecodable frames",
        ]);
        if self.rooms.len() > 1 {
            let faulty = self.rooms.iter().filter(|room| !room.audit.is_clean());
            for room in faulty.take(ROOMS_SHOWN_MAX) {
                let (audit, epoch) = (
                    &room.audit,
                    if room.renumbered { " (new epoch)" } else { "" },
                );
                table.judged(
                    false,
                    [
                        &format!("{}{epoch}", room.room),
                        &count(audit.lost),
                        &count(audit.duplicate),
                        &count(audit.reordered),
                        &count(audit.corrupt),
                        &count(audit.undecodable),
                    ],
                );
            }
        }
        table
    }

    /// The disruptions, and how viewers came back.
    fn events_table(&self) -> Table {
        let mut table = Table::new("viewers that lost their connection");
        let (churns, events): (Vec<_>, Vec<_>) = self.events.iter().partition(|it| it.is_churn());
        for event in events {
            event_rows(event, &mut table);
        }
        if let Some(returns) = &self.returns {
            returns_rows(returns, !churns.is_empty(), &mut table);
        }
        table
    }

    /// How slow viewers ended, and what they missed.
    fn slow_table(&self, stalled: &StalledEnds) -> Table {
        let how = self.slowness();
        let mut table = Table::new(format!("viewers that {how}"));
        for (code, viewers) in &stalled.closes {
            table.row([&closed(*code), &count(*viewers)]);
        }
        for (what, number) in [
            ("cut off without a readable close frame", stalled.silent),
            ("still connected when the run ended", stalled.open),
            ("frames read after slowing down", stalled.frames),
            ("`gap` messages received", stalled.gaps),
            ("comments missed according to those", stalled.skipped),
        ] {
            table.row([what, &count(number)]);
        }
        // A viewer that was cut off cannot know whether it was evicted.
        let counters = self.counters.as_ref();
        if let Some(evicted) = counters.and_then(|counters| counters.get("evicted")) {
            table.row([
                "evictions counted by the server, all viewers",
                &amount(*evicted),
            ]);
        }
        let others = match &self.latency[..] {
            [before, during] => format!(
                "p99 of the others beyond the window: {} ms before, {} ms during. ",
                figure(before.each_beyond_window.p99_ms),
                figure(during.each_beyond_window.p99_ms)
            ),
            _ => String::new(),
        };
        table.note(format!(
            "{others}The server may cut slow viewers off; the others must not notice. A viewer that does not read sees the \
             close frame late, or never if the connection is reset."
        ));
        table
    }

    pub(super) fn slowness(&self) -> &'static str {
        if self.setup.spec.slow_bytes_per_second > 0 {
            "read slowly"
        } else {
            "stopped reading"
        }
    }
}

fn event_rows(event: &Event, table: &mut Table) {
    let last = event.last_back_s.map_or_else(
        || "not all of them".to_owned(),
        |last| format!("the last after {} s", figure(last)),
    );
    let down = event
        .down_s
        .map(|down| format!(", server down for {} s", figure(down)));
    let text = format!(
        "at {} s of posting: {} of {} viewers back, {last}, {} a second{}",
        amount(event.at_s),
        count(event.back),
        count(event.viewers),
        figure(event.per_second),
        down.unwrap_or_default()
    );
    table.judged(event.last_back_s.is_some(), [&event.what, &text]);
    if let Some(pid) = event.server_pid {
        table.row(["new server", &format!("pid {pid}")]);
    }
    if let Some(problem) = &event.problem {
        table.judged(false, ["problem", problem]);
    }
}

/// Viewers that leave for good are replaced by new ones, which cannot resume.
fn returns_rows(returns: &Returns, is_churn: bool, table: &mut Table) {
    let (name, resumed) = if is_churn {
        ("replaced", String::new())
    } else {
        (
            "came back",
            format!(" ({} resumed)", count(returns.resumed)),
        )
    };
    let latency = &returns.latency;
    let took = if latency.count > 0 {
        let (p50, p99) = (figure(latency.p50_ms), figure(latency.p99_ms));
        format!(", p50 {p50} ms, p99 {p99} ms after losing the connection")
    } else {
        String::new()
    };
    let (rejoined, retries) = (count(returns.rejoined), count(returns.retries));
    let text = format!("{rejoined}{resumed}{took}, {retries} failed connection attempts");
    table.row([name, &text]);
    if returns.renumbered > 0 {
        let text = format!(
            "the epoch changed for {} viewers: {} viewer-comments could not be replayed",
            count(returns.renumbered),
            count(returns.unreplayed)
        );
        table.row(["in a new epoch", &text]);
    }
}

/// A close code in words; an unknown one by its number.
fn closed(code: u16) -> String {
    let mut reasons = CloseReason::ALL.into_iter();
    match reasons.find(|reason| reason.code() == code) {
        Some(CloseReason::SlowConsumer) => format!("evicted for reading too slowly ({code})"),
        Some(reason) => format!("closed by the server: {} ({code})", reason.reason()),
        None => format!("closed by the server ({code})"),
    }
}

impl ScenarioReport {
    /// Each figure against its limit.
    fn limits_table(&self, spec: &Spec) -> Table {
        let mut table = Table::new(format!("limits of {}", spec.scenario));
        table.heads(["", "measured", "limit", ""]);
        for check in &self.checks {
            let (was, limit) = (check.measured(), check.allowed());
            table.judged(check.met, [&check.what, &was, &limit, mark(check.met)]);
        }
        table
    }

    /// The steps of a search.
    fn steps_table(&self, spec: &Spec) -> Table {
        let mut table = Table::new("steps of the search");
        for step in &self.steps {
            let value = format!("{} {}", amount(step.value), searched(spec));
            let mark = mark(step.met).to_owned();
            let text: Vec<String> = [mark].into_iter().chain(step.failed.clone()).collect();
            table.judged(step.met, [&value, &text.join("; ")]);
        }
        table
    }
}

/// Whether a limit is met, in a word that stands out when it is not.
const fn mark(met: bool) -> &'static str {
    if met { "ok" } else { "NOT MET" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{faulty_report, sample_report};

    #[test]
    fn a_table_is_there_only_if_there_is_something_to_find() {
        let titles = |report: &RunReport| {
            let tables = report.findings().into_iter();
            tables
                .map(|table| table.title().to_owned())
                .collect::<Vec<_>>()
        };
        let mut report = sample_report();
        assert_eq!(
            titles(&report),
            ["viewers that lost their connection", "limits of storm"]
        );
        (report.scenario, report.returns) = (None, None);
        report.events.clear();
        assert!(titles(&report).is_empty());
        let mut faulty = faulty_report();
        faulty.rooms.push(faulty.rooms[0].clone());
        assert_eq!(
            titles(&faulty),
            [
                "rooms with faults, in viewer-comments",
                "viewers that lost their connection",
                "viewers that stopped reading",
                "steps of the search",
                "limits of storm",
            ]
        );
    }

    #[test]
    fn what_is_not_as_it_should_be_stands_out() {
        let mut report = faulty_report();
        report.ends.stalled.as_mut().unwrap().closes.insert(4999, 8);
        report.events[0].last_back_s = None;
        let words: Vec<String> = report
            .render()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let text = words.join(" ");
        for said in [
            "NOT MET; faults of the audit",
            "500 of 500 viewers back, not all of them, 400 a second, server down for 0.50 s",
            "exit code 1",
            "(480 resumed)",
            "the epoch changed for 20 viewers: 7 viewer-comments could not be replayed",
            "evicted for reading too slowly (4001) 2",
            "closed by the server (4999) 8",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
}
