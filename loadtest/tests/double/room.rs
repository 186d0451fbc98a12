//! A room of the double: all its comments, how many are sealed, and its viewers. The faults are made here.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use danmaku_wire::{
    Batch, BatchComment, Chains, CloseReason, Comment, CommentLimits, CompressionPolicy, Cursor,
    Dialect, Encoding, Epoch, Fragment, FrameSet, Position, Sealer, Seq, outbound,
};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{CUTS, Fault, Made};

/// How a room numbers its comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    /// One after the other.
    Dense,
    /// With up to a hundred holes before each.
    Sparse,
}

impl Positions {
    /// The position after `last`.
    fn after(self, last: u64) -> u64 {
        match self {
            Self::Dense => last + 1,
            Self::Sparse => last + 1 + last.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 101,
        }
    }
}

pub(super) struct Room {
    epoch: u64,
    positions: Positions,
    /// All comments, by position.
    comments: Vec<BatchComment>,
    /// How many of them are sealed.
    sealed: usize,
    sealer: Sealer,
    viewers: Vec<Viewer>,
    /// Batches of at least two comments.
    full_batches: u32,
    held_back: Option<Bytes>,
}

pub(super) struct Viewer {
    pub(super) dialect: Dialect,
    pub(super) cursor: Cursor,
    pub(super) frames: mpsc::Sender<Option<Bytes>>,
    pub(super) writer: AbortHandle,
    /// It lost its connection before.
    pub(super) has_returned: bool,
}

/// What a viewer is sent when it joins.
pub(super) struct Welcome {
    /// Where everything that follows begins.
    pub(super) after: u64,
    /// The last sealed position.
    pub(super) seq: u64,
    pub(super) resumed: bool,
    pub(super) replay: Option<FrameSet>,
}

/// What a batch did to the room's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Beats,
    Stalls,
}

/// Comments in a batch, so that there are many batches even when comments come all at once.
const BATCH_COMMENTS_MAX: usize = 16;

impl Room {
    /// A room with these comments, all sealed.
    pub(super) fn with(epoch: u64, positions: Positions, fragments: Vec<Fragment>) -> Self {
        let mut room = Self {
            epoch,
            positions,
            comments: Vec::new(),
            sealed: 0,
            sealer: Sealer::new(CompressionPolicy::default()),
            viewers: Vec::new(),
            full_batches: 0,
            held_back: None,
        };
        for fragment in fragments {
            room.accept(fragment);
        }
        room.sealed = room.comments.len();
        room
    }

    /// Takes a comment and gives it a position.
    pub(super) fn accept(&mut self, fragment: Fragment) -> u64 {
        let last = self
            .comments
            .last()
            .map_or(0, |comment| comment.seq.value());
        let position = self.positions.after(last);
        self.comments.push(BatchComment {
            seq: Seq::new(position),
            at_ms: unix_ms(),
            fragment,
        });
        position
    }

    /// The position of the last of the first `count` comments.
    fn end_of(&self, count: usize) -> u64 {
        count
            .checked_sub(1)
            .map_or(0, |last| self.comments[last].seq.value())
    }

    /// The replay for a viewer at position `since` of this epoch.
    pub(super) fn welcome(&mut self, since: Option<u64>, fault: Fault, made: &Made) -> Welcome {
        let seq = self.end_of(self.sealed);
        let since = since.filter(|since| *since <= seq);
        let replay = since.and_then(|since| self.replay(since, fault, made));
        Welcome {
            after: since.unwrap_or(seq),
            seq,
            resumed: since.is_some(),
            replay,
        }
    }

    fn replay(&self, since: u64, fault: Fault, made: &Made) -> Option<FrameSet> {
        let mut had = self
            .comments
            .partition_point(|comment| comment.seq.value() <= since);
        let mut missed = self.comments[had..self.sealed].to_vec();
        match fault {
            Fault::ReplayNothing => {
                made.add(missed.len());
                return None;
            }
            Fault::ReplayLeavesOut if missed.len() > 1 => {
                missed.pop();
                made.add(1);
            }
            Fault::ReplayRepeats if had > 0 && !missed.is_empty() => {
                had -= 1;
                missed.insert(0, self.comments[had].clone());
                made.add(1);
            }
            Fault::ReplaySwaps if missed.len() > 1 => {
                let (one, other) = (missed[0].fragment.clone(), missed[1].fragment.clone());
                if one != other {
                    missed[0].fragment = other;
                    missed[1].fragment = one;
                    made.add(2);
                }
            }
            _ => {}
        }
        let batch = self.batch(self.end_of(had), self.end_of(self.sealed), 0, missed);
        let stands_for_some = batch.after < batch.seq;
        stands_for_some.then(|| FrameSet::replay(batch, CompressionPolicy::default()))
    }

    /// How many sealed comments come after a position.
    pub(super) fn sealed_after(&self, since: u64) -> usize {
        let had = self
            .comments
            .partition_point(|comment| comment.seq.value() <= since);
        self.sealed.saturating_sub(had)
    }

    pub(super) fn watch(&mut self, viewer: Viewer) {
        self.viewers.push(viewer);
    }

    /// Seals new comments, if any, and sends them to all viewers.
    pub(super) fn tick(&mut self, fault: Fault, made: &Made) -> Pulse {
        if fault == Fault::CutAgain {
            self.cut_returned(made);
        }
        // Slow viewers are told by frames behind, so there must not be more than one frame per window.
        let comments_max = if fault.is_about_slow_viewers() {
            usize::MAX
        } else {
            BATCH_COMMENTS_MAX
        };
        let mut pulse = Pulse::Beats;
        while self.sealed < self.comments.len() && pulse == Pulse::Beats {
            let pending = self.comments.len() - self.sealed;
            pulse = self.batch_of(pending.min(comments_max), fault, made);
        }
        pulse
    }

    /// Seals this many comments and sends them to all viewers.
    fn batch_of(&mut self, count: usize, fault: Fault, made: &Made) -> Pulse {
        self.full_batches += u32::from(count >= 2);
        let is_due = fault.recurs() || (self.full_batches == 3 && count >= 2);
        let fault = if is_due { fault } else { Fault::None };
        let set = self.seal(count, fault);
        self.viewers.retain(|viewer| !viewer.frames.is_closed());
        let has_slow = self
            .viewers
            .iter()
            .any(|viewer| viewer.frames.capacity() == 0);
        if fault == Fault::CutSlow {
            self.cut_slow(made);
        }
        self.deliver(&set, fault);
        match fault {
            Fault::Stall => Pulse::Stalls,
            Fault::WaitForSlow if has_slow => Pulse::Stalls,
            _ => Pulse::Beats,
        }
    }

    /// Breaks the connections of viewers whose outbox is full.
    fn cut_slow(&mut self, made: &Made) {
        let is_slow = |viewer: &mut Viewer| viewer.frames.capacity() == 0;
        for cut in self.viewers.extract_if(.., is_slow) {
            cut.writer.abort();
            made.add(1);
        }
    }

    /// Breaks the connections of viewers that have come back, once everything sent to them so far is written: each has its
    /// `joined`.
    fn cut_returned(&mut self, made: &Made) {
        let is_cut = |viewer: &mut Viewer| {
            let is_cut = viewer.has_returned && made.count() < CUTS;
            made.add(usize::from(is_cut));
            is_cut
        };
        for cut in self.viewers.extract_if(.., is_cut) {
            let _ = cut.frames.try_send(None);
        }
    }

    fn seal(&mut self, count: usize, fault: Fault) -> FrameSet {
        let after = self.end_of(self.sealed);
        let end = self.sealed + count;
        let mut comments = self.comments[self.sealed..end].to_vec();
        self.sealed = end;
        let mut shed = 0;
        match fault {
            Fault::DropComment => drop(comments.remove(0)),
            Fault::ShedComment => {
                comments.remove(0);
                shed = 1;
            }
            Fault::RepeatComment => comments[1].fragment = comments[0].fragment.clone(),
            Fault::SwapComments => {
                let first = comments[0].fragment.clone();
                comments[0].fragment = std::mem::replace(&mut comments[1].fragment, first);
            }
            Fault::CorruptComment => {
                let text = danmaku_wire::CommentText::new(
                    "not what was posted",
                    &CommentLimits::default(),
                );
                comments[0].fragment = Comment::new(text.unwrap()).fragment();
            }
            _ => {}
        }
        let batch = self.batch(after, self.end_of(self.sealed), shed, comments);
        let chains = Chains {
            ws_deflate: true,
            sse_gzip: true,
        };
        self.sealer.seal(batch, chains)
    }

    fn batch(&self, after: u64, seq: u64, shed: u32, comments: Vec<BatchComment>) -> Batch {
        Batch {
            epoch: Epoch::new(self.epoch),
            after: Seq::new(after),
            seq: Seq::new(seq),
            ts_ms: unix_ms(),
            viewers: 1,
            likes: 0,
            shed,
            comments,
            events: Vec::new(),
        }
    }

    fn deliver(&mut self, set: &FrameSet, fault: Fault) {
        let held_back = self.held_back.take();
        // The victim reads plain text, so that only positions show what it misses.
        let victim = self
            .viewers
            .iter()
            .position(|viewer| viewer.dialect.encoding() == Encoding::Identity);
        for (index, viewer) in self.viewers.iter_mut().enumerate() {
            let dialect = viewer.dialect;
            let frame = set.form(viewer.cursor.choose(dialect, set)).clone();
            let is_victim = Some(index) == victim;
            let frames = match fault {
                Fault::DropFrame if is_victim => vec![],
                Fault::RepeatFrame if is_victim => vec![Some(frame.clone()), Some(frame)],
                Fault::SwapFrames if is_victim => {
                    self.held_back = Some(frame);
                    vec![]
                }
                Fault::GapFrame if is_victim => {
                    let json = outbound::gap_json(set.after(), set.seq(), &[]);
                    let position = Position {
                        epoch: set.epoch(),
                        seq: set.seq(),
                    };
                    vec![Some(dialect.positioned(&json, position))]
                }
                Fault::Cut if is_victim => vec![None],
                Fault::Evict if is_victim => {
                    vec![Some(dialect.close(CloseReason::SlowConsumer)), None]
                }
                _ => match &held_back {
                    Some(earlier) if is_victim => vec![Some(frame), Some(earlier.clone())],
                    _ => vec![Some(frame)],
                },
            };
            for frame in frames {
                let _ = viewer.frames.try_send(frame);
            }
        }
    }
}

pub(super) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}
