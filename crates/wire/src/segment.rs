//! What a pull viewer gets: a room's batch for a fixed stretch of log time.

use bytes::Bytes;

use crate::batch::Batch;
use crate::compress::{CompressionPolicy, gzip};
use crate::escape::integer_into;
use crate::ids::RoomId;

/// The entries of one room in a stretch of log time, before encoding.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// The length of the room's segments, in milliseconds.
    pub length_ms: u64,
    /// Its number: it covers log time from `n * length_ms` until just before `(n + 1) * length_ms`.
    pub n: u64,
    /// Its entries. `ts_ms` is where it ends; viewers and likes are left out, because they depend on who is asked.
    pub batch: &'a Batch,
}

/// A segment's bytes. They are the same from every node that has the same log.
#[derive(Debug)]
pub struct SealedSegment {
    /// As JSON.
    pub json: Bytes,
    /// As JSON in one gzip member.
    pub gzip: Bytes,
}

impl Segment<'_> {
    /// Encodes the segment.
    #[must_use]
    pub fn seal(&self, policy: CompressionPolicy) -> SealedSegment {
        let mut json = Vec::with_capacity(self.json_len_max());
        self.json_into(&mut json);
        json.shrink_to_fit();
        SealedSegment {
            gzip: gzip(policy.level, &json, Bytes::copy_from_slice),
            json: json.into(),
        }
    }

    fn json_len_max(&self) -> usize {
        // Names, and three integers of at most 20 digits.
        self.batch.json_len_max() + self.room.as_str().len() + 128
    }

    fn json_into(&self, out: &mut Vec<u8>) {
        // A room id needs no escaping.
        out.extend_from_slice(b"{\"room\":\"");
        out.extend_from_slice(self.room.as_str().as_bytes());
        out.extend_from_slice(b"\",\"epoch\":");
        integer_into(out, self.batch.epoch.value());
        out.extend_from_slice(b",\"length_ms\":");
        integer_into(out, self.length_ms);
        out.extend_from_slice(b",\"n\":");
        integer_into(out, self.n);
        self.batch.place_into(out);
        self.batch.contents_into(out);
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::batch::BatchComment;
    use crate::comment::Comment;
    use crate::event::{BatchEvent, Event};
    use crate::ids::{Epoch, Seq};
    use crate::limits::CommentLimits;
    use crate::text::CommentText;

    fn comment(seq: u64, at_ms: u64) -> BatchComment {
        let text = CommentText::new(&format!("c{seq}"), &CommentLimits::default()).unwrap();
        BatchComment {
            seq: Seq::new(seq),
            at_ms,
            fragment: Comment::new(text).fragment(),
        }
    }

    fn batch(after: u64, seq: u64) -> Batch {
        Batch {
            epoch: Epoch::new(7),
            after: Seq::new(after),
            seq: Seq::new(seq),
            ts_ms: 8_000,
            viewers: 0,
            likes: 0,
            shed: 0,
            comments: Vec::new(),
            events: Vec::new(),
        }
    }

    #[test]
    fn json() {
        fn check(batch: &Batch, expected: &str) {
            let room = RoomId::parse("demo").unwrap();
            let segment = Segment {
                room: &room,
                length_ms: 2_000,
                n: 3,
                batch,
            };
            let sealed = segment.seal(CompressionPolicy::default());
            assert!(sealed.json.len() <= segment.json_len_max());
            assert_eq!(std::str::from_utf8(&sealed.json).unwrap(), expected);
            let mut unpacked = String::new();
            let mut gunzip = flate2::read::GzDecoder::new(&sealed.gzip[..]);
            gunzip.read_to_string(&mut unpacked).unwrap();
            assert_eq!(unpacked, expected);
        }
        check(
            &batch(4, 4),
            r#"{"room":"demo","epoch":7,"length_ms":2000,"n":3,"after":4,"seq":4,"ts":8000,"comments":[]}"#,
        );
        let full = Batch {
            shed: 2,
            comments: vec![comment(42, 6_000), comment(45, 7_950)],
            events: vec![BatchEvent {
                seq: Seq::new(47),
                event: Event::Retract {
                    ids: [Seq::new(39), Seq::new(46)].into(),
                },
            }],
            ..batch(41, 47)
        };
        check(
            &full,
            concat!(
                r#"{"room":"demo","epoch":7,"length_ms":2000,"n":3,"after":41,"seq":47,"ts":8000,"shed":2,"ids":[1,3],"at":[20,0],"#,
                r#""comments":[{"text":"c42"},{"text":"c45"}],"events":[{"id":47,"type":"retract","ids":[39,46]}]}"#
            ),
        );
    }
}
