//! What waits for one slow viewer: bounded in bytes and age, in order, and never half a message.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use danmaku_wire::outbound::gap_json;
use danmaku_wire::{BatchEvent, Dialect, Epoch, FrameSet, Position, Seq};

use crate::link::{Link, Ready, Written};
use crate::packing::Packing;
use crate::stats::{SkipReason, StatsSnapshot};

/// What waits for one viewer; possibly only what its sink has taken and keeps, which the sink bounds.
///
/// Messages go out in order of arrival, with three exceptions that no reader can notice: a pong goes first, a gap
/// replaces the skipped frames, a close goes last. The oldest frames are skipped first, so the skipped ones are always
/// right before those that wait, and one gap covers them.
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
    /// Since when something has been waiting without a break.
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

/// A frame whose form is not chosen yet: the choice depends on what is written before it.
#[derive(Debug)]
struct WaitingFrame {
    order: u64,
    frame: Arc<FrameSet>,
    bytes: usize,
    since: Duration,
}

/// Missed positions to report to the viewer, with the events among them.
#[derive(Debug)]
struct Gap {
    epoch: Epoch,
    after: Seq,
    seq: Seq,
    events: Vec<BatchEvent>,
    /// An upper bound of the events' size in memory and in the message.
    events_bytes: usize,
    /// Made at the first try to write it.
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
    /// Nothing is left, not even in the sink.
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

    /// Drops everything that is not partly written: the viewer will not read it.
    pub(crate) fn evict(&mut self, counts: &mut StatsSnapshot) {
        counts.skip(SkipReason::Evicted, self.frames.len() as u64);
        self.frames = VecDeque::new();
        self.controls = VecDeque::new();
        self.frame_bytes = 0;
        self.control_bytes = 0;
        self.gap = None;
        self.pong = None;
    }

    /// Writes what waits, as far as the viewer takes it, several messages at once.
    pub(crate) fn flush(
        &mut self,
        link: &Link,
        mut ready: Ready,
        packing: &mut Packing,
        counts: &mut StatsSnapshot,
    ) -> Flushed {
        loop {
            // Gathering costs more than a try at a socket that is still full.
            if ready == Ready::Retried && !self.is_empty() && !link.may_take_more() {
                return Flushed::Blocked;
            }
            let messages = self.gather(*packing);
            if messages.is_empty() {
                return Self::flush_sink(link);
            }
            let slices: Vec<_> = messages.iter().map(Gathered::slice).collect();
            let offered = slices.iter().map(|slice| slice.len()).sum();
            let taken = match link.write_vectored(&slices, ready) {
                Written::Whole | Written::Kept => offered,
                Written::Part(taken) => taken,
                Written::Broken(error) => return Flushed::Broken(error),
            };
            self.note_written(messages, taken, packing, counts);
            if taken < offered {
                return Flushed::Blocked;
            }
            ready = Ready::Retried;
        }
    }

    /// Of the messages of one write, those that were written whole are gone, one that was begun is started, and the
    /// others stay as they were: the choice of their form holds only if they get started.
    fn note_written(
        &mut self,
        messages: Vec<Gathered>,
        taken: usize,
        packing: &mut Packing,
        counts: &mut StatsSnapshot,
    ) {
        counts.bytes_written += taken as u64;
        let mut left = taken;
        for it in messages {
            if left == 0 {
                return;
            }
            if self.started.take().is_none() {
                self.remove_next(it.kind);
                *packing = it.packing;
            }
            let len = it.bytes.len() - it.written;
            if left < len {
                counts.partial_writes += 1;
                self.start(it.bytes, it.written + left, it.kind);
                return;
            }
            left -= len;
            it.kind.count(counts);
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

    fn is_empty(&self) -> bool {
        let last = self.pong.is_none() && self.gap.is_none() && self.close.is_none();
        self.started.is_none() && last && self.controls.is_empty() && self.frames.is_empty()
    }

    /// What is to be written next, in order, as much as goes into one write. It stays where it is until some of it is
    /// written.
    fn gather(&mut self, packing: Packing) -> Vec<Gathered> {
        let mut gathered = Gathering::new(packing);
        if let Some(it) = &self.started {
            gathered.go_on(it);
        }
        if let Some(pong) = &self.pong {
            gathered.message(pong, Kind::Control(Control::Pong));
        }
        let mut gap = self.gap.as_mut();
        let mut controls = self.controls.iter().peekable();
        let mut frames = self.frames.iter().peekable();
        while !gathered.is_full() {
            let frame_order = frames.peek().map_or(u64::MAX, |it| it.order);
            if let Some(it) = controls.next_if(|it| it.order < frame_order) {
                gathered.message(&it.bytes, Kind::Control(it.control));
            } else if let Some(gap) = gap.take() {
                let dialect = packing.dialect();
                gathered.message(gap.message(dialect), Kind::Gap);
            } else if let Some(it) = frames.next() {
                gathered.frame(&it.frame);
            } else {
                if let Some(close) = &self.close {
                    gathered.last(close);
                }
                break;
            }
        }
        gathered.messages
    }

    /// Takes out what is first in order, which is of this kind.
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
        // A frame of likes only covers no position.
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

/// A message of one write.
#[derive(Debug)]
struct Gathered {
    /// A shared reference to the bytes: no dearer than the write, and only for a viewer that is behind or new.
    bytes: Bytes,
    /// How many of them are written.
    written: usize,
    kind: Kind,
    /// The viewer's, once this is begun.
    packing: Packing,
}

impl Gathered {
    fn slice(&self) -> IoSlice<'_> {
        IoSlice::new(&self.bytes[self.written..])
    }
}

/// The messages of one write.
#[derive(Debug)]
struct Gathering {
    messages: Vec<Gathered>,
    bytes: usize,
    packing: Packing,
}

impl Gathering {
    fn new(packing: Packing) -> Self {
        Self {
            messages: Vec::new(),
            bytes: 0,
            packing,
        }
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= MESSAGES_MAX || self.bytes >= BYTES_MAX
    }

    /// The rest of what was begun before.
    fn go_on(&mut self, it: &Started) {
        self.push(&it.bytes, it.written, it.kind);
    }

    fn message(&mut self, bytes: &Bytes, kind: Kind) {
        self.packing.message_written();
        self.push(bytes, 0, kind);
    }

    fn frame(&mut self, frame: &FrameSet) {
        let bytes = self.packing.form(frame);
        self.push(bytes, 0, Kind::Frame);
    }

    /// What nothing follows.
    fn last(&mut self, close: &Bytes) {
        self.push(close, 0, Kind::Control(Control::Close));
    }

    fn push(&mut self, bytes: &Bytes, written: usize, kind: Kind) {
        self.bytes += bytes.len() - written;
        self.messages.push(Gathered {
            bytes: bytes.clone(),
            written,
            kind,
            packing: self.packing,
        });
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

    /// Adds the positions of the next frame. Returns the bytes of the events that came with them.
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

/// Messages of one write: a replay of 30 frames and what precedes it.
const MESSAGES_MAX: usize = 64;

/// Bytes at which a write is full: a send buffer rarely takes more at once, and a form chosen too early may be made
/// for nothing.
const BYTES_MAX: usize = 128 << 10;
