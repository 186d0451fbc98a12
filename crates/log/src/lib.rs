//! Owns the log of a room: what gives its comments their order and their
//! position, and lets them be read again.
//!
//! A comment is *accepted* once [`RoomLog::append`] returns: the poster's ack
//! is sent after that, never before. The room follows the log through its
//! [`Tail`], so the log is also the room's bounded mailbox for comments: while
//! the tail is further behind than [`LogConfig::tail_lag_max`], appends are
//! refused instead of letting anything accepted fall out of the log unread.
//!
//! [`Log`] is an enum so that a durable and a clustered log can stand beside
//! the memory log without another road for their comments.

mod memory;

use danmaku_wire::{Epoch, Fragment, Priority, RoomId, Seq};

pub use memory::{MemoryLog, MemoryRoomLog, MemoryTail};

/// A comment on its way into the log.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// The comment's JSON members, escaped once.
    pub fragment: Fragment,
    /// What the room sheds first when a window overflows.
    pub priority: Priority,
}

/// A comment in the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its position in the room's numbering.
    pub seq: Seq,
    /// The comment's JSON members, escaped once.
    pub fragment: Fragment,
    /// What the room sheds first when a window overflows.
    pub priority: Priority,
}

/// What an append was given: `count` consecutive positions from `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The numbering the positions belong to.
    pub epoch: Epoch,
    /// The position of the first appended comment.
    pub first: Seq,
    /// How many comments were appended.
    pub count: usize,
}

impl Appended {
    /// The positions given, in order.
    pub fn seqs(&self) -> impl Iterator<Item = Seq> + use<> {
        let first = self.first.value();
        (first..first + self.count as u64).map(Seq::new)
    }
}

/// Why an append was refused. Nothing of it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The room's tail is `tail_lag_max` comments behind: try again shortly.
    #[error("the room is {behind} comments behind and takes no more for the moment")]
    Overloaded {
        /// Comments in the log that the room has not taken up yet.
        behind: u64,
    },
}

/// One bounded read.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Comments after the asked position, in order.
    pub entries: Vec<Entry>,
    /// Positions (inclusive) that were asked for and are no longer held.
    pub missing: Option<(Seq, Seq)>,
    /// Whether the log holds more after the last entry.
    pub more: bool,
}

/// Bounds of a log, per room.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Comments kept for reading again.
    pub entries_max: usize,
    /// Bytes of fragments kept for reading again.
    pub bytes_max: usize,
    /// Comments the room may be behind before appends are refused.
    pub tail_lag_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            bytes_max: 4 << 20,
            tail_lag_max: 8_192,
        }
    }
}

/// Where comments are logged.
#[derive(Clone, Debug)]
pub enum Log {
    /// In this process's memory: gone with the process, new epoch after it.
    Memory(MemoryLog),
}

impl Log {
    /// A log in memory.
    #[must_use]
    pub fn memory(config: LogConfig) -> Self {
        Self::Memory(MemoryLog::new(config))
    }

    /// One word for the start-up line.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
        }
    }

    /// Opens the log of `room`. A log without a past names its numbering
    /// `fresh`.
    #[must_use]
    pub fn open(&self, room: &RoomId, fresh: Epoch) -> RoomLog {
        match self {
            Self::Memory(log) => RoomLog::Memory(log.open(room, fresh)),
        }
    }
}

/// The log of one room. Cheap to clone.
#[derive(Clone, Debug)]
pub enum RoomLog {
    /// In this process's memory.
    Memory(MemoryRoomLog),
}

impl RoomLog {
    /// Appends all of `entries`, or none. They are accepted once this returns.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was taken.
    #[expect(
        clippy::unused_async,
        reason = "a durable log waits for its commit here; the callers are written for that"
    )]
    pub async fn append(&self, entries: Vec<NewEntry>) -> Result<Appended, AppendError> {
        match self {
            Self::Memory(log) => log.append(entries),
        }
    }

    /// At most `limit` comments after `since`.
    #[expect(
        clippy::unused_async,
        reason = "a durable log reads from disk here; the callers are written for that"
    )]
    pub async fn read_after(&self, since: Seq, limit: usize) -> Page {
        match self {
            Self::Memory(log) => log.read_after(since, limit),
        }
    }

    /// The numbering of this log.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Memory(log) => log.epoch(),
        }
    }

    /// The last position given; [`Seq::ZERO`] before the first.
    #[must_use]
    pub fn head(&self) -> Seq {
        match self {
            Self::Memory(log) => log.head(),
        }
    }

    /// Follows the log from its current end. The room's actor holds the one
    /// tail there is; a new tail takes the place of the one before.
    #[must_use]
    pub fn tail(&self) -> Tail {
        match self {
            Self::Memory(log) => Tail::Memory(log.tail()),
        }
    }
}

/// Follows one room's log.
#[derive(Debug)]
pub enum Tail {
    /// Follows a log in this process's memory.
    Memory(MemoryTail),
}

impl Tail {
    /// Waits until there is something and appends up to `max` comments to
    /// `out`. Dropping the future loses nothing.
    pub async fn next(&mut self, out: &mut Vec<Entry>, max: usize) {
        match self {
            Self::Memory(tail) => tail.next(out, max).await,
        }
    }

    /// Waits until the tail is half as far behind as it may be: for a room that
    /// takes comments up at its ticks, and must come earlier then. It may be
    /// told once too often.
    pub async fn crowded(&self) {
        match self {
            Self::Memory(tail) => tail.crowded().await,
        }
    }

    /// What is there now, without waiting; whether anything was taken.
    pub fn take(&mut self, out: &mut Vec<Entry>, max: usize) -> bool {
        match self {
            Self::Memory(tail) => tail.take(out, max),
        }
    }
}
