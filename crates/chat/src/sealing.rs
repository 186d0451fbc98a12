//! Sealing posts offline: how large the frames of a run will be, and what sealing them costs.
//!
//! A batch is sealed when its window ends, and carries each comment's age in tenths of a second.

use std::time::{Duration, Instant};

use danmaku_client::NewComment;
use danmaku_wire::{
    Batch, BatchComment, Chains, Color, Comment, CommentLimits, CommentText, CompressionPolicy,
    Dialect, Epoch, FontSize, Form, Protocol, Sealer, Seq, UserId,
};
use serde::Serialize;

/// What sealing a schedule gave for one dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sealed {
    /// Bytes of all frames, as they are written.
    pub bytes: u64,
    /// Of that, what is not the head of a WebSocket frame.
    pub payload_bytes: u64,
    /// Time spent packing, in microseconds. For `ws_identity` it is the JSON, for the others what comes on top.
    pub micros: f64,
}

/// What sealing a schedule gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sealing {
    /// Batches.
    pub batches: u64,
    /// Comments in them.
    pub comments: u64,
    /// By dialect, in the order of `Dialect::ALL`.
    pub dialects: [Sealed; Dialect::COUNT],
}

impl Sealing {
    /// Seals the posts of rooms, each with the moment it is due, in windows of `window` as the server would.
    #[must_use]
    pub fn of(rooms: &[Vec<(Duration, &NewComment)>], window: Duration) -> Self {
        let mut sealing = Self::default();
        for posts in rooms {
            sealing.room(posts, window);
        }
        sealing
    }

    /// Mean bytes of a frame of a dialect.
    #[must_use]
    pub fn frame_bytes(&self, dialect: Dialect) -> usize {
        let bytes = self.dialects[dialect.index()].bytes;
        usize::try_from(bytes.checked_div(self.batches).unwrap_or_default()).unwrap_or(usize::MAX)
    }

    /// Bytes per comment, as each viewer of a dialect gets them.
    #[must_use]
    pub fn comment_bytes(&self, dialect: Dialect) -> f64 {
        ratio(self.dialects[dialect.index()].bytes, self.comments)
    }

    /// The same without the heads of WebSocket frames.
    #[must_use]
    pub fn payload_bytes(&self, dialect: Dialect) -> f64 {
        ratio(self.dialects[dialect.index()].payload_bytes, self.comments)
    }

    /// Microseconds of packing per batch.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "batches of a run are far below 2^53"
    )]
    pub fn batch_micros(&self, dialect: Dialect) -> f64 {
        self.dialects[dialect.index()].micros / (self.batches.max(1) as f64)
    }

    fn room(&mut self, posts: &[(Duration, &NewComment)], window: Duration) {
        let mut sealers = Sealers::default();
        let mut seq = Seq::ZERO;
        for posts in posts.chunk_by(|left, right| index(left.0, window) == index(right.0, window)) {
            let after = seq;
            let mut comments = Vec::with_capacity(posts.len());
            for (at, new) in posts {
                if let Some(comment) = comment(new) {
                    seq = seq.next();
                    comments.push(BatchComment {
                        seq,
                        at_ms: EPOCH_MS + millis(*at),
                        fragment: comment.fragment(),
                    });
                }
            }
            if comments.is_empty() {
                continue;
            }
            let windows = u32::try_from(index(posts[0].0, window) + 1).unwrap_or(u32::MAX);
            let batch = Batch {
                epoch: Epoch::new(EPOCH_MS),
                after,
                seq,
                ts_ms: EPOCH_MS + millis(window.saturating_mul(windows)),
                viewers: 10_000,
                likes: 0,
                shed: 0,
                comments,
                events: Vec::new(),
            };
            self.batch(&batch, &mut sealers);
        }
    }

    fn batch(&mut self, batch: &Batch, sealers: &mut Sealers) {
        let none = Chains::default();
        let ws_deflate = Chains {
            ws_deflate: true,
            ..none
        };
        let sse_gzip = Chains {
            sse_gzip: true,
            ..none
        };
        let (identity_micros, set) = timed(|| sealers.plain.seal(batch.clone(), none));
        let (deflate_micros, deflate) =
            timed(|| sealers.ws_deflate.seal(batch.clone(), ws_deflate));
        let (sse_gzip_micros, sse) = timed(|| sealers.sse_gzip.seal(batch.clone(), sse_gzip));
        let (gzip_micros, _) = timed(|| set.form(Form::WsGzip).len());
        let (sse_micros, _) = timed(|| set.form(Form::SseIdentity).len());
        let beyond = |micros: f64| (micros - identity_micros).max(0.0);
        let sealed = [
            (set.form(Form::WsIdentity), identity_micros),
            (set.form(Form::WsGzip), gzip_micros),
            (deflate.form(Form::WsDeflateChained), beyond(deflate_micros)),
            (set.form(Form::SseIdentity), sse_micros),
            (sse.form(Form::SseGzipChained), beyond(sse_gzip_micros)),
        ];
        self.batches += 1;
        self.comments += set.comments().len() as u64;
        for ((total, (bytes, micros)), dialect) in
            self.dialects.iter_mut().zip(sealed).zip(Dialect::ALL)
        {
            total.bytes += bytes.len() as u64;
            total.payload_bytes += (bytes.len() - head_bytes(dialect, bytes)) as u64;
            total.micros += micros;
        }
    }
}

/// One sealer for each stream whose frames refer back, and one for none: the difference is the price of the chain.
struct Sealers {
    plain: Sealer,
    ws_deflate: Sealer,
    sse_gzip: Sealer,
}

impl Default for Sealers {
    fn default() -> Self {
        let sealer = || Sealer::new(CompressionPolicy::default());
        Self {
            plain: sealer(),
            ws_deflate: sealer(),
            sse_gzip: sealer(),
        }
    }
}

/// When the recording begins, in Unix time.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// The head of a server's WebSocket frame (RFC 6455 section 5.2); server-sent events have none.
fn head_bytes(dialect: Dialect, frame: &[u8]) -> usize {
    match (dialect.protocol(), frame.get(1)) {
        (Protocol::Sse, _) => 0,
        (Protocol::WebSocket, Some(126)) => 4,
        (Protocol::WebSocket, Some(127)) => 10,
        (Protocol::WebSocket, _) => 2,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
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
#[must_use]
pub fn comment(new: &NewComment) -> Option<Comment> {
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
    use crate::generator::chat;

    #[test]
    fn posts_are_cut_into_windows_and_deflate_is_smallest() {
        let lines = chat(3, 20.0, Duration::from_secs(60));
        let posts: Vec<_> = lines.iter().map(|line| (line.at, &line.comment)).collect();
        let sealing = Sealing::of(std::slice::from_ref(&posts), Duration::from_secs(1));
        assert_eq!(sealing.comments, lines.len() as u64);
        let batches = sealing.batches;
        assert!((50..=60).contains(&batches), "{batches} batches in 60 s");
        let [identity, gzip, deflate, sse_identity, sse_gzip] =
            Dialect::ALL.map(|dialect| sealing.comment_bytes(dialect));
        let bytes = [sse_identity, identity, gzip, deflate];
        assert!(bytes.is_sorted_by(|more, less| more > less), "{bytes:?}");
        assert!(sse_gzip < gzip && sealing.payload_bytes(Dialect::WsIdentity) < identity);
        assert!(sealing.frame_bytes(Dialect::WsIdentity) > 500);
        // Rooms are sealed on their own.
        let twice = Sealing::of(&[posts.clone(), posts], Duration::from_secs(1));
        assert_eq!(
            (twice.batches, twice.comments),
            (2 * batches, 2 * sealing.comments)
        );
    }
}
