//! Rooms, shards and viewers in one thread, under one clock that we turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Now, SplitMix64};
use danmaku_fanout::{Attach, ConnId, FanoutConfig, Outgoing, Shard, ShardMsg, StatsSnapshot};
use danmaku_wire::outbound::{ack_json, pong_frame, text_frame};
use danmaku_wire::{CloseReason, Epoch, FrameSet, Position, Seq};

use crate::ledger::{Coverage, Gone};
use crate::live::{LiveRoom, STEP, index_below};
use crate::plan::{Partings, Plan, Stalled};
use crate::viewer::{Habit, Outcome, Stage, Viewer};

/// A whole server without its sockets, made from a seed.
pub(crate) struct World {
    random: SplitMix64,
    now: Duration,
    plan: Plan,
    rooms: Vec<LiveRoom>,
    shards: Vec<LiveShard>,
    viewers: Vec<Viewer>,
    gone: Gone,
    next_conn: u64,
    /// The longest form of any frame so far.
    frame_bytes_max: usize,
    /// Frames that refer back to others.
    frames_chained: u64,
}

/// A shard, its inbox and its timer.
#[derive(Debug)]
struct LiveShard {
    shard: Shard,
    inbox: VecDeque<ShardMsg>,
    wake_at: Option<Duration>,
    evicted: u64,
    stopped: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let plan = Plan::draw(&mut random);
        let shards = plan.fanout.shards.get();
        Self {
            now: Duration::from_secs(1),
            rooms: (0..plan.rooms)
                .map(|index| LiveRoom::new(index, shards, &mut random))
                .collect(),
            shards: (0..shards)
                .map(|index| LiveShard::new(index, &plan.fanout))
                .collect(),
            viewers: Vec::new(),
            gone: Gone::default(),
            next_conn: 0,
            frame_bytes_max: 0,
            frames_chained: 0,
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
        let stats = self.stats();
        self.stop();
        Coverage {
            stats,
            frames_chained: self.frames_chained,
            told_slow: self.gone.told_slow(),
        }
    }

    fn busy_step(&mut self) {
        let now = self.room_now();
        for room in &mut self.rooms {
            room.post(now, &mut self.random);
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
    fn step(&mut self) {
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
            viewer.read(now_ms, &mut self.random);
            if let Some(detach) = viewer.serve(self.now) {
                self.shards[viewer.shard].inbox.push_back(detach);
            }
        }
    }

    /// Hands a frame to the shards that have viewers of the room, as the server's room task does.
    fn deliver(&mut self, index: usize, frame: &Arc<FrameSet>) {
        let room = &self.rooms[index];
        for (shard, live) in self.shards.iter_mut().enumerate() {
            if room.audience.attached(shard) > 0 {
                live.inbox.push_back(ShardMsg::Deliver {
                    room: room.key,
                    frame: Arc::clone(frame),
                });
            }
        }
        // Text that does not compress grows by less than this.
        self.frame_bytes_max = self.frame_bytes_max.max(frame.identity().len() + 64);
        self.frames_chained += u64::from(frame.group().is_some_and(|(_, index)| index > 0));
    }

    fn join(&mut self, room: usize, since: Option<Position>) {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let shard = index_below(self.shards.len() as u64, &mut self.random);
        let viewer = Viewer::new(conn, (room, shard), since, self.now, &mut self.random);
        let live = &self.rooms[room];
        let first = live.first_messages(since);
        for outgoing in &first {
            if let Outgoing::Frame(frame) = outgoing {
                self.frame_bytes_max = self.frame_bytes_max.max(frame.identity().len() + 64);
            }
        }
        live.audience.join(shard, viewer.encoding);
        self.shards[shard]
            .inbox
            .push_back(ShardMsg::Attach(Box::new(Attach {
                conn,
                link: viewer.link(),
                room: live.key,
                audience: Arc::clone(&live.audience),
                encoding: viewer.encoding,
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
            let bytes = text_frame(&ack_json(None, Seq::new(viewer.acks.sent)));
            inbox.push_back(ShardMsg::Unicast { conn, bytes });
        }
        if self.random.below(500) == 0 {
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

    /// One turn of a shard's thread: some messages, then what is due. Sometimes it does not get the processor.
    fn run_shard(&mut self, index: usize) {
        if self.random.below(8) == 0 || self.shards[index].stopped {
            return;
        }
        let mut is_due = self.shards[index].wake_at.is_some_and(|at| at <= self.now);
        for _ in 0..1 + self.random.below(64) {
            let Some(msg) = self.shards[index].inbox.pop_front() else {
                break;
            };
            self.note(index, &msg);
            self.shards[index].shard.handle(msg, self.now);
            is_due = true;
        }
        if !is_due {
            return;
        }
        self.shards[index].turn(self.now);
        self.check_shard(index);
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
        // What may wait, what was begun, a pong and a close frame.
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

    /// Nobody posts; the slow ones catch up; those that read nothing are evicted.
    fn settle(&mut self) {
        for viewer in &mut self.viewers {
            if matches!(viewer.habit, Habit::Slow { .. } | Habit::Choppy { .. }) {
                viewer.wake();
            }
        }
        let patience = match self.plan.partings {
            Partings::Some => self.plan.fanout.evict_after + self.plan.fanout.close_deadline,
            Partings::None => Duration::ZERO,
        };
        let until = self.now + WINDOW_MAX + patience + LAG_MAX;
        while self.now < until {
            self.step();
        }
        if self.plan.partings == Partings::Some {
            assert_eq!(
                self.stats().viewers_behind,
                0,
                "those that read nothing are gone by now"
            );
        }
        for viewer in &mut self.viewers {
            if matches!(viewer.habit, Habit::Stalls { .. }) {
                viewer.wake();
            }
        }
        for _ in 0..200 {
            self.step();
        }
    }

    /// Everybody who is still here has everything, and what is missing was counted.
    fn check(&mut self) {
        let (alive, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.viewers)
            .into_iter()
            .partition(Viewer::is_online);
        for viewer in &gone {
            self.gone.enter(viewer);
        }
        for viewer in &alive {
            viewer.check_complete(self.rooms[viewer.room].sealed().seq.value());
        }
        self.gone.check(&alive, &self.stats());
        if self.plan.partings == Partings::None {
            assert_eq!(self.gone, Gone::default(), "nobody was to end");
        }
        for (index, room) in self.rooms.iter().enumerate() {
            let here = alive.iter().filter(|it| it.room == index).count();
            assert_eq!(
                room.audience.viewers() as usize,
                here,
                "the audience of room {index}"
            );
        }
        self.viewers = alive;
    }

    /// Every shard ends in time, having told everybody.
    fn stop(&mut self) {
        for live in &mut self.shards {
            live.inbox.push_back(ShardMsg::Stop {
                reason: CloseReason::GoingAway,
                deadline: STOP_DEADLINE,
            });
        }
        let until = self.now + STOP_DEADLINE + LAG_MAX;
        while self.now < until {
            self.step();
        }
        assert!(
            self.shards.iter().all(|live| live.stopped),
            "a shard goes on"
        );
        for viewer in &self.viewers {
            assert_eq!(
                viewer.outcome,
                Outcome::Closed(CloseReason::GoingAway.code()),
                "{viewer:#?}"
            );
        }
        for room in &self.rooms {
            assert_eq!(
                (room.audience.viewers(), room.audience.deflate_viewers()),
                (0, 0)
            );
        }
    }

    fn stats(&self) -> StatsSnapshot {
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

/// The longest time until what is posted is sealed.
const WINDOW_MAX: Duration = Duration::from_millis(1_050);

/// How long a shard may wait before it tries those that are behind again.
const RETRY_MAX: Duration = Duration::from_millis(10);

/// What steps, retries and a shard without a processor add up to.
const LAG_MAX: Duration = Duration::from_millis(150);

/// How long everybody may take to hear of the end.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
