//! One room of the file, as a log knows it.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use danmaku_store::{Audit, Change, Reader, RoomKey, RoomRow, Row, StoreError};
use danmaku_wire::{RoomId, Seq};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::codec;
use super::log_time::LogTime;
use super::{Health, QUEUE_FULL, Shared};
use crate::entry::{Append, AppendError, Appended, ChangeError, Entry, EntryBody, Unavailable};
use crate::feed::Feed;
use crate::page::{Interval, Lookup, Page, Recent};
use crate::samples::Steps;

/// A room that somebody uses, or that has appends in the queue. Everybody who opens it gets the same one.
#[derive(Debug)]
pub(super) struct OpenRoom {
    id: RoomId,
    feed: Arc<Feed>,
    /// Changed by the writer thread only, after its commits.
    numbering: Mutex<Numbering>,
    log_time: Mutex<LogTime>,
    shared: Arc<Shared>,
}

/// Which of a room's positions are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    /// Its name in the file; `None` as long as the file has nothing of it.
    pub(super) key: Option<RoomKey>,
    /// The last position that was dropped.
    pub(super) floor: Seq,
    /// The last position that is committed.
    pub(super) head: Seq,
    /// Log time of the entry at `head`.
    pub(super) at_ms: u64,
}

/// A handle to a room of the file.
#[derive(Clone, Debug)]
pub(crate) struct SqliteRoom(Arc<OpenRoom>);

/// A message to the thread.
#[derive(Debug)]
pub(super) enum Message {
    /// An append. Boxed: the queue has a block of slots.
    Append(Box<Queued>),
    /// A change of the records.
    Change(Box<QueuedChange>),
    /// Close the file; dropping the sender tells that it is closed.
    Stop(oneshot::Sender<()>),
}

/// An append that waits for its commit, whether or not its poster still does.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) room: Arc<OpenRoom>,
    pub(super) append: Append,
    pub(super) at: Instant,
    pub(super) answer: oneshot::Sender<Outcome>,
    /// Its bytes in the queue.
    pub(super) held: OwnedSemaphorePermit,
}

/// A change of the records that waits for its commit.
#[derive(Debug)]
pub(super) struct QueuedChange {
    pub(super) change: Change,
    pub(super) audit: Option<Audit>,
    pub(super) answer: oneshot::Sender<Result<u64, ChangeError>>,
}

/// What a poster is told.
pub(super) type Outcome = Result<Appended, AppendError>;

impl OpenRoom {
    pub(super) fn new(
        id: RoomId,
        row: Option<RoomRow>,
        feed: Arc<Feed>,
        shared: Arc<Shared>,
    ) -> Self {
        let numbering = Numbering {
            key: row.map(|row| row.key),
            floor: Seq::new(row.map_or(0, |row| row.floor)),
            head: Seq::new(row.map_or(0, |row| row.head)),
            at_ms: row.map_or(0, |row| row.at_ms),
        };
        Self {
            id,
            feed,
            numbering: Mutex::new(numbering),
            log_time: Mutex::default(),
            shared,
        }
    }

    pub(super) fn id(&self) -> &RoomId {
        &self.id
    }

    pub(super) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    pub(super) fn numbering(&self) -> MutexGuard<'_, Numbering> {
        self.numbering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenRoom {
    pub(super) fn log_time(&self) -> MutexGuard<'_, LogTime> {
        self.log_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "double")]
    pub(super) fn before_commit(&self) {
        self.shared.table.before_commit.call();
    }
}

impl Drop for OpenRoom {
    fn drop(&mut self) {
        let mut rooms = self.shared.table.rooms();
        // It may have been opened anew by now.
        if rooms
            .open
            .get(&self.id)
            .is_some_and(|room| room.strong_count() == 0)
        {
            rooms.open.remove(&self.id);
        }
    }
}

impl SqliteRoom {
    pub(super) fn new(room: Arc<OpenRoom>) -> Self {
        Self(room)
    }

    /// Queues the append at the first poll; from there on it goes its way.
    pub(crate) async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let shared = &self.0.shared;
        if *shared.table.health.borrow() != Health::Ready {
            return Err(AppendError::Unavailable);
        }
        let bytes: usize = append
            .entries
            .iter()
            .map(|entry| entry.bytes() + ENTRY_BYTES)
            .sum();
        let held = Arc::clone(&shared.queue_bytes)
            .try_acquire_many_owned(u32::try_from(bytes).map_err(|_| QUEUE_FULL)?)
            .map_err(|_| QUEUE_FULL)?;
        let (answer, answered) = oneshot::channel();
        let queued = Queued {
            room: Arc::clone(&self.0),
            append,
            at: Instant::now(),
            answer,
            held,
        };
        shared.queue_message(Message::Append(Box::new(queued)))?;
        answered.await.unwrap_or(Err(AppendError::OutcomeUnknown))
    }

    /// See [`RoomLog::reach`](crate::RoomLog::reach).
    pub(crate) fn reach(&self, at_ms: u64) -> u64 {
        self.0.log_time().reach(at_ms)
    }

    pub(crate) fn floor(&self) -> Seq {
        self.0.numbering().floor
    }

    pub(crate) async fn read_after(&self, since: Seq, limit: usize) -> Result<Page, Unavailable> {
        let room = Arc::clone(&self.0);
        self.read(move |reader| {
            let numbering = *room.numbering();
            let mut read = Collected::new(limit);
            if let Some(key) = numbering.key {
                reader.rows_after(key, since.value(), |row| read.take(row))?;
            }
            // Read last: what was dropped meanwhile may be missing above.
            let after = since.max(room.numbering().floor);
            read.entries.retain(|entry| entry.seq > after);
            let last = read.entries.last().map_or(after, |entry| entry.seq);
            Ok(Page {
                after,
                seq: if read.more {
                    last
                } else {
                    last.max(numbering.head)
                },
                entries: read.entries,
                more: read.more,
            })
        })
        .await
    }

    pub(crate) async fn read_down(
        &self,
        until: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        let room = Arc::clone(&self.0);
        self.read(move |reader| {
            let numbering = *room.numbering();
            let until = until.min(numbering.head);
            let mut read = Collected::new(limit);
            if let Some(key) = numbering.key {
                reader.rows_down_from(key, until.value(), |row| {
                    if row.seq <= after.value() {
                        return ControlFlow::Break(());
                    }
                    read.take(row)
                })?;
            }
            let after = match read.entries.last() {
                Some(last) if read.more => last.seq.previous(),
                _ => after.max(room.numbering().floor),
            };
            Ok(Page {
                after,
                seq: until,
                entries: read.entries,
                more: read.more,
            })
        })
        .await
    }

    pub(crate) async fn last_before(&self, at_ms: u64) -> Result<Seq, Unavailable> {
        let numbering = *self.0.numbering();
        let Some(key) = numbering.key else {
            return Ok(numbering.floor);
        };
        let (floor, head) = (numbering.floor.value(), numbering.head.value());
        let found = self.read(move |reader| reader.last_before(key, floor, head, at_ms));
        found.await.map(Seq::new)
    }

    /// The comments of each of `steps`, retracted ones included. Positions are dense: those between two times that are no
    /// event's are comments'.
    pub(crate) async fn count_comments(&self, steps: Steps) -> Result<Vec<u64>, Unavailable> {
        let numbering = *self.0.numbering();
        self.read(move |reader| {
            let Some(key) = numbering.key else {
                let steps = usize::try_from(steps.count()).unwrap_or_default();
                return Ok(vec![0; steps]);
            };
            let mut reached = numbering.floor.value();
            let mut counts = Vec::new();
            for (index, at_ms) in steps.boundaries().enumerate() {
                let before = reader.last_before(key, reached, numbering.head.value(), at_ms)?;
                if index > 0 {
                    let events = reader.count_above(key, reached, before, codec::COMMENT_MAX)?;
                    counts.push(before - reached - events);
                }
                reached = before;
            }
            Ok(counts)
        })
        .await
    }

    /// See [`Interval`].
    pub(crate) async fn read_between(
        &self,
        from_ms: u64,
        to_ms: u64,
        bytes_max: usize,
    ) -> Result<Interval, Unavailable> {
        let room = Arc::clone(&self.0);
        self.read(move |reader| {
            let numbering = *room.numbering();
            let (floor, head) = (numbering.floor.value(), numbering.head.value());
            let Some(key) = numbering.key else {
                return Ok(Interval::new(numbering.floor));
            };
            let after = reader.last_before(key, floor, head, from_ms)?;
            let seq = reader.last_before(key, floor, head, to_ms)?;
            let mut interval = Interval::new(Seq::new(after));
            let mut bytes_left = bytes_max;
            reader.rows_after(key, after, |row| {
                if row.seq > seq {
                    return ControlFlow::Break(());
                }
                if let Some(entry) = entry(row) {
                    interval.take(entry.seq, entry.at_ms, &entry.body, &mut bytes_left);
                }
                ControlFlow::Continue(())
            })?;
            // Erased entries keep their positions.
            interval.seq = Seq::new(seq.max(after));
            // Read last: what was dropped meanwhile may be missing above. The log time of a dropped entry is known only if it
            // was the room's last.
            let floor = room.numbering().floor;
            let ends_before = floor == numbering.head && numbering.at_ms < from_ms;
            interval.dropped = floor > Seq::ZERO && after <= floor.value() && !ends_before;
            Ok(interval)
        })
        .await
    }

    /// See [`Recent`].
    pub(crate) async fn read_last(
        &self,
        until: Seq,
        comments: usize,
        bytes_max: usize,
    ) -> Result<Recent, Unavailable> {
        let room = Arc::clone(&self.0);
        self.read(move |reader| {
            let numbering = *room.numbering();
            let until = until.min(numbering.head);
            let mut recent = Recent::collector(until, comments, bytes_max);
            if let Some(key) = numbering.key
                && comments > 0
            {
                reader.rows_down_from(key, until.value(), |row| match entry(row) {
                    Some(entry) => recent.take(entry.seq, entry.at_ms, &entry.body),
                    None => ControlFlow::Continue(()),
                })?;
            }
            Ok(recent.finish().0)
        })
        .await
    }

    /// What is known of a position that is not in memory.
    pub(crate) async fn lookup(&self, id: Seq) -> Result<Lookup, Unavailable> {
        let Some(key) = self.0.numbering().key else {
            return Ok(Lookup::NotHeld);
        };
        self.read(move |reader| {
            Ok(match reader.kind(key, id.value())? {
                None => Lookup::NotHeld,
                Some((kind, _)) if kind > codec::COMMENT_MAX => Lookup::Event,
                Some((_, true)) => Lookup::Retracted,
                Some((_, false)) => Lookup::Comment,
            })
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.0.shared.readers.read(read).await
    }
}

/// Entries of one read, bounded in number and bytes.
struct Collected {
    entries: Vec<Entry>,
    bytes: usize,
    limit: usize,
    more: bool,
}

impl Collected {
    fn new(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            limit,
            more: false,
        }
    }

    fn take(&mut self, row: Row) -> ControlFlow<()> {
        if self.entries.len() == self.limit || self.bytes > READ_BYTES_MAX {
            self.more = true;
            return ControlFlow::Break(());
        }
        self.bytes += row.body.len();
        self.entries.extend(entry(row));
        ControlFlow::Continue(())
    }
}

fn entry(row: Row) -> Option<Entry> {
    Some(Entry {
        seq: Seq::new(row.seq),
        at_ms: row.at_ms,
        body: codec::decode(row.kind, row.body)?,
    })
}

/// Whether a body is the one that was erased or encoded as `bytes`.
pub(super) fn is_same(body: &EntryBody, bytes: Option<&[u8]>) -> bool {
    bytes.is_none_or(|bytes| codec::encode(body, |encoded| encoded == bytes))
}

/// Bytes of an entry in the queue beside its body.
const ENTRY_BYTES: usize = 128;

/// Bytes after which a read ends with the entry that passed them.
const READ_BYTES_MAX: usize = 1 << 20;
