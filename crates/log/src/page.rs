//! Results of log reads.

use std::ops::ControlFlow;

use danmaku_wire::Seq;

use crate::entry::{Entry, EntryBody};

/// One bounded read: everything that the log holds in (`after`, `seq`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it begins: the requested position, or the log's floor when that
    /// is higher. Anything in between is gone.
    pub after: Seq,
    /// Where it ends, and where the next read continues.
    pub seq: Seq,
    /// The entries, in order. Retracted comments are not among them.
    pub entries: Vec<Entry>,
    /// Whether the log holds entries after `seq`.
    pub more: bool,
}

/// The newest comments up to a position, with the events between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// The position just before the oldest requested comment that is still
    /// held; `seq` when there is none.
    pub asked_after: Seq,
    /// Where `entries` begin. Above `asked_after` when older comments did not
    /// fit into the bytes: then (`asked_after`, `after`] is a gap.
    pub after: Seq,
    /// Where they end: the requested position, or the head when that is lower.
    pub seq: Seq,
    /// Everything in (`after`, `seq`], in order.
    pub entries: Vec<Entry>,
}

impl Recent {
    /// Collects from `newest_first`, the entries at or below `until`: up to
    /// `comments` comments in up to `bytes_max` bytes. Also says how many
    /// comments were found, in the bytes or not.
    pub(crate) fn collect<'a>(
        until: Seq,
        newest_first: impl Iterator<Item = (Seq, u64, &'a EntryBody)>,
        comments: usize,
        bytes_max: usize,
    ) -> (Self, usize) {
        let mut collector = Self::collector(until, comments, bytes_max);
        for (seq, at_ms, body) in newest_first {
            if collector.take(seq, at_ms, body).is_break() {
                break;
            }
        }
        collector.finish()
    }

    /// Collects from entries at or below `until`, given one by one, the newest first.
    pub(crate) fn collector(until: Seq, comments: usize, bytes_max: usize) -> RecentCollector {
        RecentCollector {
            until,
            comments,
            bytes_max,
            found: 0,
            bytes: 0,
            asked_after: until,
            left_out: None,
            entries: Vec::new(),
        }
    }
}

/// See [`Recent::collect`].
pub(crate) struct RecentCollector {
    until: Seq,
    comments: usize,
    bytes_max: usize,
    found: usize,
    bytes: usize,
    asked_after: Seq,
    left_out: Option<Seq>,
    entries: Vec<Entry>,
}

impl RecentCollector {
    /// Takes the next older entry; breaks when it needs no more.
    pub(crate) fn take(&mut self, seq: Seq, at_ms: u64, body: &EntryBody) -> ControlFlow<()> {
        if self.found == self.comments {
            return ControlFlow::Break(());
        }
        if matches!(body, EntryBody::Comment { .. }) {
            self.found += 1;
            self.asked_after = seq.previous();
        }
        if self.left_out.is_some() {
            return ControlFlow::Continue(());
        }
        self.bytes = self.bytes.saturating_add(body.bytes());
        if self.bytes > self.bytes_max {
            self.left_out = Some(seq);
        } else {
            self.entries.push(Entry {
                seq,
                at_ms,
                body: body.clone(),
            });
        }
        ControlFlow::Continue(())
    }

    /// What was collected, and how many comments were found, in the bytes or not.
    pub(crate) fn finish(self) -> (Recent, usize) {
        let Self {
            asked_after,
            mut entries,
            ..
        } = self;
        let after = self
            .left_out
            .map_or(asked_after, |seq| seq.max(asked_after));
        // Events before the first comment are nothing to those who never saw
        // what they are about.
        entries.retain(|entry| entry.seq > after);
        entries.reverse();
        let recent = Recent {
            asked_after,
            after,
            seq: self.until,
            entries,
        };
        (recent, self.found)
    }
}

/// What the log accepted in a stretch of log time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The last position before it, whether or not that entry is still held.
    pub after: Seq,
    /// The last position in it, even if retracted; `after` when there is none.
    pub seq: Seq,
    /// Its entries, in order. Retracted comments are not among them.
    pub entries: Vec<Entry>,
    /// Its latest comments, if not all of them fit into the bytes. Events are
    /// never left out.
    pub left_out: u32,
    /// Whether part of it may have been dropped, so that `entries` miss it.
    pub dropped: bool,
}

impl Interval {
    /// An interval that begins after `after` and has no entries yet.
    pub(crate) fn new(after: Seq) -> Self {
        Self {
            after,
            seq: after,
            entries: Vec::new(),
            left_out: 0,
            dropped: false,
        }
    }

    /// Adds the interval's entries, in order, as far as they fit into
    /// `bytes_max`. A retracted comment has no body.
    pub(crate) fn collect<'a>(
        &mut self,
        entries: impl Iterator<Item = (Seq, u64, Option<&'a EntryBody>)>,
        bytes_max: usize,
    ) {
        let mut bytes_left = bytes_max;
        for (seq, at_ms, body) in entries {
            self.seq = seq;
            if let Some(body) = body {
                self.take(seq, at_ms, body, &mut bytes_left);
            }
        }
    }

    /// Adds the next entry, if it is an event or a comment that fits into what is
    /// left of the bytes.
    pub(crate) fn take(&mut self, seq: Seq, at_ms: u64, body: &EntryBody, bytes_left: &mut usize) {
        if matches!(body, EntryBody::Comment { .. }) {
            let left = bytes_left.checked_sub(body.bytes());
            // Once one is left out, all later ones are: what is shown has no holes.
            let Some(left) = left.filter(|_| self.left_out == 0) else {
                self.left_out += 1;
                return;
            };
            *bytes_left = left;
        }
        self.entries.push(Entry {
            seq,
            at_ms,
            body: body.clone(),
        });
    }
}

/// What is known of a position, from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A comment.
    Comment,
    /// A comment that was retracted.
    Retracted,
    /// An event.
    Event,
    /// Nothing in memory: it was dropped, is a hole, or has yet to come from
    /// the store.
    NotHeld,
    /// A position that was never assigned.
    AboveHead,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{comment, ids, retract};

    /// Comments at 3, 5, 9 and 12, events at 2, 6 and 10, up to 13.
    fn recent(comments: usize, bytes_max: usize) -> (u64, u64, Vec<u64>) {
        let log: Vec<(Seq, u64, EntryBody)> = [2, 3, 5, 6, 9, 10, 12]
            .into_iter()
            .map(|seq| {
                let event = matches!(seq, 2 | 6 | 10);
                let body = if event { retract(&[1]) } else { comment("x") };
                (Seq::new(seq), 0, body)
            })
            .collect();
        let newest_first = log.iter().rev().map(|(seq, at, body)| (*seq, *at, body));
        let (recent, found) = Recent::collect(Seq::new(13), newest_first, comments, bytes_max);
        assert_eq!(found, comments.min(4));
        assert_eq!(recent.seq, Seq::new(13));
        let (asked_after, after) = (recent.asked_after.value(), recent.after.value());
        (asked_after, after, ids(&recent.entries))
    }

    #[test]
    fn the_newest_comments_come_with_the_events_between_them() {
        assert_eq!(recent(0, 9_999), (13, 13, vec![]));
        assert_eq!(recent(1, 9_999), (11, 11, vec![12]));
        assert_eq!(recent(2, 9_999), (8, 8, vec![9, 10, 12]));
        assert_eq!(recent(4, 9_999), (2, 2, vec![3, 5, 6, 9, 10, 12]));
        assert_eq!(recent(9, 9_999), (2, 2, vec![3, 5, 6, 9, 10, 12]));
    }

    #[test]
    fn an_interval_leaves_out_the_latest_comments_and_no_events() {
        let log: Vec<(Seq, u64, Option<EntryBody>)> = vec![
            (Seq::new(3), 5, Some(comment("x"))),
            (Seq::new(4), 6, None),
            (Seq::new(5), 6, Some(comment("x"))),
            (Seq::new(6), 7, Some(retract(&[4]))),
            (Seq::new(9), 9, None),
        ];
        let collect = |bytes_max: usize| {
            let mut interval = Interval::new(Seq::new(2));
            let entries = (log.iter()).map(|(seq, at, body)| (*seq, *at, body.as_ref()));
            interval.collect(entries, bytes_max);
            assert_eq!(interval.after, Seq::new(2));
            assert_eq!(interval.seq, Seq::new(9));
            (ids(&interval.entries), interval.left_out)
        };
        let one = comment("x").bytes();
        assert_eq!(collect(2 * one), (vec![3, 5, 6], 0));
        assert_eq!(collect(2 * one - 1), (vec![3, 6], 1));
        assert_eq!(collect(0), (vec![6], 2));
    }

    #[test]
    fn what_does_not_fit_is_a_gap() {
        let (comment, event) = (comment("x").bytes(), retract(&[1]).bytes());
        assert_eq!(recent(4, 0), (2, 12, vec![]));
        assert_eq!(recent(4, comment), (2, 10, vec![12]));
        assert_eq!(recent(4, comment + event), (2, 9, vec![10, 12]));
        assert_eq!(recent(4, 2 * comment + event), (2, 6, vec![9, 10, 12]));
        // Only an event that nobody needs does not fit.
        let all = 4 * comment + 2 * event;
        assert_eq!(recent(9, all), (2, 2, vec![3, 5, 6, 9, 10, 12]));
    }
}
