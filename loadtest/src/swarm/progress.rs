//! The progress of a swarm thread: written once per turn of its loop, read by other threads.

use std::sync::{Mutex, PoisonError};

/// What viewers of one encoding got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Frames that carry a batch.
    pub frames: u64,
    /// Their bytes, with WebSocket frame headers and event lines.
    pub bytes: u64,
    /// The comments in them.
    pub comments: u64,
}

impl Delivered {
    /// What was delivered since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            frames: self.frames - earlier.frames,
            bytes: self.bytes - earlier.bytes,
            comments: self.comments - earlier.comments,
        }
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.comments += other.comments;
    }
}

/// A look at the swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Viewers that have joined so far.
    pub joined: u64,
    /// Viewers that could not connect.
    pub failed: u64,
    /// Viewers that joined and have lost their connection since.
    pub ended: u64,
    /// Viewers that joined and left on purpose.
    pub left: u64,
    /// Viewers that came back.
    pub rejoined: u64,
    /// Deliveries by encoding, in the order of `Encoding::ALL`.
    pub delivered: [Delivered; 3],
    /// Whether every reading viewer has all that is acknowledged. Only updated once the swarm is settling.
    pub caught_up: bool,
}

impl Snapshot {
    /// Frames of all encodings.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.delivered
            .iter()
            .map(|delivered| delivered.frames)
            .sum()
    }

    /// Viewers that are in.
    #[must_use]
    pub fn up(&self) -> u64 {
        self.joined.saturating_sub(self.ended + self.left)
    }

    /// Viewers that could not connect, or lost their connection unintentionally.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.failed + self.ended
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.joined += other.joined;
        self.failed += other.failed;
        self.ended += other.ended;
        self.left += other.left;
        self.rejoined += other.rejoined;
        self.caught_up &= other.caught_up;
        for (mine, theirs) in self.delivered.iter_mut().zip(&other.delivered) {
            mine.add(theirs);
        }
    }
}

/// The shared side of the [`Snapshot`] of one thread.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Snapshot>);

impl Progress {
    pub(super) fn publish(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
