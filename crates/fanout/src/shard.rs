//! One shard: a slice of the viewers, and all that is ever written to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use danmaku_wire::outbound::{close_frame, ping_frame};
use danmaku_wire::{CloseReason, FrameSet};
use slab::Slab;

use crate::config::FanoutConfig;
use crate::message::{Attach, ConnId, Outgoing, RoomKey, ShardMsg};
use crate::outbox::{Control, Flushed, Outbox};
use crate::rooms::{IdHash, Rooms, ViewerKey};
use crate::schedule::{Due, SLICES, Sweep, Timer, Timers};
use crate::stats::{EvictReason, SkipReason, StatsSnapshot};
use crate::viewer::{Packing, Phase, Sent, Viewer};

/// The state of one shard. It reads no clock and never waits: messages and the time come in, writes go out.
///
/// Times are durations since the origin given to [`Fanout::start`](crate::Fanout::start), and must not go back.
#[derive(Debug)]
pub struct Shard {
    index: usize,
    config: FanoutConfig,
    viewers: Slab<Viewer>,
    by_conn: HashMap<ConnId, ViewerKey, IdHash>,
    rooms: Rooms,
    /// Viewers with an outbox.
    behind: Vec<ViewerKey>,
    /// When they are tried again. It stands while nobody is behind.
    retry_at: Duration,
    timers: Timers,
    sweep: Sweep,
    rotation: Rotation,
    /// What a pass leaves to be settled after it; kept for its allocation.
    unsettled: Vec<(ViewerKey, Sent)>,
    stop: Option<Stopping>,
    counts: StatsSnapshot,
}

/// What a stop has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Every viewer was sent all that waited for it, and its close frame.
    Flushed,
    /// The deadline came before some viewers had taken everything.
    Deadline,
}

#[derive(Debug, Clone, Copy)]
struct Stopping {
    reason: CloseReason,
    at: Duration,
    stopped: Stopped,
}

/// How a viewer's connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its reader is gone already.
    Reader,
    /// It failed.
    Broken,
    /// It took too long to close.
    Deadline,
}

impl Shard {
    /// An empty shard, the `index`th of its fan-out.
    #[must_use]
    pub fn new(index: usize, config: &FanoutConfig) -> Self {
        Self {
            index,
            viewers: Slab::new(),
            by_conn: HashMap::default(),
            rooms: Rooms::default(),
            behind: Vec::new(),
            retry_at: Duration::ZERO,
            timers: Timers::default(),
            sweep: Sweep::new(config.ping_interval),
            rotation: Rotation::default(),
            unsettled: Vec::new(),
            stop: None,
            counts: StatsSnapshot::default(),
            config: config.clone(),
        }
    }

    /// Does what a message asks.
    pub fn handle(&mut self, msg: ShardMsg, now: Duration) {
        match msg {
            ShardMsg::Attach(attach) => self.attach(*attach, now),
            ShardMsg::Deliver { room, frame } => self.deliver(room, &frame, now),
            ShardMsg::Unicast { conn, bytes } => {
                self.unicast(conn, &bytes, Control::Message, now);
            }
            ShardMsg::Pong { conn, bytes } => self.unicast(conn, &bytes, Control::Pong, now),
            ShardMsg::Close { conn, reason } => {
                if let Some(&key) = self.by_conn.get(&conn) {
                    self.close(key, reason, self.config.close_deadline, now);
                }
            }
            ShardMsg::Detach { conn } => {
                if let Some(&key) = self.by_conn.get(&conn) {
                    self.remove(key, End::Reader);
                }
            }
            ShardMsg::Stop { reason, deadline } => self.stop(reason, deadline, now),
        }
    }

    /// Does what is due, and tells when something will be: not before the next message when that is none.
    pub fn turn(&mut self, now: Duration) -> Option<Duration> {
        self.retry_behind(now);
        while let Some(timer) = self.timers.pop_due(now) {
            self.timer(timer, now);
        }
        self.look_around(now);
        self.counts.viewers = self.viewers.len() as u64;
        self.counts.viewers_behind = self.behind.len() as u64;
        if self.behind.is_empty() {
            // Whoever left last may have done so after the latest look at the outboxes.
            self.counts.outbox_bytes = 0;
        }
        self.next_at()
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

    /// What a stop has come to, once all viewers are gone.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        let stop = self.stop?;
        self.viewers.is_empty().then_some(stop.stopped)
    }

    /// Frames that wait in outboxes.
    #[must_use]
    pub fn frames_waiting(&self) -> u64 {
        self.outboxes().map(|outbox| outbox.frames()).sum()
    }

    /// Bytes that wait in outboxes. Frames are shared, but counted for each viewer they wait for.
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
            encoding,
            first,
        } = attach;
        let key =
            ViewerKey::new(self.viewers.vacant_key()).filter(|_| !self.by_conn.contains_key(&conn));
        let seat = key.and_then(|key| self.rooms.join(room, key));
        let (Some(key), Some(seat)) = (key, seat) else {
            tracing::error!(conn = conn.0, "connection attached twice, or too many");
            audience.leave(self.index, encoding);
            link.end();
            return;
        };
        self.viewers.insert(Viewer {
            conn,
            link,
            audience,
            outbox: None,
            seat: Some(seat),
            packing: Packing::new(encoding),
            phase: Phase::Open,
        });
        self.by_conn.insert(conn, key);
        for outgoing in &first {
            let Some(viewer) = open(&mut self.viewers, key) else {
                break;
            };
            let (config, counts) = (&self.config, &mut self.counts);
            let sent = match outgoing {
                Outgoing::Control(bytes) => {
                    viewer.send_control(bytes, Control::Message, now, config, counts)
                }
                Outgoing::Frame(frame) => viewer.send_frame(frame, now, config, counts),
            };
            self.settle(key, sent, now);
        }
        if let Some(stop) = self.stop {
            self.close(key, stop.reason, stop.at.saturating_sub(now), now);
        }
    }

    /// One pass over a room: per viewer one write, and whatever else there is only for those that cannot take it.
    fn deliver(&mut self, room: RoomKey, frame: &Arc<FrameSet>, now: Duration) {
        let members = self.rooms.members(room);
        let (last, first) = members.split_at(self.rotation.start(members.len()));
        for &key in first.iter().chain(last) {
            let Some(viewer) = self.viewers.get_mut(key.index()) else {
                debug_assert!(false, "a room's viewer is in the shard");
                continue;
            };
            match viewer.send_frame(frame, now, &self.config, &mut self.counts) {
                Sent::Whole | Sent::Waits => {}
                sent => self.unsettled.push((key, sent)),
            }
        }
        self.counts.passes += 1;
        while let Some((key, sent)) = self.unsettled.pop() {
            self.settle(key, sent, now);
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

    /// Draws the consequences of what became of a message.
    fn settle(&mut self, key: ViewerKey, sent: Sent, now: Duration) {
        match sent {
            Sent::Whole | Sent::Waits => {}
            Sent::FellBehind => self.add_behind(key, now),
            Sent::Overflow => {
                self.add_behind(key, now);
                self.evict(key, EvictReason::Control, now);
            }
            Sent::Broken(error) => {
                if let Some(viewer) = self.viewers.get(key.index()) {
                    tracing::debug!(conn = viewer.conn.0, %error, "viewer lost");
                }
                self.remove(key, End::Broken);
            }
        }
    }

    /// Closes a viewer: nothing more is taken for it, what waits is written, and a close frame after it.
    fn close(&mut self, key: ViewerKey, reason: CloseReason, deadline: Duration, now: Duration) {
        let Some(viewer) = open(&mut self.viewers, key) else {
            return;
        };
        viewer.phase = Phase::Closing;
        self.counts.closes_begun += 1;
        self.timers.push(Timer {
            at: now.saturating_add(deadline),
            due: Due::Close,
            key,
            conn: viewer.conn,
        });
        let bytes = close_frame(reason);
        let (config, counts) = (&self.config, &mut self.counts);
        let sent = viewer.send_control(&bytes, Control::Close, now, config, counts);
        self.leave_room(key);
        match sent {
            Sent::Whole => self.close_written(key),
            sent => self.settle(key, sent, now),
        }
    }

    /// The close frame is out: the peer answers it, or ends, or is reset at its deadline.
    fn close_written(&mut self, key: ViewerKey) {
        if let Some(viewer) = self.viewers.get_mut(key.index()) {
            viewer.phase = Phase::Closed;
            viewer.link.end_writing();
        }
    }

    fn evict(&mut self, key: ViewerKey, reason: EvictReason, now: Duration) {
        let Some(viewer) = open(&mut self.viewers, key) else {
            return;
        };
        tracing::debug!(conn = viewer.conn.0, ?reason, "viewer evicted");
        if let Some(outbox) = &mut viewer.outbox {
            outbox.evict(&mut self.counts);
        }
        self.counts.evict(reason);
        let deadline = self.config.close_deadline;
        self.close(key, CloseReason::SlowConsumer, deadline, now);
    }

    fn stop(&mut self, reason: CloseReason, deadline: Duration, now: Duration) {
        if self.stop.is_some() {
            return;
        }
        let at = now.saturating_add(deadline);
        self.stop = Some(Stopping {
            reason,
            at,
            stopped: Stopped::Flushed,
        });
        let viewers: Vec<_> = self
            .by_conn
            .iter()
            .map(|(&conn, &key)| (conn, key))
            .collect();
        for (conn, key) in viewers {
            self.close(key, reason, deadline, now);
            // For those that were closing already: the stop does not wait for their own deadline.
            let due = Due::Close;
            self.timers.push(Timer { at, due, key, conn });
        }
    }

    /// Forgets a viewer and ends its connection.
    fn remove(&mut self, key: ViewerKey, end: End) {
        self.leave_room(key);
        let Some(viewer) = self.viewers.try_remove(key.index()) else {
            return;
        };
        self.by_conn.remove(&viewer.conn);
        if let Some(outbox) = &viewer.outbox {
            self.counts.skip(SkipReason::Closed, outbox.frames());
            self.remove_behind(outbox.listed);
            if let (Some(stop), End::Deadline) = (&mut self.stop, end) {
                stop.stopped = Stopped::Deadline;
            }
        }
        match end {
            End::Reader => {}
            End::Broken => {
                self.counts.broken += 1;
                viewer.link.end();
            }
            End::Deadline => {
                self.counts.closes_forced += 1;
                viewer.link.reset();
            }
        }
    }

    /// Takes a viewer out of its room. The only place where one is counted out.
    fn leave_room(&mut self, key: ViewerKey) {
        let Some(viewer) = self.viewers.get_mut(key.index()) else {
            return;
        };
        let Some(seat) = viewer.seat.take() else {
            return;
        };
        viewer.audience.leave(self.index, viewer.packing.encoding());
        let moved = self.rooms.leave(seat);
        if let Some(moved) = moved.and_then(|key| self.viewers.get_mut(key.index())) {
            moved.seat = Some(seat);
        }
    }

    /// Lists a viewer as behind, unless it is.
    fn add_behind(&mut self, key: ViewerKey, now: Duration) {
        let Some(viewer) = self.viewers.get_mut(key.index()) else {
            return;
        };
        let Some(outbox) = viewer.outbox.as_mut().filter(|it| it.listed.is_none()) else {
            return;
        };
        if self.behind.is_empty() {
            self.retry_at = now + RETRY_INTERVAL;
        }
        outbox.listed = Some(self.behind.len());
        self.behind.push(key);
    }

    fn remove_behind(&mut self, listed: Option<usize>) {
        let Some(place) = listed.filter(|&place| place < self.behind.len()) else {
            return;
        };
        self.behind.swap_remove(place);
        let moved = self.behind.get(place);
        if let Some(moved) = moved.and_then(|key| self.viewers.get_mut(key.index()))
            && let Some(outbox) = &mut moved.outbox
        {
            outbox.listed = Some(place);
        }
    }

    /// Tries those that are behind again. For a socket that is still full this is no system call.
    fn retry_behind(&mut self, now: Duration) {
        if self.behind.is_empty() || now < self.retry_at {
            return;
        }
        self.retry_at = now + RETRY_INTERVAL;
        let mut place = 0;
        while let Some(&key) = self.behind.get(place) {
            self.retry(key, now);
            // One that has left the list has been replaced by its last.
            if self.behind.get(place) == Some(&key) {
                place += 1;
            }
        }
        self.counts.outbox_bytes = self.bytes_waiting() as u64;
    }

    fn retry(&mut self, key: ViewerKey, now: Duration) {
        let Some(viewer) = self.viewers.get_mut(key.index()) else {
            debug_assert!(false, "a viewer that is behind is in the shard");
            return;
        };
        let Some(outbox) = &viewer.outbox else {
            debug_assert!(false, "a viewer that is behind has an outbox");
            return;
        };
        let (listed, behind) = (outbox.listed, now.saturating_sub(outbox.behind_since));
        if viewer.phase == Phase::Open {
            viewer.skip_stale(now, &self.config, &mut self.counts);
        }
        match viewer.flush(&mut self.counts) {
            Flushed::All => {
                let phase = viewer.phase;
                self.remove_behind(listed);
                if phase == Phase::Closing {
                    self.close_written(key);
                }
            }
            Flushed::Blocked => {
                if behind >= self.config.evict_after {
                    self.evict(key, EvictReason::Behind, now);
                }
            }
            Flushed::Broken(error) => self.settle(key, Sent::Broken(error), now),
        }
    }

    fn timer(&mut self, timer: Timer, now: Duration) {
        let viewer = self.viewers.get(timer.key.index());
        let Some(viewer) = viewer.filter(|viewer| viewer.conn == timer.conn) else {
            return;
        };
        match timer.due {
            Due::Close if viewer.phase != Phase::Open => self.remove(timer.key, End::Deadline),
            Due::Idle if self.silent(viewer, now) >= self.config.idle_deadline => {
                self.close_idle(timer.key, now);
            }
            Due::Close | Due::Idle => {}
        }
    }

    /// Looks at the viewers whose turn it is.
    fn look_around(&mut self, now: Duration) {
        let slices = self.sweep.due(now);
        if self.viewers.is_empty() {
            return;
        }
        for slice in slices {
            for index in (slice..self.viewers.capacity()).step_by(SLICES) {
                self.look_at(index, now);
            }
        }
    }

    /// Pings a viewer that has been silent for about an interval, or would be closed before it is looked at again.
    fn look_at(&mut self, index: usize, now: Duration) {
        let Some(key) = ViewerKey::new(index) else {
            return;
        };
        let Some(viewer) = open(&mut self.viewers, key) else {
            return;
        };
        let silent = now.saturating_sub(viewer.link.last_heard());
        let left = self.config.idle_deadline.saturating_sub(silent);
        let last_look = left < self.config.ping_interval;
        if left.is_zero() {
            self.close_idle(key, now);
            return;
        }
        // One slice less than the interval: the answer to the ping before came a little after it.
        if silent + self.sweep.slice() < self.config.ping_interval && !last_look {
            return;
        }
        if last_look {
            self.timers.push(Timer {
                at: now + left,
                due: Due::Idle,
                key,
                conn: viewer.conn,
            });
        }
        let (config, counts) = (&self.config, &mut self.counts);
        let sent = viewer.send_control(&ping_frame(), Control::Ping, now, config, counts);
        self.settle(key, sent, now);
    }

    fn silent(&self, viewer: &Viewer, now: Duration) -> Duration {
        now.saturating_sub(viewer.link.last_heard())
    }

    fn close_idle(&mut self, key: ViewerKey, now: Duration) {
        if open(&mut self.viewers, key).is_some() {
            self.counts.closed_idle += 1;
            let deadline = self.config.close_deadline;
            self.close(key, CloseReason::IdleTimeout, deadline, now);
        }
    }
}

/// The viewer, unless it is closing.
fn open(viewers: &mut Slab<Viewer>, key: ViewerKey) -> Option<&mut Viewer> {
    viewers
        .get_mut(key.index())
        .filter(|viewer| viewer.phase == Phase::Open)
}

/// Where each pass begins, so that nobody is always the last.
#[derive(Debug, Default)]
struct Rotation(u32);

impl Rotation {
    /// The next start among `len` viewers.
    fn start(&mut self, len: usize) -> usize {
        // Steps of 2^32 over the golden ratio spread the starts evenly whatever the length.
        self.0 = self.0.wrapping_add(0x9E37_79B9);
        ((u64::from(self.0) * len as u64) >> 32) as usize
    }
}

/// How often a viewer that is behind is tried again: short beside a window, and long beside what a try costs.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
