//! What the audit found, in viewer-comments: one comment at one viewer counts as one.

use serde::Serialize;

/// The counts of an audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Tally {
    /// Deliveries that match an acknowledged comment.
    pub delivered: u64,
    /// Of those, how many came in a replay to a viewer that had lost its connection. They are in no latency.
    pub replayed: u64,
    /// Acknowledged comments a viewer should have received and did not, unreported.
    pub lost: u64,
    /// Comments a viewer got again.
    pub duplicate: u64,
    /// Comments a viewer got after later ones.
    pub reordered: u64,
    /// Comments that differ from what was posted.
    pub corrupt: u64,
    /// Deliveries later than the limit, beyond the window.
    pub late: u64,
    /// Comments a batch counted as shed.
    pub shed: u64,
    /// Acknowledged comments a batch did not carry because they had been retracted.
    #[serde(default)]
    pub retracted: u64,
    /// Acknowledged comments at positions that a `gap` message called missed.
    pub skipped: u64,
    /// `gap` messages.
    pub gaps: u64,
    /// Batches and `gap` messages that did not begin where the one before had ended.
    #[serde(default)]
    pub unchained: u64,
    /// Acknowledged comments a `gap` message called missed although they had been delivered; also messages whose positions or
    /// events cannot be, and viewers whose `joined` claimed later comments as earlier ones.
    pub contradicted: u64,
    /// Acknowledged comments that came after a viewer was evicted or closed.
    pub after_close: u64,
    /// Deliveries of comments that this run did not post.
    pub foreign: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
}

impl Tally {
    /// Adds another tally. What a server claims may be any number, so sums saturate: a loss never wraps to none.
    pub fn add(&mut self, other: &Self) {
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.replayed = self.replayed.saturating_add(other.replayed);
        self.lost = self.lost.saturating_add(other.lost);
        self.duplicate = self.duplicate.saturating_add(other.duplicate);
        self.reordered = self.reordered.saturating_add(other.reordered);
        self.corrupt = self.corrupt.saturating_add(other.corrupt);
        self.late = self.late.saturating_add(other.late);
        self.shed = self.shed.saturating_add(other.shed);
        self.retracted = self.retracted.saturating_add(other.retracted);
        self.skipped = self.skipped.saturating_add(other.skipped);
        self.gaps = self.gaps.saturating_add(other.gaps);
        self.unchained = self.unchained.saturating_add(other.unchained);
        self.contradicted = self.contradicted.saturating_add(other.contradicted);
        self.after_close = self.after_close.saturating_add(other.after_close);
        self.foreign = self.foreign.saturating_add(other.foreign);
        self.undecodable = self.undecodable.saturating_add(other.undecodable);
    }

    /// Whether every acknowledged comment reached every viewer once and in order, or was accounted for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults() == 0
    }

    /// Everything that fails a run; a sum that saturates like its parts.
    #[must_use]
    pub fn faults(&self) -> u64 {
        [self.unchained, self.contradicted, self.undecodable]
            .into_iter()
            .fold(self.wrong(), u64::saturating_add)
    }

    /// Comments that did not arrive as they were posted.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        [self.lost, self.duplicate, self.reordered, self.corrupt]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// What the server reported as left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.shed.saturating_add(self.skipped)
    }
}
