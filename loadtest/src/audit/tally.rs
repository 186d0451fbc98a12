//! What the audit found, in viewer-comments: one comment at one viewer counts one.

use serde::{Deserialize, Serialize};

/// The counts of an audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Deliveries that match an acknowledged comment.
    pub delivered: u64,
    /// Of those, how many came in a replay to a viewer that had lost its connection. They are in no latency.
    pub replayed: u64,
    /// Positions a viewer should have had and did not get, with no word about it.
    pub lost: u64,
    /// Positions a viewer got again.
    pub duplicate: u64,
    /// Positions a viewer got after later ones.
    pub reordered: u64,
    /// Comments that differ from what was posted.
    pub corrupt: u64,
    /// Deliveries later than the limit, beyond the window.
    pub late: u64,
    /// Positions a batch counted as shed.
    pub shed: u64,
    /// Positions a `gap` message counted as missed.
    pub skipped: u64,
    /// `gap` messages.
    pub gaps: u64,
    /// Positions a `gap` message called missed although they had been delivered.
    pub contradicted: u64,
    /// Acknowledged comments that came after a viewer was evicted or told to go.
    pub after_close: u64,
    /// Deliveries of comments that this run did not post.
    pub foreign: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.replayed += other.replayed;
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.late += other.late;
        self.shed += other.shed;
        self.skipped += other.skipped;
        self.gaps += other.gaps;
        self.contradicted += other.contradicted;
        self.after_close += other.after_close;
        self.foreign += other.foreign;
        self.undecodable += other.undecodable;
    }

    /// Whether every acknowledged comment reached every viewer once and in order, or was accounted for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        [
            self.lost,
            self.duplicate,
            self.reordered,
            self.corrupt,
            self.contradicted,
            self.undecodable,
        ]
        .iter()
        .all(|count| *count == 0)
    }
}
