//! Owns what a viewer that joins is shown of the past: the frames after its
//! position, the last comments, or the gap it must be told.

use std::sync::Arc;

use danmaku_engine::{Resume, Room};
use danmaku_log::{Entry, RoomLog};
use danmaku_wire::{Batch, CompressionPolicy, Encoding, FrameSet, Seq, seal_replay};

use crate::room::Start;

/// What comes between `joined` and the first live batch.
#[derive(Debug, Default)]
pub struct Replay {
    /// Everything after the asked position follows without a gap.
    pub resumed: bool,
    /// Positions (inclusive) that could not be replayed.
    pub gap: Option<(Seq, Seq)>,
    /// Frames up to the room's last sealed position, in order.
    pub frames: Vec<Arc<FrameSet>>,
}

/// What a viewer asks to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Where it wants to start.
    pub start: Start,
    /// How it wants batches packed.
    pub encoding: Encoding,
    /// Bytes of frames it can be given at once.
    pub bytes_max: usize,
    /// Viewers of the room, itself included.
    pub viewers: u32,
    /// Now, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// Makes replays. A storm of viewers that ask for the same past is given the
/// same sealed bytes.
#[derive(Debug)]
pub struct Replayer {
    compression: CompressionPolicy,
    last: Option<((Seq, Seq), Arc<FrameSet>)>,
}

impl Replayer {
    /// A replayer that packs as `compression` says.
    #[must_use]
    pub fn new(compression: CompressionPolicy) -> Self {
        Self {
            compression,
            last: None,
        }
    }

    /// Forgets the last replay: for a room whose last viewer left.
    pub fn rest(&mut self) {
        self.last = None;
    }

    /// What the viewer is shown of `room` and its `log`.
    pub async fn replay(&mut self, room: &Room, log: &RoomLog, asked: Asked) -> Replay {
        let start = asked.start;
        let mut replay = match start.since {
            Some(since) => match room.resume(since) {
                Resume::Replay { from_log, frames } => {
                    self.resume(log, from_log, frames, asked).await
                }
                // A position the room has logged but not sealed: all that
                // comes after it is still to come.
                Resume::Ahead if since.seq <= log.head() => Replay {
                    resumed: true,
                    ..Replay::default()
                },
                Resume::Ahead | Resume::OtherEpoch => self.history(room, log, asked).await,
            },
            None => self.history(room, log, asked).await,
        };
        bound(&mut replay, asked);
        replay
    }

    async fn resume(
        &mut self,
        log: &RoomLog,
        from_log: Option<(Seq, Seq)>,
        frames: Vec<Arc<FrameSet>>,
        asked: Asked,
    ) -> Replay {
        let Some((from, to)) = from_log else {
            return Replay {
                resumed: true,
                gap: None,
                frames,
            };
        };
        let held = self.read(log, (from, to), REPLAY_COMMENTS_MAX, asked).await;
        let first = held.as_ref().map_or(to.next(), |frame| frame.first());
        let gap = (first > from).then(|| (from, Seq::new(first.value() - 1)));
        Replay {
            resumed: gap.is_none(),
            gap,
            frames: held.into_iter().chain(frames).collect(),
        }
    }

    async fn history(&mut self, room: &Room, log: &RoomLog, asked: Asked) -> Replay {
        let comments = asked.start.history;
        let to = room.sealed().seq;
        if comments == 0 || to == Seq::ZERO {
            return Replay::default();
        }
        let from = Seq::new(to.value().saturating_sub(u64::from(comments)) + 1);
        let frame = self.read(log, (from, to), comments as usize, asked).await;
        Replay {
            resumed: false,
            gap: None,
            frames: frame.into_iter().collect(),
        }
    }

    /// The newest of the comments `from..=to` that the log still holds, at
    /// most `limit`, as one frame.
    async fn read(
        &mut self,
        log: &RoomLog,
        (from, to): (Seq, Seq),
        limit: usize,
        asked: Asked,
    ) -> Option<Arc<FrameSet>> {
        let span = to.value().checked_sub(from.value())? + 1;
        let skipped = span.saturating_sub(limit as u64);
        let from = Seq::new(from.value() + skipped);
        if let Some((range, frame)) = &self.last
            && *range == (from, to)
        {
            return Some(Arc::clone(frame));
        }
        let mut page = log.read_after(Seq::new(from.value() - 1), limit).await;
        page.entries.retain(|entry| entry.seq <= to);
        let frame = Arc::new(self.seal(page.entries, asked)?);
        self.last = Some(((from, to), Arc::clone(&frame)));
        Some(frame)
    }

    fn seal(&self, entries: Vec<Entry>, asked: Asked) -> Option<FrameSet> {
        let first = entries.first()?.seq;
        let batch = Batch {
            first,
            ts_ms: asked.unix_ms,
            viewers: asked.viewers,
            likes: 0,
            shed: 0,
            comments: entries
                .into_iter()
                .map(|entry| (entry.seq, entry.fragment))
                .collect(),
        };
        Some(seal_replay(&batch, self.compression))
    }
}

/// Drops the oldest frames over what is asked for; what they covered is a gap.
fn bound(replay: &mut Replay, asked: Asked) {
    let mut bytes = 0;
    let kept = replay
        .frames
        .iter()
        .rev()
        .take_while(|frame| {
            bytes += match asked.encoding {
                Encoding::Identity => frame.identity().len(),
                Encoding::Gzip => frame.gzip().len(),
                Encoding::Deflate => frame.independent().len(),
            };
            bytes <= asked.bytes_max
        })
        .count();
    let dropped: Vec<_> = replay.frames.drain(..replay.frames.len() - kept).collect();
    let mut covering = dropped.iter().filter(|frame| frame.covered() > 0);
    let Some(first) = covering.next() else {
        return;
    };
    let last = covering.next_back().unwrap_or(first).last();
    // Without a position there is nothing the viewer could miss.
    if replay.resumed || replay.gap.is_some() {
        let from = replay.gap.map_or(first.first(), |(from, _)| from);
        replay.gap = Some((from, last));
        replay.resumed = false;
    }
}

/// Comments replayed from the log to one viewer, at most.
const REPLAY_COMMENTS_MAX: usize = 2_000;
