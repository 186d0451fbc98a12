//! Records: what outlives a room's memory beside its entries. Rooms, users and addresses are plain text here; the log knows
//! what they name.

/// Settings, as text that the log can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsRow {
    /// The room; `None` for the defaults of all rooms.
    pub room: Option<String>,
    /// Its settings.
    pub body: String,
}

/// Who a sanction is against.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A user.
    User(String),
    /// An address.
    Address(String),
}

/// What a sanction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanctionKind {
    /// The subject cannot post for a time.
    Timeout,
    /// The subject cannot post, for a time or for good.
    Ban,
    /// Only the subject sees what it posts.
    ShadowBan,
}

/// A sanction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sanction {
    /// Its name; ignored when it is added.
    pub id: u64,
    /// Where it holds; `None` for everywhere.
    pub room: Option<String>,
    /// Against whom.
    pub subject: Subject,
    /// What it does.
    pub kind: SanctionKind,
    /// When it ends, Unix time in milliseconds; `None` for never.
    pub until_ms: Option<u64>,
    /// Who imposed it.
    pub by: String,
    /// Why.
    pub why: String,
    /// When it was imposed, Unix time in milliseconds.
    pub at_ms: u64,
}

/// Whose tokens are revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Revoked {
    /// All tokens of a user.
    User(String),
    /// One token, by its id.
    Token(String),
    /// Everyone's.
    All,
}

/// A revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Its name; ignored when it is added.
    pub id: u64,
    /// Whose tokens.
    pub revoked: Revoked,
    /// Only tokens issued before this, Unix time in milliseconds.
    pub issued_before_ms: Option<u64>,
    /// When it can be forgotten, because the tokens have expired, Unix time in milliseconds; `None` for never.
    pub until_ms: Option<u64>,
    /// Who revoked.
    pub by: String,
    /// Why.
    pub why: String,
    /// When, Unix time in milliseconds.
    pub at_ms: u64,
}

/// The comment that a room shows above all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The numbering of its position.
    pub epoch: u64,
    /// Its position.
    pub seq: u64,
    /// The comment as JSON.
    pub body: Vec<u8>,
    /// When it is no longer pinned, Unix time in milliseconds; `None` for never.
    pub until_ms: Option<u64>,
    /// Who pinned it.
    pub by: String,
    /// When it was pinned, Unix time in milliseconds.
    pub at_ms: u64,
}

/// A stream, which the times of a recording are relative to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name; ignored when it is added.
    pub id: u64,
    /// When it began, Unix time in milliseconds.
    pub start_ms: u64,
    /// When it ended, Unix time in milliseconds; `None` as long as nobody said so.
    pub end_ms: Option<u64>,
    /// Its title; may be empty.
    pub title: String,
}

/// A comment that waits for a moderator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name; ignored when it is added.
    pub id: u64,
    /// The room.
    pub room: String,
    /// The comment's JSON members.
    pub body: Vec<u8>,
    /// Its priority, as the log counts it.
    pub priority: u8,
    /// Who posted it; empty if nobody said so.
    pub user: String,
    /// Its position, if it was posted and then reported.
    pub reported: Option<u64>,
    /// Why it was reported; may be empty.
    pub why: String,
    /// When it was held, Unix time in milliseconds.
    pub at_ms: u64,
    /// When it is denied if nobody has decided, Unix time in milliseconds.
    pub until_ms: u64,
}

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Its name, which increases; ignored when it is added.
    pub id: u64,
    /// When, Unix time in milliseconds.
    pub at_ms: u64,
    /// Who did it.
    pub who: String,
    /// What: a word such as `pin`.
    pub what: String,
    /// In which room; `None` for everywhere.
    pub room: Option<String>,
    /// To whom or what; empty for the room itself.
    pub target: String,
    /// Why; empty if nobody said so.
    pub why: String,
}

/// Which part of the audit trail to read, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only this room.
    pub room: Option<String>,
    /// Only what this user did, or what was done to them.
    pub user: Option<String>,
    /// Only what came before the one with this id.
    pub before: Option<u64>,
    /// Maximum entries.
    pub limit: u32,
}

/// What happened in a room that the log does not have: one sample of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The room.
    pub room: String,
    /// When it was taken, Unix time in milliseconds.
    pub at_ms: u64,
    /// Likes since the sample before.
    pub likes: u64,
    /// Viewers at that time.
    pub viewers: u32,
}

/// A change of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Replaces settings.
    SetSettings(SettingsRow),
    /// Adds a sanction; one of the same kind against the same subject in the same room is replaced.
    Sanction(Sanction),
    /// Removes a sanction.
    LiftSanction {
        /// Where it holds.
        room: Option<String>,
        /// Its name.
        id: u64,
    },
    /// Adds a revocation.
    Revoke(Revocation),
    /// Removes a revocation.
    LiftRevocation {
        /// Its name.
        id: u64,
    },
    /// Pins a comment in place of the one that was.
    Pin {
        /// The room.
        room: String,
        /// The comment.
        pin: Pin,
    },
    /// Removes the pin.
    Unpin {
        /// The room.
        room: String,
    },
    /// Adds a stream.
    AddStream {
        /// The room.
        room: String,
        /// The stream.
        stream: Stream,
    },
    /// Replaces what is known about a stream.
    UpdateStream {
        /// The room.
        room: String,
        /// The stream, with its name.
        stream: Stream,
    },
    /// Adds samples.
    AddSamples(Vec<Sample>),
    /// Replaces the blocked terms of a room, or of all rooms.
    SetTerms {
        /// The room; `None` for all rooms.
        room: Option<String>,
        /// The list, as text that the server can read; empty for none.
        body: String,
    },
    /// Adds a comment that waits for a moderator.
    Hold(Held),
    /// A moderator has decided: removes the comment.
    Decide {
        /// The room.
        room: String,
        /// Its name.
        id: u64,
    },
    /// Does nothing but what the audit trail says: the log has what was done.
    Nothing,
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefusal {
    /// There is nothing to change.
    #[error("there is no such record")]
    NotFound,
    /// There is no room for more.
    #[error("there are {max} of these records already")]
    TooMany {
        /// The limit.
        max: u32,
    },
}

/// The name of what was added, or else 0; or why nothing was changed.
pub type Changed = Result<u64, ChangeRefusal>;
