//! What a run found, as JSON for machines and as tables and a page for people. The JSON is described in
//! `loadtest/REPORT.md`; a test holds the two together.

mod chart;
pub(crate) mod difference;
mod histogram;
mod html;
mod machine;
mod scenario;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use danmaku_wire::Encoding;

use crate::audit::Tally;
use crate::error::HarnessError;
use crate::floor::Floor;
use crate::ingest::PostCost;
use crate::latency::{Stage, Summary};
use crate::process::{CpuTime, Memory};
use crate::publisher::PublicationSummary;
use crate::session::{ConnectReport, Event, Outcome, of_stage};
use crate::swarm::{Delivered, StalledEnds};
use crate::table::count;
use crate::timeline::Timeline;

pub use histogram::Histogram;
pub use machine::Machine;
pub use scenario::{Returns, RoomReport, ScenarioReport, Step};

/// Everything a run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The form of this report: [`SCHEMA`].
    pub schema: u32,
    /// How this run can be repeated.
    pub setup: Setup,
    /// Whether the audit found nothing wrong; of a scenario, whether every limit is met.
    pub passed: bool,
    /// Whether the run was ended early.
    pub partial: bool,
    /// The same in a sentence, with what limits its worth.
    pub verdict: String,
    /// What connecting took.
    pub connect: ConnectReport,
    /// From dialling to `joined`.
    pub connect_latency: Summary,
    /// What became of the posts.
    pub posts: PublicationSummary,
    /// What the viewers got, in viewer-comments.
    pub audit: Tally,
    /// The same by room: rooms with faults first, then those with the most deliveries; at most a hundred.
    #[serde(default)]
    pub rooms: Vec<RoomReport>,
    /// How connections ended before the end.
    pub ends: Ends,
    /// What was done to the viewers.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Viewers that came back, when there were any.
    pub returns: Option<Returns>,
    /// The scenario this run was, and its limits.
    pub scenario: Option<ScenarioReport>,
    /// Latencies; the second stage is there when viewers were made to stall.
    pub latency: Vec<StageReport>,
    /// Everything that was delivered in the measured stretch.
    pub total: Total,
    /// Deliveries by encoding.
    pub traffic: BTreeMap<String, Traffic>,
    /// The server's side, when its process was named.
    pub server: Option<ServerReport>,
    /// Changes of the server's own counters, when it has them.
    pub counters: Option<BTreeMap<String, f64>>,
    /// This process.
    pub generator: GeneratorReport,
    /// The floor, when it was asked for.
    pub floor: Option<FloorReport>,
    /// Every distribution of the run, by name.
    pub histograms: BTreeMap<String, Histogram>,
    /// The run second by second.
    pub timeline: Timeline,
}

/// What was delivered in the measured stretch, over all viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// Length of the stretch, its drain included.
    pub seconds: f64,
    /// Frames.
    pub frames: u64,
    /// Viewer-comments.
    pub comments: u64,
    /// Bytes, WebSocket heads included.
    pub bytes: u64,
    /// Frames a second.
    pub frames_per_s: f64,
    /// Viewer-comments a second.
    pub comments_per_s: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
}

/// What was run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// The command line.
    pub command: Vec<String>,
    /// This harness.
    pub version: String,
    /// The server.
    pub url: String,
    /// Viewers.
    pub viewers: u32,
    /// Rooms.
    pub rooms: u32,
    /// Encodings in use.
    pub encodings: Vec<String>,
    /// The recording's file name, or `made up`.
    pub corpus: String,
    /// How many times as fast as recorded.
    pub speed: f64,
    /// The seed.
    pub seed: u64,
    /// Length of the measured stretch.
    pub duration_s: u64,
    /// The rooms' window.
    pub window_ms: u64,
    /// Deliveries later than this beyond the window are late.
    pub late_ms: u64,
    /// CPUs this process may use.
    pub cpus: usize,
    /// The machine the harness ran on.
    pub machine: Machine,
}

/// How connections ended before the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ends {
    /// Close frames by code.
    pub closes: BTreeMap<u16, u64>,
    /// Of those, evictions (4001).
    pub evicted: u64,
    /// Without a close frame.
    pub silent: u64,
    /// Breaches of the protocol, by kind.
    pub faults: BTreeMap<String, u64>,
    /// How stalled viewers were found.
    pub stalled: Option<StalledEnds>,
}

/// Latencies of one stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// `all`, or `before stall` and `during stall`.
    pub stage: String,
    /// Scheduled post to first viewer, per comment.
    pub first_viewer: Summary,
    /// Scheduled post to each viewer.
    pub each_viewer: Summary,
    /// Scheduled post to last viewer, per comment.
    pub last_viewer: Summary,
    /// Each viewer, less the window.
    pub each_beyond_window: Summary,
    /// Last viewer, less the window.
    pub last_beyond_window: Summary,
    /// The batch's time stamp to each viewer.
    pub seal_to_viewer: Summary,
}

/// Deliveries of one encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Bytes, WebSocket heads included.
    pub bytes: u64,
    /// Comments.
    pub comments: u64,
    /// Bytes per frame.
    pub bytes_per_frame: f64,
    /// Bytes per comment and viewer.
    pub bytes_per_comment: f64,
}

/// The server's process over the measured stretch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// CPU.
    pub cpu: CpuTime,
    /// CPU per delivered frame.
    pub frame_micros: f64,
    /// What posting alone cost, when it was asked for.
    pub post_cost: Option<PostCost>,
    /// CPU per delivered frame without what the posts cost, when that is known.
    pub fan_out_micros: Option<f64>,
    /// Share of one CPU.
    pub cpu_percent: f64,
    /// Memory at the end.
    pub memory: Option<Memory>,
}

/// This process over the measured stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// CPU.
    pub cpu: Option<CpuTime>,
    /// User-space CPU per received frame, the audit included.
    pub user_frame_micros: f64,
    /// CPU per received frame, the kernel included.
    pub frame_micros: f64,
}

/// The floor beside the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FloorReport {
    /// What was measured.
    pub floor: Floor,
    /// Threads that sent, each its share of every room.
    pub threads: usize,
    /// Before and after the run, in microseconds per send.
    pub halves_micros: [f64; 2],
    /// Server CPU per delivered frame over floor CPU per send, when the server's process was named.
    pub ratio: Option<f64>,
    /// The same without what the posts cost, when that is known.
    pub fan_out_ratio: Option<f64>,
}

/// The form of the JSON. It changes when a member changes its meaning or goes; new members do not change it.
pub const SCHEMA: u32 = 1;
/// The close code of an eviction.
const EVICTED: u16 = danmaku_wire::CloseReason::SlowConsumer.code();

impl RunReport {
    /// Puts the figures of a session together.
    #[must_use]
    pub fn new(setup: Setup, connect: ConnectReport, outcome: &Outcome, partial: bool) -> Self {
        let result = &outcome.result;
        let tally = result.findings.tally;
        let frames: u64 = outcome
            .delivered
            .iter()
            .map(|delivered| delivered.frames)
            .sum();
        let stalled = &result.tolls.stalled;
        let has_stalled =
            outcome.first_viewer[1].count > 0 || stalled.frames + stalled.open + stalled.silent > 0;
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
                .tolls
                .closes
                .get(&EVICTED)
                .copied()
                .unwrap_or_default(),
            closes: result.tolls.closes.clone(),
            silent: result.tolls.silent_ends,
            faults: result.tolls.faults.clone(),
            stalled: has_stalled.then(|| stalled.clone()),
        };
        let passed =
            tally.is_clean() && ends.faults.is_empty() && outcome.publication.contradicted == 0;
        let mut report = Self {
            schema: SCHEMA,
            setup: Setup {
                window_ms: outcome.window_ms,
                ..setup
            },
            passed,
            partial,
            verdict: String::new(),
            connect,
            connect_latency: result.tolls.connects.summary(),
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
            total: Total::of(outcome),
            traffic: traffic(outcome),
            server: outcome.server_cpu.map(|cpu| ServerReport {
                cpu,
                frame_micros: cpu.micros_per(frames),
                post_cost: None,
                fan_out_micros: None,
                cpu_percent: cpu.total_ms() / 10.0 / outcome.seconds.max(f64::MIN_POSITIVE),
                memory: outcome.server_memory,
            }),
            counters: outcome.counters.clone(),
            generator: GeneratorReport::of(outcome.own_cpu, frames),
            floor: None,
            histograms: histogram::all(outcome),
            timeline: outcome.timeline.clone(),
        };
        report.verdict = report.judge();
        report
    }

    /// The report of a run that was ended before anything was posted.
    #[must_use]
    pub fn interrupted(setup: Setup, joined: u64) -> Self {
        Self {
            schema: SCHEMA,
            verdict: format!(
                "FAIL (partial: ended early): interrupted with {} of {} viewers connected, nothing was posted",
                count(joined),
                count(setup.viewers.into())
            ),
            setup,
            partial: true,
            connect: ConnectReport {
                viewers: joined,
                ..ConnectReport::default()
            },
            ..Self::default()
        }
    }

    /// Makes it the report of a scenario: it has passed when every limit is met. Without limits it says what it said before.
    pub fn set_scenario(&mut self, scenario: ScenarioReport) {
        let is_judged = !scenario.checks.is_empty();
        self.passed = is_judged && scenario.failed().is_empty();
        self.scenario = Some(scenario);
        if is_judged {
            self.verdict = self.judge();
        }
    }

    /// Adds what posting alone costs, and takes it off the cost of a frame.
    pub fn set_post_cost(&mut self, cost: PostCost) {
        let frames: u64 = self.traffic.values().map(|traffic| traffic.frames).sum();
        if let Some(server) = &mut self.server {
            let posts_ms = ratio(self.posts.acknowledged, 1000) * cost.post_micros;
            let left = CpuTime {
                user_ms: 0.0,
                system_ms: (server.cpu.total_ms() - posts_ms).max(0.0),
            };
            server.post_cost = Some(cost);
            server.fan_out_micros = Some(left.micros_per(frames));
        }
    }

    /// Adds the floor and sets the server against it.
    pub fn set_floor(&mut self, halves: [Floor; 2], threads: usize) {
        let floor = halves[0].with(&halves[1]);
        let ratio = self
            .server
            .map(|server| server.frame_micros / floor.send_micros);
        let fan_out = self.server.and_then(|server| server.fan_out_micros);
        let fan_out_ratio = fan_out.map(|micros| micros / floor.send_micros);
        self.floor = Some(FloorReport {
            floor,
            threads,
            halves_micros: halves.map(|half| half.send_micros),
            ratio,
            fan_out_ratio,
        });
    }
}

impl Total {
    fn of(outcome: &Outcome) -> Self {
        let sum = |of: fn(&Delivered) -> u64| outcome.delivered.iter().map(of).sum::<u64>();
        let (frames, comments, bytes) = (
            sum(|delivered| delivered.frames),
            sum(|delivered| delivered.comments),
            sum(|delivered| delivered.bytes),
        );
        let seconds = outcome.seconds.max(f64::MIN_POSITIVE);
        Self {
            seconds: outcome.seconds,
            frames,
            comments,
            bytes,
            frames_per_s: ratio(frames, 1) / seconds,
            comments_per_s: ratio(comments, 1) / seconds,
            bytes_per_s: ratio(bytes, 1) / seconds,
        }
    }
}

impl GeneratorReport {
    fn of(cpu: Option<CpuTime>, frames: u64) -> Self {
        let user = cpu.map(|cpu| CpuTime {
            system_ms: 0.0,
            ..cpu
        });
        let per_frame = |cpu: Option<CpuTime>| cpu.map_or(0.0, |cpu| cpu.micros_per(frames));
        Self {
            cpu,
            user_frame_micros: per_frame(user),
            frame_micros: per_frame(cpu),
        }
    }
}

impl StageReport {
    fn new(stage: Stage, name: &'static str, outcome: &Outcome) -> Self {
        let latencies = &outcome.result.findings.stages[stage as usize];
        Self {
            stage: name.to_owned(),
            first_viewer: of_stage(&outcome.first_viewer, stage),
            each_viewer: latencies.each.summary(),
            last_viewer: of_stage(&outcome.last_viewer, stage),
            each_beyond_window: latencies.beyond_window.summary(),
            last_beyond_window: of_stage(&outcome.last_beyond, stage),
            seal_to_viewer: latencies.seal.summary(),
        }
    }
}

fn traffic(outcome: &Outcome) -> BTreeMap<String, Traffic> {
    Encoding::ALL
        .into_iter()
        .map(|encoding| (encoding, outcome.delivered[encoding as usize]))
        .filter(|(_, delivered)| delivered.frames > 0)
        .map(|(encoding, delivered)| {
            let traffic = Traffic {
                frames: delivered.frames,
                bytes: delivered.bytes,
                comments: delivered.comments,
                bytes_per_frame: ratio(delivered.bytes, delivered.frames),
                bytes_per_comment: ratio(delivered.bytes, delivered.comments),
            };
            (encoding.as_str().to_owned(), traffic)
        })
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a run are far below 2^53"
)]
fn ratio(sum: u64, count: u64) -> f64 {
    sum as f64 / (count.max(1) as f64)
}

/// Writes a result, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, result: &impl Serialize) -> Result<(), HarnessError> {
    let json = serde_json::to_vec_pretty(result).map_err(|error| HarnessError::File {
        path: path.to_owned(),
        source: error.into(),
    })?;
    write_whole(path, &json)
}

/// Writes a run as a page for a browser, whole or not at all.
///
/// # Errors
/// The file cannot be written.
pub fn write_html(path: &Path, report: &RunReport) -> Result<(), HarnessError> {
    write_whole(path, html::page(report).as_bytes())
}

/// Reads the report of a run.
///
/// # Errors
/// The file cannot be read, or is not a report of this form.
pub fn read_json(path: &Path) -> Result<RunReport, HarnessError> {
    let odd = |what: String| HarnessError::Report {
        path: path.to_owned(),
        what,
    };
    let json = fs::read(path).map_err(|source| HarnessError::File {
        path: path.to_owned(),
        source,
    })?;
    let value: serde_json::Value =
        serde_json::from_slice(&json).map_err(|error| odd(format!("not JSON: {error}")))?;
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => {}
        Some(schema) => {
            return Err(odd(format!(
                "schema {schema}, and this harness reads {SCHEMA}"
            )));
        }
        None => return Err(odd("no `schema`, so not the report of a run".to_owned())),
    }
    serde_json::from_value(value).map_err(|error| odd(format!("not the report of a run: {error}")))
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), HarnessError> {
    let failed = |source| HarnessError::File {
        path: path.to_owned(),
        source,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    let written = fs::write(part, content).and_then(|()| fs::rename(part, path));
    if written.is_err() {
        // Nothing half-written stays behind.
        let _ = fs::remove_file(part);
    }
    written.map_err(failed)
}

#[cfg(test)]
pub(crate) mod tests;
