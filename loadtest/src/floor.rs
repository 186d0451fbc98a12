//! The floor: what the kernel alone needs for the same sends.
//!
//! A child process accepts the same number of connections from the same swarm and then does nothing but `send`: one buffer
//! per socket and round, of the sizes and at the pace of the run it is compared with. The receivers are the same code that
//! receives from the server, audit included, so whatever the kernel charges to the sender is charged to both alike.

mod sender;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use tokio_util::sync::CancellationToken;

use crate::audit::Judge;
use crate::clock::Clock;
use crate::entrance::Entrance;
use crate::error::{FloorError, HarnessError};
use crate::latency::Summary;
use crate::ledger::Ledger;
use crate::process::{CpuMark, Process};
use crate::spec::Spec;
use crate::swarm::{Bench, Habits, Seating, Swarm, SwarmConfig};

pub use sender::{SenderPlan, SenderReport, send};

/// The plan of a floor measurement.
#[derive(Clone, Debug)]
pub struct FloorPlan {
    /// The viewers, as in the run.
    pub seating: Seating,
    /// Bytes of a frame by encoding, WebSocket head included.
    pub frame_bytes: [usize; 3],
    /// Sends per viewer.
    pub rounds: u32,
    /// Time between rounds.
    pub interval: Duration,
    /// Threads of the sender.
    pub sender_threads: usize,
    /// Threads of the swarm.
    pub swarm_threads: usize,
    /// Connects a second.
    pub connects_per_second: f64,
}

/// A measured floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Floor {
    /// Sends.
    pub sends: u64,
    /// Partial sends.
    pub short: u64,
    /// Sender CPU, user and kernel, per send.
    pub send_micros: f64,
    /// The user-space share of it.
    pub user_micros: f64,
    /// CPU of this process per received frame.
    pub receive_micros: f64,
    /// From building a round's buffer to each receiver.
    pub delivery: Summary,
}

impl Floor {
    /// Two measurements as one, weighted by their sends.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "sends of a run are far below 2^53"
    )]
    pub fn with(&self, other: &Self) -> Self {
        let sends = self.sends + other.sends;
        let share = self.sends as f64 / (sends.max(1) as f64);
        let mix = |mine: f64, theirs: f64| mine * share + theirs * (1.0 - share);
        Self {
            sends,
            short: self.short + other.short,
            send_micros: mix(self.send_micros, other.send_micros),
            user_micros: mix(self.user_micros, other.user_micros),
            receive_micros: mix(self.receive_micros, other.receive_micros),
            delivery: if self.sends >= other.sends {
                self.delivery
            } else {
                other.delivery
            },
        }
    }
}

/// How long the child may take for its start and for handshakes.
const CHILD_DEADLINE: Duration = Duration::from_secs(30);
/// Between the last handshake and the first round, so that handshakes are not measured.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures the floor once.
///
/// # Errors
/// The child does not start or does not do its part, or viewers cannot connect to it.
pub async fn measure(plan: &FloorPlan, stop: &CancellationToken) -> Result<Floor, HarnessError> {
    let mut sender = Sender::spawn(plan).await?;
    let clock = Clock::start();
    let bench = Bench {
        clock,
        ledger: Arc::new(Ledger::new(plan.seating.rooms)),
        judge: Arc::new(Judge::new(clock, Duration::from_secs(1))),
    };
    let config = SwarmConfig {
        server: sender.address.parse().map_err(|_| FloorError::Answer)?,
        entrance: Entrance::of(&Spec {
            url: sender.address.clone(),
            ..Spec::default()
        })?,
        sources: Vec::new(),
        rooms: (0..plan.seating.rooms)
            .map(|room| room.to_string())
            .collect(),
        connects_per_second: plan.connects_per_second,
        connecting_max: 256,
        connect_deadline: CHILD_DEADLINE,
        threads: plan.swarm_threads,
        habits: Habits::default(),
    };
    let swarm = Swarm::start(&config, &plan.seating, &bench)?;
    sender
        .expect(
            "ready",
            CHILD_DEADLINE + Duration::from_secs(u64::from(plan.seating.viewers) / 500),
        )
        .await?;
    tokio::time::sleep(SETTLE).await;
    let before = (swarm.snapshot().frames(), own_cpu());
    sender.command("go").await?;
    let rounds = plan.rounds.saturating_add(1);
    let took = plan
        .interval
        .saturating_mul(rounds)
        .saturating_add(CHILD_DEADLINE);
    let report = tokio::select! {
        report = sender.expect("done", took) => report?,
        () = stop.cancelled() => return Err(FloorError::Interrupted.into()),
    };
    // The last frames may not be in the swarm's counters yet.
    tokio::time::sleep(SETTLE).await;
    let after = (swarm.snapshot().frames(), own_cpu());
    let result = tokio::task::block_in_place(|| swarm.finish())?;
    let report: SenderReport = serde_json::from_str(&report).map_err(|_| FloorError::Answer)?;
    let received = after.0 - before.0;
    let receive_micros = match (before.1, after.1) {
        (Some(before), Some(after)) => after.since(&before).micros_per(received),
        _ => 0.0,
    };
    if received + report.short < report.sends {
        let lost = report.sends - received;
        let sends = report.sends;
        return Err(FloorError::NotReceived { lost, sends }.into());
    }
    let delivery = result.findings.stages[0].seal.summary();
    Ok(Floor {
        sends: report.sends,
        short: report.short,
        send_micros: per(report.cpu_ns, report.sends),
        user_micros: per(report.user_ns, report.sends),
        receive_micros,
        delivery,
    })
}

fn own_cpu() -> Option<CpuMark> {
    Process::this()?.cpu()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds of a run are far below 2^53"
)]
fn per(nanos: u64, count: u64) -> f64 {
    nanos as f64 / 1000.0 / (count.max(1) as f64)
}

/// The child process.
struct Sender {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Sender {
    async fn spawn(plan: &FloorPlan) -> Result<Self, HarnessError> {
        let program = std::env::current_exe().map_err(HarnessError::system("own path"))?;
        let sender = SenderPlan {
            viewers: plan.seating.viewers,
            rooms: plan.seating.rooms,
            frame_bytes: plan.frame_bytes,
            rounds: plan.rounds,
            interval_micros: u64::try_from(plan.interval.as_micros()).unwrap_or(u64::MAX),
            threads: plan.sender_threads,
        };
        let sender = serde_json::to_string(&sender).expect("invariant: numbers are JSON");
        let mut child = Command::new(program)
            .args(["floor-sender", &sender])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(HarnessError::system("floor sender"))?;
        let stdout = child.stdout.take().expect("invariant: the output is piped");
        let mut sender = Self {
            child,
            lines: BufReader::new(stdout).lines(),
            address: String::new(),
        };
        sender.address = sender.expect("listening", CHILD_DEADLINE).await?;
        Ok(sender)
    }

    async fn command(&mut self, word: &str) -> Result<(), HarnessError> {
        let stdin = self
            .child
            .stdin
            .as_mut()
            .expect("invariant: the input is piped");
        stdin
            .write_all(format!("{word}\n").as_bytes())
            .await
            .map_err(HarnessError::system("floor sender"))
    }

    /// Waits for the line that begins with `word`; returns its rest.
    async fn expect(&mut self, word: &str, deadline: Duration) -> Result<String, HarnessError> {
        let line = tokio::time::timeout(deadline, self.lines.next_line())
            .await
            .map_err(|_| FloorError::Silent(deadline.as_secs()))?
            .map_err(HarnessError::system("floor sender"))?
            .ok_or(FloorError::Ended)?;
        match line.strip_prefix(word) {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(FloorError::Answer.into()),
        }
    }
}
