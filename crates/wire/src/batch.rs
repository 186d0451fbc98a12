//! The events of one room in one window, before encoding.

use crate::comment::Fragment;
use crate::escape::integer_into;
use crate::ids::Seq;

/// What a room sends its viewers for one window.
///
/// It covers exactly `comments.len() + shed` positions from `first` on, so a viewer knows that it missed nothing when
/// each batch begins right after the end of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The first position it covers; the next one to come when it covers none.
    pub first: Seq,
    /// When it was sealed, Unix time in milliseconds.
    pub ts_ms: u64,
    /// Viewers of the room on this node.
    pub viewers: u32,
    /// Likes since the batch before.
    pub likes: u64,
    /// Comments that are missing from it because there were too many.
    pub shed: u32,
    /// Its comments in order of position.
    pub comments: Vec<(Seq, Fragment)>,
}

impl Batch {
    /// How many positions it covers.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.comments.len() as u64 + u64::from(self.shed)
    }

    /// The last position it covers: the one before `first` when it covers none.
    #[must_use]
    pub fn last(&self) -> Seq {
        self.first.plus(self.covered()).previous()
    }

    /// An upper bound of the length of [`Batch::json_into`].
    pub(crate) fn json_len_max(&self) -> usize {
        // Six integers of at most 20 digits and the names around them; per comment its braces, comma and id.
        let fixed = 192;
        let ids = if self.shed == 0 {
            0
        } else {
            self.comments.len() * 26
        };
        let fragments: usize = self
            .comments
            .iter()
            .map(|(_, fragment)| fragment.as_bytes().len() + 3)
            .sum();
        fixed + ids + fragments
    }

    /// Appends the batch as JSON. A comment carries its id only when it is not the one after the comment before.
    pub(crate) fn json_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"batch\",\"seq\":");
        integer_into(out, self.first.value());
        out.extend_from_slice(b",\"ts\":");
        integer_into(out, self.ts_ms);
        out.extend_from_slice(b",\"viewers\":");
        integer_into(out, u64::from(self.viewers));
        if self.likes > 0 {
            out.extend_from_slice(b",\"likes\":");
            integer_into(out, self.likes);
        }
        if self.shed > 0 {
            out.extend_from_slice(b",\"shed\":");
            integer_into(out, u64::from(self.shed));
        }
        out.extend_from_slice(b",\"comments\":[");
        let mut expected = self.first;
        for (index, (seq, fragment)) in self.comments.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if *seq == expected {
                out.push(b'{');
                out.extend_from_slice(fragment.as_bytes());
                out.push(b'}');
            } else {
                fragment.object_into(*seq, out);
            }
            expected = seq.next();
        }
        out.extend_from_slice(b"]}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comment::Comment;
    use crate::limits::CommentLimits;
    use crate::text::CommentText;

    fn batch(first: u64, shed: u32, seqs: &[u64]) -> Batch {
        let fragment = |seq: &u64| {
            let text = CommentText::new(&format!("c{seq}"), &CommentLimits::default()).unwrap();
            (Seq::new(*seq), Comment::new(text).fragment())
        };
        let comments = seqs.iter().map(fragment).collect();
        Batch {
            first: Seq::new(first),
            ts_ms: 1_700_000_000_000,
            viewers: 3,
            likes: 0,
            shed,
            comments,
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
            &batch(5, 0, &[5, 6]),
            r#"{"type":"batch","seq":5,"ts":1700000000000,"viewers":3,"comments":[{"text":"c5"},{"text":"c6"}]}"#,
        );
        check(
            &batch(5, 3, &[6, 7, 9]),
            concat!(
                r#"{"type":"batch","seq":5,"ts":1700000000000,"viewers":3,"shed":3,"comments":"#,
                r#"[{"id":6,"text":"c6"},{"text":"c7"},{"id":9,"text":"c9"}]}"#
            ),
        );
        check(
            &Batch {
                likes: 12,
                ..batch(8, 0, &[])
            },
            r#"{"type":"batch","seq":8,"ts":1700000000000,"viewers":3,"likes":12,"comments":[]}"#,
        );
        let largest = Batch {
            ts_ms: u64::MAX,
            viewers: u32::MAX,
            likes: u64::MAX,
            ..batch(1, u32::MAX, &[u64::MAX])
        };
        let mut out = Vec::new();
        largest.json_into(&mut out);
        assert!(out.len() <= largest.json_len_max());
    }

    #[test]
    fn coverage() {
        fn check(input: &Batch, covered: u64, last: u64) {
            assert_eq!((input.covered(), input.last().value()), (covered, last));
        }
        check(&batch(1, 0, &[1]), 1, 1);
        check(&batch(5, 3, &[6, 7, 9]), 6, 10);
        check(&batch(8, 0, &[]), 0, 7);
        check(&batch(8, 2, &[]), 2, 9);
    }
}
