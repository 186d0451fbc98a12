//! Entries of a room's log that are not comments: what players must act on.

use std::sync::Arc;

use crate::escape::integer_into;
use crate::ids::Seq;

/// Something that happened in a room and has a position of its own, like a comment.
///
/// Events are never shed and never skipped. Cloning shares what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The comments with these ids were retracted: players remove them, the log erases them.
    Retract {
        /// The ids, each below the event's own.
        ids: Arc<[Seq]>,
    },
    /// A comment is shown above all others, in place of the one that was.
    Pin {
        /// Its id.
        comment: Seq,
        /// When it no longer is, Unix time in milliseconds; `None` for no such time.
        until_ms: Option<u64>,
    },
    /// No comment is pinned any longer.
    Unpin,
}

impl Event {
    /// Appends the event as a JSON object that carries its own id: `{"id":N,"type":…}`.
    pub(crate) fn object_into(&self, id: Seq, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":");
        integer_into(out, id.value());
        self.members_into(out);
    }

    /// Appends the event as a JSON object that carries its own id and log time: `{"id":N,"ts":N,"type":…}`.
    pub fn logged_object_into(&self, id: Seq, at_ms: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":");
        integer_into(out, id.value());
        out.extend_from_slice(b",\"ts\":");
        integer_into(out, at_ms);
        self.members_into(out);
    }

    fn members_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Retract { ids } => {
                out.extend_from_slice(b",\"type\":\"retract\",\"ids\":");
                integers_into(out, ids.iter().map(|id| id.value()));
            }
            Self::Pin { comment, until_ms } => {
                out.extend_from_slice(b",\"type\":\"pin\",\"comment\":");
                integer_into(out, comment.value());
                if let Some(until_ms) = until_ms {
                    out.extend_from_slice(b",\"until\":");
                    integer_into(out, *until_ms);
                }
            }
            Self::Unpin => out.extend_from_slice(b",\"type\":\"unpin\""),
        }
        out.push(b'}');
    }

    /// An upper bound of the event's length as JSON; also used as its size in memory.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        match self {
            Self::Retract { ids } => 64 + ids.len() * 21,
            Self::Pin { .. } | Self::Unpin => 128,
        }
    }
}

/// An event at its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchEvent {
    /// Its position, which is its id.
    pub seq: Seq,
    /// What happened.
    pub event: Event,
}

/// Appends `,"events":[…]`, or nothing when there are none.
pub(crate) fn events_into(out: &mut Vec<u8>, events: &[BatchEvent]) {
    if events.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"events\":[");
    for (index, BatchEvent { seq, event }) in events.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        event.object_into(*seq, out);
    }
    out.push(b']');
}

/// An upper bound of the length of [`events_into`].
pub(crate) fn events_len_max(events: &[BatchEvent]) -> usize {
    let objects: usize = events.iter().map(|it| it.event.bytes_max() + 1).sum();
    objects + 16
}

/// Appends the numbers as a JSON array.
pub(crate) fn integers_into(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    out.push(b'[');
    for (index, number) in numbers.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        integer_into(out, number);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retractions() {
        let event = Event::Retract {
            ids: [Seq::new(39), Seq::new(46)].into(),
        };
        let mut out = Vec::new();
        event.object_into(Seq::new(47), &mut out);
        assert!(out.len() <= event.bytes_max());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"id":47,"type":"retract","ids":[39,46]}"#
        );
        let mut out = Vec::new();
        event.logged_object_into(Seq::new(47), 1_700, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"id":47,"ts":1700,"type":"retract","ids":[39,46]}"#
        );
    }

    #[test]
    fn pins() {
        #[track_caller]
        fn check(event: &Event, expected: &str) {
            let mut out = Vec::new();
            event.logged_object_into(Seq::MAX, u64::MAX >> 11, &mut out);
            assert!(out.len() <= event.bytes_max());
            let expected = format!(r#"{{"id":9007199254740991,"ts":9007199254740991,{expected}}}"#);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let pin = |until_ms| Event::Pin {
            comment: Seq::MAX,
            until_ms,
        };
        check(&pin(None), r#""type":"pin","comment":9007199254740991"#);
        check(
            &pin(Some(Seq::MAX.value())),
            r#""type":"pin","comment":9007199254740991,"until":9007199254740991"#,
        );
        check(&Event::Unpin, r#""type":"unpin""#);
    }
}
