//! What a run found, as JSON for machines and as tables for people.

pub(crate) mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use danmaku_wire::Encoding;

use crate::audit::Tally;
use crate::error::HarnessError;
use crate::floor::Floor;
use crate::ingest::PostCost;
use crate::latency::{Stage, Summary};
use crate::process::{CpuTime, Memory};
use crate::publisher::PublicationSummary;
use crate::session::{ConnectReport, Outcome, of_stage};
use crate::swarm::StalledEnds;

/// Everything a run found.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// How this run can be repeated.
    pub setup: Setup,
    /// Whether the audit found nothing wrong.
    pub passed: bool,
    /// Whether the run was ended early.
    pub partial: bool,
    /// What connecting took.
    pub connect: ConnectReport,
    /// From dialling to `joined`.
    pub connect_latency: Summary,
    /// What became of the posts.
    pub posts: PublicationSummary,
    /// What the viewers got, in viewer-comments.
    pub audit: Tally,
    /// How connections ended before the end.
    pub ends: Ends,
    /// Latencies; the second stage is there when viewers were made to stall.
    pub latency: Vec<StageReport>,
    /// Deliveries by encoding.
    pub traffic: BTreeMap<&'static str, Traffic>,
    /// The server's side, when its process was named.
    pub server: Option<ServerReport>,
    /// Changes of the server's own counters, when it has them.
    pub counters: Option<BTreeMap<String, f64>>,
    /// This process.
    pub generator: GeneratorReport,
    /// The floor, when it was asked for.
    pub floor: Option<FloorReport>,
}

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// The command line.
    pub command: Vec<String>,
    /// This harness.
    pub version: &'static str,
    /// The server.
    pub url: String,
    /// Viewers.
    pub viewers: u32,
    /// Rooms.
    pub rooms: u32,
    /// Encodings in use.
    pub encodings: Vec<&'static str>,
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
    /// CPUs of this machine.
    pub cpus: usize,
}

/// How connections ended before the end.
#[derive(Clone, Debug, Default, Serialize)]
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
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// `all`, or `before stall` and `during stall`.
    pub stage: &'static str,
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
#[derive(Clone, Copy, Debug, Default, Serialize)]
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
#[derive(Clone, Copy, Debug, Serialize)]
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
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct GeneratorReport {
    /// CPU.
    pub cpu: Option<CpuTime>,
    /// User-space CPU per received frame, the audit included.
    pub user_frame_micros: f64,
    /// CPU per received frame, the kernel included.
    pub frame_micros: f64,
}

/// The floor beside the run.
#[derive(Clone, Copy, Debug, Serialize)]
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
        let cpu = outcome.own_cpu;
        Self {
            setup: Setup {
                window_ms: outcome.window_ms,
                ..setup
            },
            passed,
            partial,
            connect,
            connect_latency: result.tolls.connects.summary(),
            posts: outcome.publication.summary(),
            audit: tally,
            ends,
            latency: stages
                .iter()
                .map(|(stage, name)| StageReport::new(*stage, name, outcome))
                .collect(),
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
            generator: GeneratorReport {
                cpu,
                user_frame_micros: cpu.map_or(0.0, |cpu| {
                    CpuTime {
                        system_ms: 0.0,
                        ..cpu
                    }
                    .micros_per(frames)
                }),
                frame_micros: cpu.map_or(0.0, |cpu| cpu.micros_per(frames)),
            },
            floor: None,
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

impl StageReport {
    fn new(stage: Stage, name: &'static str, outcome: &Outcome) -> Self {
        let latencies = &outcome.result.findings.stages[stage as usize];
        Self {
            stage: name,
            first_viewer: of_stage(&outcome.first_viewer, stage),
            each_viewer: latencies.each.summary(),
            last_viewer: of_stage(&outcome.last_viewer, stage),
            each_beyond_window: latencies.beyond_window.summary(),
            last_beyond_window: of_stage(&outcome.last_beyond, stage),
            seal_to_viewer: latencies.seal.summary(),
        }
    }
}

fn traffic(outcome: &Outcome) -> BTreeMap<&'static str, Traffic> {
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
            (encoding.as_str(), traffic)
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
    let failed = |source| HarnessError::File {
        path: path.to_owned(),
        source,
    };
    let json = serde_json::to_vec_pretty(result).map_err(|error| failed(error.into()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = Path::new(&name);
    fs::write(part, json).map_err(failed)?;
    fs::rename(part, path).map_err(failed)
}
