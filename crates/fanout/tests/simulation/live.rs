//! A room with what stands around it in a server: its log, its audience, and what a viewer that joins is sent.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Flush, Now, Resume, Room, RoomConfig, SealInput, SplitMix64};
use danmaku_fanout::{Audience, Outgoing, RoomKey};
use danmaku_wire::outbound::{Joined, Resumed};
use danmaku_wire::{
    Batch, BatchComment, BatchEvent, Comment, CommentLimits, CommentText, CompressionPolicy,
    Dialect, Epoch, Event, FrameSet, Gap, Position, Priority, RoomId, Seq,
};

use crate::account::text;
use crate::plan::Positions;
use crate::truth::Truth;

/// One room, driven by the world.
#[derive(Debug)]
pub(crate) struct LiveRoom {
    index: usize,
    id: RoomId,
    pub(crate) key: RoomKey,
    pub(crate) audience: Arc<Audience>,
    room: Room,
    config: RoomConfig,
    positions: Positions,
    /// The newest comments that were posted, and the position after which they are all there.
    log: VecDeque<BatchComment>,
    log_after: Seq,
    pub(crate) truth: Truth,
    /// The last position of the log.
    head: Seq,
    sealed_at: Option<Duration>,
    /// Where its viewers go when a new epoch has begun.
    pub(crate) successor: Option<usize>,
}

impl LiveRoom {
    pub(crate) fn new(
        index: usize,
        shards: usize,
        positions: Positions,
        random: &mut SplitMix64,
    ) -> Self {
        let window = Duration::from_millis(100 + random.below(900));
        let config = RoomConfig {
            window,
            flush: if random.below(4) == 0 {
                Flush::Fixed
            } else {
                Flush::Leading
            },
            batch_comments_max: 5 + index_below(100, random),
            history_frames_max: index_below(40, random),
            history_bytes_max: 1 << (10 + random.below(8)),
            phase: Duration::from_millis(random.below(1_000)),
            seed: random.next_u64(),
            compression: CompressionPolicy {
                group_batches: NonZeroU32::MIN
                    .saturating_add(u32::try_from(random.below(30)).expect("a small number")),
                ..CompressionPolicy::default()
            },
        };
        let after = Seq::new(random.below(1_000));
        let epoch = Epoch::new(1_700_000_000_000 + random.below(1_000));
        Self {
            index,
            id: RoomId::parse(&format!("room-{index}")).expect("a valid id"),
            key: RoomKey(index as u64),
            audience: Arc::new(Audience::new(shards, None)),
            room: Room::new(config, epoch, after),
            config,
            positions,
            log: VecDeque::new(),
            log_after: after,
            truth: Truth::default(),
            head: after,
            sealed_at: None,
            successor: None,
        }
    }

    /// The last position that viewers can know of.
    pub(crate) fn sealed(&self) -> Position {
        self.room.sealed()
    }

    /// A moment in which comments come or not, one by one or in a burst, or are taken back; the log tells one twice,
    /// or loses some, for which there are frames at once.
    pub(crate) fn post(&mut self, now: Now, random: &mut SplitMix64) -> Vec<Arc<FrameSet>> {
        if self.successor.is_some() {
            return Vec::new();
        }
        match random.below(1_000) {
            0..2 => {
                for _ in 0..random.below(400) {
                    self.comment(now, random);
                }
            }
            2..80 => self.comment(now, random),
            80..85 => self.room.likes(now, 1 + random.below(9)),
            85 => self.head = self.head.next(),
            86 => {
                if let Some(comment) = self.log.back() {
                    self.room.comment(now, comment.clone(), Priority::Viewer);
                }
            }
            87 => return self.lose(now, random),
            88..95 => self.retract(now, random),
            _ => {}
        }
        Vec::new()
    }

    /// Seals a frame when it is due, and holds the room to its bounds.
    pub(crate) fn tick(&mut self, now: Now) -> Option<Arc<FrameSet>> {
        assert!(self.room.pending() <= self.config.batch_comments_max);
        let before = self.room.sealed().seq;
        let frame = self.room.tick(now, self.seal_input())?;
        assert!(
            frame.after() == before && frame.seq() == self.room.sealed().seq,
            "frames make one chain"
        );
        assert!(frame.comments().len() <= self.config.batch_comments_max);
        self.check_retracted(&frame);
        assert!(self.room.history_frames() <= self.config.history_frames_max);
        // The shards make more forms of the frames meanwhile; the bound is taken when one is added.
        assert!(self.room.history_bytes() <= self.config.history_bytes_max);
        if let Some(sealed_at) = self.sealed_at {
            // A step late is as late as this world gets.
            assert!(
                now.monotonic - sealed_at + STEP >= self.config.window,
                "two frames in one window"
            );
        }
        self.sealed_at = Some(now.monotonic);
        Some(frame)
    }

    /// What a viewer that joins now is sent before any frame, as the server does it.
    pub(crate) fn first_messages(
        &self,
        dialect: Dialect,
        since: Option<Position>,
    ) -> Vec<Outgoing> {
        let sealed = self.room.sealed();
        let resume = since.map_or(Resume::OtherEpoch, |since| self.room.resume(since));
        let mut first: Vec<_> = dialect
            .opening()
            .map(Outgoing::Control)
            .into_iter()
            .collect();
        let (Resume::At { boundary, frames }, Some(Position { seq: since, .. })) = (resume, since)
        else {
            first.push(self.joined(dialect, sealed.seq, Resumed::No));
            return first;
        };
        first.push(self.joined(dialect, since, Resumed::Yes));
        let held = self.log_after.clamp(since, boundary);
        if since < held {
            let gap = Gap {
                epoch: sealed.epoch,
                after: since,
                seq: held,
                events: self.events(since, held),
            };
            let gap = FrameSet::gap(gap, self.config.compression);
            first.push(Outgoing::Frame(Arc::new(gap)));
        }
        if held < boundary {
            first.push(Outgoing::Frame(Arc::new(self.replay(held, boundary))));
        }
        for frame in &frames {
            self.check_retracted(frame);
        }
        first.extend(frames.into_iter().map(Outgoing::Frame));
        first
    }

    fn joined(&self, dialect: Dialect, after: Seq, resumed: Resumed) -> Outgoing {
        let Position { epoch, seq } = self.room.sealed();
        let joined = Joined {
            room: &self.id,
            epoch,
            after,
            seq,
            window_ms: u64::try_from(self.config.window.as_millis()).expect("a short window"),
            viewers: self.audience.viewers(),
            resumed,
            pin: None,
        };
        let position = Position { epoch, seq: after };
        Outgoing::Control(dialect.positioned(&joined.to_json(), position))
    }

    fn replay(&self, after: Seq, seq: Seq) -> FrameSet {
        let is_shown = |it: &&BatchComment| {
            (after.next()..=seq).contains(&it.seq) && !self.truth.is_retracted(it.seq.value())
        };
        let batch = Batch {
            epoch: self.room.sealed().epoch,
            after,
            seq,
            ts_ms: 0,
            viewers: 0,
            likes: 0,
            shed: 0,
            comments: self.log.iter().filter(is_shown).cloned().collect(),
            events: self.events(after, seq),
        };
        FrameSet::replay(batch, self.config.compression)
    }

    fn events(&self, after: Seq, seq: Seq) -> Vec<BatchEvent> {
        let ids = self.truth.events(after.value(), seq.value());
        ids.into_iter()
            .map(|id| retraction(id, self.truth.retraction(id)))
            .collect()
    }

    fn comment(&mut self, now: Now, random: &mut SplitMix64) {
        self.advance(random);
        let text = text(self.index, self.head.value());
        let text = CommentText::new(&text, &CommentLimits::default()).expect("a valid text");
        let comment = BatchComment {
            seq: self.head,
            at_ms: now.unix_ms - random.below(500),
            fragment: Comment::new(text).fragment(),
        };
        self.truth.comment(self.head.value());
        let priority = Priority::ALL[index_below(Priority::ALL.len() as u64, random)];
        self.room.comment(now, comment.clone(), priority);
        self.log.push_back(comment);
        if self.log.len() > LOG_COMMENTS_MAX {
            self.log_after = self.log.pop_front().map_or(self.log_after, |it| it.seq);
        }
    }

    /// Takes back some of the latest comments, or what never was one.
    fn retract(&mut self, now: Now, random: &mut SplitMix64) {
        let mut ids: Vec<_> = (0..1 + random.below(4))
            .map(|_| self.head.value().saturating_sub(random.below(100)))
            .filter(|&id| id > 0)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        self.advance(random);
        let id = self.head.value();
        self.room.event(now, retraction(id, &ids));
        self.truth.retract(id, ids);
    }

    /// The log loses what was to come next.
    fn lose(&mut self, now: Now, random: &mut SplitMix64) -> Vec<Arc<FrameSet>> {
        let through = self.head.plus(1 + random.below(50));
        let frames = self.room.lost(now, through, self.seal_input());
        let gap = frames.last().expect("a gap at least");
        assert!(gap.is_gap() && gap.seq() == through);
        self.truth.losses += 1;
        self.head = through;
        frames
    }

    /// Goes on to the next position.
    fn advance(&mut self, random: &mut SplitMix64) {
        let holes = match self.positions {
            Positions::Dense => 0,
            Positions::Sparse => random.below(12),
        };
        self.head = self.head.plus(1 + holes);
    }

    fn check_retracted(&self, frame: &FrameSet) {
        let mut ids = frame.comments().iter().map(|it| it.seq.value());
        assert!(
            !ids.any(|id| self.truth.is_retracted(id)),
            "a comment after its retraction"
        );
    }

    fn seal_input(&self) -> SealInput {
        SealInput {
            viewers: self.audience.viewers(),
            chains: self.audience.chains(),
        }
    }
}

fn retraction(id: u64, ids: &[u64]) -> BatchEvent {
    BatchEvent {
        seq: Seq::new(id),
        event: Event::Retract {
            ids: ids.iter().copied().map(Seq::new).collect(),
        },
    }
}

/// A random index below `len`.
pub(crate) fn index_below(len: u64, random: &mut SplitMix64) -> usize {
    usize::try_from(random.below(len)).expect("a small number")
}

/// How far time moves at once.
pub(crate) const STEP: Duration = Duration::from_millis(5);

/// Short, so that some who come back ask for what is not there any more.
const LOG_COMMENTS_MAX: usize = 500;
