//! What waits for one slow viewer: bounded in bytes and age, in order, and never half a message.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use danmaku_wire::outbound::gap_json;
use danmaku_wire::{BatchEvent, Dialect, Epoch, FrameSet, Position, Seq};

use crate::link::{Link, Written};
use crate::packing::Packing;
use crate::stats::{SkipReason, StatsSnapshot};

/// What waits for one viewer: perhaps nothing more than what its sink has taken and keeps, which the sink bounds.
///
/// Messages go out in the order in which they came, with three exceptions that no reader can tell from that order: a
/// pong goes first, a gap stands where the skipped frames were, a close goes last. Since the oldest frames are
/// skipped first, the skipped ones are always right before those that wait, so one gap is enough to tell them.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// Partly written: nothing else may be written before its end.
    started: Option<Started>,
    pong: Option<Bytes>,
    controls: VecDeque<WaitingControl>,
    gap: Option<Gap>,
    frames: VecDeque<WaitingFrame>,
    close: Option<Bytes>,
    control_bytes: usize,
    frame_bytes: usize,
    next_order: u64,
    /// Since when there has always been something that waits.
    pub(crate) behind_since: Duration,
    /// The viewer's place in its shard's list of those that are behind.
    pub(crate) listed: Option<usize>,
}

#[derive(Debug)]
struct Started {
    bytes: Bytes,
    written: usize,
    kind: Kind,
}

#[derive(Debug)]
struct WaitingControl {
    order: u64,
    bytes: Bytes,
    control: Control,
}

/// A frame whose form is not chosen yet: that depends on what will have been written before it.
#[derive(Debug)]
struct WaitingFrame {
    order: u64,
    frame: Arc<FrameSet>,
    bytes: usize,
    since: Duration,
}

/// Positions of which the viewer is to be told that it missed them, with the events among them.
#[derive(Debug)]
struct Gap {
    epoch: Epoch,
    after: Seq,
    seq: Seq,
    events: Vec<BatchEvent>,
    /// At least what the events take in memory and in the message.
    events_bytes: usize,
    /// Made when it is first tried to be written.
    message: Option<Bytes>,
}

/// What a message is, to count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Frame,
    Gap,
    Control(Control),
}

/// What a message that is never skipped is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Message,
    Heartbeat,
    Pong,
    Close,
}

/// How far a flush came.
#[derive(Debug)]
#[must_use]
pub(crate) enum Flushed {
    /// Nothing is left, in the sink neither.
    All,
    /// The viewer takes no more for now.
    Blocked,
    /// The connection is gone.
    Broken(io::Error),
}

impl Kind {
    /// Counts a message that was written whole.
    pub(crate) fn count(self, counts: &mut StatsSnapshot) {
        match self {
            Self::Frame => counts.frames_written += 1,
            Self::Gap => counts.gaps_written += 1,
            Self::Control(control) => {
                counts.controls_written += 1;
                if control == Control::Heartbeat {
                    counts.pings_written += 1;
                }
            }
        }
    }
}

impl Outbox {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            started: None,
            pong: None,
            controls: VecDeque::new(),
            gap: None,
            frames: VecDeque::new(),
            close: None,
            control_bytes: 0,
            frame_bytes: 0,
            next_order: 0,
            behind_since: now,
            listed: None,
        }
    }

    /// Bytes that wait and may not be skipped: messages, and the events of skipped frames.
    pub(crate) fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// Bytes that wait in all.
    pub(crate) fn bytes(&self) -> usize {
        let started = self
            .started
            .as_ref()
            .map_or(0, |it| it.bytes.len() - it.written);
        let last = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        started + self.control_bytes + self.frame_bytes + last(&self.pong) + last(&self.close)
    }

    /// Frames that wait, the partly written one included.
    pub(crate) fn frames(&self) -> u64 {
        let started = self
            .started
            .as_ref()
            .is_some_and(|it| it.kind == Kind::Frame);
        self.frames.len() as u64 + u64::from(started)
    }

    /// Keeps the remainder of a message of which the first `written` bytes are written.
    pub(crate) fn start(&mut self, bytes: Bytes, written: usize, kind: Kind) {
        debug_assert!(self.started.is_none() && written < bytes.len());
        self.started = Some(Started {
            bytes,
            written,
            kind,
        });
    }

    pub(crate) fn push_frame(&mut self, frame: Arc<FrameSet>, bytes: usize, now: Duration) {
        self.frame_bytes += bytes;
        let order = self.order();
        self.frames.push_back(WaitingFrame {
            order,
            frame,
            bytes,
            since: now,
        });
    }

    pub(crate) fn push_control(&mut self, bytes: Bytes, control: Control) {
        match control {
            Control::Pong => self.pong = Some(bytes),
            Control::Close => self.close = Some(bytes),
            Control::Message | Control::Heartbeat => {
                self.control_bytes += bytes.len();
                let order = self.order();
                self.controls.push_back(WaitingControl {
                    order,
                    bytes,
                    control,
                });
            }
        }
    }

    /// Skips the oldest frames until no more than `bytes_max` wait.
    pub(crate) fn skip_over(
        &mut self,
        bytes_max: usize,
        packing: &mut Packing,
        counts: &mut StatsSnapshot,
    ) {
        while self.frame_bytes > bytes_max && self.skip_oldest(packing) {
            counts.skip(SkipReason::Bytes, 1);
        }
    }

    /// Skips the frames that have waited for longer than `age_max`.
    pub(crate) fn skip_stale(
        &mut self,
        now: Duration,
        age_max: Duration,
        packing: &mut Packing,
        counts: &mut StatsSnapshot,
    ) {
        let stale = |it: &WaitingFrame| now.saturating_sub(it.since) > age_max;
        while self.frames.front().is_some_and(stale) && self.skip_oldest(packing) {
            counts.skip(SkipReason::Age, 1);
        }
    }

    /// Drops everything that is not partly written: the viewer will not be here to read it.
    pub(crate) fn evict(&mut self, counts: &mut StatsSnapshot) {
        counts.skip(SkipReason::Evicted, self.frames.len() as u64);
        self.frames = VecDeque::new();
        self.controls = VecDeque::new();
        self.frame_bytes = 0;
        self.control_bytes = 0;
        self.gap = None;
        self.pong = None;
    }

    /// Writes what waits, as far as the viewer takes it.
    pub(crate) fn flush(
        &mut self,
        link: &Link,
        packing: &mut Packing,
        counts: &mut StatsSnapshot,
    ) -> Flushed {
        loop {
            // The choice of form holds only if the frame gets started now.
            let mut next_packing = *packing;
            let (bytes, kind, written) = match &self.started {
                Some(it) => (it.bytes.clone(), it.kind, it.written),
                None => match self.next(&mut next_packing) {
                    Some((bytes, kind)) => (bytes, kind, 0),
                    None => return Self::flush_sink(link),
                },
            };
            let taken = match link.write_again(&bytes[written..]) {
                Written::Whole | Written::Kept => bytes.len() - written,
                Written::Part(taken) => taken,
                Written::Broken(error) => return Flushed::Broken(error),
            };
            if taken == 0 {
                return Flushed::Blocked;
            }
            if self.started.take().is_none() {
                self.remove_next(kind);
                *packing = next_packing;
            }
            counts.bytes_written += taken as u64;
            if written + taken < bytes.len() {
                counts.partial_writes += 1;
                self.start(bytes, written + taken, kind);
                return Flushed::Blocked;
            }
            kind.count(counts);
        }
    }

    /// Nothing waits here: what the sink keeps is all that is left.
    fn flush_sink(link: &Link) -> Flushed {
        match link.flush() {
            Written::Whole => Flushed::All,
            Written::Kept | Written::Part(_) => Flushed::Blocked,
            Written::Broken(error) => Flushed::Broken(error),
        }
    }

    /// What is to be written next. It stays where it is until some of it is written.
    fn next(&mut self, packing: &mut Packing) -> Option<(Bytes, Kind)> {
        if let Some(pong) = &self.pong {
            packing.message_written();
            return Some((pong.clone(), Kind::Control(Control::Pong)));
        }
        let frame_order = self.frames.front().map_or(u64::MAX, |it| it.order);
        if let Some(it) = self.controls.front().filter(|it| it.order < frame_order) {
            packing.message_written();
            return Some((it.bytes.clone(), Kind::Control(it.control)));
        }
        if let Some(gap) = &mut self.gap {
            packing.message_written();
            return Some((gap.message(packing.dialect()).clone(), Kind::Gap));
        }
        if let Some(it) = self.frames.front() {
            return Some((packing.form(&it.frame).clone(), Kind::Frame));
        }
        let close = self.close.as_ref()?;
        Some((close.clone(), Kind::Control(Control::Close)))
    }

    /// Takes out what [`Outbox::next`] has named.
    fn remove_next(&mut self, kind: Kind) {
        match kind {
            Kind::Frame => {
                if let Some(it) = self.frames.pop_front() {
                    self.frame_bytes -= it.bytes;
                }
            }
            Kind::Gap => {
                if let Some(gap) = self.gap.take() {
                    self.control_bytes -= gap.events_bytes;
                }
            }
            Kind::Control(Control::Pong) => self.pong = None,
            Kind::Control(Control::Close) => self.close = None,
            Kind::Control(Control::Message | Control::Heartbeat) => {
                if let Some(it) = self.controls.pop_front() {
                    self.control_bytes -= it.bytes.len();
                }
            }
        }
    }

    fn skip_oldest(&mut self, packing: &mut Packing) -> bool {
        let Some(it) = self.frames.pop_front() else {
            return false;
        };
        self.frame_bytes -= it.bytes;
        packing.skipped();
        // A frame of nothing but likes stands for no position.
        if it.frame.after() < it.frame.seq() {
            let gap = self.gap.get_or_insert_with(|| Gap::at(&it.frame));
            self.control_bytes += gap.extend(&it.frame);
        }
        true
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }
}

impl Gap {
    /// An empty gap right before `frame`.
    fn at(frame: &FrameSet) -> Self {
        Self {
            epoch: frame.epoch(),
            after: frame.after(),
            seq: frame.after(),
            events: Vec::new(),
            events_bytes: 0,
            message: None,
        }
    }

    /// Adds the positions of the frame that follows, and says how many bytes of events came with them.
    fn extend(&mut self, frame: &FrameSet) -> usize {
        debug_assert_eq!(self.seq, frame.after(), "frames come in one chain");
        let events = frame.events();
        let bytes = events.iter().map(|it| it.event.bytes_max()).sum();
        self.seq = frame.seq();
        self.events.extend_from_slice(events);
        self.events_bytes += bytes;
        self.message = None;
        bytes
    }

    fn message(&mut self, dialect: Dialect) -> &Bytes {
        self.message.get_or_insert_with(|| {
            let position = Position {
                epoch: self.epoch,
                seq: self.seq,
            };
            dialect.positioned(&gap_json(self.after, self.seq, &self.events), position)
        })
    }
}
