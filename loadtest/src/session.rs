//! One session against a server: connect, settle, post, drain, collect. `run`, `quiet`, `idle` and all scenarios are made of it.

mod act;
mod server_totals;
mod spans;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use danmaku_client::NewComment;
use danmaku_wire::RoomId;

use tokio_util::sync::CancellationToken;

use crate::audit::Judge;
use crate::clock::{Clock, Moment};
use crate::error::HarnessError;
use crate::metrics::Metrics;
use crate::post_via::PostVia;
use crate::process::{CpuMark, CpuTime, Memory, Process};
use crate::publisher::{Publication, Publisher};
use crate::schedule::Schedule;
use crate::server_side::{Look, Observer, ServerSide, Source};
use crate::swarm::{
    Bench, Delivered, Habits, Order, Seating, Snapshot, Swarm, SwarmConfig, SwarmResult,
    THREAD_NAME_START,
};
use crate::target::Target;
use crate::timeline::{Live, Sampler, Timeline};
use danmaku_chat::Line;

pub use act::{Act, Deed, Event};
use server_totals::{Reading, ServerTotals};
pub use spans::Spans;

/// The viewers of a session, and how they connect.
#[derive(Clone, Debug)]
pub struct Party {
    /// The viewers.
    pub seating: Seating,
    /// The rooms' names.
    pub rooms: Arc<[RoomId]>,
    /// Connects a second.
    pub connects_per_second: f64,
    /// Handshakes in progress at once.
    pub connecting_max: usize,
    /// Reading threads.
    pub threads: usize,
    /// Between the last connect and what follows.
    pub settle: Duration,
    /// Addresses of this machine to connect from; none means the system's choice.
    pub sources: Vec<IpAddr>,
    /// Where to serve the harness's own figures.
    pub metrics_listen: Option<SocketAddr>,
    /// Viewer behaviour besides watching.
    pub habits: Habits,
    /// Whether posting waits for them.
    pub gathering: Gathering,
}

/// Whether posting waits until all viewers are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathering {
    /// All viewers are connected before the first post.
    First,
    /// More viewers connect while comments are posted.
    Meanwhile,
}

/// What is posted, and how it is judged.
#[derive(Clone, Debug)]
pub struct Program {
    /// What is posted.
    pub lines: Arc<[Line]>,
    /// When and where.
    pub schedule: Schedule,
    /// Length of the measured interval.
    pub duration: Duration,
    /// How long the last comments may take.
    pub drain: Duration,
    /// Deliveries later than this beyond the window are late.
    pub late: Duration,
    /// When the stalling viewers stop reading.
    pub stall_after: Option<Duration>,
    /// Disruptions during posting, in time order.
    pub acts: Vec<Act>,
    /// How posts are sent.
    pub post_via: PostVia,
    /// Connections that post.
    pub post_connections: usize,
}

impl Program {
    /// The posts of each room.
    #[must_use]
    pub fn by_room(&self, rooms: u32) -> Vec<Vec<(Duration, &NewComment)>> {
        let mut by_room = vec![Vec::new(); rooms as usize];
        for post in self.schedule.posts() {
            let comment = &self.lines[post.line as usize].comment;
            by_room[post.room as usize].push((post.at, comment));
        }
        by_room
    }
}

/// How long a handshake may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// After this many refusals without a success, the remaining viewers give up.
const REFUSED_ALL: u64 = 100;
/// Between the decision to post and the first post, so that every thread is waiting for it.
const LEAD: Duration = Duration::from_millis(300);
/// How long stalled viewers read again before the end.
const RESUME_FOR: Duration = Duration::from_secs(2);
/// How long comments may still be on their way to the viewers of a run that was ended early.
const PARTIAL_DRAIN_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Viewers that are connected.
pub struct Session {
    party: Party,
    bench: Bench,
    viewers: Swarm,
    sampler: Sampler,
    stop: CancellationToken,
    server: Observer,
    generator: Option<Process>,
    _metrics: Option<Metrics>,
    /// What connecting took.
    pub connect: ConnectReport,
}

/// What connecting took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ConnectReport {
    /// Viewers.
    pub viewers: u64,
    /// From the first connect to the last `joined`.
    pub seconds: f64,
    /// Server CPU per viewer: TCP, upgrade and join.
    pub server_micros: Option<f64>,
    /// The server's memory before the first viewer.
    pub memory_before: Option<Memory>,
    /// The server's memory with all viewers idle.
    pub memory_idle: Option<Memory>,
    /// Anonymous memory of the server per viewer.
    pub server_bytes_per_viewer: Option<i64>,
    /// Anonymous memory of the harness per viewer.
    pub own_bytes_per_viewer: Option<i64>,
}

/// Readings at one end of the measured interval.
struct Marks {
    server: Option<Look>,
    own_cpu: Option<CpuMark>,
    viewers_cpu: Option<CpuMark>,
    viewers: Snapshot,
}

/// The results of posting.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The publisher's side.
    pub publication: Publication,
    /// The viewers' side.
    pub result: SwarmResult,
    /// Deliveries of the measured interval, by encoding.
    pub delivered: [Delivered; 3],
    /// The rooms' names.
    pub rooms: Arc<[RoomId]>,
    /// Length of the measured interval with its drain, in seconds.
    pub seconds: f64,
    /// The room's window.
    pub window_ms: u64,
    /// Server CPU over the measured interval; unknown when one process began it and another ended it.
    pub server_cpu: Option<CpuTime>,
    /// Its figures were available at the start but not at the end.
    pub server_gone: bool,
    /// Where the server's figures come from.
    pub server_source: Option<Source>,
    /// The server's memory at its end.
    pub server_memory: Option<Memory>,
    /// CPU of the harness over the measured interval.
    pub own_cpu: Option<CpuTime>,
    /// Of that, what the viewers' threads took.
    pub viewers_cpu: Option<CpuTime>,
    /// Changes of the server's own counters from before the first post until stalled viewers were looked at.
    pub counters: Option<BTreeMap<String, f64>>,
    /// Disruptions during posting.
    pub events: Vec<Event>,
    /// Whether every reading viewer had everything before the drain ended.
    pub caught_up: bool,
    /// The whole session second by second, connecting included.
    pub timeline: Timeline,
    /// Every distribution of the session.
    pub spans: Spans,
}

impl Session {
    /// Connects all viewers.
    ///
    /// # Errors
    /// Viewers that could not connect.
    pub async fn open(
        target: &Target,
        party: Party,
        late: Duration,
        server: &ServerSide,
        stop: CancellationToken,
    ) -> Result<Self, HarnessError> {
        let clock = Clock::start();
        let bench = Bench {
            clock,
            ledger: Arc::new(party.habits.ledger(party.seating.rooms)),
            judge: Arc::new(Judge::new(clock, late)),
        };
        let config = SwarmConfig {
            server: target.socket,
            entrance: Arc::clone(&target.entrance),
            sources: party.sources.clone(),
            rooms: party.rooms.iter().map(ToString::to_string).collect(),
            connects_per_second: party.connects_per_second,
            connecting_max: party.connecting_max,
            connect_deadline: CONNECT_DEADLINE,
            threads: party.threads,
            habits: party.habits,
        };
        let mut observer = server.observer();
        let generator = Process::this();
        let before = (
            observer.look().await,
            generator.as_ref().and_then(Process::memory),
        );
        let began = clock.now();
        let viewers = Swarm::start(&config, &party.seating, &bench)?;
        let metrics = match party.metrics_listen {
            Some(address) => {
                let recorder = Arc::clone(bench.judge.recorder());
                Some(Metrics::start(address, clock, viewers.lookout(), recorder).await?)
            }
            None => None,
        };
        let sampler = Sampler::start(
            clock,
            viewers.lookout(),
            Arc::clone(bench.judge.recorder()),
            server,
            generator.clone(),
            Live::of_stderr(),
        )?;
        let mut session = Self {
            party,
            bench,
            viewers,
            sampler,
            stop,
            server: observer,
            generator,
            _metrics: metrics,
            connect: ConnectReport::default(),
        };
        if session.party.gathering == Gathering::Meanwhile {
            // The costs of connecting and posting cannot be separated.
            return Ok(session);
        }
        if let Some(shortfall) = session.wait_for_viewers().await {
            return Err(session.give_up(shortfall));
        }
        let seconds = seconds(session.bench.clock.now().micros_since(began));
        let after_connect = session.server.look().await;
        session.sleep(session.party.settle).await;
        let memory_idle = session.server.look().await.map(|look| look.memory);
        let memory_before = before.0.as_ref().map(|look| look.memory);
        let viewers = u64::from(session.party.seating.viewers);
        session.connect = ConnectReport {
            viewers,
            seconds,
            server_micros: spent(before.0.as_ref(), after_connect.as_ref())
                .map(|cpu| cpu.micros_per(viewers)),
            memory_before,
            memory_idle,
            server_bytes_per_viewer: per_viewer(memory_before, memory_idle, viewers),
            own_bytes_per_viewer: per_viewer(
                before.1,
                session.generator.as_ref().and_then(Process::memory),
                viewers,
            ),
        };
        Ok(session)
    }

    /// Posts the program and judges what arrives.
    ///
    /// # Errors
    /// Nothing could be posted at all, or a thread of the swarm died.
    pub async fn play(
        mut self,
        target: &mut Target,
        program: &Program,
    ) -> Result<Outcome, HarnessError> {
        let counters = target.counters().await?;
        let Bench {
            clock,
            ledger,
            judge,
        } = self.bench.clone();
        let publisher = self.publisher(target, program);
        let posters = publisher.connect().await?;
        // Reading takes time, and the schedule does not wait.
        let before = self.marks().await;
        let had_server = before.server.is_some();
        let mut totals = ServerTotals::open(Reading::new(before.server, counters));
        let start = clock.now().after(LEAD);
        self.sampler.mark_posting(start, program.duration);
        if let Some(after) = program.stall_after {
            judge.set_stall(start.after(after));
            self.sampler.mark("stall", start.after(after));
        }
        let schedule = program.schedule.clone();
        let posting =
            tokio::spawn(async move { publisher.publish(posters, &schedule, start).await });
        if let Some(after) = program.stall_after {
            self.sleep_until(start.after(after)).await;
            // A run that was ended before then has no stalled viewers.
            if !self.stop.is_cancelled() {
                self.viewers.order(Order::Stall);
            }
        }
        let mut events = self.act_out(program, start, target, &mut totals).await;
        let publication = posting
            .await
            .map_err(|error| HarnessError::system("publisher")(error.into()))??;
        self.sleep_until(start.after(program.duration)).await;
        self.sampler.mark("drain", clock.now());
        let stretch_s = seconds(clock.now().micros_since(start));
        let caught_up = self.drain(program.drain).await;
        let after = self.marks().await;
        let ended = clock.now();
        let joined_anew = after.viewers.rejoined - before.viewers.rejoined;
        for event in events.iter_mut().filter(|event| event.is_churn()) {
            event.set_churn(joined_anew, stretch_s);
        }
        let server_memory = after.server.as_ref().map(|look| look.memory);
        // The process that a restart stopped is gone, as it should be; the viewers show whether the new one works.
        let is_restart = events.iter().any(Event::is_restart);
        let is_gone = had_server && after.server.is_none() && !is_restart;
        if program.stall_after.is_some() {
            self.viewers.order(Order::Resume);
            tokio::time::sleep(RESUME_FOR).await;
        }
        // A server that has died is in the audit already: everything after its death is lost.
        let counters = target.counters().await;
        // Its process may be there and hang; a restart that failed says so itself.
        let server_gone = is_gone || (counters.is_err() && !is_restart);
        totals.close(&Reading::new(after.server, counters.ok().flatten()));
        let window_micros = judge.window_micros();
        let stopped = self.sampler.stop();
        let result = tokio::task::block_in_place(|| self.viewers.finish())?;
        let viewers = Spans::of(&ledger, &judge);
        Ok(Outcome {
            publication,
            result,
            delivered: delivered_between(&before.viewers, &after.viewers),
            rooms: self.party.rooms,
            seconds: seconds(ended.micros_since(start)),
            window_ms: window_micros / 1000,
            server_cpu: totals.cpu(),
            server_gone,
            server_source: self.server.source(),
            server_memory,
            own_cpu: between(before.own_cpu, after.own_cpu),
            viewers_cpu: between(before.viewers_cpu, after.viewers_cpu),
            counters: totals.counters(),
            caught_up,
            events,
            timeline: stopped.timeline(),
            spans: viewers,
        })
    }

    fn publisher(&self, target: &Target, program: &Program) -> Publisher {
        Publisher {
            entrance: Arc::clone(&target.entrance),
            via: program.post_via,
            connections: program.post_connections,
            rooms: Arc::clone(&self.party.rooms),
            lines: Arc::clone(&program.lines),
            clock: self.bench.clock,
            ledger: Arc::clone(&self.bench.ledger),
            recorder: Arc::clone(self.bench.judge.recorder()),
            stop: self.stop.clone(),
        }
    }

    /// Ends a session in which nothing was posted.
    ///
    /// # Errors
    /// A thread of the swarm died.
    pub fn close(self) -> Result<Outcome, HarnessError> {
        let window_micros = self.bench.judge.window_micros();
        let stopped = self.sampler.stop();
        Ok(Outcome {
            result: tokio::task::block_in_place(|| self.viewers.finish())?,
            rooms: self.party.rooms,
            window_ms: window_micros / 1000,
            server_source: self.server.source(),
            timeline: stopped.timeline(),
            ..Outcome::default()
        })
    }

    /// Waits until all viewers are connected. Returns how many are missing, if any.
    async fn wait_for_viewers(&self) -> Option<Snapshot> {
        let viewers = u64::from(self.party.seating.viewers);
        loop {
            let snapshot = self.viewers.snapshot();
            // Viewers that came back meanwhile are counted twice.
            let joined = snapshot.joined.saturating_sub(snapshot.rejoined);
            if joined >= viewers {
                return None;
            }
            let hopeless = joined == 0 && snapshot.failed >= REFUSED_ALL;
            if joined + snapshot.failed >= viewers
                || hopeless
                || self.viewers.is_broken()
                || self.stop.is_cancelled()
            {
                return Some(snapshot);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn give_up(self, snapshot: Snapshot) -> HarnessError {
        let viewers = u64::from(self.party.seating.viewers);
        let interrupted = self.stop.is_cancelled();
        match tokio::task::block_in_place(|| self.viewers.finish()) {
            Err(error) => error,
            Ok(_) if interrupted => HarnessError::Interrupted {
                joined: snapshot.joined,
                viewers,
            },
            Ok(result) => {
                let failures = &result.incidents.failures;
                let first = failures
                    .iter()
                    .max_by_key(|(_, count)| **count)
                    .map(|(cause, _)| cause.clone());
                let failed = failures.values().sum();
                HarnessError::Connects {
                    failed,
                    viewers,
                    first: first.unwrap_or_default(),
                }
            }
        }
    }

    async fn marks(&mut self) -> Marks {
        Marks {
            server: self.server.look().await,
            own_cpu: self.generator.as_ref().and_then(Process::cpu),
            viewers_cpu: self
                .generator
                .as_ref()
                .and_then(|process| process.threads_cpu(THREAD_NAME_START)),
            viewers: self.viewers.snapshot(),
        }
    }

    /// Waits until every reading viewer has everything that is acknowledged.
    async fn drain(&self, patience: Duration) -> bool {
        self.viewers.order(Order::Settle);
        let began = self.bench.clock.now();
        while !self.viewers.snapshot().caught_up {
            let patience = if self.stop.is_cancelled() {
                patience.min(PARTIAL_DRAIN_MAX)
            } else {
                patience
            };
            if self.bench.clock.now() >= began.after(patience) || self.viewers.is_broken() {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }

    async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.bench.clock.now().after(duration))
            .await;
    }

    /// Sleeps until the time is up or the run is interrupted.
    async fn sleep_until(&self, moment: Moment) {
        let left = Duration::from_micros(moment.micros_since(self.bench.clock.now()));
        let _ = tokio::time::timeout(left, self.stop.cancelled()).await;
    }
}

fn delivered_between(before: &Snapshot, after: &Snapshot) -> [Delivered; 3] {
    let mut delivered = after.delivered;
    for (delivered, before) in delivered.iter_mut().zip(&before.delivered) {
        *delivered = delivered.since(before);
    }
    delivered
}

fn spent(before: Option<&Look>, after: Option<&Look>) -> Option<CpuTime> {
    Some(after?.cpu_since(before?))
}

fn between(before: Option<CpuMark>, after: Option<CpuMark>) -> Option<CpuTime> {
    Some(after?.since(&before?))
}

fn per_viewer(before: Option<Memory>, after: Option<Memory>, viewers: u64) -> Option<i64> {
    let grown = after?.anonymous_bytes.cast_signed() - before?.anonymous_bytes.cast_signed();
    grown.checked_div(viewers.cast_signed())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of a run are far below 2^53"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
