//! What a room counts.

use danmaku_wire::Priority;

/// Events of one room since the counters were last taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomCounters {
    /// Comments taken into a window, by priority.
    pub(crate) comments: [u64; PRIORITIES],
    /// Of these, comments that a full window shed, by priority.
    pub(crate) shed: [u64; PRIORITIES],
    /// Positions that the log could not give.
    pub missed: u64,
    /// Comments ignored because their position came before.
    pub repeated: u64,
    /// Likes, before a window's sum stops at its limit.
    pub likes: u64,
    /// Frames sealed.
    pub batches: u64,
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
