//! One shard: a slice of the viewers, and all that is ever written to them.

mod behind;
mod closing;
mod delivery;
mod silence;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use danmaku_wire::{CloseReason, Dialect};
use slab::Slab;

use self::closing::End;
use self::delivery::Rotation;
use crate::config::FanoutConfig;
use crate::message::{Attach, ConnId, Outgoing, RoomKey, ShardMsg};
use crate::outbox::{Control, Outbox};
use crate::packing::Packing;
use crate::room_sets::{IdHash, RoomSets, ViewerKey};
use crate::schedule::{Sweep, Timers};
use crate::stats::StatsSnapshot;
use crate::viewer::{Phase, Ping, Sent, Viewer};

/// The state of one shard. It reads no clock and never waits: messages and the time come in, writes go out.
///
/// Times are durations since the origin given to [`Fanout::start`](crate::Fanout::start), and must not go back.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    config: FanoutConfig,
    viewers: Slab<Viewer>,
    by_conn: HashMap<ConnId, ViewerKey, IdHash>,
    rooms: RoomSets,
    /// Viewers with an outbox.
    behind: Vec<ViewerKey>,
    /// When they are retried. Does not advance while nobody is behind.
    retry_at: Duration,
    timers: Timers,
    sweep: Sweep,
    /// Viewers whose ping waits for a frame to go along with, by the slice of the sweep they were looked at in: the
    /// latest, and the one before.
    riding: [Vec<ViewerKey>; 2],
    /// Each dialect's heartbeat: packing one per viewer would cost more than writing it.
    heartbeats: [Bytes; Dialect::COUNT],
    rotation: Rotation,
    /// Rooms whose frames are delivered slice by slice, in turn. One whose viewers have all left is dropped when it is
    /// its turn.
    passing: VecDeque<RoomKey>,
    /// Work that a pass leaves for later; kept for its allocation.
    unsettled: Vec<(ViewerKey, Sent)>,
    stop: Option<Stopping>,
    counts: StatsSnapshot,
}

/// How far a stop got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every viewer got its whole outbox and its close.
    Flushed,
    /// The deadline came before some viewers had taken everything.
    Deadline,
}

#[derive(Debug, Clone, Copy)]
struct Stopping {
    reason: CloseReason,
    at: Duration,
    drained: Drained,
}

impl Shard {
    /// An empty shard, the `index`th of its fan-out.
    #[must_use]
    pub fn new(index: usize, config: &FanoutConfig) -> Self {
        Self {
            index,
            viewers: Slab::new(),
            by_conn: HashMap::default(),
            rooms: RoomSets::default(),
            behind: Vec::new(),
            retry_at: Duration::ZERO,
            timers: Timers::default(),
            sweep: Sweep::new(config.ping_interval),
            riding: Default::default(),
            heartbeats: Dialect::ALL.map(Dialect::heartbeat),
            rotation: Rotation::default(),
            passing: VecDeque::new(),
            unsettled: Vec::new(),
            stop: None,
            counts: StatsSnapshot::default(),
            config: config.clone(),
        }
    }

    /// Handles a message.
    pub fn handle(&mut self, msg: ShardMsg, now: Duration) {
        match msg {
            ShardMsg::Attach(attach) => self.attach(*attach, now),
            ShardMsg::Deliver { room, frame } => self.deliver(room, frame, now),
            ShardMsg::Unicast { conn, bytes } => {
                self.unicast(conn, &bytes, Control::Message, now);
            }
            ShardMsg::Pong { conn, bytes } => self.unicast(conn, &bytes, Control::Pong, now),
            ShardMsg::Flush { conn } => self.flush_sink(conn, now),
            ShardMsg::Close { conn, reason } => {
                if let Some(&key) = self.by_conn.get(&conn) {
                    self.close(key, reason, self.config.close_deadline, now);
                }
            }
            ShardMsg::CloseRoom { room, reason } => self.close_room(room, reason, now),
            ShardMsg::Detach { conn } => {
                if let Some(&key) = self.by_conn.get(&conn) {
                    self.remove(key, End::Reader);
                }
            }
            ShardMsg::Stop { reason, deadline } => self.stop(reason, deadline, now),
        }
    }

    /// Does what is due. Returns when something is due next: `None` for not before the next message, `now` for more
    /// to do right after the waiting messages.
    pub fn turn(&mut self, now: Duration) -> Option<Duration> {
        self.deliver_slice(now);
        self.retry_behind(now);
        while let Some(timer) = self.timers.pop_due(now) {
            self.timer(timer, now);
        }
        self.look_around(now);
        self.counts.viewers = self.viewers.len() as u64;
        self.counts.viewers_behind = self.behind.len() as u64;
        if self.behind.is_empty() {
            // The last viewer may have left after the outboxes were last checked.
            self.counts.outbox_bytes = 0;
        }
        if self.passing.is_empty() {
            self.next_at()
        } else {
            Some(now)
        }
    }

    /// Which shard this is.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> &StatsSnapshot {
        &self.counts
    }

    /// How far a stop got, once all viewers are gone.
    #[must_use]
    pub fn drained(&self) -> Option<Drained> {
        let stop = self.stop?;
        self.viewers.is_empty().then_some(stop.drained)
    }

    /// Frames waiting in outboxes.
    #[must_use]
    pub fn frames_waiting(&self) -> u64 {
        self.outboxes().map(|outbox| outbox.frames()).sum()
    }

    /// Bytes waiting in outboxes. Frames are shared, but counted once per viewer.
    #[must_use]
    pub fn bytes_waiting(&self) -> usize {
        self.outboxes().map(|outbox| outbox.bytes()).sum()
    }

    fn outboxes(&self) -> impl Iterator<Item = &Outbox> {
        self.behind
            .iter()
            .filter_map(|key| self.viewers.get(key.index())?.outbox.as_deref())
    }

    fn next_at(&self) -> Option<Duration> {
        let retry = (!self.behind.is_empty()).then_some(self.retry_at);
        let sweep = (!self.viewers.is_empty()).then(|| self.sweep.next_at());
        [retry, sweep, self.timers.next_at()]
            .into_iter()
            .flatten()
            .min()
    }

    fn attach(&mut self, attach: Attach, now: Duration) {
        let Attach {
            conn,
            link,
            room,
            audience,
            dialect,
            first,
        } = attach;
        let key =
            ViewerKey::new(self.viewers.vacant_key()).filter(|_| !self.by_conn.contains_key(&conn));
        let seat = key.and_then(|key| self.rooms.join(room, key));
        let (Some(key), Some(seat)) = (key, seat) else {
            tracing::error!(conn = conn.0, "connection attached twice, or too many");
            audience.leave(self.index, dialect);
            link.end();
            return;
        };
        self.viewers.insert(Viewer {
            conn,
            link,
            audience,
            outbox: None,
            seat: Some(seat),
            packing: Packing::new(dialect),
            phase: Phase::Open,
            ping: Ping::NotDue,
        });
        self.by_conn.insert(conn, key);
        if let Some(viewer) = open(&mut self.viewers, key) {
            let (config, counts) = (&self.config, &mut self.counts);
            let sent = match &first[..] {
                [] => Sent::Whole,
                [Outgoing::Control(bytes)] => {
                    viewer.send_control(bytes, Control::Message, now, config, counts)
                }
                _ => viewer.send_first(first, now, config, counts),
            };
            self.settle(key, sent, now);
        }
        if let Some(stop) = self.stop {
            self.close(key, stop.reason, stop.at.saturating_sub(now), now);
        }
    }

    fn unicast(&mut self, conn: ConnId, bytes: &Bytes, control: Control, now: Duration) {
        let key = self.by_conn.get(&conn).copied();
        let viewer = key.and_then(|key| Some((key, open(&mut self.viewers, key)?)));
        let Some((key, viewer)) = viewer else {
            self.counts.controls_unsent += 1;
            return;
        };
        let sent = viewer.send_control(bytes, control, now, &self.config, &mut self.counts);
        self.settle(key, sent, now);
    }

    /// Updates the viewer's state after a send.
    fn settle(&mut self, key: ViewerKey, sent: Sent, now: Duration) {
        match sent {
            Sent::Whole | Sent::Waits => {}
            Sent::FellBehind => self.add_behind(key, now),
            Sent::Overflow(reason) => {
                self.add_behind(key, now);
                self.evict(key, reason, now);
            }
            Sent::Broken(error) => {
                if let Some(viewer) = self.viewers.get(key.index()) {
                    tracing::debug!(conn = viewer.conn.0, %error, "viewer lost");
                }
                self.remove(key, End::Broken);
            }
        }
    }
}

/// The viewer, unless it is closing.
fn open(viewers: &mut Slab<Viewer>, key: ViewerKey) -> Option<&mut Viewer> {
    viewers
        .get_mut(key.index())
        .filter(|viewer| viewer.phase == Phase::Open)
}
