//! One room: from comments in order to sealed frames.

use std::sync::Arc;
use std::time::Duration;

use danmaku_wire::{
    Batch, CompressionPolicy, DeflateViewers, Epoch, Fragment, FrameSet, Position, Priority,
    Sealer, Seq,
};

use crate::counters::RoomCounters;
use crate::history::History;
use crate::now::Now;
use crate::pending::{Offered, Pending, Taken};
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
    /// Sealed frames kept for viewers who come back.
    pub history_frames_max: usize,
    /// Bytes of sealed frames kept, in all their encodings.
    pub history_bytes_max: usize,
    /// The room's own instant in the window, see [`phase`](crate::phase).
    pub phase: Duration,
    /// Decides which comments of one priority are shed.
    pub seed: u64,
    /// How frames are packed.
    pub compression: CompressionPolicy,
}

/// A room's window, history and position. It owns no clock, task or socket: the caller tells it the time, asks for the
/// [`deadline`](Self::deadline) and calls [`tick`](Self::tick) then.
///
/// Invariants: sealed frames follow each other without a hole (each starts one position after the last one ended), and
/// every position given to the room is in exactly one frame, as a comment or counted in its `shed`.
#[derive(Debug)]
pub struct Room {
    batch_comments_max: usize,
    epoch: Epoch,
    /// The last position given to the room.
    last: Seq,
    /// The last position in a sealed frame.
    sealed: Seq,
    /// Boxed, so that a quiet room does not pay for it.
    pending: Option<Box<Pending>>,
    windows: Windows,
    compression: CompressionPolicy,
    sealer: Sealer,
    history: History,
    random: SplitMix64,
    counters: RoomCounters,
}

impl Room {
    /// A room that goes on after the position `after` of `epoch`; [`Seq::ZERO`] for a new one.
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
            compression: config.compression,
            sealer: Sealer::new(config.compression),
            history: History::new(config.history_frames_max, config.history_bytes_max),
            random: SplitMix64::new(config.seed),
            counters: RoomCounters::default(),
        }
    }

    /// Takes the comment at position `seq` into the window.
    ///
    /// A position that came before is counted as repeated and otherwise ignored. Positions left out before `seq` are
    /// ones that the log could not give: they are counted as missed, and in the `shed` of the batch, so that viewers
    /// see no hole.
    ///
    /// # Panics
    ///
    /// When one window leaves out more positions than a batch can count (2^32).
    pub fn comment(&mut self, now: Now, seq: Seq, fragment: Fragment, priority: Priority) {
        if seq <= self.last {
            self.counters.repeated += 1;
            return;
        }
        let missed = seq.value() - self.last.value() - 1;
        self.last = seq;
        let pending = self
            .pending
            .get_or_insert_with(|| Box::new(Pending::new(now.monotonic)));
        if missed > 0 {
            self.counters.missed += missed;
            pending.miss(missed);
        }
        self.counters.comments[priority as usize] += 1;
        match pending.offer(
            seq,
            fragment,
            priority,
            self.batch_comments_max,
            &mut self.random,
        ) {
            Offered::Held => {}
            Offered::Shed(shed) => self.counters.shed[shed as usize] += 1,
        }
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

    /// Seals what is pending, when it is due. Calls that come too early do nothing.
    pub fn tick(&mut self, now: Now, audience: Audience) -> Option<Arc<FrameSet>> {
        let due = self.deadline()?;
        if now.monotonic < due {
            return None;
        }
        self.windows.end(due, now.monotonic);
        self.seal(now, audience)
    }

    /// Seals what is pending, due or not: the last frame before a stop.
    pub fn flush(&mut self, now: Now, audience: Audience) -> Option<Arc<FrameSet>> {
        self.deadline()?;
        self.windows.end(now.monotonic, now.monotonic);
        self.seal(now, audience)
    }

    /// The last sealed position: where a viewer who joins now begins.
    pub fn sealed(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.sealed,
        }
    }

    /// What a viewer missed since `since`, from the ring. Changes nothing.
    pub fn resume(&self, since: Position) -> Resume {
        if since.epoch != self.epoch {
            return Resume::OtherEpoch;
        }
        if since.seq > self.sealed {
            return Resume::Ahead;
        }
        let found = self.history.after(since.seq);
        let first = since.seq.next();
        let end = found.from.unwrap_or(self.sealed.next());
        let from_log = (first < end).then(|| (first, Seq::new(end.value() - 1)));
        Resume::Replay {
            from_log,
            frames: found.frames,
        }
    }

    /// Forgets the history that deflate viewers share, up to 32 KiB: for a room whose last viewer left.
    pub fn rest(&mut self) {
        self.sealer = Sealer::new(self.compression);
    }

    /// Comments held in the window now.
    pub fn pending(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.held())
    }

    /// Frames in the history ring.
    pub fn history_frames(&self) -> usize {
        self.history.len()
    }

    /// Bytes that the frames of the history ring hold, in all their encodings made so far.
    pub fn history_bytes(&self) -> usize {
        self.history.bytes()
    }

    /// What happened since the last call. The caller adds it to its own sums, once per window.
    pub fn take_counters(&mut self) -> RoomCounters {
        std::mem::take(&mut self.counters)
    }

    fn seal(&mut self, now: Now, audience: Audience) -> Option<Arc<FrameSet>> {
        let Taken {
            comments,
            likes,
            shed,
        } = self.pending.take()?.take();
        let batch = Batch {
            first: self.sealed.next(),
            ts_ms: now.unix_ms,
            viewers: audience.viewers,
            likes,
            shed,
            comments,
        };
        let frame = Arc::new(self.sealer.seal(&batch, audience.deflate));
        assert_eq!(
            frame.last(),
            self.last,
            "a batch tells every position since the one before"
        );
        self.sealed = self.last;
        self.history.push(&frame);
        self.counters.batches += 1;
        Some(frame)
    }
}

/// Who watches a room at the moment it seals.
#[derive(Clone, Copy, Debug)]
pub struct Audience {
    /// Viewers, told in the batch.
    pub viewers: u32,
    /// Whether some of them share the room's deflate history.
    pub deflate: DeflateViewers,
}

/// What a viewer who comes back gets.
#[derive(Debug)]
pub enum Resume {
    /// The position belongs to another numbering of the room: nothing can be said about what was missed.
    OtherEpoch,
    /// The position is after all that is sealed.
    Ahead,
    /// Everything after the position, up to [`Room::sealed`].
    Replay {
        /// Positions, first and last inclusive, that are before `frames` and that the caller reads from the log: the
        /// ring is too short, or the position cuts a batch in two.
        from_log: Option<(Seq, Seq)>,
        /// The batches after that, oldest first.
        frames: Vec<Arc<FrameSet>>,
    },
}
