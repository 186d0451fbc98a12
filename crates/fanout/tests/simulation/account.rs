//! What a viewer may rely on: every position of its room after its join is received, or told as shed, or told as a
//! gap; once, and in order.

use danmaku_wire::Position;
use serde_json::Value;

/// Follows the positions that one connection was told.
#[derive(Debug)]
pub(crate) struct Account {
    room: usize,
    since: Option<Position>,
    /// The position that must come next; `None` before `joined`.
    next: Option<u64>,
    /// Batches received.
    pub(crate) batches: u64,
    /// Positions received as comments.
    pub(crate) received: u64,
    /// Positions told as shed.
    pub(crate) shed: u64,
    /// Positions told as missed.
    pub(crate) missed: u64,
}

impl Account {
    /// The account of a viewer of the room that joins, after `since` when it comes back.
    pub(crate) fn new(room: usize, since: Option<Position>) -> Self {
        Self {
            room,
            since,
            next: None,
            batches: 0,
            received: 0,
            shed: 0,
            missed: 0,
        }
    }

    /// The last position that this viewer knows of, which is what it would resume after.
    pub(crate) fn last(&self) -> Option<u64> {
        self.next.map(|next| next - 1)
    }

    /// Takes in a text message or an unpacked batch.
    pub(crate) fn take(&mut self, message: &Value) {
        match message["type"].as_str() {
            Some("joined") => self.joined(message),
            Some("batch") => self.batch(message),
            Some("gap") => self.gap(message),
            _ => panic!("not expected: {message}"),
        }
    }

    fn joined(&mut self, message: &Value) {
        assert_eq!(self.next, None, "joined twice");
        let sealed = number(message, "seq");
        self.next = Some(match self.since {
            // Whole or not, what comes after `since` is accounted for.
            Some(since)
                if since.epoch.value() == number(message, "epoch")
                    && since.seq.value() <= sealed =>
            {
                since.seq.value() + 1
            }
            _ => sealed + 1,
        });
    }

    fn batch(&mut self, message: &Value) {
        let first = number(message, "seq");
        assert_eq!(
            Some(first),
            self.next,
            "out of order, twice or lost: {message}"
        );
        let comments = message["comments"].as_array().expect("a list of comments");
        let shed = message
            .get("shed")
            .map_or(0, |shed| shed.as_u64().expect("a count"));
        let end = first + comments.len() as u64 + shed;
        let mut expected = first;
        for comment in comments {
            let id = comment
                .get("id")
                .map_or(expected, |id| id.as_u64().expect("a position"));
            assert!(
                (expected..end).contains(&id),
                "position {id} is not in {expected}..{end}: {message}"
            );
            assert_eq!(
                comment["text"],
                text(self.room, id),
                "another comment has this position"
            );
            expected = id + 1;
        }
        self.batches += 1;
        self.received += comments.len() as u64;
        self.shed += shed;
        self.next = Some(end);
    }

    fn gap(&mut self, message: &Value) {
        let (from, to) = (number(message, "from"), number(message, "to"));
        assert_eq!(Some(from), self.next, "a gap in the wrong place: {message}");
        assert!(to >= from, "an empty gap: {message}");
        self.missed += to - from + 1;
        self.next = Some(to + 1);
    }
}

/// The one comment that may stand at this position.
pub(crate) fn text(room: usize, seq: u64) -> String {
    // Some are long, so that batches differ in size and deflate has something to find.
    let tail = " 前方高能".repeat(usize::try_from(seq % 7).unwrap_or(0));
    format!("room {room} comment {seq}{tail}")
}

fn number(message: &Value, name: &str) -> u64 {
    message[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} of {message}"))
}
