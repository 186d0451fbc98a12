//! What goes into a room's log, and what an append answers.

use danmaku_wire::{Epoch, Event, Fragment, IdempotencyKey, Priority, Seq};

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryBody {
    /// A comment.
    Comment {
        /// The comment's JSON members, escaped once.
        fragment: Fragment,
        /// What the room sheds first when a window overflows.
        priority: Priority,
    },
    /// Something that players must obey.
    Event(Event),
}

impl EntryBody {
    /// What the entry counts for in bounds given in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Comment { fragment, .. } => fragment.as_bytes().len(),
            Self::Event(event) => event.bytes_max(),
        }
    }
}

/// One thing in a room's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its position, which is its id.
    pub seq: Seq,
    /// Log time, Unix time in milliseconds: set at the commit, and never less
    /// than that of the entry before.
    pub at_ms: u64,
    /// What it holds.
    pub body: EntryBody,
}

impl Entry {
    /// Whether it is a comment, which can be retracted.
    #[must_use]
    pub fn is_comment(&self) -> bool {
        matches!(self.body, EntryBody::Comment { .. })
    }
}

/// Entries on their way into the log: all of them or none.
#[derive(Clone, Debug)]
pub struct Append {
    /// The entries, in order.
    pub entries: Vec<EntryBody>,
    /// Names the append, so that a repetition of it is answered with the
    /// positions of the first. A log without a store never answers
    /// [`AppendError::OutcomeUnknown`] and takes no notice of it.
    pub key: Option<IdempotencyKey>,
    /// Now, Unix time in milliseconds.
    pub now_ms: u64,
}

/// What an append was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The numbering the positions belong to.
    pub epoch: Epoch,
    /// The position of each entry, in order. They increase, and may have holes
    /// between them.
    pub seqs: Vec<Seq>,
}

/// Why an append was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The room or the store is too far behind: try again shortly. Nothing was
    /// taken.
    #[error("the log is {behind} entries behind and takes no more for the moment")]
    Overloaded {
        /// Entries that wait to be taken up.
        behind: u64,
    },
    /// The store takes nothing. Nothing was taken.
    #[error("the log is not available")]
    Unavailable,
    /// The store did not answer: all of it is in the log, or nothing. An
    /// append with the same key is safe.
    #[error("it is not known whether the log took the entries")]
    OutcomeUnknown,
}

/// The store could not open a room, or could not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log is not available")]
pub struct Unavailable;

impl From<Unavailable> for AppendError {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}
