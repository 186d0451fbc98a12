//! What a room counts.

use danmaku_wire::Priority;

/// What happened in one room since the counters were last drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomCounters {
    /// Comments taken into a window, by priority.
    pub(crate) comments: [u64; PRIORITIES],
    /// Of these, comments that a full window shed, by priority.
    pub(crate) shed: [u64; PRIORITIES],
    /// Events taken into a window.
    pub events: u64,
    /// Comments and events ignored because their position came before.
    pub repeated: u64,
    /// Likes, before a window's sum stops at its limit.
    pub likes: u64,
    /// Batches sealed.
    pub batches: u64,
    /// Gaps sealed, for positions that the log lost.
    pub gaps: u64,
}

impl RoomCounters {
    /// Comments of one priority that were taken into a window.
    pub fn comments(&self, priority: Priority) -> u64 {
        self.comments[priority as usize]
    }

    /// Comments of one priority that a full window shed.
    pub fn shed(&self, priority: Priority) -> u64 {
        self.shed[priority as usize]
    }

    /// Comments of all priorities that were taken into a window.
    pub fn comments_total(&self) -> u64 {
        self.comments.iter().sum()
    }

    /// Comments of all priorities that a full window shed.
    pub fn shed_total(&self) -> u64 {
        self.shed.iter().sum()
    }
}

/// Classes of priority.
pub(crate) const PRIORITIES: usize = Priority::ALL.len();
