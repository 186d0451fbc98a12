//! Messages to viewers other than batches: JSON texts, and frames that are ready to be written.

use bytes::Bytes;

use crate::close::{CloseReason, Reconnect};
use crate::comment::Role;
use crate::escape::{escape_into, integer_into};
use crate::event::{BatchEvent, events_into};
use crate::head::{Opcode, frame};
use crate::ids::{Epoch, RoomId, Seq};
use crate::inbound::Reference;
use crate::limits::CONTROL_PAYLOAD_BYTES_MAX;
use crate::text::{DisplayName, UserId};

/// The first message to a viewer.
#[derive(Debug, Clone, Copy)]
pub struct Joined<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// The numbering of the room's comments.
    pub epoch: Epoch,
    /// Where everything that follows begins: the accepted `since`, the position just before the requested history,
    /// or the last sealed position.
    pub after: Seq,
    /// The last position sealed: what ends here or before is a replay, live batches begin here.
    pub seq: Seq,
    /// The room's window, in milliseconds.
    pub window_ms: u64,
    /// Viewers of the room.
    pub viewers: u32,
    /// Whether everything after the viewer's `since` follows.
    pub resumed: Resumed,
    /// What is pinned.
    pub pin: Option<Pinned<'a>>,
}

/// A comment that is shown above all others.
#[derive(Debug, Clone, Copy)]
pub struct Pinned<'a> {
    /// The comment as a JSON object.
    pub comment: &'a [u8],
    /// When it is no longer pinned, Unix time in milliseconds.
    pub until_ms: Option<u64>,
}

/// Whether a viewer continues where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// Its position was found.
    Yes,
    /// It gave none, or an unknown one.
    No,
}

impl Joined<'_> {
    /// `{"type":"joined",…}`
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = Object::new("joined");
        json.string("room", self.room.as_str());
        json.integer("epoch", self.epoch.value());
        json.integer("after", self.after.value());
        json.integer("seq", self.seq.value());
        json.integer("window_ms", self.window_ms);
        json.integer("viewers", u64::from(self.viewers));
        json.boolean("resumed", self.resumed == Resumed::Yes);
        if let Some(Pinned { comment, until_ms }) = self.pin {
            json.key("pin");
            json.out.extend_from_slice(b"{\"comment\":");
            json.out.extend_from_slice(comment);
            if let Some(until_ms) = until_ms {
                json.integer("until", until_ms);
            }
            json.out.push(b'}');
        }
        json.finish()
    }
}

/// `{"type":"ack","ref":…,"id":N}`: the log has the comment, at position `id`.
#[must_use]
pub fn ack_json(reference: Option<&Reference>, id: Seq) -> String {
    let mut json = Object::new("ack");
    json.reference(reference);
    json.integer("id", id.value());
    json.finish()
}

/// `{"type":"ack","ref":…,"held":N}`: the comment waits for a moderator, under the name `held`. It has no position yet.
#[must_use]
pub fn held_json(reference: Option<&Reference>, held: u64) -> String {
    let mut json = Object::new("ack");
    json.reference(reference);
    json.integer("held", held);
    json.finish()
}

/// A message from the viewer was refused. The connection stays open.
#[derive(Debug, Clone, Copy)]
pub struct ErrorReply<'a> {
    /// The `ref` of the refused message.
    pub reference: Option<&'a Reference>,
    /// The stable machine-readable code.
    pub code: &'a str,
    /// The member that was wrong.
    pub field: Option<&'a str>,
    /// The message for humans.
    pub message: &'a str,
    /// When to retry the same message.
    pub retry_after_ms: Option<u64>,
}

impl ErrorReply<'_> {
    /// `{"type":"error",…}`; empty members are left out.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = Object::new("error");
        json.reference(self.reference);
        json.string("code", self.code);
        if let Some(field) = self.field {
            json.string("field", field);
        }
        json.string("message", self.message);
        if let Some(retry_after_ms) = self.retry_after_ms {
            json.integer("retry_after_ms", retry_after_ms);
        }
        json.finish()
    }
}

/// `{"type":"gap","after":a,"seq":b,"events":[…]}`: the viewer misses the positions after `after` up to `seq`, but not
/// the events among them.
#[must_use]
pub fn gap_json(after: Seq, seq: Seq, events: &[BatchEvent]) -> String {
    let mut json = Object::new("gap");
    json.integer("after", after.value());
    json.integer("seq", seq.value());
    events_into(&mut json.out, events);
    json.finish()
}

/// `{"type":"closing","reconnect_after_ms":N}`: the server will close this connection soon.
#[must_use]
pub fn closing_json(reconnect_after_ms: u64) -> String {
    let mut json = Object::new("closing");
    json.integer("reconnect_after_ms", reconnect_after_ms);
    json.finish()
}

/// `{"type":"expiring","in_ms":N}`: the connection ends then, unless the viewer sends a new token.
#[must_use]
pub fn expiring_json(in_ms: u64) -> String {
    let mut json = Object::new("expiring");
    json.integer("in_ms", in_ms);
    json.finish()
}

/// The answer to a viewer's `auth` message.
#[derive(Debug, Clone, Copy)]
pub struct Authorized<'a> {
    /// The `ref` of the message.
    pub reference: Option<&'a Reference>,
    /// The user's id.
    pub user: &'a UserId,
    /// The name that others see.
    pub name: Option<&'a DisplayName>,
    /// The user's role in this room.
    pub role: Role,
    /// When the connection ends without a newer token, in milliseconds from now; `None` for never.
    pub expires_in_ms: Option<u64>,
}

impl Authorized<'_> {
    /// `{"type":"authorized",…}`; empty members are left out.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = Object::new("authorized");
        json.reference(self.reference);
        json.string("user", self.user.as_str());
        if let Some(name) = self.name {
            json.string("name", name.as_str());
        }
        json.string("role", self.role.as_str());
        if let Some(expires_in_ms) = self.expires_in_ms {
            json.integer("expires_in_ms", expires_in_ms);
        }
        json.finish()
    }
}

/// `{"type":"close","code":4001,…}`: sent to a viewer without close frames before its connection ends.
pub(crate) fn close_json(reason: CloseReason) -> String {
    let mut json = Object::new("close");
    json.integer("code", u64::from(reason.code()));
    json.string("reason", reason.reason());
    json.boolean("reconnect", reason.reconnect() == Reconnect::Yes);
    json.finish()
}

/// A ping without payload.
#[must_use]
pub fn ping_frame() -> Bytes {
    const PING: [u8; 2] = [0x80 | Opcode::Ping.bits(), 0];
    Bytes::from_static(&PING)
}

/// The answer to a ping with this payload. What is over the limit of a control frame is cut off; no decoded ping is.
#[must_use]
pub fn pong_frame(payload: &[u8]) -> Bytes {
    frame(
        Opcode::Pong,
        &payload[..payload.len().min(CONTROL_PAYLOAD_BYTES_MAX)],
    )
}

/// A close frame with the code and the text of `reason`.
#[must_use]
pub fn close_frame(reason: CloseReason) -> Bytes {
    let mut payload = Vec::with_capacity(2 + reason.reason().len());
    payload.extend_from_slice(&reason.code().to_be_bytes());
    payload.extend_from_slice(reason.reason().as_bytes());
    frame(Opcode::Close, &payload)
}

/// A JSON object in the making.
struct Object {
    out: Vec<u8>,
}

impl Object {
    fn new(kind: &str) -> Self {
        let mut out = Vec::with_capacity(160);
        out.extend_from_slice(b"{\"type\":");
        escape_into(&mut out, kind);
        Self { out }
    }

    /// Keys are our own words and need no escaping.
    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.key(key);
        escape_into(&mut self.out, value);
    }

    fn integer(&mut self, key: &str, value: u64) {
        self.key(key);
        integer_into(&mut self.out, value);
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn reference(&mut self, reference: Option<&Reference>) {
        if let Some(reference) = reference {
            self.key("ref");
            reference.json_into(&mut self.out);
        }
    }

    fn finish(mut self) -> String {
        self.out.push(b'}');
        String::from_utf8(self.out).expect("invariant: JSON made of texts is UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::limits::CommentLimits;

    #[track_caller]
    fn check(input: impl AsRef<str>, expected: &str) {
        let input = input.as_ref();
        serde_json::from_str::<serde_json::Value>(input).unwrap();
        assert_eq!(input, expected);
    }

    #[test]
    fn joined() {
        let room = RoomId::parse("r").unwrap();
        let joined = Joined {
            room: &room,
            epoch: Epoch::new(1_700_000_000_000),
            after: Seq::new(36),
            seq: Seq::new(41),
            window_ms: 1000,
            viewers: 2,
            resumed: Resumed::No,
            pin: None,
        };
        check(
            joined.to_json(),
            r#"{"type":"joined","room":"r","epoch":1700000000000,"after":36,"seq":41,"window_ms":1000,"viewers":2,"resumed":false}"#,
        );
        check(
            Joined {
                resumed: Resumed::Yes,
                pin: Some(Pinned {
                    comment: br#"{"id":9,"text":"x"}"#,
                    until_ms: Some(17),
                }),
                ..joined
            }
            .to_json(),
            r#"{"type":"joined","room":"r","epoch":1700000000000,"after":36,"seq":41,"window_ms":1000,"viewers":2,"resumed":true,"pin":{"comment":{"id":9,"text":"x"},"until":17}}"#,
        );
    }

    #[test]
    fn texts() {
        let text = Reference::Text("a\"1".into());
        check(
            ack_json(Some(&text), Seq::new(7)),
            r#"{"type":"ack","ref":"a\"1","id":7}"#,
        );
        check(
            ack_json(Some(&Reference::Signed(-3)), Seq::new(7)),
            r#"{"type":"ack","ref":-3,"id":7}"#,
        );
        check(ack_json(None, Seq::new(7)), r#"{"type":"ack","id":7}"#);
        let bare = ErrorReply {
            reference: None,
            code: "json_invalid",
            field: None,
            message: "no",
            retry_after_ms: None,
        };
        check(
            bare.to_json(),
            r#"{"type":"error","code":"json_invalid","message":"no"}"#,
        );
        let full = ErrorReply {
            reference: Some(&text),
            field: Some("text"),
            retry_after_ms: Some(250),
            ..bare
        };
        check(
            full.to_json(),
            r#"{"type":"error","ref":"a\"1","code":"json_invalid","field":"text","message":"no","retry_after_ms":250}"#,
        );
        check(
            gap_json(Seq::new(3), Seq::new(9), &[]),
            r#"{"type":"gap","after":3,"seq":9}"#,
        );
        let event = BatchEvent {
            seq: Seq::new(8),
            event: Event::Retract {
                ids: [Seq::new(2)].into(),
            },
        };
        check(
            gap_json(Seq::new(3), Seq::new(9), &[event]),
            r#"{"type":"gap","after":3,"seq":9,"events":[{"id":8,"type":"retract","ids":[2]}]}"#,
        );
        check(
            closing_json(1500),
            r#"{"type":"closing","reconnect_after_ms":1500}"#,
        );
    }

    #[test]
    fn texts_about_tokens() {
        fn check(input: impl AsRef<str>, expected: &str) {
            assert_eq!(input.as_ref(), expected);
        }
        let text = Reference::Text("a\"1".into());
        check(
            expiring_json(60_000),
            r#"{"type":"expiring","in_ms":60000}"#,
        );
        let user = UserId::new("u7", &CommentLimits::default()).unwrap();
        let name = DisplayName::new("mi\"ra", &CommentLimits::default()).unwrap();
        let authorized = Authorized {
            reference: None,
            user: &user,
            name: None,
            role: Role::Viewer,
            expires_in_ms: None,
        };
        check(
            authorized.to_json(),
            r#"{"type":"authorized","user":"u7","role":"viewer"}"#,
        );
        check(
            Authorized {
                reference: Some(&text),
                name: Some(&name),
                expires_in_ms: Some(5),
                ..authorized
            }
            .to_json(),
            r#"{"type":"authorized","ref":"a\"1","user":"u7","name":"mi\"ra","role":"viewer","expires_in_ms":5}"#,
        );
    }

    #[test]
    fn frames() {
        fn check(input: &Bytes, expected: &[u8]) {
            assert_eq!(&input[..], expected);
        }
        check(&ping_frame(), b"\x89\x00");
        check(&pong_frame(b"abc"), b"\x8a\x03abc");
        assert_eq!(pong_frame(&[0; 200]).len(), 2 + 125);
        check(&close_frame(CloseReason::Normal), b"\x88\x02\x03\xe8");
        check(
            &close_frame(CloseReason::TooBig),
            b"\x88\x11\x03\xf1message too big",
        );
    }
}
