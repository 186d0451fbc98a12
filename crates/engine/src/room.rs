//! One room: from comments in order to sealed frames.

use std::sync::Arc;
use std::time::Duration;

use danmaku_wire::{
    Batch, BatchComment, BatchEvent, Chains, CompressionPolicy, Epoch, Event, FrameSet, Gap,
    Position, Priority, Sealer, Seq,
};

use crate::counters::RoomCounters;
use crate::history::History;
use crate::now::Now;
use crate::pending::{Drained, Offered, Pending};
use crate::random::SplitMix64;
use crate::window::{Flush, Windows};

/// How a room behaves; fixed for its life.
#[derive(Clone, Copy, Debug)]
pub struct RoomConfig {
    /// The time during which comments coalesce into one frame. Not zero.
    pub window: Duration,
    /// When a window ends.
    pub flush: Flush,
    /// Comments in one frame; over it the lowest priorities are shed. Not zero.
    pub batch_comments_max: usize,
    /// Sealed frames kept for returning viewers.
    pub history_frames_max: usize,
    /// Bytes of sealed frames kept, in all their forms.
    pub history_bytes_max: usize,
    /// The room's own instant in the window, see [`phase`](crate::phase).
    pub phase: Duration,
    /// Decides which comments of one priority are shed.
    pub seed: u64,
    /// How frames are packed.
    pub compression: CompressionPolicy,
}

/// A room's window, history and position. It owns no clock, task or socket: the caller passes the time, asks for the
/// [`deadline`](Self::deadline) and calls [`tick`](Self::tick) when it is due.
///
/// Invariants: each sealed frame begins where the previous one or a window that was passed over ended; every comment given
/// to the room is in exactly one frame, counted in the `shed` of one, was passed over, or was retracted before it was
/// sealed; every event is in exactly one frame or was passed over; no frame sealed or handed out after a retraction
/// contains a comment it names.
#[derive(Debug)]
pub struct Room {
    batch_comments_max: usize,
    epoch: Epoch,
    /// The last position given to the room.
    last: Seq,
    /// The last position in a sealed frame or a window that was passed over.
    sealed: Seq,
    /// Boxed, so that a quiet room does not pay for it.
    pending: Option<Box<Pending>>,
    windows: Windows,
    sealer: Sealer,
    history: History,
    random: SplitMix64,
    counters: RoomCounters,
}

impl Room {
    /// A room that continues after the position `after` of `epoch`; [`Seq::ZERO`] for a new one.
    ///
    /// # Panics
    ///
    /// When `config.window` or `config.batch_comments_max` is zero.
    pub fn new(config: RoomConfig, epoch: Epoch, after: Seq) -> Self {
        assert!(
            config.batch_comments_max > 0,
            "a frame has room for a comment"
        );
        Self {
            batch_comments_max: config.batch_comments_max,
            epoch,
            last: after,
            sealed: after,
            pending: None,
            windows: Windows::new(config.window, config.flush, config.phase),
            sealer: Sealer::new(config.compression),
            history: History::new(config.history_frames_max, config.history_bytes_max),
            random: SplitMix64::new(config.seed),
            counters: RoomCounters::default(),
        }
    }

    /// Adds a comment to the window.
    ///
    /// A position that is not new is counted as repeated and otherwise ignored. Skipped positions are holes.
    pub fn comment(&mut self, now: Now, comment: BatchComment, priority: Priority) {
        if !self.advance(comment.seq) {
            return;
        }
        self.counters.comments[priority as usize] += 1;
        let pending = self
            .pending
            .get_or_insert_with(|| Box::new(Pending::new(now.monotonic)));
        let offered = pending.offer(comment, priority, self.batch_comments_max, &mut self.random);
        match offered {
            Offered::Held => {}
            Offered::Shed(shed) => self.counters.shed[shed as usize] += 1,
        }
    }

    /// Adds an event to the window. A retraction takes effect at once: the comments it names are dropped from the
    /// window, and the ring's frames are resealed without them.
    ///
    /// A position that is not new is counted as repeated and otherwise ignored.
    pub fn event(&mut self, now: Now, event: BatchEvent) {
        if !self.advance(event.seq) {
            return;
        }
        self.counters.events += 1;
        let pending = self
            .pending
            .get_or_insert_with(|| Box::new(Pending::new(now.monotonic)));
        match &event.event {
            Event::Retract { ids } => {
                pending.retract(ids);
                self.history.retract(ids);
            }
            Event::Pin { .. } | Event::Unpin => {}
        }
        pending.event(event);
    }

    /// Gives up what the log lost. Returns the frame of what is pending, and a gap from there to `through`; no frames
    /// when nothing was lost after the last known position.
    #[must_use]
    pub fn lost(&mut self, now: Now, through: Seq, input: SealInput) -> Vec<Arc<FrameSet>> {
        if through <= self.last {
            return Vec::new();
        }
        // Out of turn: the window stays open for what follows.
        let mut frames: Vec<_> = self.seal(now, input).into_iter().collect();
        let gap = Gap {
            epoch: self.epoch,
            after: self.sealed,
            seq: through,
            events: Vec::new(),
        };
        self.last = through;
        self.counters.gaps += 1;
        frames.push(self.keep(FrameSet::gap(gap, self.sealer.policy())));
        frames
    }

    /// Adds likes to the window. The sum of one window stops at 2^53 - 1.
    pub fn likes(&mut self, now: Now, count: u64) {
        if count == 0 {
            return;
        }
        self.counters.likes = self.counters.likes.saturating_add(count);
        self.pending
            .get_or_insert_with(|| Box::new(Pending::new(now.monotonic)))
            .like(count);
    }

    /// The monotonic time at which [`tick`](Self::tick) is due. `None` when nothing is pending: a quiet room needs no
    /// timer.
    pub fn deadline(&self) -> Option<Duration> {
        self.pending
            .as_ref()
            .map(|pending| self.windows.due(pending.since()))
    }

    /// When the caller should look for more if the room gets something in every window: what comes before can wait.
    /// `None` for a quiet room, which needs what comes at once.
    pub fn awaited_end(&self) -> Option<Duration> {
        self.windows.awaited_end()
    }

    /// Seals what is pending, when it is due. Calls that come too early do nothing.
    #[must_use]
    pub fn tick(&mut self, now: Now, input: SealInput) -> Option<Arc<FrameSet>> {
        let due = self.deadline()?;
        if now.monotonic < due {
            return None;
        }
        self.windows.end(due, now.monotonic);
        self.seal(now, input)
    }

    /// Ends the window like [`tick`](Self::tick), but without a frame, and forgets the ring: nobody watches, and whoever
    /// returns reads the log.
    pub fn pass_over(&mut self, now: Now) {
        let Some(due) = self.deadline().filter(|&due| due <= now.monotonic) else {
            return;
        };
        self.windows.end(due, now.monotonic);
        self.pending = None;
        self.history.trim(usize::MAX);
        self.sealed = self.last;
    }

    /// Seals what is pending, due or not: the last frame before a stop.
    #[must_use]
    pub fn flush(&mut self, now: Now, input: SealInput) -> Option<Arc<FrameSet>> {
        self.deadline()?;
        self.windows.end(now.monotonic, now.monotonic);
        self.seal(now, input)
    }

    /// The last sealed position: where a viewer that joins now starts.
    pub fn sealed(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.sealed,
        }
    }

    /// The part of what a viewer missed since `since` that the ring still has.
    pub fn resume(&self, since: Position) -> Resume {
        if since.epoch != self.epoch {
            return Resume::OtherEpoch;
        }
        if since.seq > self.sealed {
            return Resume::Ahead;
        }
        let frames = self.history.after(since.seq);
        Resume::At {
            boundary: frames.first().map_or(self.sealed, |frame| frame.after()),
            frames,
        }
    }

    /// The ring's frames from exactly `boundary` on; `None` when no frame begins or ends there, because something
    /// would then be delivered twice or not at all.
    pub fn frames_after(&self, boundary: Seq) -> Option<Vec<Arc<FrameSet>>> {
        let frames = self.history.after(boundary);
        let begins = frames.first().map_or(self.sealed, |frame| frame.after());
        (begins == boundary).then_some(frames)
    }

    /// Drops the text that frames refer back to, up to 32 KiB per stream. Called when the last viewer leaves.
    pub fn forget_chain(&mut self) {
        self.sealer = Sealer::new(self.sealer.policy());
    }

    /// Comments held in the window now.
    pub fn pending(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.held())
    }

    /// Frames in the history ring.
    pub fn history_frames(&self) -> usize {
        self.history.len()
    }

    /// Drops the oldest frames of the history ring, at least `bytes` bytes or all of them. Returns the bytes freed.
    pub fn trim_history(&mut self, bytes: usize) -> usize {
        self.history.trim(bytes)
    }

    /// Bytes held by the history ring's frames, in all the forms that existed when they were last counted.
    pub fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    /// What happened since the last call. The caller adds it to its own sums, once per window.
    pub fn drain_counters(&mut self) -> RoomCounters {
        std::mem::take(&mut self.counters)
    }

    /// Moves on to `seq` and returns true, unless the position is not new.
    fn advance(&mut self, seq: Seq) -> bool {
        if seq <= self.last {
            self.counters.repeated += 1;
            return false;
        }
        self.last = seq;
        true
    }

    fn seal(&mut self, now: Now, input: SealInput) -> Option<Arc<FrameSet>> {
        let Drained {
            comments,
            events,
            likes,
            shed,
        } = self.pending.take()?.drain();
        assert!(
            comments.is_sorted_by(|a, b| a.seq < b.seq)
                && events.is_sorted_by(|a, b| a.seq < b.seq),
            "positions increase"
        );
        let batch = Batch {
            epoch: self.epoch,
            after: self.sealed,
            seq: self.last,
            ts_ms: now.unix_ms,
            viewers: input.viewers,
            likes,
            shed,
            comments,
            events,
        };
        self.counters.batches += 1;
        let frame = self.sealer.seal(batch, input.chains);
        Some(self.keep(frame))
    }

    /// Records the newest frame.
    fn keep(&mut self, frame: FrameSet) -> Arc<FrameSet> {
        assert_eq!(
            (frame.after(), frame.seq()),
            (self.sealed, self.last),
            "a frame stands for every position since the one before"
        );
        let frame = Arc::new(frame);
        self.sealed = self.last;
        self.history.push(&frame);
        frame
    }
}

/// Who watches a room at the moment it seals.
#[derive(Clone, Copy, Debug, Default)]
pub struct SealInput {
    /// Viewers, as stated in the batch.
    pub viewers: u32,
    /// Which streams have viewers that share the room's history.
    pub chains: Chains,
}

/// What a returning viewer gets from the ring.
#[derive(Debug)]
pub enum Resume {
    /// The position belongs to another epoch: there is no telling what was missed.
    OtherEpoch,
    /// The position is above everything sealed.
    Ahead,
    /// Everything after `boundary`, up to [`Room::sealed`].
    At {
        /// Where `frames` begin. Above the requested position when the ring is too short, or when the position is
        /// inside a frame or a hole: the part in between is read from the log.
        boundary: Seq,
        /// The frames after it, oldest first.
        frames: Vec<Arc<FrameSet>>,
    },
}
