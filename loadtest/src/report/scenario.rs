//! What makes a run a scenario: its fields, each figure against its limit, and the steps of a search; and what became of
//! rooms and of viewers that came back.

use schemars::JsonSchema;
use serde::Serialize;

use crate::audit::Tally;
use crate::latency::Summary;
use crate::limits::{Bound, Check};
use crate::session::Outcome;
use crate::spec::{Searched, Spec};
use crate::table::amount;

/// The limits of a scenario, and its search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ScenarioReport {
    /// Each figure against its limit.
    pub checks: Vec<Check>,
    /// Growth of the server's memory, if its figures are known.
    pub memory_mib_per_hour: Option<f64>,
    /// The steps of a search.
    pub steps: Vec<Step>,
    /// The highest value of a search that met every limit.
    pub most: Option<f64>,
}

/// One step of a search.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Step {
    /// Viewers, or comments a second.
    pub value: f64,
    /// Whether every limit was met.
    pub met: bool,
    /// The figures that were not, or why it could not be run.
    pub failed: Vec<String>,
    /// Each figure against its limit.
    pub checks: Vec<Check>,
}

/// The audit of one room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct RoomReport {
    /// Its name.
    pub room: String,
    /// Whether this is the room in its new epoch, after a restart.
    pub renumbered: bool,
    /// Its counts.
    pub audit: Tally,
}

/// Viewers that lost their connection and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
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

impl ScenarioReport {
    /// Adds the steps of a search.
    #[must_use]
    pub fn searched_by(self, steps: Vec<Step>) -> Self {
        let met = steps.iter().filter(|step| step.met);
        Self {
            most: met.map(|step| step.value).reduce(f64::max),
            steps,
            ..self
        }
    }

    /// The figures that missed their limits, each with its value and limit.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| !check.met);
        failed.map(Check::missed).collect()
    }

    /// The result in a sentence.
    pub(super) fn judge(&self, spec: &Spec, partial: &str) -> String {
        let (name, failed) = (&spec.scenario, self.failed());
        let mut text = if failed.is_empty() {
            let limits = self.checks.len();
            format!("PASS{partial}: {name} is within all {limits} limits")
        } else {
            format!("FAIL{partial}: {name} is not within: {}", failed.join("; "))
        };
        if let Some(found) = self.found(spec) {
            text.push_str(&format!("; {found}"));
        }
        text
    }

    /// The result of a search, in words.
    pub(super) fn found(&self, spec: &Spec) -> Option<String> {
        let first = self.steps.first()?;
        let searched = searched(spec);
        let Some(most) = self.most else {
            let first = amount(first.value);
            return Some(format!(
                "even the lowest value, {first} {searched}, missed them"
            ));
        };
        let value = amount(most);
        if most >= spec.to {
            return Some(format!(
                "all {value} {searched} met them, the end of the range; raise `to` to look further"
            ));
        }
        let missed = self.steps.iter().filter(|step| !step.met);
        let next = missed.min_by(|one, other| one.value.total_cmp(&other.value));
        let next = next.map(|step| {
            format!(
                "; {} did not: {}",
                amount(step.value),
                step.failed.join(", ")
            )
        });
        let next = next.unwrap_or_default();
        Some(format!(
            "the most that met them is {value} {searched}{next}"
        ))
    }
}

/// What a search looks for the most of.
pub(super) const fn searched(spec: &Spec) -> &'static str {
    match spec.search {
        Some(Searched::Rate) => "comments a second",
        Some(Searched::Viewers) | None => "viewers",
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
