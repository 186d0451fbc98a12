//! Owns segments: stretches of a room's log by time, sealed once and shared by everyone who pulls them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use danmaku_fanout::RoomKey;
use danmaku_log::{Interval, RoomLog, Unavailable};
use danmaku_wire::{CompressionPolicy, RoomId, SealedSegment, Seq};
use tokio::sync::Semaphore;

use crate::replay::batch_of;
use crate::room::handle::RoomHandle;

/// Which stretch of log time a segment covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentName {
    n: u64,
    length_ms: u64,
}

/// A sealed segment, and what identifies its contents.
#[derive(Debug)]
pub struct Segment {
    sealed: SealedSegment,
    tag: String,
}

/// Why there is no such segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// Comments may still be added to it.
    NotReady {
        /// It is complete after this many milliseconds, unless a commit takes longer.
        retry_after_ms: u64,
    },
    /// The log has dropped some of it.
    Gone,
    /// The log's store does not answer.
    Unavailable(Unavailable),
}

/// Reads and seals segments. One per server.
#[derive(Debug)]
pub struct SegmentMaker {
    length_ms: u64,
    compression: CompressionPolicy,
    /// One segment per processor is sealed at a time, so that rooms and joins get their turn.
    sealing: Semaphore,
    recent: Mutex<Recent>,
}

/// Names the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    room: RoomKey,
    name: SegmentName,
    /// A retraction changes what the log returns for the same time.
    retractions: u64,
}

/// The segments sealed last. A cache in front asks for each only once, but viewers without one ask together.
#[derive(Debug, Default)]
struct Recent {
    segments: VecDeque<(Wanted, Arc<Segment>)>,
    bytes: usize,
}

impl SegmentName {
    /// Segment `n` of this length; `None` if its end is later than any log time.
    #[must_use]
    pub fn new(n: u64, length_ms: u64) -> Option<Self> {
        let end_ms = n.checked_add(1)?.checked_mul(length_ms)?;
        (end_ms <= LOG_TIME_MS_MAX).then_some(Self { n, length_ms })
    }

    /// Its number.
    #[must_use]
    pub fn n(self) -> u64 {
        self.n
    }

    fn start_ms(self) -> u64 {
        self.n * self.length_ms
    }

    fn end_ms(self) -> u64 {
        self.start_ms() + self.length_ms
    }

    /// When it is complete at the latest, by the server's clock.
    fn ready_ms(self) -> u64 {
        self.end_ms() + LATE_MS_MAX
    }
}

impl Segment {
    /// Its JSON.
    #[must_use]
    pub fn json(&self) -> &Bytes {
        &self.sealed.json
    }

    /// Its JSON in one gzip member.
    #[must_use]
    pub fn gzip(&self) -> &Bytes {
        &self.sealed.gzip
    }

    /// Tells its contents from earlier and later ones under the same name.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    fn bytes(&self) -> usize {
        self.json().len() + self.gzip().len()
    }
}

impl SegmentMaker {
    /// Makes segments of `length_ms`.
    #[must_use]
    pub fn new(length_ms: u64, compression: CompressionPolicy, processors: usize) -> Self {
        Self {
            length_ms,
            compression,
            sealing: Semaphore::new(processors),
            recent: Mutex::default(),
        }
    }

    /// The length of every segment, in milliseconds.
    #[must_use]
    pub fn length_ms(&self) -> u64 {
        self.length_ms
    }

    /// Whether viewers who keep up ask for this segment now.
    #[must_use]
    pub fn is_recent(&self, name: SegmentName, now_ms: u64) -> bool {
        now_ms < name.ready_ms() + RECENT_SEGMENTS * self.length_ms
    }

    /// The segment, once nothing can be added to it.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn segment(
        &self,
        room: &RoomHandle,
        name: SegmentName,
        now_ms: u64,
    ) -> Result<Arc<Segment>, SegmentError> {
        let log = room.log();
        let is_over = now_ms >= name.ready_ms();
        let reached_ms = if is_over {
            // A post that is on its way belongs to a later segment, unless it is being committed.
            log.reach(name.end_ms())
        } else {
            log.reached_ms()
        };
        if reached_ms < name.end_ms() {
            let retry_after_ms = if is_over {
                COMMIT_RETRY_MS
            } else {
                name.ready_ms() - now_ms
            };
            return Err(SegmentError::NotReady { retry_after_ms });
        }
        // Counted before the log is read, so that a retraction in between makes the segment out of date.
        let wanted = Wanted {
            room: room.key(),
            name,
            retractions: log.retractions(),
        };
        if let Some(segment) = self.recent().find(wanted) {
            return Ok(segment);
        }
        let _permit = self.sealing.acquire().await;
        if let Some(segment) = self.recent().find(wanted) {
            return Ok(segment);
        }
        let interval = log
            .read_between(name.start_ms(), name.end_ms(), COMMENT_BYTES_MAX)
            .await
            .map_err(SegmentError::Unavailable)?;
        if interval.dropped {
            return Err(SegmentError::Gone);
        }
        let segment = Arc::new(self.seal(room.id(), log, name, interval));
        self.recent().add(wanted, Arc::clone(&segment));
        Ok(segment)
    }

    /// The newest complete segment, and the log's last position before its end.
    ///
    /// # Errors
    /// [`Unavailable`] when the log's store does not answer.
    pub async fn newest(
        &self,
        log: &RoomLog,
        now_ms: u64,
    ) -> Result<(SegmentName, Seq), Unavailable> {
        let over = now_ms.saturating_sub(LATE_MS_MAX) / self.length_ms;
        let reached_ms = log.reach(over * self.length_ms).max(log.reached_ms());
        let complete = reached_ms / self.length_ms;
        let name = SegmentName {
            n: complete.saturating_sub(1),
            length_ms: self.length_ms,
        };
        let end = log.read_between(name.end_ms(), name.end_ms(), 0).await?;
        Ok((name, end.after))
    }

    fn seal(&self, room: &RoomId, log: &RoomLog, name: SegmentName, interval: Interval) -> Segment {
        let (after, seq) = (interval.after, interval.seq);
        let mut batch = batch_of(log.epoch(), after, seq, interval.entries);
        batch.ts_ms = name.end_ms();
        batch.shed = interval.left_out;
        // Once complete, a segment can only lose comments, each only once.
        let comments = batch.comments.len() as u64 + u64::from(batch.shed);
        let segment = danmaku_wire::Segment {
            room,
            length_ms: name.length_ms,
            n: name.n,
            batch: &batch,
        };
        Segment {
            sealed: segment.seal(self.compression),
            tag: format!("{}-{seq}-{comments}", batch.epoch),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn find(&self, wanted: Wanted) -> Option<Arc<Segment>> {
        let mut segments = self.segments.iter().rev();
        let (_, segment) = segments.find(|(known, _)| *known == wanted)?;
        Some(Arc::clone(segment))
    }

    fn add(&mut self, wanted: Wanted, segment: Arc<Segment>) {
        self.bytes += segment.bytes();
        self.segments.push_back((wanted, segment));
        while self.segments.len() > RECENT_MAX || self.bytes > RECENT_BYTES_MAX {
            let Some((_, oldest)) = self.segments.pop_front() else {
                return;
            };
            self.bytes -= oldest.bytes();
        }
    }
}

/// How long after its end an entry may still get into a segment, by the server's clock: the time between the clock that dates
/// an entry and the moment it is in this node's log.
const LATE_MS_MAX: u64 = 1_000;

/// When to ask again for a segment that waits for a commit.
const COMMIT_RETRY_MS: u64 = 200;

/// Segments after its own in which a segment still counts for the number of viewers.
const RECENT_SEGMENTS: u64 = 4;

/// Comments of a segment, in bytes; the latest ones beyond that are left out. Even if they are all a few letters long, the
/// segment's JSON fits into the smallest share of `--http-bytes-max` that an address can have, 1 MiB.
const COMMENT_BYTES_MAX: usize = 512 << 10;

/// Segments kept for other viewers.
const RECENT_MAX: usize = 64;

/// Bytes of segments kept for other viewers.
const RECENT_BYTES_MAX: usize = 8 << 20;

/// The latest end of a segment that clients can read exactly, in milliseconds: 2^53 - 1.
const LOG_TIME_MS_MAX: u64 = (1 << 53) - 1;
