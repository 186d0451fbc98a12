//! Owns replays from the log for joining viewers: read and sealed by the viewer's own task, so that nobody's history
//! holds up a room, and shared by viewers that need the same bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use danmaku_fanout::RoomKey;
use danmaku_log::{Entry, EntryBody, RoomLog, Unavailable};
use danmaku_wire::outbound::Resumed;
use danmaku_wire::{
    Batch, BatchComment, BatchEvent, CompressionPolicy, Cursor, Dialect, Epoch, FrameSet, Gap,
    Position, Seq,
};
use tokio::sync::{OnceCell, Semaphore};

/// Where a viewer wants to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The last position it has seen.
    pub since: Option<Position>,
    /// How many comments to start with when it does not resume.
    pub history: u32,
}

/// What a viewer is sent from before the ring of sealed frames when it is attached.
#[derive(Clone, Debug)]
pub struct Lead {
    /// Where `frames` begin.
    pub after: Seq,
    /// Where they end: a frame in the ring must begin here.
    pub until: Seq,
    /// Whether everything after the viewer's own position follows.
    pub resumed: Resumed,
    /// A gap, a batch, both or none.
    pub frames: Vec<Arc<FrameSet>>,
}

/// A request for a lead.
#[derive(Clone, Copy, Debug)]
pub struct LeadRequest {
    /// The room.
    pub room: RoomKey,
    /// What to read from its log.
    pub stretch: Stretch,
    /// The last position read.
    pub until: Seq,
    /// The viewer's dialect.
    pub dialect: Dialect,
    /// Bytes of the ring's frames that follow: together they must fit what one viewer can be sent at once.
    pub ring_bytes: usize,
    /// Viewers of the room, for the batch.
    pub viewers: u32,
}

/// What to read from a log for a lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Everything after this position.
    After(Seq),
    /// The newest comments, this many.
    Newest(u32),
}

/// Reads and seals leads. One per server.
#[derive(Debug)]
pub struct LeadMaker {
    compression: CompressionPolicy,
    bytes_max: usize,
    /// One lead per processor is sealed at a time, so that rooms and other joins get their turn.
    sealing: Semaphore,
    recent: Mutex<VecDeque<(Wanted, Cell)>>,
}

/// Names the bytes of a lead. Equal requests share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    room: RoomKey,
    stretch: Stretch,
    until: Seq,
    /// A retraction changes what the log returns for the same positions.
    retractions: u64,
    dialect: Dialect,
    bytes_max: usize,
}

type Cell = Arc<OnceCell<Lead>>;

impl LeadMaker {
    /// Compresses as `compression` says; a lead holds at most `bytes_max` bytes of entries.
    #[must_use]
    pub fn new(compression: CompressionPolicy, bytes_max: usize, processors: usize) -> Self {
        Self {
            compression,
            bytes_max,
            sealing: Semaphore::new(processors),
            recent: Mutex::default(),
        }
    }

    /// The requested part of `log`, sealed for the viewer's dialect.
    ///
    /// # Errors
    /// [`Unavailable`] when the log's store does not answer.
    pub async fn lead(&self, log: &RoomLog, request: LeadRequest) -> Result<Lead, Unavailable> {
        let wanted = Wanted {
            room: request.room,
            stretch: request.stretch,
            until: request.until,
            retractions: log.retractions(),
            dialect: request.dialect,
            bytes_max: self.bytes_left(request),
        };
        let cell = self.cell(wanted);
        let lead = cell.get_or_try_init(|| self.make(log, request)).await?;
        Ok(lead.clone())
    }

    /// Makes the forms of frames about to be sent to a viewer of `dialect`.
    pub async fn prepare(&self, frames: &[Arc<FrameSet>], dialect: Dialect) {
        if is_prepared(frames, dialect) {
            return;
        }
        let mut cursor = Cursor::default();
        for frame in frames {
            let form = cursor.choose(dialect, frame);
            if !frame.is_made(form) {
                let _permit = self.sealing.acquire().await;
                let _ = frame.form(form);
                // One frame at a time, so that others waiting for the permit get their turn.
                tokio::task::yield_now().await;
            }
        }
    }

    /// The cache cell for these bytes, whoever fills it first.
    fn cell(&self, wanted: Wanted) -> Cell {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cell)) = recent.iter().find(|(known, _)| *known == wanted) {
            return Arc::clone(cell);
        }
        let cell = Cell::default();
        if recent.len() >= RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back((wanted, Arc::clone(&cell)));
        cell
    }

    /// Bytes left for a lead after the ring's frames and those sealed while it is made.
    fn bytes_left(&self, request: LeadRequest) -> usize {
        let reserved = self.bytes_max / RESERVED_SHARE;
        self.bytes_max
            .saturating_sub(reserved)
            .saturating_sub(request.ring_bytes)
    }

    /// The newest requested entries that fit. A frame's length is only known once it is made, so one that is too long is
    /// made again from fewer entries.
    async fn make(&self, log: &RoomLog, request: LeadRequest) -> Result<Lead, Unavailable> {
        let _permit = self.sealing.acquire().await;
        let bytes_max = self.bytes_left(request);
        let mut entry_bytes_max = bytes_max;
        let mut tries = 1;
        loop {
            let lead = self.try_make(log, request, entry_bytes_max).await?;
            let bytes: usize = lead
                .frames
                .iter()
                .map(|frame| bytes_for(frame, request.dialect))
                .sum();
            if bytes <= bytes_max || tries == FIT_TRIES_MAX {
                return Ok(lead);
            }
            tries += 1;
            // What a frame adds to its entries grows with them.
            let share = entry_bytes_max as u128 * bytes_max as u128 / bytes as u128;
            entry_bytes_max = usize::try_from(share).unwrap_or(0);
        }
    }

    async fn try_make(
        &self,
        log: &RoomLog,
        request: LeadRequest,
        bytes_max: usize,
    ) -> Result<Lead, Unavailable> {
        let until = request.until;
        let read = match request.stretch {
            Stretch::After(since) => read_after(log, since, until, bytes_max).await?,
            Stretch::Newest(comments) => {
                read_newest(log, until, comments as usize, bytes_max).await?
            }
        };
        let gap = (read.after > read.asked_after).then(|| {
            FrameSet::gap(
                Gap {
                    epoch: log.epoch(),
                    after: read.asked_after,
                    seq: read.after,
                    // The viewer clears its list, so these events have nothing to act on.
                    events: Vec::new(),
                },
                self.compression,
            )
        });
        let resumed = match request.stretch {
            Stretch::After(_) if gap.is_none() => Resumed::Yes,
            _ => Resumed::No,
        };
        let batch = (until > read.after).then(|| {
            let mut batch = batch_of(log.epoch(), read.after, until, read.entries);
            batch.viewers = request.viewers;
            FrameSet::replay(batch, self.compression)
        });
        let frames: Vec<_> = gap.into_iter().chain(batch).map(Arc::new).collect();
        let mut cursor = Cursor::default();
        for frame in &frames {
            let _ = frame.form(cursor.choose(request.dialect, frame));
        }
        Ok(Lead {
            after: read.asked_after,
            until,
            resumed,
            frames,
        })
    }
}

/// Everything in (`since`, `until`], or the newest of it that fits.
async fn read_after(
    log: &RoomLog,
    since: Seq,
    until: Seq,
    bytes_max: usize,
) -> Result<Read, Unavailable> {
    let page = log.read_after(since, RESUME_ENTRIES_MAX).await?;
    let bytes: usize = page.entries.iter().map(|entry| entry.body.bytes()).sum();
    let whole = !page.more || page.seq >= until;
    if whole && bytes <= bytes_max {
        let mut entries = page.entries;
        entries.retain(|entry| entry.seq <= until);
        return Ok(Read {
            asked_after: since,
            after: page.after.min(until),
            entries,
        });
    }
    let mut newest = read_newest(log, until, RESUME_ENTRIES_MAX, bytes_max).await?;
    newest.entries.retain(|entry| entry.seq > since);
    Ok(Read {
        asked_after: since,
        after: newest.after.max(since),
        entries: newest.entries,
    })
}

async fn read_newest(
    log: &RoomLog,
    until: Seq,
    comments: usize,
    bytes_max: usize,
) -> Result<Read, Unavailable> {
    let recent = log.read_last(until, comments, bytes_max).await?;
    Ok(Read {
        asked_after: recent.asked_after,
        after: recent.after,
        entries: recent.entries,
    })
}

/// What was read from a log: `entries` cover everything after `after`.
struct Read {
    asked_after: Seq,
    after: Seq,
    entries: Vec<Entry>,
}

/// The entries as one batch. Its time is the log time of its last entry.
#[must_use]
pub fn batch_of(epoch: Epoch, after: Seq, seq: Seq, entries: Vec<Entry>) -> Batch {
    let mut batch = Batch {
        epoch,
        after,
        seq,
        ts_ms: entries.last().map_or(0, |entry| entry.at_ms),
        viewers: 0,
        likes: 0,
        shed: 0,
        comments: Vec::with_capacity(entries.len()),
        events: Vec::new(),
    };
    for Entry { seq, at_ms, body } in entries {
        match body {
            EntryBody::Comment { fragment, .. } => batch.comments.push(BatchComment {
                seq,
                at_ms,
                fragment,
            }),
            EntryBody::Event(event) => batch.events.push(BatchEvent { seq, event }),
        }
    }
    batch
}

/// Whether all forms of these frames that a viewer of `dialect` needs exist.
#[must_use]
pub fn is_prepared(frames: &[Arc<FrameSet>], dialect: Dialect) -> bool {
    let mut cursor = Cursor::default();
    frames
        .iter()
        .all(|frame| frame.is_made(cursor.choose(dialect, frame)))
}

/// Size of a frame's independent form for a viewer of `dialect`.
#[must_use]
pub fn bytes_for(frame: &FrameSet, dialect: Dialect) -> usize {
    let form = Cursor::default().choose(dialect, frame);
    // A form that does not exist yet is not made just to measure it.
    if frame.is_made(form) {
        frame.form(form).len()
    } else {
        frame.json().len()
    }
}

/// Maximum entries replayed to a resuming viewer.
const RESUME_ENTRIES_MAX: usize = 2_000;

/// The share of what a viewer can be sent at once that is reserved for frames sealed while its lead is made: an eighth.
const RESERVED_SHARE: usize = 8;

/// How often a lead is made from fewer entries because its frame was too long.
const FIT_TRIES_MAX: u32 = 4;

/// Leads kept for other viewers that need the same.
const RECENT_MAX: usize = 16;
