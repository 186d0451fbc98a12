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
        for body in [comment("x"), staff, retract(&[]), retract(&[1, 1 << 52])] {
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
