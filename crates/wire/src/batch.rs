//! What a room sends its viewers for a stretch of positions, before encoding.

use crate::comment::Fragment;
use crate::escape::integer_into;
use crate::event::{BatchEvent, events_into, events_len_max, integers_into};
use crate::ids::{Epoch, Seq};

/// The entries of one room in one window.
///
/// It covers every position in (`after`, `seq`]: comments, events, holes, and comments that were shed or retracted. A
/// viewer missed nothing if each batch begins where the previous one ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The room's epoch. It is not in the JSON: a connection's epoch never changes.
    pub epoch: Epoch,
    /// Where the previous batch ended.
    pub after: Seq,
    /// The last position it covers; `after` if it only holds likes.
    pub seq: Seq,
    /// When it was sealed, Unix time in milliseconds; the log time of its last entry if it was read from the log.
    pub ts_ms: u64,
    /// Viewers of the room.
    pub viewers: u32,
    /// Likes since the previous batch.
    pub likes: u64,
    /// Accepted comments that are missing from it because there were too many.
    pub shed: u32,
    /// Its comments in order of position.
    pub comments: Vec<BatchComment>,
    /// Its events in order of position.
    pub events: Vec<BatchEvent>,
}

/// A comment at its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchComment {
    /// Its position, which is its id.
    pub seq: Seq,
    /// When the log accepted it, Unix time in milliseconds.
    pub at_ms: u64,
    /// Its JSON members.
    pub fragment: Fragment,
}

/// Positions (`after`, `seq`] that are not delivered, and the events among them, which always are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The room's epoch.
    pub epoch: Epoch,
    /// The last position before the missing ones.
    pub after: Seq,
    /// The last missing position.
    pub seq: Seq,
    /// Events among them, in order of position.
    pub events: Vec<BatchEvent>,
}

impl Batch {
    /// An upper bound of the length of [`Batch::json_into`].
    pub(crate) fn json_len_max(&self) -> usize {
        // Eight integers of at most 20 digits and the names around them.
        let fixed = 288;
        // Per comment its braces and comma, and with holes or a rhythm an entry in `ids` and `at`.
        let ids = if self.has_plain_ids() {
            0
        } else {
            self.comments.len() * 21
        };
        let times = self.comments.len() * 4;
        let fragments: usize = self
            .comments
            .iter()
            .map(|comment| comment.fragment.as_bytes().len() + 3)
            .sum();
        fixed + ids + times + fragments + events_len_max(&self.events)
    }

    /// Appends the batch as JSON.
    pub(crate) fn json_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"batch\"");
        self.place_into(out);
        out.extend_from_slice(b",\"viewers\":");
        integer_into(out, u64::from(self.viewers));
        if self.likes > 0 {
            out.extend_from_slice(b",\"likes\":");
            integer_into(out, self.likes);
        }
        self.contents_into(out);
        out.push(b'}');
    }

    /// Appends `,"after":N,"seq":N,"ts":N`.
    pub(crate) fn place_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"after\":");
        integer_into(out, self.after.value());
        out.extend_from_slice(b",\"seq\":");
        integer_into(out, self.seq.value());
        out.extend_from_slice(b",\"ts\":");
        integer_into(out, self.ts_ms);
    }

    /// Appends the members from `shed` on, each with a comma before it.
    pub(crate) fn contents_into(&self, out: &mut Vec<u8>) {
        if self.shed > 0 {
            out.extend_from_slice(b",\"shed\":");
            integer_into(out, u64::from(self.shed));
        }
        if !self.has_plain_ids() {
            out.extend_from_slice(b",\"ids\":");
            integers_into(out, self.steps());
        }
        if self.comments.iter().any(|comment| self.tenths(comment) > 0) {
            out.extend_from_slice(b",\"at\":");
            integers_into(out, self.comments.iter().map(|it| self.tenths(it)));
        }
        out.extend_from_slice(b",\"comments\":[");
        for (index, comment) in self.comments.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b",{" } else { b"{" });
            out.extend_from_slice(comment.fragment.as_bytes());
            out.push(b'}');
        }
        out.push(b']');
        events_into(out, &self.events);
    }

    /// Whether the ids are consecutive from `after`, so that they can be left out.
    fn has_plain_ids(&self) -> bool {
        self.steps().all(|step| step == 1)
    }

    /// The differences between ids, the first from `after`.
    fn steps(&self) -> impl Iterator<Item = u64> + '_ {
        let mut before = self.after.value();
        self.comments.iter().map(move |comment| {
            let id = comment.seq.value();
            let step = id.saturating_sub(before);
            before = id;
            step
        })
    }

    /// How long before `ts_ms` the log accepted the comment, in whole tenths of a second.
    fn tenths(&self, comment: &BatchComment) -> u64 {
        (self.ts_ms.saturating_sub(comment.at_ms) / 100).min(AT_TENTHS_MAX)
    }
}

/// The largest `at`: older comments say 99.9 s. They only occur in replays of quiet rooms.
const AT_TENTHS_MAX: u64 = 999;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::comment::Comment;
    use crate::event::Event;
    use crate::limits::CommentLimits;
    use crate::text::CommentText;

    const TS_MS: u64 = 1_700_000_000_000;

    fn batch(after: u64, seq: u64, comments: &[(u64, u64)]) -> Batch {
        let comment = |&(seq, ago_ms): &(u64, u64)| {
            let text = CommentText::new(&format!("c{seq}"), &CommentLimits::default()).unwrap();
            BatchComment {
                seq: Seq::new(seq),
                at_ms: TS_MS - ago_ms,
                fragment: Comment::new(text).fragment(),
            }
        };
        Batch {
            epoch: Epoch::new(7),
            after: Seq::new(after),
            seq: Seq::new(seq),
            ts_ms: TS_MS,
            viewers: 3,
            likes: 0,
            shed: 0,
            comments: comments.iter().map(comment).collect(),
            events: Vec::new(),
        }
    }

    fn retraction(seq: u64, ids: &[u64]) -> BatchEvent {
        BatchEvent {
            seq: Seq::new(seq),
            event: Event::Retract {
                ids: ids.iter().copied().map(Seq::new).collect::<Vec<_>>().into(),
            },
        }
    }

    #[test]
    fn json() {
        fn check(input: &Batch, expected: &str) {
            let mut out = Vec::new();
            input.json_into(&mut out);
            assert!(out.len() <= input.json_len_max());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        check(
            &batch(4, 6, &[(5, 0), (6, 99)]),
            r#"{"type":"batch","after":4,"seq":6,"ts":1700000000000,"viewers":3,"comments":[{"text":"c5"},{"text":"c6"}]}"#,
        );
        let shed = Batch {
            likes: 3,
            shed: 1,
            events: vec![retraction(47, &[39, 46])],
            ..batch(41, 47, &[(42, 950), (45, 400)])
        };
        check(
            &shed,
            concat!(
                r#"{"type":"batch","after":41,"seq":47,"ts":1700000000000,"viewers":3,"likes":3,"shed":1,"ids":[1,3],"at":[9,4],"#,
                r#""comments":[{"text":"c42"},{"text":"c45"}],"events":[{"id":47,"type":"retract","ids":[39,46]}]}"#
            ),
        );
        check(
            &Batch {
                likes: 12,
                ..batch(7, 7, &[])
            },
            r#"{"type":"batch","after":7,"seq":7,"ts":1700000000000,"viewers":3,"likes":12,"comments":[]}"#,
        );
        let old = Batch {
            ts_ms: TS_MS + 200_000,
            ..batch(1, 2, &[(2, 0)])
        };
        check(
            &old,
            r#"{"type":"batch","after":1,"seq":2,"ts":1700000200000,"viewers":3,"at":[999],"comments":[{"text":"c2"}]}"#,
        );
    }

    #[test]
    fn the_longest_numbers_fit_the_bound() {
        let mut largest = batch(1, u64::MAX, &[(u64::MAX, TS_MS), (u64::MAX, TS_MS)]);
        largest.ts_ms = u64::MAX;
        largest.viewers = u32::MAX;
        largest.likes = u64::MAX;
        largest.shed = u32::MAX;
        largest.events = vec![BatchEvent {
            seq: Seq::new(u64::MAX),
            event: Event::Retract {
                ids: Arc::from([Seq::new(u64::MAX); 3]),
            },
        }];
        let mut out = Vec::new();
        largest.json_into(&mut out);
        assert!(out.len() <= largest.json_len_max());
    }
}
