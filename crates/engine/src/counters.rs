//! What a room counts.

use danmaku_wire::Priority;

/// What happened in one room since the counters were last drained: once per window, so small integers are enough, and
/// every room has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomCounters {
    /// Comments taken into a window, by priority.
    pub(crate) comments: [u32; PRIORITIES],
    /// Of these, comments that a full window shed, by priority.
    pub(crate) shed: [u32; PRIORITIES],
    /// Events taken into a window.
    pub events: u32,
    /// Comments and events ignored because their position came before.
    pub repeated: u32,
    /// Likes, before a window's sum stops at its limit.
    pub likes: u64,
    /// Batches sealed.
    pub batches: u32,
    /// Gaps sealed, for positions that the log lost.
    pub gaps: u32,
}

impl RoomCounters {
    /// Comments of one priority that were taken into a window.
    pub fn comments(&self, priority: Priority) -> u64 {
        self.comments[priority as usize].into()
    }

    /// Comments of one priority that a full window shed.
    pub fn shed(&self, priority: Priority) -> u64 {
        self.shed[priority as usize].into()
    }

    /// Comments of all priorities that were taken into a window.
    pub fn comments_total(&self) -> u64 {
        self.comments.iter().copied().map(u64::from).sum()
    }

    /// Comments of all priorities that a full window shed.
    pub fn shed_total(&self) -> u64 {
        self.shed.iter().copied().map(u64::from).sum()
    }
}

/// Classes of priority.
pub(crate) const PRIORITIES: usize = Priority::ALL.len();
