//! A room with what stands around it in a server: its log, its audience, and what a viewer that joins is sent.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use danmaku_engine::{Flush, Now, Resume, Room, RoomConfig, SplitMix64};
use danmaku_fanout::{Audience, Outgoing, RoomKey};
use danmaku_wire::outbound::{Joined, Resumed, gap_json, text_frame};
use danmaku_wire::{
    Batch, Comment, CommentLimits, CommentText, CompressionPolicy, DeflateViewers, Epoch, Fragment,
    FrameSet, Position, Priority, RoomId, Seq, seal_replay,
};

use crate::account::text;

/// One room, driven by the world.
#[derive(Debug)]
pub(crate) struct LiveRoom {
    index: usize,
    id: RoomId,
    pub(crate) key: RoomKey,
    pub(crate) audience: Arc<Audience>,
    room: Room,
    config: RoomConfig,
    /// The newest comments that were posted, and the position after which they are all there.
    log: VecDeque<(Seq, Fragment)>,
    log_after: Seq,
    /// The last position of the log.
    head: Seq,
    sealed_at: Option<Duration>,
}

impl LiveRoom {
    pub(crate) fn new(index: usize, shards: usize, random: &mut SplitMix64) -> Self {
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
            log: VecDeque::new(),
            log_after: after,
            head: after,
            sealed_at: None,
        }
    }

    /// The last position that viewers can know of.
    pub(crate) fn sealed(&self) -> Position {
        self.room.sealed()
    }

    /// A moment in which comments come or not, one by one or in a burst; the log loses one or tells one twice.
    pub(crate) fn post(&mut self, now: Now, random: &mut SplitMix64) {
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
                if let Some((seq, fragment)) = self.log.back() {
                    self.room
                        .comment(now, *seq, fragment.clone(), Priority::Viewer);
                }
            }
            _ => {}
        }
    }

    /// Seals a frame when it is due, and holds the room to its bounds.
    pub(crate) fn tick(&mut self, now: Now) -> Option<Arc<FrameSet>> {
        assert!(self.room.pending() <= self.config.batch_comments_max);
        let audience = danmaku_engine::Audience {
            viewers: self.audience.viewers(),
            deflate: match self.audience.deflate_viewers() {
                0 => DeflateViewers::None,
                _ => DeflateViewers::Some,
            },
        };
        let before = self.room.sealed().seq;
        let frame = self.room.tick(now, audience)?;
        assert!(
            frame.first() == before.next() && frame.last() == self.room.sealed().seq,
            "positions have no hole"
        );
        assert!(frame.comments() as usize <= self.config.batch_comments_max);
        assert!(self.room.history_frames() <= self.config.history_frames_max);
        // The shards make more encodings of the frames meanwhile; the bound is taken when one is added.
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
    pub(crate) fn first_messages(&self, since: Option<Position>) -> Vec<Outgoing> {
        let sealed = self.room.sealed();
        let resume = since.map_or(Resume::OtherEpoch, |since| self.room.resume(since));
        let (resumed, from_log, frames) = match resume {
            Resume::Replay { from_log, frames } => (Resumed::Yes, from_log, frames),
            Resume::OtherEpoch | Resume::Ahead => (Resumed::No, None, Vec::new()),
        };
        let joined = Joined {
            room: &self.id,
            epoch: sealed.epoch,
            seq: sealed.seq,
            window_ms: u64::try_from(self.config.window.as_millis()).expect("a short window"),
            viewers: self.audience.viewers(),
            resumed,
        };
        let mut first = vec![Outgoing::Control(text_frame(&joined.to_json()))];
        if let Some((from, to)) = from_log {
            let held = from.max(self.log_after.next());
            if from < held {
                first.push(Outgoing::Control(text_frame(&gap_json(
                    from,
                    to.min(held.previous()),
                ))));
            }
            if held <= to {
                first.push(Outgoing::Frame(Arc::new(self.replay(held, to))));
            }
        }
        first.extend(frames.into_iter().map(Outgoing::Frame));
        first
    }

    fn replay(&self, from: Seq, to: Seq) -> FrameSet {
        let comments: Vec<_> = self
            .log
            .iter()
            .filter(|(seq, _)| (from..=to).contains(seq))
            .cloned()
            .collect();
        let positions = to.value() - from.value() + 1;
        // What the log lost is told like what the room shed.
        let shed = u32::try_from(positions - comments.len() as u64).expect("a short log");
        let batch = Batch {
            first: from,
            ts_ms: 0,
            viewers: 0,
            likes: 0,
            shed,
            comments,
        };
        seal_replay(&batch, self.config.compression)
    }

    fn comment(&mut self, now: Now, random: &mut SplitMix64) {
        self.head = self.head.next();
        let text = text(self.index, self.head.value());
        let text = CommentText::new(&text, &CommentLimits::default()).expect("a valid text");
        let fragment = Comment::new(text).fragment();
        let priority = Priority::ALL[index_below(Priority::ALL.len() as u64, random)];
        self.room
            .comment(now, self.head, fragment.clone(), priority);
        self.log.push_back((self.head, fragment));
        if self.log.len() > LOG_COMMENTS_MAX {
            self.log_after = self.log.pop_front().map_or(self.log_after, |(seq, _)| seq);
        }
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
