//! What a server says, as types.

use serde::Deserialize;

use danmaku_wire::{Epoch, Mode, Position, Seq};

use crate::comment::Reference;

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
    /// Positions this viewer will not get.
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
    /// The numbering of the room.
    pub epoch: Epoch,
    /// The last sealed position: the next live batch starts after it.
    pub seq: Seq,
    /// How long the room coalesces, in milliseconds.
    pub window_ms: u64,
    /// Viewers of the room.
    pub viewers: u32,
    /// Whether everything after the asked position follows.
    pub resumed: bool,
}

/// The comments of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The first position this batch covers.
    pub seq: Seq,
    /// When the batch was sealed, in milliseconds since the Unix epoch.
    pub ts_ms: u64,
    /// Viewers of the room.
    pub viewers: u32,
    /// Likes since the batch before.
    pub likes: u64,
    /// Comments of this window that were accepted and then left out.
    pub shed: u32,
    /// The comments, each with its position.
    pub comments: Vec<Comment>,
}

impl Batch {
    /// How many positions the batch covers, shed ones included.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.comments.len() as u64 + u64::from(self.shed)
    }

    /// The last position the batch covers, where a viewer would resume; the one before `seq` when it covers none.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq::new((self.seq.value() + self.covered()).saturating_sub(1))
    }
}

/// A comment as a viewer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Its position in the room.
    pub id: Seq,
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
}

/// A comment was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ack {
    /// The reference of the message, as it was sent.
    #[serde(rename = "ref", default)]
    pub reference: Option<Reference>,
    /// The position of the comment.
    #[serde(deserialize_with = "seq")]
    pub id: Seq,
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

/// Positions `from` to `to`, both included, were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Gap {
    /// The first missed position.
    #[serde(deserialize_with = "seq")]
    pub from: Seq,
    /// The last missed position.
    #[serde(deserialize_with = "seq")]
    pub to: Seq,
}

/// The server is about to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Closing {
    /// When to connect again, in milliseconds from now.
    #[serde(default)]
    pub reconnect_after_ms: u64,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The close code; 1005 when the close frame had none and 1006 when there was no close frame (RFC 6455 section 7.1.5).
    pub code: u16,
    /// The reason in the close frame.
    pub reason: String,
}

impl Closed {
    pub(crate) const NO_STATUS: u16 = 1005;
    pub(crate) const ABNORMAL: u16 = 1006;
}

impl Event {
    /// Reads one text message, or the plain text of one batch.
    ///
    /// # Errors
    /// What is no JSON object with a `type`, or lacks a member its type must have.
    pub fn parse(json: &[u8]) -> Result<Self, EventError> {
        let kind = serde_json::from_slice::<Kind<'_>>(json)?.kind;
        Ok(match &*kind {
            "batch" => Self::Batch(RawBatch::parse(json)?),
            "joined" => Self::Joined(RawJoined::parse(json)?),
            "ack" => Self::Ack(serde_json::from_slice(json)?),
            "error" => Self::Error(serde_json::from_slice(json)?),
            "gap" => Self::Gap(serde_json::from_slice(json)?),
            "closing" => Self::Closing(serde_json::from_slice(json)?),
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
            seq: self.seq,
        }
    }
}

/// Why a message of the server is not understood.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not JSON, or a member is missing or of the wrong type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A comment's mode that is none of the protocol's.
    #[error("unknown comment mode `{0}`")]
    Mode(String),
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawJoined {
    room: String,
    epoch: u64,
    seq: u64,
    window_ms: u64,
    #[serde(default)]
    viewers: u32,
    #[serde(default)]
    resumed: bool,
}

impl RawJoined {
    fn parse(json: &[u8]) -> Result<Joined, EventError> {
        let Self {
            room,
            epoch,
            seq,
            window_ms,
            viewers,
            resumed,
        } = serde_json::from_slice(json)?;
        Ok(Joined {
            room,
            epoch: Epoch::new(epoch),
            seq: Seq::new(seq),
            window_ms,
            viewers,
            resumed,
        })
    }
}

#[derive(Deserialize)]
struct RawBatch {
    seq: u64,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    viewers: u32,
    #[serde(default)]
    likes: u64,
    #[serde(default)]
    shed: u32,
    comments: Vec<RawComment>,
}

impl RawBatch {
    fn parse(json: &[u8]) -> Result<Batch, EventError> {
        let Self {
            seq,
            ts,
            viewers,
            likes,
            shed,
            comments,
        } = serde_json::from_slice(json)?;
        let mut next = seq;
        let comments = comments
            .into_iter()
            .map(|raw| {
                let id = raw.id.unwrap_or(next);
                next = id.saturating_add(1);
                raw.comment(Seq::new(id))
            })
            .collect::<Result<_, _>>()?;
        Ok(Batch {
            seq: Seq::new(seq),
            ts_ms: ts,
            viewers,
            likes,
            shed,
            comments,
        })
    }
}

#[derive(Deserialize)]
struct RawComment {
    id: Option<u64>,
    text: String,
    user: Option<String>,
    name: Option<String>,
    mode: Option<String>,
    color: Option<u32>,
    size: Option<u32>,
    role: Option<String>,
}

/// What a left-out `color` means: white.
const COLOR_DEFAULT: u32 = 0x00FF_FFFF;
/// What a left-out `size` means.
const SIZE_DEFAULT: u32 = 25;

impl RawComment {
    fn comment(self, id: Seq) -> Result<Comment, EventError> {
        let Self {
            id: _,
            text,
            user,
            name,
            mode,
            color,
            size,
            role,
        } = self;
        let mode = match mode.as_deref() {
            None | Some("scroll") => Mode::Scroll,
            Some("top") => Mode::Top,
            Some("bottom") => Mode::Bottom,
            Some(_) => return Err(EventError::Mode(mode.unwrap_or_default())),
        };
        let color = color.unwrap_or(COLOR_DEFAULT);
        Ok(Comment {
            id,
            text,
            user,
            name,
            mode,
            color,
            size: size.unwrap_or(SIZE_DEFAULT),
            role,
        })
    }
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

    #[test]
    fn ids_count_from_seq_until_a_comment_names_its_own() {
        let batch = batch(
            r#"{"type":"batch","seq":10,"ts":5,"viewers":3,"shed":2,"comments":[{"text":"a"},{"text":"b","id":13},{"text":"c"}]}"#,
        );
        let ids: Vec<u64> = batch
            .comments
            .iter()
            .map(|comment| comment.id.value())
            .collect();
        assert_eq!(ids, [10, 13, 14]);
        assert_eq!((batch.covered(), batch.last().value()), (5, 14));
    }

    #[test]
    fn a_batch_of_likes_covers_nothing() {
        let batch =
            batch(r#"{"type":"batch","seq":10,"ts":5,"viewers":3,"likes":9,"comments":[]}"#);
        assert_eq!(
            (batch.covered(), batch.last().value(), batch.likes),
            (0, 9, 9)
        );
    }

    #[test]
    fn left_out_members_have_their_defaults() {
        let batch = batch(
            r#"{"type":"batch","seq":1,"ts":5,"viewers":3,"comments":[{"text":"a"},{"text":"b","mode":"top","color":255,"size":18,"user":"u","name":"n","role":"streamer"}]}"#,
        );
        let plain = &batch.comments[0];
        assert_eq!(
            (plain.mode, plain.color, plain.size),
            (Mode::Scroll, 0xFF_FFFF, 25)
        );
        let full = &batch.comments[1];
        assert_eq!((full.mode, full.color, full.size), (Mode::Top, 255, 18));
        assert_eq!(full.role.as_deref(), Some("streamer"));
    }

    #[test]
    fn every_other_message() {
        assert_eq!(
            parse(
                r#"{"type":"joined","room":"r","epoch":7,"seq":3,"window_ms":1000,"viewers":2,"resumed":true}"#
            ),
            Event::Joined(Joined {
                room: "r".to_owned(),
                epoch: Epoch::new(7),
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
                id: Seq::new(4)
            })
        );
        assert_eq!(
            parse(r#"{"type":"ack","id":4}"#),
            Event::Ack(Ack {
                reference: None,
                id: Seq::new(4)
            })
        );
        assert_eq!(
            parse(r#"{"type":"gap","from":2,"to":5}"#),
            Event::Gap(Gap {
                from: Seq::new(2),
                to: Seq::new(5)
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
    fn what_is_no_message_is_refused() {
        for json in [
            "",
            "[]",
            "{}",
            "{\"type\":1}",
            "{\"type\":\"gap\",\"from\":1}",
            "{\"type\":\"batch\",\"seq\":1}",
        ] {
            assert!(Event::parse(json.as_bytes()).is_err(), "for {json:?}");
        }
        let odd_mode = br#"{"type":"batch","seq":1,"comments":[{"text":"a","mode":"spiral"}]}"#;
        assert!(matches!(Event::parse(odd_mode), Err(EventError::Mode(mode)) if mode == "spiral"));
    }
}
