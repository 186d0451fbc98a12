//! The server's messages, as types.

pub(crate) mod raw;

use serde::Deserialize;

use danmaku_wire::{Epoch, Mode, Position, Seq};

use crate::comment::Reference;
use raw::{RawBatch, RawGap, RawJoined};

/// One message of the server, or the end of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first message of every connection.
    Joined(Joined),
    /// The comments of one window.
    Batch(Batch),
    /// A comment of this connection was accepted.
    Ack(Ack),
    /// A message of this connection was refused; the connection stays.
    Error(ServerError),
    /// Positions this viewer will not get, and the events among them.
    Gap(Gap),
    /// The server is about to close the connection.
    Closing(Closing),
    /// A type this client does not know: later versions of the protocol may add some.
    Other(String),
    /// The connection ended. Always the last event.
    Closed(Closed),
}

/// The room and the position a viewer starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The room's name.
    pub room: String,
    /// The run of positions the room is in.
    pub epoch: Epoch,
    /// Where everything that follows begins: the accepted `since`, the position just before the requested history, or the
    /// last sealed position.
    pub after: Seq,
    /// The last sealed position: a batch or gap that ends at or below it is a replay.
    pub seq: Seq,
    /// How long the room coalesces, in milliseconds.
    pub window_ms: u64,
    /// Viewers of the room.
    pub viewers: u32,
    /// Whether everything after the requested position follows. If not, a client clears its list.
    pub resumed: bool,
}

/// What happened in a room in one window. It covers every position in (`after`, `seq`] and begins where the previous
/// batch or gap ended; not every position has a comment or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where the batch or gap before ended.
    pub after: Seq,
    /// The last position it covers, where a viewer resumes; `after` if it only carries likes.
    pub seq: Seq,
    /// When it was sealed, in milliseconds since the Unix epoch; the log time of its last entry when it was read from the log.
    pub ts_ms: u64,
    /// Viewers of the room.
    pub viewers: u32,
    /// Likes since the previous batch.
    pub likes: u64,
    /// Accepted comments that were left out because there were too many.
    pub shed: u32,
    /// The comments, each with its position.
    pub comments: Vec<Comment>,
    /// The events, by position. They apply after the comments.
    pub events: Vec<RoomEvent>,
}

/// A comment as a viewer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Its position in the room.
    pub id: Seq,
    /// When the log took it, in milliseconds since the Unix epoch; in a batch to the tenth of a second, rounded towards the
    /// batch's time, and at most 99.9 s before it.
    pub at_ms: u64,
    /// The text.
    pub text: String,
    /// Who posted.
    pub user: Option<String>,
    /// The name to show.
    pub name: Option<String>,
    /// How the text moves.
    pub mode: Mode,
    /// `0xRRGGBB`.
    pub color: u32,
    /// Font size.
    pub size: u32,
    /// The sender's role, when it is not that of a plain viewer.
    pub role: Option<String>,
    /// The id of the comment it answers.
    pub reply_to: Option<Seq>,
    /// What the application added.
    pub data: Option<serde_json::Value>,
}

/// Something in a room that is not a comment but has a position like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomEvent {
    /// Its position in the room.
    pub id: Seq,
    /// When the log took it, in milliseconds since the Unix epoch; only [`HttpClient::comments`](crate::HttpClient::comments)
    /// knows it.
    pub at_ms: Option<u64>,
    /// What happened.
    pub kind: RoomEventKind,
}

/// What happened in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoomEventKind {
    /// Comments were retracted: a player removes them.
    Retract {
        /// Their ids, each below the event's own.
        ids: Vec<Seq>,
    },
    /// A type this client does not know: later versions of the protocol may add some.
    Other(String),
}

/// A comment was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ack {
    /// The reference of the message, as it was sent.
    #[serde(rename = "ref", default)]
    pub reference: Option<Reference>,
    /// The position of the comment; 0 for one that is held.
    #[serde(default = "no_seq", deserialize_with = "seq")]
    pub id: Seq,
    /// Set if a moderator has to allow the comment first.
    #[serde(default)]
    pub held: Option<u64>,
}

/// A message was refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ServerError {
    /// The reference of the message, as it was sent.
    #[serde(rename = "ref", default)]
    pub reference: Option<Reference>,
    /// The cause, for programs.
    pub code: String,
    /// The member of the message at fault.
    #[serde(default)]
    pub field: Option<String>,
    /// The cause, for people.
    #[serde(default)]
    pub message: String,
    /// How long to wait before trying again.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// The positions in (`after`, `seq`] are not delivered. It begins where the batch or gap before ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last position before the missing ones.
    pub after: Seq,
    /// The last missing position, where a viewer resumes.
    pub seq: Seq,
    /// The events among them, by position: they are never skipped.
    pub events: Vec<RoomEvent>,
}

/// The server is about to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Closing {
    /// When to connect again, in milliseconds from now.
    #[serde(default)]
    pub reconnect_after_ms: u64,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Closed {
    /// The close code; 1005 when the close frame had none and 1006 when there was no close frame (RFC 6455 section 7.1.5).
    pub code: u16,
    /// The reason, as the server gave it.
    #[serde(default)]
    pub reason: String,
}

impl Closed {
    pub(crate) const NO_STATUS: u16 = 1005;
    /// The code of a connection that ended without a close frame.
    pub const ABNORMAL: u16 = 1006;
}

impl Event {
    /// Reads one message: a text message, the plain text of a packed one, or the data of a server-sent event.
    ///
    /// # Errors
    /// A message that is not a JSON object with a `type`, or lacks a member its type must have.
    pub fn parse(json: &[u8]) -> Result<Self, EventError> {
        let kind = serde_json::from_slice::<Kind<'_>>(json)?.kind;
        Ok(match &*kind {
            "batch" => Self::Batch(RawBatch::parse(json)?),
            "joined" => Self::Joined(RawJoined::parse(json)?),
            "ack" => Self::Ack(serde_json::from_slice(json)?),
            "error" => Self::Error(serde_json::from_slice(json)?),
            "gap" => Self::Gap(RawGap::parse(json)?),
            "closing" => Self::Closing(serde_json::from_slice(json)?),
            // Server-sent events have no close frame.
            "close" => Self::Closed(serde_json::from_slice(json)?),
            _ => Self::Other(kind.into_owned()),
        })
    }
}

impl Joined {
    /// The position to resume from when nothing has been received yet.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            seq: self.after,
        }
    }
}

/// Why a message from the server cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not JSON, or a member is missing or of the wrong type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A mode that the protocol does not have.
    #[error("unknown comment mode `{0}`")]
    Mode(String),
    /// A batch whose `ids` or `at` do not have one entry for each comment.
    #[error("`{0}` does not have one entry for each comment")]
    Entries(&'static str),
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

fn no_seq() -> Seq {
    Seq::ZERO
}

fn seq<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Seq, D::Error> {
    u64::deserialize(deserializer).map(Seq::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Event {
        Event::parse(json.as_bytes()).unwrap()
    }

    fn batch(json: &str) -> Batch {
        match parse(json) {
            Event::Batch(batch) => batch,
            other => panic!("not a batch: {other:?}"),
        }
    }

    fn ids(batch: &Batch) -> Vec<u64> {
        let ids = batch.comments.iter().map(|comment| comment.id.value());
        ids.collect()
    }

    #[test]
    fn ids_are_differences_and_times_are_tenths_before_the_batch() {
        let batch = batch(
            r#"{"type":"batch","after":41,"seq":47,"ts":10000,"viewers":17,"likes":3,"shed":1,"ids":[1,3],"at":[9,4],"comments":[{"text":"a"},{"text":"b"}],"events":[{"id":47,"type":"retract","ids":[39,46]}]}"#,
        );
        assert_eq!((batch.after.value(), batch.seq.value()), (41, 47));
        assert_eq!(ids(&batch), [42, 45]);
        let times: Vec<u64> = batch.comments.iter().map(|comment| comment.at_ms).collect();
        assert_eq!(times, [9100, 9600]);
        let retraction = RoomEvent {
            id: Seq::new(47),
            at_ms: None,
            kind: RoomEventKind::Retract {
                ids: vec![Seq::new(39), Seq::new(46)],
            },
        };
        assert_eq!(batch.events, [retraction]);
    }

    #[test]
    fn omitted_ids_are_consecutive_and_omitted_times_are_the_batchs() {
        let batch = batch(
            r#"{"type":"batch","after":9,"seq":12,"ts":5,"viewers":3,"comments":[{"text":"a"},{"text":"b"}]}"#,
        );
        assert_eq!(ids(&batch), [10, 11]);
        assert_eq!((batch.comments[1].at_ms, batch.shed), (5, 0));
    }

    #[test]
    fn a_batch_of_likes_covers_no_position() {
        let batch = batch(
            r#"{"type":"batch","after":10,"seq":10,"ts":5,"viewers":3,"likes":9,"comments":[]}"#,
        );
        assert_eq!((batch.after, batch.likes), (batch.seq, 9));
    }

    #[test]
    fn an_event_of_a_later_version_is_kept_by_its_type() {
        let batch = batch(
            r#"{"type":"batch","after":1,"seq":2,"comments":[],"events":[{"id":2,"type":"pin","text":"x","ids":"all"}]}"#,
        );
        assert_eq!(batch.events[0].kind, RoomEventKind::Other("pin".to_owned()));
    }

    #[test]
    fn omitted_members_have_their_defaults() {
        let batch = batch(
            r#"{"type":"batch","after":0,"seq":2,"ts":5,"viewers":3,"comments":[{"text":"a"},{"text":"b","mode":"top","color":255,"size":18,"user":"u","name":"n","role":"streamer","reply_to":1,"data":{"gift":7}}]}"#,
        );
        let plain = &batch.comments[0];
        assert_eq!(
            (plain.mode, plain.color, plain.size),
            (Mode::Scroll, 0xFF_FFFF, 25)
        );
        let full = &batch.comments[1];
        assert_eq!((full.mode, full.color, full.size), (Mode::Top, 255, 18));
        assert_eq!(full.role.as_deref(), Some("streamer"));
        assert_eq!(full.reply_to, Some(Seq::new(1)));
        assert_eq!(full.data, Some(serde_json::json!({"gift": 7})));
        assert_eq!((plain.reply_to, &plain.data), (None, &None));
    }

    #[test]
    fn other_messages_are_parsed() {
        assert_eq!(
            parse(
                r#"{"type":"joined","room":"r","epoch":7,"after":1,"seq":3,"window_ms":1000,"viewers":2,"resumed":true}"#
            ),
            Event::Joined(Joined {
                room: "r".to_owned(),
                epoch: Epoch::new(7),
                after: Seq::new(1),
                seq: Seq::new(3),
                window_ms: 1000,
                viewers: 2,
                resumed: true,
            })
        );
        assert_eq!(
            parse(r#"{"type":"ack","ref":"x","id":4}"#),
            Event::Ack(Ack {
                reference: Some(Reference::from("x")),
                id: Seq::new(4),
                held: None,
            })
        );
        assert_eq!(
            parse(r#"{"type":"ack","id":4}"#),
            Event::Ack(Ack {
                reference: None,
                id: Seq::new(4),
                held: None,
            })
        );
        assert_eq!(
            parse(r#"{"type":"ack","held":4}"#),
            Event::Ack(Ack {
                reference: None,
                id: Seq::ZERO,
                held: Some(4),
            })
        );
        assert_eq!(
            parse(r#"{"type":"gap","after":2,"seq":5}"#),
            Event::Gap(Gap {
                after: Seq::new(2),
                seq: Seq::new(5),
                events: Vec::new(),
            })
        );
        assert_eq!(
            parse(r#"{"type":"close","code":4001,"reason":"reading too slowly","reconnect":true}"#),
            Event::Closed(Closed {
                code: 4001,
                reason: "reading too slowly".to_owned(),
            })
        );
        assert_eq!(
            parse(r#"{"type":"closing","reconnect_after_ms":1500}"#),
            Event::Closing(Closing {
                reconnect_after_ms: 1500
            })
        );
        assert_eq!(
            parse(r#"{"type":"notice","text":"hi"}"#),
            Event::Other("notice".to_owned())
        );
        let Event::Error(error) =
            parse(r#"{"type":"error","ref":1,"code":"rate_limited","retry_after_ms":250}"#)
        else {
            panic!("not an error");
        };
        assert_eq!(
            (error.code.as_str(), error.retry_after_ms),
            ("rate_limited", Some(250))
        );
    }

    #[test]
    fn invalid_messages_are_refused() {
        for json in [
            "",
            "[]",
            "{}",
            "{\"type\":1}",
            "{\"type\":\"gap\",\"after\":1}",
            "{\"type\":\"batch\",\"after\":0,\"seq\":1}",
            "{\"type\":\"batch\",\"after\":0,\"seq\":1,\"ids\":[1],\"comments\":[]}",
            "{\"type\":\"batch\",\"after\":0,\"seq\":1,\"at\":[1],\"comments\":[]}",
        ] {
            assert!(Event::parse(json.as_bytes()).is_err(), "for {json:?}");
        }
        let odd_mode =
            br#"{"type":"batch","after":0,"seq":1,"comments":[{"text":"a","mode":"spiral"}]}"#;
        assert!(matches!(Event::parse(odd_mode), Err(EventError::Mode(mode)) if mode == "spiral"));
    }
}
