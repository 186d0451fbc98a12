//! The report of a run. Its JSON is this struct; one list of tables is both the text on the terminal and, with charts, the page.

mod chart;
mod charts;
mod compare;
mod cost;
mod csv;
mod delivery;
mod file;
mod findings;
mod machine;
mod page;
mod scenario;
mod sections;
mod tiles;
mod verdict;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::audit::Tally;
use crate::clock::Clock;
use crate::latency::{Distribution, Stage, Summary};
use crate::publisher::PublicationSummary;
use crate::session::{ConnectReport, Event, Outcome};
use crate::spec::Spec;
use crate::swarm::StalledEnds;
use crate::table::count;
use crate::timeline::Timeline;

pub(crate) use compare::Comparison;
pub use cost::{FloorReport, GeneratorReport, ServerReport};
pub use delivery::{StageReport, Traffic};
pub use file::{check_writable, write_csv, write_html, write_json};
pub use machine::Machine;
pub use scenario::{Returns, RoomReport, ScenarioReport, Step};

/// The results of a run.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct RunReport {
    /// The format of this report: [`SCHEMA`].
    pub schema: u32,
    /// The setup, to repeat the run.
    pub setup: Setup,
    /// Whether the audit found nothing wrong; of a scenario, whether every limit is met.
    pub passed: bool,
    /// Whether the run was ended early.
    pub partial: bool,
    /// The result in a sentence, with its caveats.
    pub verdict: String,
    /// What connecting took.
    pub connect: ConnectReport,
    /// From connecting to `joined`.
    pub connect_latency: Summary,
    /// Viewers that could not connect, by cause, if the run went on without them.
    pub connect_failures: BTreeMap<String, u64>,
    /// The outcome of the posts.
    pub posts: PublicationSummary,
    /// What the viewers got, in viewer-comments.
    pub audit: Tally,
    /// The same by room: rooms with faults first, then those with the most deliveries; at most a hundred.
    pub rooms: Vec<RoomReport>,
    /// How connections ended before the end.
    pub ends: Ends,
    /// The disruptions of the viewers.
    pub events: Vec<Event>,
    /// Viewers that came back, when there were any.
    pub returns: Option<Returns>,
    /// Its figures against its limits, if it has any.
    pub scenario: Option<ScenarioReport>,
    /// Latencies; the second stage is there when viewers were made to stall.
    pub latency: Vec<StageReport>,
    /// Everything that was delivered in the measured interval.
    pub total: Traffic,
    /// Deliveries by encoding.
    pub traffic: BTreeMap<String, Traffic>,
    /// The server's side, if its figures are known.
    pub server: Option<ServerReport>,
    /// The server's figures were available at the start but not at the end: it exited, or hangs.
    pub server_gone: bool,
    /// Changes of the server's own counters, when it has them.
    pub counters: Option<BTreeMap<String, f64>>,
    /// This process.
    pub generator: GeneratorReport,
    /// The floor, if it was asked for.
    pub floor: Option<FloorReport>,
    /// Where the time of a delivery goes: `post_to_viewer` for each viewer; `post_to_seal`, `seal_to_first_viewer` and
    /// `first_to_last_viewer` for each comment. Only those with values.
    pub distributions: BTreeMap<String, Distribution>,
    /// The run second by second.
    pub timeline: Timeline,
}

/// What was run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Setup {
    /// The command line.
    pub command: Vec<String>,
    /// This harness.
    pub version: String,
    /// The server's version, if it reports one.
    pub server_version: Option<String>,
    /// The scenario with all its fields, and the limits in `slo`.
    pub spec: Spec,
    /// The rooms' window, as reported by the server; 0 if nobody joined.
    pub window_ms: u64,
    /// The machine the harness ran on.
    pub machine: Machine,
}

/// How connections ended before the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Ends {
    /// Viewers closed by the server, by close code.
    pub closes: BTreeMap<u16, u64>,
    /// Of those, evictions (4001).
    pub evicted: u64,
    /// Without a close frame.
    pub silent: u64,
    /// Protocol violations, by kind.
    pub faults: BTreeMap<String, u64>,
    /// State of the stalled viewers.
    pub stalled: Option<StalledEnds>,
}

/// Version of the JSON format. It changes when a member is removed or changes its meaning, not for new members.
pub const SCHEMA: u32 = 2;
/// The close code of an eviction.
const EVICTED: u16 = danmaku_wire::CloseReason::SlowConsumer.code();

/// The JSON schema of a report.
#[must_use]
pub fn schema() -> String {
    let schema = schemars::schema_for!(RunReport);
    format!("{:#}\n", schema.as_value())
}

impl RunReport {
    /// Combines the figures of a session.
    #[must_use]
    pub fn new(setup: Setup, connect: ConnectReport, outcome: &Outcome, partial: bool) -> Self {
        let result = &outcome.result;
        let tally = result.findings.tally;
        let frames: u64 = outcome
            .delivered
            .iter()
            .map(|delivered| delivered.frames)
            .sum();
        let stalled = &result.incidents.stalled;
        let has_stalled = outcome.spans.first[1].summary().count > 0
            || stalled.frames + stalled.open + stalled.silent > 0;
        let stages: &[(Stage, &'static str)] = if has_stalled {
            &[
                (Stage::Calm, "before stall"),
                (Stage::Stalled, "during stall"),
            ]
        } else {
            &[(Stage::Calm, "all")]
        };
        let ends = Ends {
            evicted: result
                .incidents
                .closes
                .get(&EVICTED)
                .copied()
                .unwrap_or_default(),
            closes: result.incidents.closes.clone(),
            silent: result.incidents.silent_ends,
            faults: result.incidents.faults.clone(),
            stalled: has_stalled.then(|| stalled.clone()),
        };
        let mut report = Self {
            schema: SCHEMA,
            setup: Setup {
                window_ms: outcome.window_ms,
                ..setup
            },
            passed: false,
            partial,
            verdict: String::new(),
            connect: if connect.viewers == 0 {
                // They joined while comments were posted.
                ConnectReport {
                    viewers: result
                        .incidents
                        .joined
                        .saturating_sub(result.incidents.rejoined),
                    ..connect
                }
            } else {
                connect
            },
            connect_latency: result.incidents.connects.summary(),
            connect_failures: result.incidents.failures.clone(),
            posts: outcome.publication.summary(),
            audit: tally,
            rooms: RoomReport::of(outcome),
            ends,
            events: outcome.events.clone(),
            returns: Returns::of(outcome),
            scenario: None,
            latency: stages
                .iter()
                .map(|(stage, name)| StageReport::new(*stage, name, outcome))
                .collect(),
            total: Traffic::of(outcome),
            traffic: delivery::traffic(outcome),
            server: ServerReport::of(outcome, frames),
            server_gone: outcome.server_gone,
            counters: outcome.counters.clone(),
            generator: GeneratorReport::of(outcome, frames),
            floor: None,
            distributions: delivery::distributions(outcome),
            timeline: outcome.timeline.clone(),
        };
        report.passed = report.faults().is_empty();
        report.verdict = report.judge();
        report
    }

    /// The report of a run that was ended before anything was posted; `clock` is of its beginning.
    #[must_use]
    pub fn interrupted(setup: Setup, joined: u64, clock: Clock) -> Self {
        Self {
            schema: SCHEMA,
            verdict: format!(
                "FAIL (partial: ended early): interrupted with {} of {} viewers connected, nothing was posted",
                count(joined),
                count(setup.spec.viewers.into())
            ),
            setup,
            partial: true,
            timeline: Timeline {
                started_unix_ms: clock.origin_unix_ms(),
                ..Timeline::default()
            },
            connect: ConnectReport {
                viewers: joined,
                ..ConnectReport::default()
            },
            ..Self::default()
        }
    }

    /// Makes it the report of a scenario, which passes when every limit is met. Without limits the verdict stays.
    pub fn set_scenario(&mut self, scenario: ScenarioReport) {
        let is_judged = !scenario.checks.is_empty();
        self.passed = is_judged && scenario.failed().is_empty();
        self.scenario = Some(scenario);
        if is_judged {
            self.verdict = self.judge();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
