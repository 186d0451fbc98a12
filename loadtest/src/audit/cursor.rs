//! Where one viewer is in its room: continuity of positions, judged as frames arrive, in 16 bytes.

/// Positions of a room, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    from: u64,
    to: u64,
}

impl Span {
    fn len(self) -> u64 {
        self.to - self.from + 1
    }
}

/// What a viewer has and what it misses.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// The position that must come next; 0 before the viewer has joined.
    next: u64,
    /// Positions that were jumped over. Boxed twice over: almost no viewer ever has one.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes per viewer instead of 24, for something almost no viewer has"
    )]
    holes: Option<Box<Vec<Span>>>,
}

/// What one frame did to a viewer's continuity, in comments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Positions that had been delivered before.
    pub(super) duplicate: u64,
    /// Positions that came after later ones.
    pub(super) reordered: u64,
}

/// What one `gap` message did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GapStep {
    /// Positions that are now accounted for as skipped.
    pub(super) skipped: u64,
    /// Positions the server calls missed although it had delivered them.
    pub(super) contradicted: u64,
}

impl Cursor {
    /// A viewer that joined after position `seq`.
    #[must_use]
    pub(super) fn joined_after(seq: u64) -> Self {
        Self {
            next: seq + 1,
            holes: None,
        }
    }

    /// The position that must come next.
    #[must_use]
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// A frame that covers `covered` positions from `first` on has arrived.
    #[inline]
    pub(super) fn advance(&mut self, first: u64, covered: u64) -> Step {
        if first == self.next {
            self.next += covered;
            return Step::default();
        }
        self.out_of_step(first, covered)
    }

    #[cold]
    fn out_of_step(&mut self, first: u64, covered: u64) -> Step {
        let mut step = Step::default();
        if covered == 0 {
            return step;
        }
        let last = first + covered - 1;
        if first < self.next {
            let old = Span {
                from: first,
                to: last.min(self.next - 1),
            };
            step.reordered = self.fill(old);
            step.duplicate = old.len() - step.reordered;
        } else {
            self.jump_over(first);
        }
        self.next = self.next.max(last + 1);
        step
    }

    /// A `gap` message for the positions `from` to `to`.
    pub(super) fn gap(&mut self, from: u64, to: u64) -> GapStep {
        let mut step = GapStep::default();
        if from > to {
            return step;
        }
        if from < self.next {
            let old = Span {
                from,
                to: to.min(self.next - 1),
            };
            step.skipped = self.fill(old);
            step.contradicted = old.len() - step.skipped;
        } else {
            self.jump_over(from);
        }
        if to >= self.next {
            step.skipped += to - self.next.max(from) + 1;
            self.next = to + 1;
        }
        step
    }

    /// Positions that were jumped over and never came.
    #[must_use]
    pub(super) fn missing(&self) -> u64 {
        self.holes
            .iter()
            .flat_map(|holes| holes.iter())
            .map(|hole| hole.len())
            .sum()
    }

    fn jump_over(&mut self, to: u64) {
        if to > self.next {
            let hole = Span {
                from: self.next,
                to: to - 1,
            };
            self.holes.get_or_insert_default().push(hole);
            self.next = to;
        }
    }

    /// Takes `span` out of the holes; returns how many positions of it were in them.
    fn fill(&mut self, span: Span) -> u64 {
        let Some(holes) = &mut self.holes else {
            return 0;
        };
        let mut filled = 0;
        let mut left = Vec::with_capacity(holes.len() + 1);
        for hole in holes.iter() {
            let (from, to) = (hole.from.max(span.from), hole.to.min(span.to));
            if from > to {
                left.push(*hole);
                continue;
            }
            filled += to - from + 1;
            if hole.from < from {
                left.push(Span {
                    from: hole.from,
                    to: from - 1,
                });
            }
            if to < hole.to {
                left.push(Span {
                    from: to + 1,
                    to: hole.to,
                });
            }
        }
        **holes = left;
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Step = Step {
        duplicate: 0,
        reordered: 0,
    };

    #[test]
    fn frames_in_order_leave_nothing_to_say() {
        let mut cursor = Cursor::joined_after(4);
        assert_eq!(cursor.advance(5, 3), CLEAN);
        assert_eq!(cursor.advance(8, 0), CLEAN);
        assert_eq!(cursor.advance(8, 1), CLEAN);
        assert_eq!(
            (cursor.next(), cursor.missing(), cursor.holes.is_some()),
            (9, 0, false)
        );
    }

    #[test]
    fn a_jump_is_missing_until_it_comes_late() {
        let mut cursor = Cursor::joined_after(0);
        assert_eq!(cursor.advance(4, 2), CLEAN);
        assert_eq!(cursor.missing(), 3);
        assert_eq!(
            cursor.advance(2, 1),
            Step {
                duplicate: 0,
                reordered: 1
            }
        );
        assert_eq!(cursor.missing(), 2);
        assert_eq!(cursor.advance(6, 1), CLEAN);
        assert_eq!((cursor.next(), cursor.missing()), (7, 2));
    }

    #[test]
    fn a_repeat_is_a_duplicate_even_when_it_reaches_further() {
        let mut cursor = Cursor::joined_after(0);
        assert_eq!(cursor.advance(1, 5), CLEAN);
        assert_eq!(
            cursor.advance(1, 5),
            Step {
                duplicate: 5,
                reordered: 0
            }
        );
        assert_eq!(
            cursor.advance(4, 4),
            Step {
                duplicate: 2,
                reordered: 0
            }
        );
        assert_eq!((cursor.next(), cursor.missing()), (8, 0));
    }

    #[test]
    fn a_repeat_over_a_hole_is_part_duplicate_part_reordered() {
        let mut cursor = Cursor::joined_after(0);
        let _ = cursor.advance(1, 1);
        let _ = cursor.advance(4, 1);
        assert_eq!(
            cursor.advance(1, 4),
            Step {
                duplicate: 2,
                reordered: 2
            }
        );
        assert_eq!(cursor.missing(), 0);
    }

    #[test]
    fn a_gap_accounts_for_what_it_names() {
        let mut cursor = Cursor::joined_after(0);
        assert_eq!(
            cursor.gap(1, 3),
            GapStep {
                skipped: 3,
                contradicted: 0
            }
        );
        assert_eq!(cursor.advance(4, 1), CLEAN);
        assert_eq!(cursor.missing(), 0);
    }

    #[test]
    fn a_gap_told_late_fills_the_hole() {
        let mut cursor = Cursor::joined_after(0);
        let _ = cursor.advance(4, 1);
        assert_eq!(
            cursor.gap(2, 3),
            GapStep {
                skipped: 2,
                contradicted: 0
            }
        );
        assert_eq!(cursor.missing(), 1);
    }

    #[test]
    fn a_gap_over_delivered_positions_contradicts_itself() {
        let mut cursor = Cursor::joined_after(0);
        let _ = cursor.advance(1, 2);
        assert_eq!(
            cursor.gap(2, 4),
            GapStep {
                skipped: 2,
                contradicted: 1
            }
        );
        assert_eq!(cursor.next(), 5);
    }

    #[test]
    fn a_gap_that_starts_too_far_leaves_a_hole() {
        let mut cursor = Cursor::joined_after(0);
        assert_eq!(
            cursor.gap(3, 4),
            GapStep {
                skipped: 2,
                contradicted: 0
            }
        );
        assert_eq!((cursor.missing(), cursor.next()), (2, 5));
        assert_eq!(cursor.gap(9, 8), GapStep::default());
    }
}
