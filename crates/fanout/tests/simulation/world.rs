//! Rooms, shards and viewers in one thread, under one clock that we turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Now, SplitMix64};
use danmaku_fanout::memory::MemoryKind;
use danmaku_fanout::{Attach, ConnId, FanoutConfig, Outgoing, Shard, ShardMsg, StatsSnapshot};
use danmaku_wire::outbound::{ack_json, pong_frame};
use danmaku_wire::{CloseReason, Epoch, Form, FrameSet, Position, Seq};

use crate::ledger::{Coverage, Gone};
use crate::live::{LiveRoom, STEP, index_below};
use crate::plan::{Partings, Plan, Stalled};
use crate::viewer::{Habit, Stage, Viewer};

/// A whole server without its sockets, made from a seed.
pub(crate) struct World {
    random: SplitMix64,
    pub(crate) now: Duration,
    pub(crate) plan: Plan,
    sink: MemoryKind,
    pub(crate) rooms: Vec<LiveRoom>,
    pub(crate) shards: Vec<LiveShard>,
    pub(crate) viewers: Vec<Viewer>,
    pub(crate) gone: Gone,
    next_conn: u64,
    /// The longest form of any frame so far.
    frame_bytes_max: usize,
    /// Frames that refer back to others.
    frames_chained: u64,
    epochs_ended: u64,
    /// Turns that left a frame in mid-delivery.
    slices: u64,
}

/// A shard, its inbox and its timer.
#[derive(Debug)]
pub(crate) struct LiveShard {
    shard: Shard,
    pub(crate) inbox: VecDeque<ShardMsg>,
    wake_at: Option<Duration>,
    evicted: u64,
    pub(crate) stopped: bool,
}

impl World {
    pub(crate) fn new(seed: u64, sink: MemoryKind) -> Self {
        let mut random = SplitMix64::new(seed);
        let plan = Plan::draw(&mut random);
        let shards = plan.fanout.shards.get();
        Self {
            now: Duration::from_secs(1),
            rooms: (0..plan.rooms)
                .map(|index| LiveRoom::new(index, shards, plan.positions, &mut random))
                .collect(),
            shards: (0..shards)
                .map(|index| LiveShard::new(index, &plan.fanout))
                .collect(),
            viewers: Vec::new(),
            gone: Gone::default(),
            next_conn: 0,
            frame_bytes_max: 0,
            frames_chained: 0,
            epochs_ended: 0,
            slices: 0,
            sink,
            random,
            plan,
        }
    }

    /// A busy time, then a quiet one in which all that can still be told is told, then the end.
    pub(crate) fn run(mut self) -> Coverage {
        while self.now < BUSY {
            self.busy_step();
        }
        self.settle();
        self.check();
        let coverage = Coverage {
            stats: self.stats(),
            frames_chained: self.frames_chained,
            told_slow: self.gone.told_slow(),
            losses: self.rooms.iter().map(|room| room.truth.losses).sum(),
            epochs_ended: self.epochs_ended,
            slices: self.slices,
            told: self.told(),
        };
        self.stop();
        coverage
    }

    fn busy_step(&mut self) {
        let now = self.room_now();
        for index in 0..self.rooms.len() {
            for frame in self.rooms[index].post(now, &mut self.random) {
                self.deliver(index, &frame);
            }
        }
        if self.plan.partings == Partings::Some && self.random.below(5_000) == 0 {
            self.end_epoch();
        }
        if self.viewers.len() < self.plan.viewers && self.random.below(4) == 0 {
            let room = index_below(self.rooms.len() as u64, &mut self.random);
            self.join(room, None);
        }
        self.step();
        for index in 0..self.viewers.len() {
            self.disturb(index);
        }
        self.bury();
    }

    /// Time moves, and everybody does what is due.
    pub(crate) fn step(&mut self) {
        self.now += STEP;
        let now = self.room_now();
        for index in 0..self.rooms.len() {
            if let Some(frame) = self.rooms[index].tick(now) {
                self.deliver(index, &frame);
            }
        }
        for index in 0..self.shards.len() {
            self.run_shard(index);
        }
        let now_ms = u64::try_from(self.now.as_millis()).expect("a short simulation");
        for viewer in &mut self.viewers {
            let truth = &self.rooms[viewer.room].truth;
            viewer.read(now_ms, truth, &mut self.random);
            if let Some(msg) = viewer.serve(self.now) {
                self.shards[viewer.shard].inbox.push_back(msg);
            }
        }
    }

    /// Hands a frame to the shards that have viewers of the room, as the server's room task does.
    fn deliver(&mut self, index: usize, frame: &Arc<FrameSet>) {
        let room = &self.rooms[index];
        room.audience.prepare(frame);
        for (shard, live) in self.shards.iter_mut().enumerate() {
            if room.audience.attached(shard) > 0 {
                live.inbox.push_back(ShardMsg::Deliver {
                    room: room.key,
                    frame: Arc::clone(frame),
                });
            }
        }
        self.frame_bytes_max = self.frame_bytes_max.max(bytes_max(frame));
        let is_chained = |chained, independent| {
            frame.is_made(chained) && frame.form(chained) != frame.form(independent)
        };
        let chained = is_chained(Form::WsDeflateChained, Form::WsDeflate)
            || is_chained(Form::SseGzipChained, Form::SseGzip);
        self.frames_chained += u64::from(chained);
    }

    fn join(&mut self, mut room: usize, since: Option<Position>) {
        while let Some(successor) = self.rooms[room].successor {
            room = successor;
        }
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let shard = index_below(self.shards.len() as u64, &mut self.random);
        let place = (room, shard);
        let viewer = Viewer::new(conn, place, since, self.sink, self.now, &mut self.random);
        let live = &self.rooms[room];
        let first = live.first_messages(viewer.dialect, since);
        for outgoing in &first {
            if let Outgoing::Frame(frame) = outgoing {
                self.frame_bytes_max = self.frame_bytes_max.max(bytes_max(frame));
            }
        }
        live.audience.join(shard, viewer.dialect);
        self.shards[shard]
            .inbox
            .push_back(ShardMsg::Attach(Box::new(Attach {
                conn,
                link: viewer.link(),
                room: live.key,
                audience: Arc::clone(&live.audience),
                dialect: viewer.dialect,
                first,
            })));
        self.viewers.push(viewer);
    }

    /// Things that happen to a viewer now and then.
    fn disturb(&mut self, index: usize) {
        let viewer = &mut self.viewers[index];
        if !viewer.is_online() {
            return;
        }
        let conn = viewer.conn;
        let inbox = &mut self.shards[viewer.shard].inbox;
        let acks = match self.random.below(3_000) {
            0 => self.random.below(100),
            1..30 => 1,
            _ => 0,
        };
        for _ in 0..acks {
            viewer.acks.sent += 1;
            let ack = ack_json(None, Seq::new(viewer.acks.sent));
            let bytes = viewer.dialect.message(&ack);
            inbox.push_back(ShardMsg::Unicast { conn, bytes });
        }
        if self.random.below(500) == 0 {
            viewer.ask_for_key();
        }
        if self.random.below(500) == 0 && viewer.dialect.answers_heartbeats() {
            inbox.push_back(ShardMsg::Pong {
                conn,
                bytes: pong_frame(b"here"),
            });
        }
        if self.random.below(1_000_000) < self.plan.leaves_per_million {
            if self.random.below(2) == 0 {
                viewer.leave();
            } else {
                viewer.asked_to_close = true;
                inbox.push_back(ShardMsg::Close {
                    conn,
                    reason: CloseReason::Normal,
                });
            }
        }
    }

    /// Some turns of a shard's thread: some messages, then what is due. Sometimes it does not get the processor.
    fn run_shard(&mut self, index: usize) {
        if self.random.below(8) == 0 || self.shards[index].stopped {
            return;
        }
        for _ in 0..1 + self.random.below(4) {
            let mut is_due = self.shards[index].wake_at.is_some_and(|at| at <= self.now);
            for _ in 0..1 + self.random.below(64) {
                let Some(msg) = self.shards[index].inbox.pop_front() else {
                    break;
                };
                self.note(index, &msg);
                self.shards[index].shard.handle(msg, self.now);
                is_due = true;
            }
            if is_due && !self.shards[index].stopped {
                self.shards[index].turn(self.now);
                self.slices += u64::from(self.shards[index].wake_at == Some(self.now));
                self.check_shard(index);
            }
        }
    }

    /// Keeps count of what the shard was told to write to whom.
    fn note(&mut self, shard: usize, msg: &ShardMsg) {
        match msg {
            ShardMsg::Attach(attach) => {
                let viewer = self.viewer(attach.conn);
                viewer.stage = Stage::Attached;
                for outgoing in &attach.first {
                    if let Outgoing::Frame(frame) = outgoing {
                        viewer.offer(frame);
                    }
                }
            }
            ShardMsg::Deliver { room, frame } => {
                for viewer in &mut self.viewers {
                    let is_here = viewer.shard == shard && viewer.stage == Stage::Attached;
                    if is_here && self.rooms[viewer.room].key == *room {
                        viewer.offer(frame);
                    }
                }
            }
            ShardMsg::CloseRoom { room, .. } => {
                for viewer in &mut self.viewers {
                    if viewer.shard == shard && self.rooms[viewer.room].key == *room {
                        viewer.epoch_ended = true;
                    }
                }
            }
            ShardMsg::Detach { conn } => self.viewer(*conn).stage = Stage::Detached,
            _ => {}
        }
    }

    /// The shard is within its bounds and has counted every frame; stalled viewers may wake.
    fn check_shard(&mut self, index: usize) {
        let stats = *self.shards[index].shard.counts();
        let shard = &self.shards[index].shard;
        let done = stats.frames_written + stats.frames_skipped();
        assert_eq!(
            stats.frames_offered,
            done + shard.frames_waiting(),
            "{stats:?}"
        );
        // What may wait, what was begun, a pong and a close.
        let each = self.plan.fanout.outbox_bytes_max
            + self.plan.fanout.control_bytes_max
            + self.frame_bytes_max
            + 256;
        assert!(
            shard.bytes_waiting() as u64 <= stats.viewers_behind * each as u64,
            "{stats:?}"
        );
        if stats.viewers_behind > 0 {
            let wake_at = self.shards[index].wake_at;
            assert!(
                wake_at.is_some_and(|at| at <= self.now + RETRY_MAX),
                "{wake_at:?} is long to wait"
            );
        }
        if stats.evicted() > self.shards[index].evicted && self.plan.stalled == Stalled::Wake {
            for viewer in &mut self.viewers {
                if viewer.shard == index && matches!(viewer.habit, Habit::Stalls { .. }) {
                    viewer.must_be_told =
                        !viewer.may_be_closing(self.now, self.plan.fanout.idle_deadline);
                    viewer.wake();
                }
            }
        }
        self.shards[index].evicted = stats.evicted();
    }

    /// A room loses its log: its viewers are sent away, and come back to another numbering.
    fn end_epoch(&mut self) {
        let index = index_below(self.rooms.len() as u64, &mut self.random);
        if self.rooms[index].successor.is_some() {
            return;
        }
        let successor = self.rooms.len();
        let (shards, positions) = (self.shards.len(), self.plan.positions);
        let room = LiveRoom::new(successor, shards, positions, &mut self.random);
        self.rooms.push(room);
        self.rooms[index].successor = Some(successor);
        self.epochs_ended += 1;
        for live in &mut self.shards {
            live.inbox.push_back(ShardMsg::CloseRoom {
                room: self.rooms[index].key,
                reason: CloseReason::NewEpoch,
            });
        }
    }

    /// Takes leave of viewers whose end is known on both sides; most come back and resume.
    fn bury(&mut self) {
        for index in (0..self.viewers.len()).rev() {
            if !self.viewers[index].is_gone() {
                continue;
            }
            let viewer = self.viewers.swap_remove(index);
            self.gone.enter(&viewer);
            if self.random.below(4) > 0 {
                let since = self.since(&viewer);
                self.join(viewer.room, since);
            }
        }
    }

    /// Where a viewer that comes back wants to go on: mostly where it was.
    fn since(&mut self, viewer: &Viewer) -> Option<Position> {
        let last = viewer.account.last()?;
        let sealed = self.rooms[viewer.room].sealed();
        let other_epoch = Epoch::new(sealed.epoch.value() + 1);
        Some(match self.random.below(8) {
            0 => return None,
            1 => Position {
                epoch: other_epoch,
                seq: Seq::new(last),
            },
            2 => Position {
                seq: sealed.seq.plus(1 + self.random.below(5)),
                ..sealed
            },
            3 => Position {
                seq: Seq::new(last.saturating_sub(self.random.below(900))),
                ..sealed
            },
            _ => Position {
                seq: Seq::new(last),
                ..sealed
            },
        })
    }

    pub(crate) fn stats(&self) -> StatsSnapshot {
        let mut sum = StatsSnapshot::default();
        for live in &self.shards {
            sum += *live.shard.counts();
        }
        sum
    }

    fn viewer(&mut self, conn: ConnId) -> &mut Viewer {
        self.viewers
            .iter_mut()
            .find(|it| it.conn == conn)
            .expect("it is here until it is detached")
    }

    fn room_now(&self) -> Now {
        let unix_ms =
            1_700_000_000_000 + u64::try_from(self.now.as_millis()).expect("a short simulation");
        Now {
            monotonic: self.now,
            unix_ms,
        }
    }
}

/// More than any form of the frame: text that does not compress grows, and events have lines around them.
fn bytes_max(frame: &FrameSet) -> usize {
    frame.json().len() + 128
}

impl LiveShard {
    fn new(index: usize, config: &FanoutConfig) -> Self {
        Self {
            shard: Shard::new(index, config),
            inbox: VecDeque::new(),
            wake_at: Some(Duration::ZERO),
            evicted: 0,
            stopped: false,
        }
    }

    fn turn(&mut self, now: Duration) {
        self.wake_at = self.shard.turn(now);
        self.stopped = self.shard.drained().is_some();
    }
}

/// How long comments come.
const BUSY: Duration = Duration::from_secs(15);

/// How long a shard may wait before it tries those that are behind again.
const RETRY_MAX: Duration = Duration::from_millis(10);
