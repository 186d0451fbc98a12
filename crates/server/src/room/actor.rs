//! Owns the actor of a room: it merges the room's comments and hands sealed frames to the shards.

use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Now, Resume, Room, RoomConfig, SealInput, phase};
use danmaku_fanout::{Attach, Fanout, Outgoing, ShardMsg};
use danmaku_log::{Entry, EntryBody, Records, Tail, Tailed};
use danmaku_wire::outbound::{Joined, Pinned, Resumed};
use danmaku_wire::{BatchComment, BatchEvent, CloseReason, FrameSet, Gap, Position, Seq};

use super::handle::{Join, JoinAnswer, JoinFrom, Likes, RoomHandle, RoomMsg};
use crate::clock::Clock;
use crate::registry::Registry;
use crate::replay::{Lead, bytes_for, is_prepared};
use crate::stats::Stats;

/// What every room's actor needs.
#[derive(Debug)]
pub struct RoomEnvironment {
    /// The clock.
    pub clock: Clock,
    /// The shards.
    pub fanout: Arc<Fanout>,
    /// The table that a retiring room removes itself from.
    pub registry: Arc<Registry>,
    /// What is pinned.
    pub records: Records,
    /// Counters.
    pub stats: Arc<Stats>,
    /// Every room's configuration; `phase` and `seed` are set per room.
    pub room: RoomConfig,
    /// Idle time after which a room is forgotten.
    pub room_idle: Duration,
    /// Bytes of frames that a joining viewer can be sent.
    pub replay_bytes_max: usize,
}

/// The owner of a room's state.
#[derive(Debug)]
pub struct RoomActor {
    handle: Arc<RoomHandle>,
    room: Room,
    tail: Tail,
    environment: Arc<RoomEnvironment>,
    /// Monotonic time of the last activity.
    active: Duration,
    /// How long after that an unwatched room is forgotten; short as long as nothing was ever posted.
    idle_max: Duration,
    /// Until when frames are sealed for viewers that may return.
    keep_until: Duration,
}

impl RoomActor {
    /// The actor of a room that continues where its log ends.
    #[must_use]
    pub fn new(handle: Arc<RoomHandle>, environment: Arc<RoomEnvironment>) -> Self {
        let config = RoomConfig {
            phase: phase(handle.id(), environment.room.window),
            seed: handle.key().0,
            ..environment.room
        };
        let after = handle.sealed();
        Self {
            room: Room::new(config, handle.log().epoch(), after),
            tail: handle.log().tail_after(after),
            active: environment.clock.now().monotonic,
            idle_max: environment.room_idle.min(UNUSED_ROOM_IDLE),
            keep_until: Duration::ZERO,
            handle,
            environment,
        }
    }

    /// Runs until the room retires or the server stops.
    ///
    /// Every room has this future, so awaits that are rare or large are boxed.
    pub async fn run(&mut self) {
        let mut entries = Vec::new();
        loop {
            let mut joining = None;
            let tailed = match self.handle.next_msg() {
                Some(RoomMsg::Join(join)) => {
                    joining = Some(join);
                    Tailed::Nothing
                }
                Some(RoomMsg::Stop { done }) => {
                    Box::pin(self.stop(&mut entries)).await;
                    drop(done);
                    return;
                }
                None => self.wait(&mut entries).await,
            };
            if self.ingest_all(tailed, &mut entries).await == Life::Ended {
                return;
            }
            if let Some(join) = joining {
                // After the log, so that no viewer gets a comment whose retraction was acknowledged before.
                Box::pin(self.join(*join)).await;
            }
            // A quiet room keeps no space for entries; a busy one allocates once per window.
            entries = Vec::new();
            self.seal_when_due().await;
            if self.is_idle() {
                let now = self.environment.clock.now().monotonic;
                let is_pulled = self.handle.pulls().is_used(now);
                if !is_pulled && self.environment.registry.retire(&self.handle) {
                    tracing::debug!(room = %self.handle.id(), "room retired");
                    return;
                }
                // Someone still pulls or holds the room: try again later.
                self.active = now;
            }
        }
    }

    /// Waits for entries, a message, likes, or the next timer.
    async fn wait(&mut self, entries: &mut Vec<Entry>) -> Tailed {
        let (window, timer) = self.next_wait(self.environment.clock.now().monotonic);
        let wake_at = timer.map(|at| {
            let at = next_multiple(at, self.environment.room.window / TIMERS_PER_WINDOW);
            tokio::time::Instant::from_std(self.environment.clock.instant(at))
        });
        tokio::select! {
            biased;
            tailed = follow(&mut self.tail, entries, window) => tailed,
            () = self.handle.to_be_woken() => {
                self.woken();
                Tailed::Nothing
            }
            () = sleep_until(wake_at), if wake_at.is_some() => Tailed::Nothing,
        }
    }

    /// Whether a window is open, and the next timer. One look at the clock decides both: between two, a window could end and
    /// leave the room without a timer.
    fn next_wait(&mut self, now: Duration) -> (Window, Option<Duration>) {
        let window_end = self.open_window(now);
        let window = match window_end {
            Some(_) => Window::Open,
            None => Window::Closed,
        };
        (window, self.wake_at(window_end))
    }

    /// When the window that is open at `now` ends, if one is: then likes wait for its end. Those that came while it
    /// closed open the next one.
    fn open_window(&mut self, now: Duration) -> Option<Duration> {
        if self.window_end(now).is_none() {
            self.collect_likes(Likes::Wake);
        }
        let end = self.window_end(now)?;
        self.collect_likes(Likes::Wait);
        Some(end)
    }

    /// When the open window ends. In a busy room the next one opens right away.
    fn window_end(&self, now: Duration) -> Option<Duration> {
        let awaited = || self.room.awaited_end().filter(|&end| now < end);
        self.room.deadline().or_else(awaited)
    }

    /// When entries that are read now came, as far as it matters: those that waited for a window's end count as coming
    /// at it, so that the room's windows don't slip by the delay of its timer.
    fn arrival(&self, mut now: Now) -> Now {
        if let Some(end) = self.room.awaited_end()
            && now.monotonic.saturating_sub(end) <= self.environment.room.window / 20
        {
            now.monotonic = now.monotonic.min(end);
        }
        now
    }

    /// The next timer: the window's end, or the end of an empty room. A quiet room with viewers has none.
    fn wake_at(&self, window_end: Option<Duration>) -> Option<Duration> {
        window_end.or_else(|| {
            (self.handle.audience().viewers() == 0).then(|| self.active + self.idle_max)
        })
    }

    fn is_idle(&self) -> bool {
        self.room.deadline().is_none()
            && self.handle.audience().viewers() == 0
            && self.environment.clock.now().monotonic >= self.active + self.idle_max
    }

    /// Processes what was read and whatever else is in the log, no matter what woke the room: a storm of joins must not
    /// keep it from its comments.
    async fn ingest_all(&mut self, first: Tailed, entries: &mut Vec<Entry>) -> Life {
        let mut tailed = first;
        for _ in 0..TAIL_READS_MAX {
            match tailed {
                Tailed::Entries | Tailed::Nothing => self.ingest(entries),
                Tailed::Lost { through } => Box::pin(self.lost(through)).await,
                Tailed::NewEpoch => {
                    Box::pin(self.end_epoch()).await;
                    return Life::Ended;
                }
            }
            tailed = self.tail.drain(entries, TAIL_READ_MAX).await;
            if matches!(tailed, Tailed::Nothing) {
                break;
            }
        }
        Life::GoesOn
    }

    fn ingest(&mut self, entries: &mut Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let now = self.environment.clock.now();
        self.active = now.monotonic;
        self.idle_max = self.environment.room_idle;
        let now = self.arrival(now);
        for Entry { seq, at_ms, body } in entries.drain(..) {
            match body {
                EntryBody::Comment { fragment, priority } => {
                    let comment = BatchComment {
                        seq,
                        at_ms,
                        fragment,
                    };
                    self.room.comment(now, comment, priority);
                }
                EntryBody::Event(event) => self.room.event(now, BatchEvent { seq, event }),
            }
        }
    }

    /// The log lost entries up to `through`: everyone gets a gap.
    async fn lost(&mut self, through: Seq) {
        tracing::warn!(room = %self.handle.id(), through = through.value(), "log lost entries; viewers get a gap");
        let now = self.environment.clock.now();
        for frame in self.room.lost(now, through, self.seal_input()) {
            self.deliver(frame).await;
        }
    }

    /// The log started a new epoch, which must not change during a connection: everyone reconnects, to a new room.
    async fn end_epoch(&mut self) {
        tracing::warn!(room = %self.handle.id(), "log started a new epoch; viewers must reconnect");
        self.environment.registry.remove(&self.handle);
        for shard in self.environment.fanout.shards() {
            shard
                .send(ShardMsg::CloseRoom {
                    room: self.handle.key(),
                    reason: CloseReason::NewEpoch,
                })
                .await;
        }
    }

    fn woken(&mut self) {
        self.free_memory();
        // The room also wakes when its last viewer leaves: its idle time starts.
        self.active = self.environment.clock.now().monotonic;
        if self.handle.audience().viewers() == 0 {
            self.room.forget_chain();
        }
        self.collect_likes(Likes::Wait);
    }

    fn collect_likes(&mut self, next: Likes) {
        let likes = self.handle.collect_likes(next);
        if likes > 0 {
            self.idle_max = self.environment.room_idle;
            self.room.likes(self.environment.clock.now(), likes);
        }
    }

    /// Forgets the oldest data held for returning viewers, as much as was asked for: frames first, which can be sealed
    /// again from the log.
    fn free_memory(&mut self) {
        let asked = self.handle.asked_to_free();
        if asked == 0 {
            return;
        }
        let log = self.handle.log();
        let before = self.room.history_bytes() + log.bytes_held();
        let freed = self.room.trim_history(asked);
        if freed < asked {
            log.shrink(asked - freed);
        }
        let after = self.room.history_bytes() + log.bytes_held();
        self.handle.note_held(after);
        let freed = before.saturating_sub(after) as u64;
        self.environment.stats.rooms.bytes_freed.add(freed);
    }

    async fn seal_when_due(&mut self) {
        let now = self.environment.clock.now();
        if self.room.deadline().is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.collect_likes(Likes::Wait);
        let viewers = self.handle.audience().viewers();
        if viewers > 0 {
            self.keep_until = now.monotonic + RETURN_TIME;
        } else if now.monotonic >= self.keep_until {
            self.room.pass_over(now);
            self.note_sealed();
            return;
        }
        if let Some(frame) = self.room.tick(now, self.seal_input()) {
            self.deliver(frame).await;
        }
    }

    /// Records the end of a window.
    fn note_sealed(&mut self) {
        self.handle.note_sealed(self.room.sealed().seq);
        self.handle
            .note_active(self.environment.clock.now().monotonic);
        self.handle
            .note_held(self.room.history_bytes() + self.handle.log().bytes_held());
        let counters = self.room.drain_counters();
        self.environment.stats.rooms.add(&counters);
    }

    fn seal_input(&self) -> SealInput {
        let now = self.environment.clock.now().monotonic;
        SealInput {
            viewers: self.handle.viewers(now),
            chains: self.handle.audience().chains(),
        }
    }

    /// Makes the forms in use and hands the frame to every shard with viewers of this room. A full inbox holds up
    /// the room, not the shards with space; meanwhile comments collect in the log and the next window is longer.
    async fn deliver(&mut self, frame: Arc<FrameSet>) {
        self.note_sealed();
        let stats = &self.environment.stats.rooms;
        let audience = self.handle.audience();
        audience.prepare(&frame);
        let mut full = Vec::new();
        for (index, shard) in self.environment.fanout.shards().iter().enumerate() {
            if audience.attached(index) > 0
                && let Err(refused) = shard.try_send(ShardMsg::Deliver {
                    room: self.handle.key(),
                    frame: Arc::clone(&frame),
                })
            {
                stats.held_up.add(1);
                full.push((shard, refused.0));
            }
        }
        if !full.is_empty() {
            Box::pin(async {
                for (shard, msg) in full {
                    shard.send(msg).await;
                }
            })
            .await;
        }
    }

    async fn join(&mut self, join: Join) {
        self.active = self.environment.clock.now().monotonic;
        self.handle.note_active(self.active);
        self.keep_until = self.active + RETURN_TIME;
        if join.answer.is_closed() {
            // The requester has given up.
            return;
        }
        match self.start(&join) {
            Ok(start) => self.attach(join, start).await,
            Err(answer) => {
                // The receiver may have given up in the meantime.
                let _ = join.answer.send(answer);
            }
        }
    }

    /// What the viewer is sent first, or what is needed before it can be attached.
    fn start(&self, join: &Join) -> Result<StartFrames, JoinAnswer> {
        let sealed = self.room.sealed().seq;
        let mut start = match &join.from {
            JoinFrom::Live => StartFrames {
                after: sealed,
                resumed: Resumed::No,
                frames: Vec::new(),
            },
            JoinFrom::Since(since) => match self.room.resume(*since) {
                Resume::OtherEpoch => return Err(JoinAnswer::OtherEpoch),
                Resume::Ahead => return Err(JoinAnswer::Ahead),
                Resume::At { boundary, frames } => {
                    if boundary != since.seq || !is_prepared(&frames, join.dialect) {
                        return Err(JoinAnswer::NeedsLead { boundary, frames });
                    }
                    StartFrames {
                        after: boundary,
                        resumed: Resumed::Yes,
                        frames,
                    }
                }
            },
            JoinFrom::Lead(lead) => self.after_lead(lead)?,
            JoinFrom::GapAfter(after) => self.after_gap(*after),
        };
        self.bound(&mut start, join);
        Ok(start)
    }

    fn after_lead(&self, lead: &Lead) -> Result<StartFrames, JoinAnswer> {
        let Some(ring) = self.room.frames_after(lead.until) else {
            let since = Position {
                epoch: self.room.sealed().epoch,
                seq: lead.until,
            };
            return Err(match self.room.resume(since) {
                Resume::At { boundary, frames } => JoinAnswer::NeedsLead { boundary, frames },
                Resume::Ahead => JoinAnswer::Ahead,
                Resume::OtherEpoch => JoinAnswer::OtherEpoch,
            });
        };
        Ok(StartFrames {
            after: lead.after,
            resumed: lead.resumed,
            frames: lead.frames.iter().cloned().chain(ring).collect(),
        })
    }

    /// The ring moves faster than the log is read: a gap replaces what could not be read in time.
    fn after_gap(&self, after: Seq) -> StartFrames {
        let since = Position {
            epoch: self.room.sealed().epoch,
            seq: after,
        };
        let (boundary, ring) = match self.room.resume(since) {
            Resume::At { boundary, frames } => (boundary, frames),
            Resume::Ahead | Resume::OtherEpoch => (after, Vec::new()),
        };
        let gap = (boundary > after).then(|| self.gap(after, boundary));
        StartFrames {
            after,
            resumed: Resumed::No,
            frames: gap.into_iter().chain(ring).collect(),
        }
    }

    /// Replaces the oldest frames by a gap if they exceed what one viewer can be sent at once.
    fn bound(&self, start: &mut StartFrames, join: &Join) {
        let mut bytes = 0;
        let kept = start
            .frames
            .iter()
            .rev()
            .take_while(|frame| {
                bytes += bytes_for(frame, join.dialect);
                bytes <= self.environment.replay_bytes_max
            })
            .count();
        let dropped = start.frames.len() - kept;
        if dropped == 0 {
            return;
        }
        let through = start.frames[dropped - 1].seq();
        start.frames.drain(..dropped);
        if through > start.after {
            start.frames.insert(0, self.gap(start.after, through));
            start.resumed = Resumed::No;
        }
    }

    fn gap(&self, after: Seq, seq: Seq) -> Arc<FrameSet> {
        let gap = Gap {
            epoch: self.room.sealed().epoch,
            after,
            seq,
            // The viewer clears its list, so these events have nothing to act on.
            events: Vec::new(),
        };
        Arc::new(FrameSet::gap(gap, self.environment.room.compression))
    }

    async fn attach(&mut self, join: Join, start: StartFrames) {
        let audience = self.handle.audience();
        let now = self.environment.clock.now().monotonic;
        let sealed = self.room.sealed();
        let records = self.environment.records.of_room(self.handle.id());
        let now_ms = self.environment.clock.now().unix_ms;
        let pin = records.as_ref().and_then(|records| records.pin(now_ms));
        // A pin of another epoch names another comment.
        let pin = pin.filter(|pin| pin.epoch == sealed.epoch.value());
        let joined = Joined {
            room: self.handle.id(),
            epoch: sealed.epoch,
            after: start.after,
            seq: sealed.seq,
            window_ms: self.window_ms(),
            viewers: self.handle.viewers(now).saturating_add(1),
            resumed: start.resumed,
            pin: pin.map(|pin| Pinned {
                comment: &pin.body,
                until_ms: pin.until_ms,
            }),
        };
        let after = Position {
            epoch: sealed.epoch,
            seq: start.after,
        };
        let mut first = Vec::with_capacity(1 + start.frames.len());
        let joined = join.dialect.positioned(&joined.to_json(), after);
        // In one write.
        let opening = [join.opening, joined].concat();
        first.push(Outgoing::Control(opening.into()));
        first.extend(start.frames.into_iter().map(Outgoing::Frame));
        let fanout = &self.environment.fanout;
        let conn = fanout.place(self.handle.key(), audience);
        let shard = fanout.shard_for(conn);
        // Counted before sending, so that a frame sealed right after this goes to the shard too.
        audience.join(shard.index(), join.dialect);
        shard
            .send(ShardMsg::Attach(Box::new(Attach {
                conn,
                link: join.link,
                room: self.handle.key(),
                audience: Arc::clone(audience),
                dialect: join.dialect,
                first,
            })))
            .await;
        if join.answer.send(JoinAnswer::Attached(conn)).is_err() {
            // The join was given up meanwhile: no reader will detach this viewer.
            shard.send(ShardMsg::Detach { conn }).await;
        }
    }

    /// Seals everything accepted, even if the window is still open.
    async fn stop(&mut self, entries: &mut Vec<Entry>) {
        loop {
            let tailed = self.tail.drain(entries, TAIL_READ_MAX).await;
            let last = matches!(tailed, Tailed::Nothing | Tailed::NewEpoch);
            if self.ingest_all(tailed, entries).await == Life::Ended || last {
                break;
            }
        }
        self.woken();
        let now = self.environment.clock.now();
        if let Some(frame) = self.room.flush(now, self.seal_input()) {
            self.deliver(frame).await;
        }
    }

    fn window_ms(&self) -> u64 {
        u64::try_from(self.environment.room.window.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for RoomActor {
    fn drop(&mut self) {
        self.handle.close_mailbox();
    }
}

/// What a viewer is sent when it is attached.
#[derive(Debug)]
struct StartFrames {
    /// Where `frames` begin.
    after: Seq,
    resumed: Resumed,
    /// Up to the last sealed position, each beginning where the previous one ended.
    frames: Vec<Arc<FrameSet>>,
}

/// Whether the actor continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Life {
    GoesOn,
    Ended,
}

/// Whether something waits for the end of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    Open,
    Closed,
}

/// Waits for a room's next work. While its window is open, comments wait in the log for the window's end, so each of
/// them costs no wake-up.
async fn follow(tail: &mut Tail, entries: &mut Vec<Entry>, window: Window) -> Tailed {
    match window {
        Window::Open => {
            tail.crowded().await;
            Tailed::Nothing
        }
        Window::Closed => tail.next(entries, TAIL_READ_MAX).await,
    }
}

/// The first multiple of `step` at or after `at`.
fn next_multiple(at: Duration, step: Duration) -> Duration {
    let step = step.as_nanos().max(1);
    let nanos = at.as_nanos().div_ceil(step) * step;
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How long an unwatched room that was never posted to is kept. Abandoned rooms must not keep others from creating
/// theirs, and there is nothing in them to lose.
const UNUSED_ROOM_IDLE: Duration = Duration::from_secs(5);

/// Timers of all rooms end at this many common times per window, so that one wake-up of the runtime serves many rooms.
const TIMERS_PER_WINDOW: u32 = 125;

/// How long after its last viewer a room seals frames: viewers that lost their connection together come back for the
/// same ones.
const RETURN_TIME: Duration = Duration::from_secs(60);

/// Log reads between two checks of the clock: together more than the log lets a room fall behind.
const TAIL_READS_MAX: usize = 16;

/// Entries read from the log at once.
const TAIL_READ_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
