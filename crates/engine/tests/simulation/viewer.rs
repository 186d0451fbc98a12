//! A viewer who reads a room's frames in order and believes nothing.

use std::collections::BTreeSet;

use danmaku_log::EntryBody;
use danmaku_wire::{Epoch, Event, FrameSet, Position, Priority, Seq};

/// One session of a viewer: from where it began, in one epoch.
#[derive(Debug)]
pub(crate) struct Viewer {
    epoch: Epoch,
    start: Seq,
    position: Seq,
    spans: Vec<Span>,
    shown: BTreeSet<Seq>,
    retracted: BTreeSet<Seq>,
    removed: u64,
    at_ms: u64,
    connected: bool,
}

/// What a frame stood for.
#[derive(Debug)]
pub(crate) enum Span {
    Batch {
        after: Seq,
        seq: Seq,
        shed: u32,
        bodies: Vec<(Seq, EntryBody)>,
    },
    Gap {
        after: Seq,
        seq: Seq,
    },
}

impl Span {
    pub(crate) fn after(&self) -> Seq {
        match self {
            Self::Batch { after, .. } | Self::Gap { after, .. } => *after,
        }
    }

    pub(crate) fn seq(&self) -> Seq {
        match self {
            Self::Batch { seq, .. } | Self::Gap { seq, .. } => *seq,
        }
    }
}

impl Viewer {
    /// A viewer who was told that everything after `start` follows.
    pub(crate) fn new(epoch: Epoch, start: Seq) -> Self {
        Self {
            epoch,
            start,
            position: start,
            spans: Vec::new(),
            shown: BTreeSet::new(),
            retracted: BTreeSet::new(),
            removed: 0,
            at_ms: 0,
            connected: true,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn start(&self) -> Seq {
        self.start
    }

    pub(crate) fn position(&self) -> Seq {
        self.position
    }

    /// Where it would resume.
    pub(crate) fn place(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.position,
        }
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Comments it had when their retraction came.
    pub(crate) fn removed(&self) -> u64 {
        self.removed
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
    }

    pub(crate) fn receive(&mut self, frame: &FrameSet) {
        assert!(self.connected);
        assert_eq!(
            frame.epoch(),
            self.epoch,
            "an epoch never changes under a connection"
        );
        assert_eq!(
            frame.after(),
            self.position,
            "each begins where the one before ended"
        );
        assert!(frame.seq() >= frame.after());
        let mut bodies = Vec::new();
        let mut last = frame.after();
        for comment in frame.comments() {
            assert!(last < comment.seq && comment.seq <= frame.seq());
            last = comment.seq;
            assert!(
                !self.retracted.contains(&comment.seq),
                "{} after its retraction",
                comment.seq
            );
            assert!(self.shown.insert(comment.seq), "{} twice", comment.seq);
            assert!(self.at_ms <= comment.at_ms, "log time goes back");
            self.at_ms = comment.at_ms;
            let body = EntryBody::Comment {
                fragment: comment.fragment.clone(),
                priority: Priority::Viewer,
            };
            bodies.push((comment.seq, body));
        }
        let mut last = frame.after();
        for it in frame.events() {
            assert!(last < it.seq && it.seq <= frame.seq());
            last = it.seq;
            if let Event::Retract { ids } = &it.event {
                for id in &**ids {
                    self.removed += u64::from(self.shown.contains(id));
                    self.retracted.insert(*id);
                }
            }
            bodies.push((it.seq, EntryBody::Event(it.event.clone())));
        }
        self.position = frame.seq();
        self.spans.push(if frame.is_gap() {
            Span::Gap {
                after: frame.after(),
                seq: frame.seq(),
            }
        } else {
            Span::Batch {
                after: frame.after(),
                seq: frame.seq(),
                shed: frame.shed(),
                bodies,
            }
        });
    }
}
