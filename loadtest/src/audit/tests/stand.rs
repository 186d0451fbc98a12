//! A room, its batches and an auditor, for the tests.

use std::sync::Arc;
use std::time::Duration;

use danmaku_client::Gap;
use danmaku_wire::{
    Batch, BatchComment, BatchEvent, Chains, Comment, CommentLimits, CommentText,
    CompressionPolicy, Dialect, Epoch, Event, Form, FrameSet, Protocol, Sealer, Seq,
};

use crate::audit::{Auditor, Carrier, End, Judge, Tally, Watch};
use crate::clock::{Clock, Moment};
use crate::ledger::Ledger;
use crate::swarm::server_frame::ServerFrame;

pub(super) const WINDOW_MS: u64 = 1000;
pub(super) const LATE: Duration = Duration::from_millis(500);

/// A room whose comments are `comment 1`, `comment 2`, …, and one auditor.
pub(super) struct Stand {
    pub(super) auditor: Auditor,
    pub(super) ledger: Arc<Ledger>,
    pub(super) sealer: Sealer,
    pub(super) positions: Positions,
    pub(super) now: Moment,
}

/// Where the comments of the room are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Positions {
    /// Comment `n` is at position `n`.
    Dense,
    /// With holes between them, up to thousands.
    Sparse,
}

impl Positions {
    pub(super) const BOTH: [Self; 2] = [Self::Dense, Self::Sparse];

    pub(super) fn of(self, number: u64) -> u64 {
        match self {
            Self::Dense => number,
            Self::Sparse if number == 0 => 0,
            Self::Sparse => number * 1000 + number * number % 977,
        }
    }
}

pub(super) const EPOCH: u64 = 1;
pub(super) const CHAINS: Chains = Chains {
    ws_deflate: true,
    sse_gzip: true,
};

impl Stand {
    pub(super) fn new() -> Self {
        Self::at(Positions::Dense)
    }

    pub(super) fn at(positions: Positions) -> Self {
        let ledger = Arc::new(Ledger::new(1));
        let judge = Arc::new(Judge::new(Clock::start(), LATE));
        assert!(judge.set_window_ms(WINDOW_MS));
        let auditor = Auditor::new(Arc::clone(&ledger), judge);
        let now = Moment::from_micros(10_000_000);
        Self {
            auditor,
            ledger,
            sealer: Sealer::new(CompressionPolicy::default()),
            positions,
            now,
        }
    }

    /// Enters comments as posted just now and acknowledged.
    pub(super) fn acknowledge(&self, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            let text = format!("comment {number}");
            let shape = crate::fingerprint::CommentShape {
                user: None,
                text: &text,
                mode: "scroll",
                color: 0xFF_FFFF,
                size: 25,
            };
            self.ledger
                .room(0)
                .acknowledge(
                    Some(EPOCH),
                    self.positions.of(number),
                    self.now,
                    shape.fingerprint(),
                )
                .unwrap();
        }
    }

    pub(super) fn seal(&mut self, crafted: &Crafted) -> FrameSet {
        let batch = crafted.batch(self.positions);
        self.sealer.seal(batch, CHAINS)
    }

    pub(super) fn plain(&mut self, first: u64, last: u64) -> FrameSet {
        self.seal(&Crafted::plain(first, last))
    }

    pub(super) fn give(
        &mut self,
        watch: &mut Watch,
        dialect: Dialect,
        cursor: &mut danmaku_wire::Cursor,
        set: &FrameSet,
    ) {
        let form = cursor.choose(dialect, set);
        self.give_form(watch, dialect, form, set);
    }

    pub(super) fn give_form(
        &mut self,
        watch: &mut Watch,
        dialect: Dialect,
        form: Form,
        set: &FrameSet,
    ) {
        let carrier = Carrier {
            room: 0,
            dialect,
            payload: payload(dialect, set.form(form)),
        };
        self.auditor.batch(watch, carrier, self.now);
    }

    pub(super) fn read(&mut self, watch: &mut Watch, set: &FrameSet) {
        self.give_form(watch, Dialect::WsIdentity, Form::WsIdentity, set);
    }

    /// Sends a gap from after comment `after` up to comment `last`.
    pub(super) fn gap(&mut self, watch: &mut Watch, dialect: Dialect, (after, last): (u64, u64)) {
        let gap = gap_at(self.positions.of(after), self.positions.of(last));
        self.auditor.gap(watch, 0, dialect, &gap);
    }

    pub(super) fn finish(mut self, watch: &Watch, end: End) -> Tally {
        self.auditor.finish(watch, 0, end);
        self.auditor.into_findings().tally
    }
}

/// A batch that stands for comments `first` to `last`.
#[derive(Clone, Debug)]
pub(super) struct Crafted {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) shed: u32,
    /// Each by the comment whose position it has, and the one whose text.
    pub(super) comments: Vec<(u64, u64)>,
    /// Comments that are retracted by an event behind the last comment.
    pub(super) retracted: Vec<u64>,
}

impl Crafted {
    pub(super) fn new(first: u64, last: u64, comments: &[(u64, u64)]) -> Self {
        Self {
            first,
            last,
            shed: 0,
            comments: comments.to_vec(),
            retracted: Vec::new(),
        }
    }

    pub(super) fn plain(first: u64, last: u64) -> Self {
        let comments: Vec<(u64, u64)> = (first..=last).map(|number| (number, number)).collect();
        Self::new(first, last, &comments)
    }

    pub(super) fn batch(&self, positions: Positions) -> Batch {
        let comment = |(position, number): &(u64, u64)| {
            let text = format!("comment {number}");
            let text = CommentText::new(&text, &CommentLimits::default()).unwrap();
            BatchComment {
                seq: Seq::new(positions.of(*position)),
                at_ms: 0,
                fragment: Comment::new(text).fragment(),
            }
        };
        let retraction = BatchEvent {
            seq: Seq::new(positions.of(self.last)),
            event: Event::Retract {
                ids: self
                    .retracted
                    .iter()
                    .map(|number| Seq::new(positions.of(*number)))
                    .collect::<Vec<_>>()
                    .into(),
            },
        };
        Batch {
            epoch: Epoch::new(EPOCH),
            after: Seq::new(positions.of(self.first - 1)),
            seq: Seq::new(positions.of(self.last)),
            ts_ms: 0,
            viewers: 1,
            likes: 0,
            shed: self.shed,
            comments: self.comments.iter().map(comment).collect(),
            events: if self.retracted.is_empty() {
                Vec::new()
            } else {
                vec![retraction]
            },
        }
    }
}

/// What a viewer makes of the bytes it got.
pub(super) fn payload(dialect: Dialect, bytes: &[u8]) -> &[u8] {
    match dialect.protocol() {
        Protocol::WebSocket => ServerFrame::parse(bytes).unwrap().unwrap().payload,
        Protocol::Sse => bytes,
    }
}

pub(super) fn gap_at(after: u64, seq: u64) -> Gap {
    Gap {
        after: Seq::new(after),
        seq: Seq::new(seq),
        events: Vec::new(),
    }
}

pub(super) fn newcomer() -> Watch {
    Auditor::joined(0, 0, Moment::default(), None)
}
