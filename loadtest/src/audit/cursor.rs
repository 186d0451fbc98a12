//! Where one viewer is in its room: the chain of batches and gaps, judged as they arrive, in 16 bytes.

/// The positions in (`after`, `seq`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) after: u64,
    pub(super) seq: u64,
}

impl Span {
    fn contains(self, position: u64) -> bool {
        self.after < position && position <= self.seq
    }

    fn is_empty(self) -> bool {
        self.seq <= self.after
    }
}

/// What a viewer has received, and what was left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// Where the last batch or gap ended.
    at: u64,
    /// Positions that were jumped over. Boxed twice, because almost no viewer ever has any.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes per viewer instead of 24, for something almost no viewer has"
    )]
    jumped: Option<Box<Vec<Span>>>,
}

/// A message that did not begin where the one before had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutOfStep {
    /// Where the viewer was.
    pub(super) was_at: u64,
    /// What had been jumped over and has now arrived.
    pub(super) late: Vec<Span>,
}

impl OutOfStep {
    /// Whether a comment at this position, carried by the message, comes after later ones.
    pub(super) fn is_late(&self, position: u64) -> bool {
        self.late.iter().any(|span| span.contains(position))
    }

    /// Whether a comment at this position, carried by the message, had been delivered.
    pub(super) fn is_repeated(&self, position: u64) -> bool {
        position <= self.was_at && !self.is_late(position)
    }
}

impl Cursor {
    /// A viewer whose room begins after this position, as far as it is concerned.
    #[must_use]
    pub(super) fn at_position(at: u64) -> Self {
        Self { at, jumped: None }
    }

    /// Where the last batch or gap ended.
    #[must_use]
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Records a message that covers (`after`, `seq`]. Returns `None` when it is the next in the chain.
    #[inline]
    pub(super) fn advance(&mut self, after: u64, seq: u64) -> Option<OutOfStep> {
        if after == self.at && seq >= after {
            self.at = seq;
            return None;
        }
        Some(self.out_of_step(after, seq))
    }

    #[cold]
    fn out_of_step(&mut self, after: u64, seq: u64) -> OutOfStep {
        let was_at = self.at;
        let late = self.fill(Span { after, seq });
        let jumped = Span {
            after: was_at,
            seq: after,
        };
        if !jumped.is_empty() {
            self.jumped.get_or_insert_default().push(jumped);
        }
        self.at = was_at.max(after).max(seq);
        OutOfStep { was_at, late }
    }

    /// Positions that were jumped over and never came.
    pub(super) fn jumped(&self) -> impl Iterator<Item = Span> {
        self.jumped.iter().flat_map(|spans| spans.iter().copied())
    }

    /// Removes `span` from what was jumped over; returns the parts that were in it.
    fn fill(&mut self, span: Span) -> Vec<Span> {
        let mut filled = Vec::new();
        let Some(jumped) = &mut self.jumped else {
            return filled;
        };
        let mut left = Vec::with_capacity(jumped.len() + 1);
        for hole in jumped.iter().copied() {
            let common = Span {
                after: hole.after.max(span.after),
                seq: hole.seq.min(span.seq),
            };
            if common.is_empty() {
                left.push(hole);
                continue;
            }
            filled.push(common);
            let before = Span {
                seq: common.after,
                ..hole
            };
            let behind = Span {
                after: common.seq,
                ..hole
            };
            left.extend([before, behind].into_iter().filter(|part| !part.is_empty()));
        }
        **jumped = left;
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(after: u64, seq: u64) -> Span {
        Span { after, seq }
    }

    fn jumped(cursor: &Cursor) -> Vec<Span> {
        cursor.jumped().collect()
    }

    #[test]
    fn messages_in_order_are_no_breach() {
        let mut cursor = Cursor::at_position(4);
        for (after, seq) in [(4, 7), (7, 7), (7, 1000), (1000, 1001)] {
            assert_eq!(cursor.advance(after, seq), None);
        }
        assert_eq!((cursor.at(), cursor.jumped.is_some()), (1001, false));
    }

    #[test]
    fn skipped_positions_are_kept_until_they_arrive_late() {
        let mut cursor = Cursor::at_position(0);
        let step = cursor.advance(30, 50).unwrap();
        assert_eq!((step.was_at, step.late.len()), (0, 0));
        assert!(!step.is_repeated(31) && !step.is_late(31));
        assert_eq!(jumped(&cursor), [span(0, 30)]);
        let step = cursor.advance(10, 20).unwrap();
        assert_eq!(step.late, [span(10, 20)]);
        assert!(step.is_late(11) && !step.is_repeated(11));
        assert_eq!(jumped(&cursor), [span(0, 10), span(20, 30)]);
        assert_eq!(cursor.advance(50, 60), None);
        assert_eq!(cursor.at(), 60);
    }

    #[test]
    fn a_repeat_counts_even_if_it_covers_more() {
        let mut cursor = Cursor::at_position(0);
        assert_eq!(cursor.advance(0, 5), None);
        let step = cursor.advance(3, 8).unwrap();
        assert!(step.is_repeated(4) && step.is_repeated(5) && !step.is_repeated(6));
        assert_eq!((cursor.at(), jumped(&cursor).len()), (8, 0));
    }

    #[test]
    fn a_repeat_over_a_jump_is_partly_repeated_and_partly_late() {
        let mut cursor = Cursor::at_position(0);
        let _ = cursor.advance(0, 1);
        let _ = cursor.advance(3, 4);
        let step = cursor.advance(0, 4).unwrap();
        let told = |position| (step.is_repeated(position), step.is_late(position));
        assert_eq!(
            [1, 2, 3, 4].map(told),
            [(true, false), (false, true), (false, true), (true, false)]
        );
        assert_eq!(jumped(&cursor), []);
    }

    #[test]
    fn a_batch_of_likes_is_part_of_the_chain() {
        let mut cursor = Cursor::at_position(3);
        assert_eq!(cursor.advance(3, 3), None);
        assert!(cursor.advance(2, 2).is_some());
        assert_eq!(cursor.at(), 3);
        assert!(cursor.advance(5, 5).is_some());
        assert_eq!((cursor.at(), jumped(&cursor)), (5, vec![span(3, 5)]));
    }
}
