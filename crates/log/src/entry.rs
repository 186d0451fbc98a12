//! Entries of a room's log, and the results of an append.

use danmaku_store::ChangeRefusal;
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
    /// Something that players must act on.
    Event(Event),
}

impl EntryBody {
    /// The entry's size as counted against byte limits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Comment { fragment, .. } => fragment.as_bytes().len(),
            Self::Event(event) => event.bytes_max(),
        }
    }
}

/// One item in a room's log.
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
    /// Identifies the append, so that a retry returns the positions of the
    /// first try. A log without a store ignores it: it never returns
    /// [`AppendError::OutcomeUnknown`].
    pub key: Option<AppendKey>,
    /// Now, Unix time in milliseconds.
    pub now_ms: u64,
}

/// Identifies an append within its room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppendKey {
    /// Whose key it is: two posters may choose the same one.
    pub poster: u64,
    /// What the poster called it.
    pub key: IdempotencyKey,
}

/// The positions an append was given.
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
    /// The room or the store is too far behind: retry shortly. Nothing was
    /// appended.
    #[error("the log is {behind} entries behind and takes no more for the moment")]
    Overloaded {
        /// Entries not yet consumed.
        behind: u64,
    },
    /// The key was used for other entries. Nothing was appended.
    #[error("this idempotency key was used for other entries")]
    KeyReused,
    /// The store refuses appends. Nothing was appended.
    #[error("the log is not available")]
    Unavailable,
    /// The store did not answer: either everything was appended or nothing.
    /// Retrying with the same key is safe.
    #[error("it is not known whether the log took the entries")]
    OutcomeUnknown,
}

/// Why a record was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The change makes no sense.
    #[error(transparent)]
    Refused(#[from] ChangeRefusal),
    /// The store did not take it.
    #[error(transparent)]
    NotTaken(#[from] AppendError),
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
