//! What makes a run a scenario: its fields, each figure against its limit, and the steps of a search.

use serde::{Deserialize, Serialize};

use crate::audit::Tally;
use crate::latency::Summary;
use crate::limits::{Bound, Check};
use crate::report::RunReport;
use crate::session::{Event, Outcome};
use crate::spec::{Searched, Spec};
use crate::table::{Table, amount, count, figure};

/// A scenario and its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioReport {
    /// The scenario with all its fields.
    pub fields: Spec,
    /// Each figure against its limit.
    pub checks: Vec<Check>,
    /// Growth of the server's memory, if its figures are known.
    pub memory_mib_per_hour: Option<f64>,
    /// The steps of a search.
    pub steps: Vec<Step>,
}

/// One step of a search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Viewers, or comments a second.
    pub value: f64,
    /// Whether every limit was met.
    pub met: bool,
    /// The figures that were not, or why it could not be run.
    pub failed: Vec<String>,
    /// Each figure against its limit.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// The audit of one room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoomReport {
    /// Its name.
    pub room: String,
    /// Whether this is the room in its new epoch, after a restart.
    pub renumbered: bool,
    /// Its counts.
    pub audit: Tally,
}

/// Viewers that lost their connection and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Returns {
    /// Joins after the first one of the same viewer.
    pub rejoined: u64,
    /// Of those, how many resumed from their position.
    pub resumed: u64,
    /// Of those, how many found their room with another epoch.
    pub renumbered: u64,
    /// Acknowledged viewer-comments that could not be replayed because of that.
    pub unreplayed: u64,
    /// Failed connection attempts.
    pub retries: u64,
    /// From losing the connection to being back.
    pub latency: Summary,
}

/// Rooms that are listed by name.
const ROOMS_LISTED_MAX: usize = 100;
/// Rooms with faults that the tables name.
const ROOMS_SHOWN_MAX: usize = 10;

impl ScenarioReport {
    /// A scenario that was ended before anything could be judged.
    #[must_use]
    pub fn unjudged(fields: &Spec) -> Self {
        Self {
            fields: fields.clone(),
            checks: Vec::new(),
            memory_mib_per_hour: None,
            steps: Vec::new(),
        }
    }

    /// The figures that missed their limits, each with its value and limit.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| !check.met);
        failed.map(Check::missed).collect()
    }

    /// The result in a sentence.
    #[must_use]
    pub fn judge(&self, partial: bool) -> String {
        let name = &self.fields.scenario;
        let partial = if partial {
            " (partial: ended early)"
        } else {
            ""
        };
        let failed = self.failed();
        let mut text = if failed.is_empty() {
            format!(
                "PASS{partial}: {name} is within all {} limits",
                self.checks.len()
            )
        } else {
            format!("FAIL{partial}: {name} is not within: {}", failed.join("; "))
        };
        if let Some(found) = self.found() {
            text.push_str(&format!("; {found}"));
        }
        text
    }

    /// The result of a search, in words.
    pub(super) fn found(&self) -> Option<String> {
        let first = self.steps.first()?;
        let searched = self.searched();
        Some(match self.most() {
            None => format!(
                "even the lowest value, {} {searched}, missed them",
                amount(first.value)
            ),
            Some(most) if most >= self.fields.to => {
                format!(
                    "all {} {searched} met them, the end of the range; raise `to` to look further",
                    amount(most)
                )
            }
            Some(most) => {
                let missed = self.steps.iter().filter(|step| !step.met);
                let next = missed.min_by(|one, other| one.value.total_cmp(&other.value));
                let next = next.map_or_else(String::new, |step| {
                    format!(
                        "; {} did not: {}",
                        amount(step.value),
                        step.failed.join(", ")
                    )
                });
                format!(
                    "the most that met them is {} {searched}{next}",
                    amount(most)
                )
            }
        })
    }

    /// The highest value of a search that met every limit.
    #[must_use]
    pub fn most(&self) -> Option<f64> {
        let met = self.steps.iter().filter(|step| step.met);
        met.map(|step| step.value).reduce(f64::max)
    }

    /// Each figure against its limit, and the steps of a search.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(format!("limits of {}", self.fields.scenario));
        table.row(["", "measured", "limit", ""]);
        for check in &self.checks {
            let (was, limit) = (check.measured(), check.allowed());
            table.row([&check.what, &was, &limit, mark(check.met)]);
        }
        table
    }

    /// The steps of a search.
    pub(super) fn steps_table(&self) -> Table {
        let mut table = Table::new("steps of the search");
        for step in &self.steps {
            table.row([
                &format!("{} {}", amount(step.value), self.searched()),
                mark(step.met),
                &step.failed.join("; "),
            ]);
        }
        table
    }

    /// What a search looked for the most of.
    pub(super) const fn searched(&self) -> &'static str {
        match self.fields.search {
            Some(Searched::Rate) => "comments a second",
            Some(Searched::Viewers) | None => "viewers",
        }
    }
}

impl Check {
    /// A sentence that says it missed its limit.
    fn missed(&self) -> String {
        format!("{} ({}, {})", self.what, self.measured(), self.allowed())
    }

    /// Its value as text.
    pub(super) fn measured(&self) -> String {
        self.value.map_or_else(|| "not measured".to_owned(), amount)
    }

    /// Its limit as text.
    pub(super) fn allowed(&self) -> String {
        let side = match self.bound {
            Bound::Most => "at most",
            Bound::Least => "at least",
        };
        format!("{side} {}", amount(self.limit))
    }
}

/// Whether a limit is met, in a word that stands out when it is not.
pub(super) const fn mark(met: bool) -> &'static str {
    if met { "ok" } else { "NOT MET" }
}

impl Returns {
    pub(super) fn of(outcome: &Outcome) -> Option<Self> {
        let incidents = &outcome.result.incidents;
        (incidents.rejoined > 0 || incidents.retries > 0).then(|| Self {
            rejoined: incidents.rejoined,
            resumed: incidents.resumed,
            renumbered: incidents.renumbered,
            unreplayed: incidents.unreplayed,
            retries: incidents.retries,
            latency: incidents.rejoins.summary(),
        })
    }
}

impl RoomReport {
    /// Rooms with faults first, then those with the most deliveries; at most a hundred.
    pub(super) fn of(outcome: &Outcome) -> Vec<Self> {
        let names = outcome.rooms.len().max(1);
        let mut listed: Vec<Self> = (0..)
            .zip(&outcome.result.findings.rooms)
            .filter(|(_, tally)| **tally != Tally::default())
            .filter_map(|(index, tally): (usize, &Tally)| {
                Some(Self {
                    room: outcome.rooms.get(index % names)?.to_string(),
                    renumbered: index >= names,
                    audit: *tally,
                })
            })
            .collect();
        listed.sort_by_key(|room| {
            (
                room.audit.is_clean(),
                std::cmp::Reverse(room.audit.delivered),
            )
        });
        listed.truncate(ROOMS_LISTED_MAX);
        listed
    }
}

impl RunReport {
    /// Whether viewers left and were replaced by new ones, which cannot resume.
    pub(super) fn has_churned(&self) -> bool {
        self.events.iter().any(|event| event.is_churn())
    }

    /// The disruptions, and how the viewers came back.
    pub(super) fn events_table(&self) -> Table {
        let mut table = Table::new("viewers that lost their connection");
        for event in &self.events {
            event_rows(event, &mut table);
        }
        if let Some(returns) = &self.returns {
            let latency = &returns.latency;
            let resumed = if self.has_churned() {
                String::new()
            } else {
                format!(" ({} resumed)", count(returns.resumed))
            };
            let took = if latency.count > 0 {
                let (p50, p99) = (figure(latency.p50_ms), figure(latency.p99_ms));
                format!(", p50 {p50} ms, p99 {p99} ms")
            } else {
                String::new()
            };
            let text = format!(
                "{}{resumed}{took}, {} failed connection attempts",
                count(returns.rejoined),
                count(returns.retries)
            );
            let name = if self.has_churned() {
                "rejoined"
            } else {
                "came back"
            };
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
        table
    }

    /// The rooms the audit found faults in.
    pub(super) fn rooms_table(&self) -> Table {
        let mut table = Table::new("rooms with faults");
        // One room is what the audit as a whole is already.
        if self.rooms.len() < 2 {
            return table;
        }
        let faulty = self.rooms.iter().filter(|room| !room.audit.is_clean());
        for room in faulty.take(ROOMS_SHOWN_MAX) {
            let audit = &room.audit;
            let text = format!(
                "{} lost, {} duplicate, {} reordered, {} corrupt, {} undecodable frames",
                count(audit.lost),
                count(audit.duplicate),
                count(audit.reordered),
                count(audit.corrupt),
                count(audit.undecodable)
            );
            table.row([&room.room, &text]);
        }
        table
    }
}

fn event_rows(event: &Event, table: &mut Table) {
    if event.is_churn() {
        return;
    }
    let last = event.last_back_s.map_or_else(
        || "not all of them".to_owned(),
        |last| format!("the last after {} s", figure(last)),
    );
    let down = event.down_s.map_or_else(String::new, |down| {
        format!(", server down for {} s", figure(down))
    });
    let text = format!(
        "{} of {} viewers back, {last}, {} a second{down}",
        count(event.back),
        count(event.viewers),
        figure(event.per_second)
    );
    table.row([&event.what, &text]);
    if let Some(pid) = event.server_pid {
        table.row(["new server", &format!("pid {pid}")]);
    }
    if let Some(problem) = &event.problem {
        table.row(["problem", problem]);
    }
}
