//! Rows of the file.

/// Names a room in the file. A room that lost all its entries gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoomKey(pub(crate) i64);

/// What the file knows of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomRow {
    /// Its name in the file.
    pub key: RoomKey,
    /// The numbering of its positions.
    pub epoch: u64,
    /// The last position that was dropped.
    pub floor: u64,
    /// The last position that was assigned.
    pub head: u64,
    /// Log time of the entry at `head`, Unix time in milliseconds.
    pub at_ms: u64,
}

/// An entry that was not erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its position.
    pub seq: u64,
    /// Log time, Unix time in milliseconds.
    pub at_ms: u64,
    /// What the body is, as the log numbers it.
    pub kind: u8,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// The positions that an append with a key was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The first position.
    pub first: u64,
    /// How many positions, one after another.
    pub count: u64,
}

/// SQLite's integers are signed. Positions and times are below 2^53; other numbers only have to come back as they went.
pub(crate) fn int(value: u64) -> i64 {
    value.cast_signed()
}

pub(crate) fn uint(value: i64) -> u64 {
    value.cast_unsigned()
}
