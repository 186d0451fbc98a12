//! What a viewer may rely on: everything after its join is told in one chain, once and in order; comments are
//! received, or told as shed, or taken back, or in a gap; events are never missed.

use danmaku_wire::Position;
use serde_json::Value;

use crate::truth::Truth;

/// Follows what one connection was told.
#[derive(Debug)]
pub(crate) struct Account {
    room: usize,
    since: Option<Position>,
    /// Where the viewer came in; `None` before `joined`.
    first: Option<u64>,
    /// Where the next message must begin.
    last: Option<u64>,
    /// Batches received.
    pub(crate) batches: u64,
    /// Gaps received, from and to.
    pub(crate) gaps: Vec<(u64, u64)>,
    /// The ids of events received.
    pub(crate) events: Vec<u64>,
}

impl Account {
    /// The account of a viewer of the room that joins, after `since` when it comes back.
    pub(crate) fn new(room: usize, since: Option<Position>) -> Self {
        Self {
            room,
            since,
            first: None,
            last: None,
            batches: 0,
            gaps: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The last position that this viewer knows of, which is what it would resume after.
    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }

    /// Enters a text message or an unpacked batch.
    pub(crate) fn ingest(&mut self, message: &Value, truth: &Truth) {
        match message["type"].as_str() {
            Some("joined") => self.joined(message),
            Some("batch") => self.batch(message, truth),
            Some("gap") => self.gap(message),
            _ => panic!("not expected: {message}"),
        }
    }

    /// Nothing up to `sealed` is missing.
    pub(crate) fn check_complete(&self, sealed: u64, truth: &Truth) {
        assert_eq!(self.last, Some(sealed), "{self:#?}");
        let first = self.first.expect("it has joined");
        assert_eq!(
            self.events,
            truth.events(first, sealed),
            "an event is missing or came twice: {self:#?}"
        );
    }

    fn joined(&mut self, message: &Value) {
        assert_eq!(self.last, None, "joined twice");
        let (after, sealed) = (number(message, "after"), number(message, "seq"));
        let epoch = number(message, "epoch");
        let since = self
            .since
            .filter(|since| since.epoch.value() == epoch && since.seq.value() <= sealed);
        // Whole or not, what comes after `since` is accounted for.
        let expected = since.map_or(sealed, |since| since.seq.value());
        assert_eq!(after, expected, "{message}");
        assert_eq!(message["resumed"], since.is_some(), "{message}");
        self.first = Some(after);
        self.last = self.first;
    }

    fn batch(&mut self, message: &Value, truth: &Truth) {
        let (after, seq) = self.extend(message);
        let comments = list(message, "comments");
        let steps = list(message, "ids").iter().map(|step| step.as_u64());
        let steps: Vec<_> = steps.map(|step| step.expect("a step")).collect();
        assert!(steps.is_empty() || steps.len() == comments.len());
        let mut ids = Vec::new();
        let mut id = after;
        for (index, comment) in comments.iter().enumerate() {
            id += steps.get(index).copied().unwrap_or(1);
            assert!(ids.last() < Some(&id) && id <= seq, "{message}");
            assert_eq!(
                comment["text"],
                text(self.room, id),
                "another comment has this position"
            );
            ids.push(id);
        }
        let shed = message.get("shed").map_or(0, |_| number(message, "shed"));
        truth.audit(after, seq, &ids, shed);
        self.batches += 1;
    }

    fn gap(&mut self, message: &Value) {
        let (after, seq) = self.extend(message);
        assert!(after < seq, "an empty gap: {message}");
        self.gaps.push((after, seq));
    }

    /// Enters a stretch of positions with its events.
    fn extend(&mut self, message: &Value) -> (u64, u64) {
        let (after, seq) = (number(message, "after"), number(message, "seq"));
        assert_eq!(
            Some(after),
            self.last,
            "out of order, twice or lost: {message}"
        );
        assert!(after <= seq, "{message}");
        self.last = Some(seq);
        for event in list(message, "events") {
            let id = number(event, "id");
            let is_next = self.events.last() < Some(&id);
            assert!(is_next && (after + 1..=seq).contains(&id), "{message}");
            assert_eq!(event["type"], "retract");
            self.events.push(id);
        }
        (after, seq)
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

fn list<'a>(message: &'a Value, name: &str) -> &'a [Value] {
    message
        .get(name)
        .map_or(&[], |list| list.as_array().expect("a list"))
}
