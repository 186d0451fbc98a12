//! What a client posts.

use serde::{Deserialize, Serialize};

use danmaku_wire::{IdempotencyKey, Mode, Seq};

/// A comment to post. Members that are `None` are left out, so the server's defaults apply.
///
/// The values are not checked here; the server checks them, and its answer names the offending field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewComment {
    /// The text.
    pub text: String,
    /// Who posts, according to the poster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How the text moves.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "mode_as_name"
    )]
    pub mode: Option<Mode>,
    /// `0xRRGGBB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<u32>,
    /// Font size in the player's pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// The id of the comment it replies to.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "seq_as_number"
    )]
    pub reply_to: Option<Seq>,
    /// Application data: an object that viewers get unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

impl NewComment {
    /// A comment with only a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// The WebSocket message that posts this comment.
    pub(crate) fn message(
        &self,
        reference: Option<&Reference>,
        key: Option<&IdempotencyKey>,
    ) -> String {
        let message = CommentMessage {
            kind: "comment",
            reference,
            key: key.map(IdempotencyKey::as_str),
            comment: self,
        };
        serde_json::to_string(&message).expect("invariant: JSON values always serialise")
    }
}

/// What the server echoes in its answer, so that the poster can match it with the message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reference {
    /// An integer.
    Number(i64),
    /// A text of at most 64 bytes.
    Text(String),
}

impl From<i64> for Reference {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Reference {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[derive(Serialize)]
struct CommentMessage<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(flatten)]
    comment: &'a NewComment,
}

#[expect(clippy::ref_option, reason = "the shape serde asks for")]
fn mode_as_name<S: serde::Serializer>(
    mode: &Option<Mode>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match mode {
        Some(mode) => serializer.serialize_str(mode.as_str()),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::ref_option, reason = "the shape serde asks for")]
fn seq_as_number<S: serde::Serializer>(
    seq: &Option<Seq>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match seq {
        Some(seq) => serializer.serialize_u64(seq.value()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimal_comment_has_only_its_text() {
        let json = serde_json::to_string(&NewComment::new("前方高能")).unwrap();
        assert_eq!(json, r#"{"text":"前方高能"}"#);
    }

    #[test]
    fn a_full_comment_has_every_member() {
        let comment = NewComment {
            text: "hi \"you\"".to_owned(),
            user: Some("u1".to_owned()),
            name: Some("Ada".to_owned()),
            mode: Some(Mode::Bottom),
            color: Some(0x00FF_0000),
            size: Some(36),
            reply_to: Some(Seq::new(41)),
            data: Some(serde_json::json!({"gift": 7})),
        };
        let key = IdempotencyKey::new("k-1").unwrap();
        assert_eq!(
            comment.message(Some(&Reference::from(7)), Some(&key)),
            r#"{"type":"comment","ref":7,"key":"k-1","text":"hi \"you\"","user":"u1","name":"Ada","mode":"bottom","color":16711680,"size":36,"reply_to":41,"data":{"gift":7}}"#
        );
    }

    #[test]
    fn a_reference_keeps_its_kind() {
        let number: Reference = serde_json::from_str("5").unwrap();
        let text: Reference = serde_json::from_str("\"5\"").unwrap();
        assert_eq!((number, text), (Reference::Number(5), Reference::from("5")));
    }
}
