//! Entries as the file keeps them: a kind and bytes.

use danmaku_wire::{Event, Fragment, Priority, Seq};

use crate::entry::EntryBody;

/// The kind of an entry's body.
pub(super) fn kind(body: &EntryBody) -> u8 {
    match body {
        EntryBody::Comment { priority, .. } => match priority {
            Priority::Viewer => 0,
            Priority::Member => 1,
            Priority::Staff => 2,
        },
        EntryBody::Event(Event::Retract { .. }) => RETRACT,
        EntryBody::Event(Event::Pin { .. }) => PIN,
        EntryBody::Event(Event::Unpin) => UNPIN,
    }
}

/// Calls `with` with the body's bytes.
pub(super) fn encode<T>(body: &EntryBody, with: impl FnOnce(&[u8]) -> T) -> T {
    match body {
        EntryBody::Comment { fragment, .. } => with(fragment.as_bytes()),
        EntryBody::Event(Event::Retract { ids }) => {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.value().to_le_bytes()).collect();
            with(&bytes)
        }
        EntryBody::Event(Event::Pin { comment, until_ms }) => {
            let until_ms = until_ms.unwrap_or(u64::MAX);
            let bytes = [comment.value(), until_ms].map(u64::to_le_bytes);
            with(bytes.as_flattened())
        }
        // A body of zeros is an erased one.
        EntryBody::Event(Event::Unpin) => with(&[1]),
    }
}

/// The body; `None` for a kind that this version does not know.
pub(super) fn decode(kind: u8, bytes: Vec<u8>) -> Option<EntryBody> {
    let priority = match kind {
        0 => Priority::Viewer,
        1 => Priority::Member,
        2 => Priority::Staff,
        RETRACT => {
            let ids = bytes
                .as_chunks()
                .0
                .iter()
                .map(|id| Seq::new(u64::from_le_bytes(*id)))
                .collect();
            return Some(EntryBody::Event(Event::Retract { ids }));
        }
        PIN => {
            let &[comment, until_ms] = bytes.as_chunks().0 else {
                return None;
            };
            let until_ms = u64::from_le_bytes(until_ms);
            return Some(EntryBody::Event(Event::Pin {
                comment: Seq::new(u64::from_le_bytes(comment)),
                until_ms: (until_ms != u64::MAX).then_some(until_ms),
            }));
        }
        UNPIN => return Some(EntryBody::Event(Event::Unpin)),
        _ => return None,
    };
    Some(EntryBody::Comment {
        fragment: Fragment::from_log(bytes),
        priority,
    })
}

/// Kinds up to this one are comments.
pub(super) const COMMENT_MAX: u8 = 2;

const RETRACT: u8 = 16;

const PIN: u8 = 17;

const UNPIN: u8 = 18;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{comment, retract};

    #[test]
    fn bodies_come_back_as_they_went() {
        let mut staff = comment("\"弹幕\"");
        if let EntryBody::Comment { priority, .. } = &mut staff {
            *priority = Priority::Staff;
        }
        let pin = |until_ms| {
            EntryBody::Event(Event::Pin {
                comment: Seq::new(7),
                until_ms,
            })
        };
        let unpin = EntryBody::Event(Event::Unpin);
        let retractions = [retract(&[]), retract(&[1, 1 << 52])];
        let pins = [pin(None), pin(Some(1 << 50)), unpin];
        for body in [comment("x"), staff]
            .into_iter()
            .chain(retractions)
            .chain(pins)
        {
            let bytes = encode(&body, <[u8]>::to_vec);
            assert_eq!(
                kind(&body) <= COMMENT_MAX,
                matches!(body, EntryBody::Comment { .. })
            );
            assert_eq!(decode(kind(&body), bytes), Some(body));
        }
        assert_eq!(decode(99, Vec::new()), None);
    }
}
