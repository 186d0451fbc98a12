//! A room of the double: every comment it ever took, what is sealed of them, and who watches. The faults are here.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use danmaku_wire::{
    Batch, CloseReason, Comment, CommentLimits, CompressionPolicy, DeflateCursor, DeflateViewers,
    Encoding, Fragment, FrameSet, Sealer, Seq, frame_for, outbound, seal_replay,
};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{Fault, Made};

pub(super) struct Room {
    /// All of them; the first has position 1.
    comments: Vec<Fragment>,
    /// How many of them were sealed.
    sealed: usize,
    sealer: Sealer,
    viewers: Vec<Viewer>,
    /// Batches of at least two comments, and all of them.
    full_batches: u32,
    batches: usize,
    /// Somebody has lost the connection and is back.
    has_returned: bool,
    held_back: Option<Bytes>,
}

pub(super) struct Viewer {
    pub(super) encoding: Encoding,
    pub(super) cursor: DeflateCursor,
    pub(super) frames: mpsc::Sender<Option<Bytes>>,
    pub(super) writer: AbortHandle,
}

/// What a viewer is told and sent when it joins.
pub(super) struct Welcome {
    pub(super) seq: u64,
    pub(super) resumed: bool,
    pub(super) replay: Option<FrameSet>,
}

/// What a batch did to the server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Beats,
    Stalls,
}

/// Under [`Fault::CutAgain`] each batch cuts off every so many-th viewer.
const CUT_EVERY: usize = 12;

impl Room {
    /// A room that has sealed all of these.
    pub(super) fn with(comments: Vec<Fragment>) -> Self {
        Self {
            sealed: comments.len(),
            comments,
            sealer: Sealer::new(CompressionPolicy::default()),
            viewers: Vec::new(),
            full_batches: 0,
            batches: 0,
            has_returned: false,
            held_back: None,
        }
    }

    /// Takes a comment and numbers it.
    pub(super) fn accept(&mut self, fragment: Fragment) -> u64 {
        self.comments.push(fragment);
        self.comments.len() as u64
    }

    /// What somebody is shown who was at position `since` of this numbering.
    pub(super) fn welcome(&mut self, since: Option<u64>, fault: Fault, made: &Made) -> Welcome {
        let seq = self.sealed as u64;
        self.has_returned |= since.is_some();
        let since = since.filter(|since| *since <= seq);
        let replay = since.and_then(|since| self.replay(since, fault, made));
        Welcome {
            seq,
            resumed: since.is_some(),
            replay,
        }
    }

    fn replay(&self, since: u64, fault: Fault, made: &Made) -> Option<FrameSet> {
        let mut since = usize::try_from(since).unwrap();
        let mut missed = self.comments[since..self.sealed].to_vec();
        match fault {
            Fault::ReplayNothing => {
                made.add(missed.len());
                return None;
            }
            Fault::ReplayLeavesOut if missed.len() > 1 => {
                missed.pop();
                made.add(1);
            }
            Fault::ReplayRepeats if since > 0 && !missed.is_empty() => {
                since -= 1;
                missed.insert(0, self.comments[since].clone());
                made.add(1);
            }
            Fault::ReplaySwaps if missed.len() > 1 && missed[0] != missed[1] => {
                missed.swap(0, 1);
                made.add(2);
            }
            _ => {}
        }
        let batch = batch(since as u64 + 1, 0, missed);
        (batch.covered() > 0).then(|| seal_replay(&batch, CompressionPolicy::default()))
    }

    pub(super) fn watch(&mut self, viewer: Viewer) {
        self.viewers.push(viewer);
    }

    /// Seals what is new, if anything, and sends it to everybody.
    pub(super) fn tick(&mut self, fault: Fault, made: &Made) -> Pulse {
        let pending = self.comments.len() - self.sealed;
        if pending == 0 {
            return Pulse::Beats;
        }
        self.batches += 1;
        self.full_batches += u32::from(pending >= 2);
        let is_due = fault.recurs() || (self.full_batches == 3 && pending >= 2);
        let fault = if is_due { fault } else { Fault::None };
        let set = self.seal(fault);
        self.viewers.retain(|viewer| !viewer.frames.is_closed());
        let has_slow = self
            .viewers
            .iter()
            .any(|viewer| viewer.frames.capacity() == 0);
        self.cut(fault, made);
        self.deliver(&set, fault);
        match fault {
            Fault::Stall => Pulse::Stalls,
            Fault::WaitForSlow if has_slow => Pulse::Stalls,
            _ => Pulse::Beats,
        }
    }

    /// Breaks connections without a word.
    fn cut(&mut self, fault: Fault, made: &Made) {
        let mut place = self.batches;
        let is_cut = |viewer: &mut Viewer| {
            place += 1;
            match fault {
                Fault::CutSlow => viewer.frames.capacity() == 0,
                Fault::CutAgain => self.has_returned && place.is_multiple_of(CUT_EVERY),
                _ => false,
            }
        };
        for cut in self.viewers.extract_if(.., is_cut) {
            cut.writer.abort();
            made.add(1);
        }
    }

    fn seal(&mut self, fault: Fault) -> FrameSet {
        let first = self.sealed as u64 + 1;
        let mut fragments = self.comments[self.sealed..].to_vec();
        self.sealed = self.comments.len();
        let mut shed = 0;
        match fault {
            Fault::DropComment => drop(fragments.remove(0)),
            Fault::ShedComment => {
                fragments.remove(0);
                shed = 1;
            }
            Fault::RepeatComment => fragments[1] = fragments[0].clone(),
            Fault::SwapComments => fragments.swap(0, 1),
            Fault::CorruptComment => {
                let text = danmaku_wire::CommentText::new(
                    "not what was posted",
                    &CommentLimits::default(),
                );
                fragments[0] = Comment::new(text.unwrap()).fragment();
            }
            _ => {}
        }
        let batch = batch(first, shed, fragments);
        self.sealer.seal(&batch, DeflateViewers::Some)
    }

    fn deliver(&mut self, set: &FrameSet, fault: Fault) {
        let held_back = self.held_back.take();
        // The victim reads plain text, so that what it misses is told by positions alone.
        let victim = self
            .viewers
            .iter()
            .position(|viewer| viewer.encoding == Encoding::Identity);
        for (index, viewer) in self.viewers.iter_mut().enumerate() {
            let frame = frame_for(viewer.encoding, &mut viewer.cursor, set).clone();
            let is_victim = Some(index) == victim;
            let frames = match fault {
                Fault::DropFrame if is_victim => vec![],
                Fault::RepeatFrame if is_victim => vec![Some(frame.clone()), Some(frame)],
                Fault::SwapFrames if is_victim => {
                    self.held_back = Some(frame);
                    vec![]
                }
                Fault::GapFrame if is_victim => {
                    vec![Some(outbound::text_frame(&outbound::gap_json(
                        set.first(),
                        set.last(),
                    )))]
                }
                Fault::Cut if is_victim => vec![None],
                Fault::Evict if is_victim => {
                    vec![Some(outbound::close_frame(CloseReason::SlowConsumer)), None]
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

fn batch(first: u64, shed: u32, fragments: Vec<Fragment>) -> Batch {
    let ids = (first + u64::from(shed)..).map(Seq::new);
    Batch {
        first: Seq::new(first),
        ts_ms: unix_ms(),
        viewers: 1,
        likes: 0,
        shed,
        comments: ids.zip(fragments).collect(),
    }
}

pub(super) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}
