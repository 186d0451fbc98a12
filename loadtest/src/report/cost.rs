//! What a run cost: the server, this process, and the floor for comparison.

use schemars::JsonSchema;
use serde::Serialize;

use crate::floor::Floor;
use crate::ingest::PostCost;
use crate::process::{CpuTime, Memory};
use crate::report::RunReport;
use crate::report::delivery::ratio;
use crate::server_side::Source;
use crate::session::Outcome;

/// The server's process over the measured interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServerReport {
    /// Where its figures come from.
    pub source: Option<Source>,
    /// CPU.
    pub cpu: CpuTime,
    /// CPU per delivered frame.
    pub frame_micros: f64,
    /// What posting alone cost, if it was asked for.
    pub post_cost: Option<PostCost>,
    /// CPU per delivered frame without what the posts cost, when that is known.
    pub fan_out_micros: Option<f64>,
    /// Share of one CPU.
    pub cpu_percent: f64,
    /// Memory at the end.
    pub memory: Option<Memory>,
}

/// This process over the measured interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct GeneratorReport {
    /// CPU.
    pub cpu: Option<CpuTime>,
    /// User-space CPU per received frame, the audit included.
    pub user_frame_micros: f64,
    /// CPU per received frame, the kernel included.
    pub frame_micros: f64,
    /// Of that CPU, what the viewers' threads took: receiving and the audit, without posting and the report.
    pub viewers_cpu: Option<CpuTime>,
    /// User-space CPU of the viewers' threads per received frame.
    pub viewers_user_frame_micros: f64,
    /// CPU of the viewers' threads per received frame, the kernel included.
    pub viewers_frame_micros: f64,
}

/// The floor beside the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FloorReport {
    /// What was measured.
    pub floor: Floor,
    /// Threads that sent, each its share of every room.
    pub threads: usize,
    /// Before and after the run, in microseconds per send.
    pub halves_micros: [f64; 2],
    /// Server CPU per delivered frame over floor CPU per send, if the server's figures are known.
    pub ratio: Option<f64>,
    /// The same without what the posts cost, when that is known.
    pub fan_out_ratio: Option<f64>,
}

impl RunReport {
    /// Adds what posting alone costs, and subtracts it from the cost of a frame.
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

    /// Adds the floor and compares the server with it.
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

impl ServerReport {
    /// `None` if its figures are unknown.
    pub(super) fn of(outcome: &Outcome, frames: u64) -> Option<Self> {
        let cpu = outcome.server_cpu?;
        Some(Self {
            source: outcome.server_source,
            cpu,
            frame_micros: cpu.micros_per(frames),
            post_cost: None,
            fan_out_micros: None,
            cpu_percent: cpu.total_ms() / 10.0 / outcome.seconds.max(f64::MIN_POSITIVE),
            memory: outcome.server_memory,
        })
    }
}

impl GeneratorReport {
    pub(super) fn of(outcome: &Outcome, frames: u64) -> Self {
        let user = |cpu: CpuTime| CpuTime {
            system_ms: 0.0,
            ..cpu
        };
        let per_frame = |cpu: Option<CpuTime>| cpu.map_or(0.0, |cpu| cpu.micros_per(frames));
        let (cpu, viewers_cpu) = (outcome.own_cpu, outcome.viewers_cpu);
        Self {
            cpu,
            user_frame_micros: per_frame(cpu.map(user)),
            frame_micros: per_frame(cpu),
            viewers_cpu,
            viewers_user_frame_micros: per_frame(viewers_cpu.map(user)),
            viewers_frame_micros: per_frame(viewers_cpu),
        }
    }
}
