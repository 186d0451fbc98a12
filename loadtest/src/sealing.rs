//! Sealing a schedule offline: how large the frames of a run will be, and what sealing them costs.

use std::time::{Duration, Instant};

use danmaku_client::NewComment;
use danmaku_wire::{
    Batch, Color, Comment, CommentLimits, CommentText, CompressionPolicy, DeflateViewers, Encoding,
    FontSize, FrameSet, Sealer, Seq, UserId,
};
use serde::Serialize;

use crate::corpus::Line;
use crate::schedule::{Post, Schedule};

/// What sealing a schedule gave for one encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sealed {
    /// Bytes of all frames, WebSocket heads included.
    pub bytes: u64,
    /// Time spent packing, in microseconds. For `identity` it is the JSON, for the others what comes on top.
    pub micros: f64,
}

/// What sealing a schedule gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sealing {
    /// Batches.
    pub batches: u64,
    /// Comments in them.
    pub comments: u64,
    /// By encoding, in the order of `Encoding::ALL`.
    pub encodings: [Sealed; 3],
}

impl Sealing {
    /// Seals a schedule in windows of `window`, each room on its own, as the server would.
    #[must_use]
    pub fn of(schedule: &Schedule, lines: &[Line], rooms: u32, window: Duration) -> Self {
        let mut by_room: Vec<Vec<Post>> = vec![Vec::new(); rooms as usize];
        for post in schedule.posts() {
            by_room[post.room as usize].push(*post);
        }
        let mut sealing = Self::default();
        for posts in &by_room {
            sealing.room(posts, lines, window);
        }
        sealing
    }

    /// Mean bytes of a frame of an encoding.
    #[must_use]
    pub fn frame_bytes(&self, encoding: Encoding) -> usize {
        let bytes = self.encodings[encoding as usize].bytes;
        usize::try_from(bytes.checked_div(self.batches).unwrap_or_default()).unwrap_or(usize::MAX)
    }

    /// Bytes per comment, as each viewer of an encoding gets them.
    #[must_use]
    pub fn comment_bytes(&self, encoding: Encoding) -> f64 {
        ratio(self.encodings[encoding as usize].bytes, self.comments)
    }

    /// Microseconds of packing per batch.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "batches of a run are far below 2^53"
    )]
    pub fn batch_micros(&self, encoding: Encoding) -> f64 {
        self.encodings[encoding as usize].micros / (self.batches.max(1) as f64)
    }

    fn room(&mut self, posts: &[Post], lines: &[Line], window: Duration) {
        // Two sealers, one of them outside of any deflate group: the difference between them is the price of the chain.
        let mut chaining = Sealer::new(CompressionPolicy::default());
        let mut plain = Sealer::new(CompressionPolicy::default());
        let mut seq = 0;
        for posts in posts.chunk_by(|left, right| index(left.at, window) == index(right.at, window))
        {
            let mut comments = Vec::with_capacity(posts.len());
            for post in posts {
                if let Some(comment) = comment(&lines[post.line as usize].comment) {
                    seq += 1;
                    comments.push((Seq::new(seq), comment.fragment()));
                }
            }
            let Some((first, _)) = comments.first() else {
                continue;
            };
            let ts_ms =
                1_700_000_000_000 + u64::try_from(posts[0].at.as_millis()).unwrap_or_default();
            let batch = Batch {
                first: *first,
                ts_ms,
                viewers: 10_000,
                likes: 0,
                shed: 0,
                comments,
            };
            self.batch(&batch, &mut plain, &mut chaining);
        }
    }

    fn batch(&mut self, batch: &Batch, plain: &mut Sealer, chaining: &mut Sealer) {
        let (identity_micros, set) = timed(|| plain.seal(batch, DeflateViewers::None));
        let (gzip_micros, gzip_bytes) = timed(|| set.gzip().len());
        let (deflate_micros, chained) = timed(|| chaining.seal(batch, DeflateViewers::Some));
        let chained_bytes = chained
            .chained()
            .map_or_else(|| chained.independent().len(), bytes::Bytes::len);
        self.batches += 1;
        self.comments += u64::from(FrameSet::comments(&set));
        let sealed = [
            (set.identity().len(), identity_micros),
            (gzip_bytes, gzip_micros),
            (chained_bytes, (deflate_micros - identity_micros).max(0.0)),
        ];
        for (total, (bytes, micros)) in self.encodings.iter_mut().zip(sealed) {
            total.bytes += bytes as u64;
            total.micros += micros;
        }
    }
}

fn index(at: Duration, window: Duration) -> u128 {
    at.as_nanos() / window.as_nanos().max(1)
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let value = work();
    (began.elapsed().as_secs_f64() * 1e6, value)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and comments of a run are far below 2^53"
)]
fn ratio(bytes: u64, count: u64) -> f64 {
    bytes as f64 / (count.max(1) as f64)
}

/// The comment the server would make of a post; `None` when it would refuse it.
fn comment(new: &NewComment) -> Option<Comment> {
    let limits = CommentLimits::default();
    let mut comment = Comment::new(CommentText::new(&new.text, &limits).ok()?);
    comment.user = match &new.user {
        Some(user) => Some(UserId::new(user, &limits).ok()?),
        None => None,
    };
    comment.mode = new.mode.unwrap_or_default();
    if let Some(color) = new.color {
        comment.color = Color::new(color)?;
    }
    if let Some(size) = new.size {
        comment.size = FontSize::new(u8::try_from(size).ok()?)?;
    }
    Some(comment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Spread;
    use crate::synthetic;

    #[test]
    fn a_schedule_is_cut_into_windows_and_deflate_is_smallest() {
        let lines = synthetic::chat(3, 20.0, Duration::from_secs(60));
        let schedule = Schedule::replay(&lines, 1.0, 1, Spread::RoundRobin);
        let sealing = Sealing::of(&schedule, &lines, 1, Duration::from_secs(1));
        assert_eq!(sealing.comments, lines.len() as u64);
        assert!(
            (50..=60).contains(&sealing.batches),
            "{} batches in 60 s",
            sealing.batches
        );
        let [identity, gzip, deflate] =
            Encoding::ALL.map(|encoding| sealing.comment_bytes(encoding));
        assert!(
            identity > gzip && gzip > deflate,
            "{identity} {gzip} {deflate}"
        );
        assert!(sealing.frame_bytes(Encoding::Identity) > 500);
    }

    #[test]
    fn rooms_are_sealed_apart() {
        let lines = synthetic::chat(3, 20.0, Duration::from_secs(30));
        let schedule = Schedule::replay(&lines, 1.0, 10, Spread::RoundRobin);
        let sealing = Sealing::of(&schedule, &lines, 10, Duration::from_secs(1));
        assert_eq!(sealing.comments, lines.len() as u64);
        assert!(sealing.batches > 150, "{} batches", sealing.batches);
    }
}
