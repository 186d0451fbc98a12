//! What viewers send: messages on their connection, and bodies they post.

use std::fmt;
use std::num::NonZeroU32;

use crate::comment::{Color, Comment, FontSize, Mode, Role};
use crate::data::CommentData;
use crate::escape::{escape_into, integer_into};
use crate::ids::Seq;
use crate::limits::{COLOR_MAX, CommentLimits, FONT_SIZE_MAX, FONT_SIZE_MIN};
use crate::problem::{Fault, Field, Problem};
use crate::tape::{Elements, Value, with_document};
use crate::text::{CommentText, DisplayName, IdempotencyKey, UserId, check_bytes};

/// A checked message from a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// `{"type":"comment",…}`
    Comment {
        /// The `ref` for the answer.
        reference: Option<Reference>,
        /// Identifies the post for retries, like the `Idempotency-Key` header.
        key: Option<IdempotencyKey>,
        /// The comment.
        comment: Comment,
    },
    /// `{"type":"auth","token":"…"}`
    Auth {
        /// The `ref` for the answer.
        reference: Option<Reference>,
        /// The token, not checked.
        token: Secret,
    },
    /// `{"type":"like","count":n}`
    Like {
        /// How many likes it adds; 1 by default.
        count: NonZeroU32,
    },
}

/// What somebody shows to be let in. It is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The `ref` of a message, echoed unchanged in its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A string.
    Text(Box<str>),
    /// A negative integer.
    Signed(i64),
    /// Any other integer.
    Unsigned(u64),
}

impl Reference {
    pub(crate) fn json_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => escape_into(out, text),
            Self::Signed(value) => {
                if *value < 0 {
                    out.push(b'-');
                }
                integer_into(out, value.unsigned_abs());
            }
            Self::Unsigned(value) => integer_into(out, *value),
        }
    }
}

/// Why a message is refused, and the `ref` its sender gave it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct InboundError {
    /// The `ref`, when that much could be read.
    pub reference: Option<Reference>,
    /// What is wrong.
    pub problem: Problem,
}

impl InboundError {
    /// The stable machine-readable code, such as `text_too_long`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.problem.code()
    }

    /// The name of the JSON member that is wrong.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        self.problem.field.name()
    }

    /// The message for humans.
    #[must_use]
    pub fn message(&self) -> String {
        self.problem.to_string()
    }
}

/// The checked comments of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// The body was one object.
    One(Comment),
    /// The body was an array with at least one object.
    Many(Vec<Comment>),
}

/// Why a posted body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostedError {
    /// The index of the invalid element; `None` if the body is not an array, or invalid as a whole.
    pub index: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

impl PostedError {
    /// The stable machine-readable code, such as `text_too_long`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.problem.code()
    }

    /// The message for humans.
    #[must_use]
    pub fn message(&self) -> String {
        self.to_string()
    }
}

impl std::error::Error for PostedError {}

impl std::fmt::Display for PostedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(index) = self.index {
            write!(f, "comment {index}: ")?;
        }
        self.problem.fmt(f)
    }
}

/// Reads one text message of a viewer. `bytes` is overwritten: strings are unescaped in place.
///
/// # Errors
/// The first thing that is wrong with it, in the order type, then the fields of the type.
pub fn parse_client_message(
    bytes: &mut [u8],
    limits: &CommentLimits,
) -> Result<ClientMessage, InboundError> {
    let json = |fault| InboundError {
        reference: None,
        problem: Problem::new(Field::Json, fault),
    };
    with_document(bytes, |document| match document {
        Value::Object(members) => client_message(&Members::new(members), limits),
        _ => Err(json(Fault::WrongType)),
    })
    .unwrap_or_else(|| Err(json(Fault::Invalid)))
}

/// Reads the body of an HTTP request: one comment object, or an array of them. `bytes` is overwritten.
///
/// # Errors
/// The first thing that is wrong with it. No part of a body with an error may be accepted.
pub fn parse_posted(bytes: &mut [u8], limits: &CommentLimits) -> Result<Posted, PostedError> {
    let whole = |field, fault| PostedError {
        index: None,
        problem: Problem::new(field, fault),
    };
    with_document(bytes, |document| match document {
        Value::Array(elements) if elements.len() == 0 => Err(whole(Field::Comments, Fault::Empty)),
        Value::Array(elements) if elements.len() > limits.posted_comments_max => Err(whole(
            Field::Comments,
            Fault::TooMany {
                max: limits.posted_comments_max,
            },
        )),
        Value::Array(elements) => {
            let comment = |(index, value)| {
                posted_comment(value, limits).map_err(|problem| PostedError {
                    index: Some(index),
                    problem,
                })
            };
            elements
                .values()
                .enumerate()
                .map(comment)
                .collect::<Result<_, _>>()
                .map(Posted::Many)
        }
        value => posted_comment(value, limits)
            .map(Posted::One)
            .map_err(|problem| PostedError {
                index: None,
                problem,
            }),
    })
    .unwrap_or_else(|| Err(whole(Field::Json, Fault::Invalid)))
}

/// A comment as an export writes it: [`Fragment::object_into`](crate::Fragment::object_into), which may have more members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedComment {
    /// Its id in the room it comes from.
    pub id: Option<Seq>,
    /// Its log time, Unix time in milliseconds.
    pub at_ms: Option<u64>,
    /// Its time relative to a video, in milliseconds.
    pub time_ms: Option<i64>,
    /// What was posted, with the role that the server gave it.
    pub comment: Comment,
}

/// Reads a comment that an export wrote. `bytes` is overwritten.
///
/// # Errors
/// What is wrong with it.
pub fn parse_logged(bytes: &mut [u8], limits: &CommentLimits) -> Result<LoggedComment, Problem> {
    let json = |fault| Problem::new(Field::Json, fault);
    with_document(bytes, |document| match document {
        Value::Object(elements) => logged_comment(elements, limits),
        _ => Err(json(Fault::WrongType)),
    })
    .unwrap_or_else(|| Err(json(Fault::Invalid)))
}

fn logged_comment(
    elements: Elements<'_, '_>,
    limits: &CommentLimits,
) -> Result<LoggedComment, Problem> {
    let mut members = Members::new(elements);
    let role = string(members.role.take())
        .and_then(|role| {
            role.map(|word| Role::from_word(word).ok_or(Fault::Unknown))
                .transpose()
        })
        .map_err(in_field(Field::Role))?;
    let mut logged = LoggedComment {
        id: None,
        at_ms: None,
        time_ms: None,
        comment: comment(&members, limits)?,
    };
    logged.comment.role = role.unwrap_or_default();
    for (key, value) in elements.members() {
        let positive = |value| integer(Some(value), 0, Seq::MAX.value()).ok().flatten();
        match (key, value) {
            ("id", id) => logged.id = positive(id).filter(|&id| id > 0).map(Seq::new),
            ("ts", ts) => logged.at_ms = positive(ts),
            ("time_ms", Value::Signed(time)) => logged.time_ms = Some(time),
            ("time_ms", time) => {
                logged.time_ms = positive(time).and_then(|time| time.try_into().ok());
            }
            _ => {}
        }
    }
    Ok(logged)
}

/// Reads the body of an HTTP request that adds likes: `{"count":n}`. `bytes` is overwritten.
///
/// # Errors
/// What is wrong with it.
pub fn parse_like(bytes: &mut [u8], limits: &CommentLimits) -> Result<NonZeroU32, Problem> {
    let json = |fault| Problem::new(Field::Json, fault);
    with_document(bytes, |document| match document {
        Value::Object(members) => like(&Members::new(members), limits),
        _ => Err(json(Fault::WrongType)),
    })
    .unwrap_or_else(|| Err(json(Fault::Invalid)))
}

/// The known members of an object. If one appears twice, the last counts, as in `JSON.parse`; `null` is the same as
/// leaving it out.
#[derive(Default)]
struct Members<'t, 'b> {
    kind: Option<Value<'t, 'b>>,
    reference: Option<Value<'t, 'b>>,
    text: Option<Value<'t, 'b>>,
    mode: Option<Value<'t, 'b>>,
    color: Option<Value<'t, 'b>>,
    size: Option<Value<'t, 'b>>,
    user: Option<Value<'t, 'b>>,
    name: Option<Value<'t, 'b>>,
    role: Option<Value<'t, 'b>>,
    count: Option<Value<'t, 'b>>,
    data: Option<Value<'t, 'b>>,
    reply_to: Option<Value<'t, 'b>>,
    key: Option<Value<'t, 'b>>,
    token: Option<Value<'t, 'b>>,
}

impl<'t, 'b> Members<'t, 'b> {
    fn new(elements: Elements<'t, 'b>) -> Self {
        let mut members = Self::default();
        for (key, value) in elements.members() {
            let member = match key {
                "type" => &mut members.kind,
                "ref" => &mut members.reference,
                "text" => &mut members.text,
                "mode" => &mut members.mode,
                "color" => &mut members.color,
                "size" => &mut members.size,
                "user" => &mut members.user,
                "name" => &mut members.name,
                "role" => &mut members.role,
                "count" => &mut members.count,
                "data" => &mut members.data,
                "reply_to" => &mut members.reply_to,
                "key" => &mut members.key,
                "token" => &mut members.token,
                _ => continue,
            };
            *member = Some(value).filter(|&value| value != Value::Null);
        }
        members
    }
}

fn client_message(
    members: &Members<'_, '_>,
    limits: &CommentLimits,
) -> Result<ClientMessage, InboundError> {
    let reference = reference(members.reference, limits).map_err(|fault| InboundError {
        reference: None,
        problem: Problem::new(Field::Ref, fault),
    })?;
    match typed_message(members, limits) {
        Ok(Typed::Comment(comment, key)) => Ok(ClientMessage::Comment {
            reference,
            key,
            comment,
        }),
        Ok(Typed::Auth(token)) => Ok(ClientMessage::Auth { reference, token }),
        Ok(Typed::Like(count)) => Ok(ClientMessage::Like { count }),
        Err(problem) => Err(InboundError { reference, problem }),
    }
}

enum Typed {
    Comment(Comment, Option<IdempotencyKey>),
    Like(NonZeroU32),
    Auth(Secret),
}

fn typed_message(members: &Members<'_, '_>, limits: &CommentLimits) -> Result<Typed, Problem> {
    let kind = string(members.kind)
        .and_then(|kind| kind.ok_or(Fault::Missing))
        .map_err(in_field(Field::Type))?;
    match kind {
        "comment" => {
            let comment = comment(members, limits)?;
            let key = string(members.key)
                .and_then(|key| key.map(IdempotencyKey::new).transpose())
                .map_err(in_field(Field::Key))?;
            Ok(Typed::Comment(comment, key))
        }
        "like" => like(members, limits).map(Typed::Like),
        "auth" => string(members.token)
            .and_then(|token| token.ok_or(Fault::Missing))
            .map(|token| Typed::Auth(Secret(token.into())))
            .map_err(in_field(Field::Token)),
        _ => Err(Problem::new(Field::Type, Fault::Unknown)),
    }
}

fn like(members: &Members<'_, '_>, limits: &CommentLimits) -> Result<NonZeroU32, Problem> {
    integer(members.count, 1, limits.like_count_max.into())
        .map(like_count)
        .map_err(in_field(Field::Count))
}

/// The integer fits: its range is that of a `u32`.
fn like_count(count: Option<u64>) -> NonZeroU32 {
    count
        .and_then(|count| u32::try_from(count).ok())
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN)
}

fn posted_comment(value: Value<'_, '_>, limits: &CommentLimits) -> Result<Comment, Problem> {
    let Value::Object(elements) = value else {
        return Err(Problem::new(Field::Json, Fault::WrongType));
    };
    let members = Members::new(elements);
    match string(members.kind).map_err(in_field(Field::Type))? {
        None | Some("comment") => comment(&members, limits),
        Some(_) => Err(Problem::new(Field::Type, Fault::Unknown)),
    }
}

fn comment(members: &Members<'_, '_>, limits: &CommentLimits) -> Result<Comment, Problem> {
    if members.role.is_some() {
        return Err(Problem::new(Field::Role, Fault::NotAllowed));
    }
    let text = string(members.text)
        .and_then(|text| text.ok_or(Fault::Missing))
        .and_then(|text| CommentText::new(text, limits))
        .map_err(in_field(Field::Text))?;
    let user = string(members.user)
        .and_then(|user| user.map(|user| UserId::new(user, limits)).transpose())
        .map_err(in_field(Field::User))?;
    let name = string(members.name)
        .and_then(|name| name.map(|name| DisplayName::new(name, limits)).transpose())
        .map_err(in_field(Field::Name))?;
    let mode = string(members.mode)
        .and_then(|mode| {
            mode.map(|word| Mode::from_word(word).ok_or(Fault::Unknown))
                .transpose()
        })
        .map_err(in_field(Field::Mode))?;
    let color = integer(members.color, 0, COLOR_MAX.into()).map_err(in_field(Field::Color))?;
    let size = integer(members.size, FONT_SIZE_MIN.into(), FONT_SIZE_MAX.into())
        .map_err(in_field(Field::Size))?;
    let reply_to =
        integer(members.reply_to, 1, Seq::MAX.value()).map_err(in_field(Field::ReplyTo))?;
    let data = members
        .data
        .map(CommentData::new)
        .transpose()
        .map_err(in_field(Field::Data))?;
    Ok(Comment {
        user,
        name,
        text,
        mode: mode.unwrap_or_default(),
        color: color
            .and_then(|color| u32::try_from(color).ok())
            .and_then(Color::new)
            .unwrap_or_default(),
        size: size
            .and_then(|size| u8::try_from(size).ok())
            .and_then(FontSize::new)
            .unwrap_or_default(),
        role: Role::default(),
        reply_to: reply_to.map(Seq::new),
        data,
    })
}

fn reference(
    value: Option<Value<'_, '_>>,
    limits: &CommentLimits,
) -> Result<Option<Reference>, Fault> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => {
            check_bytes(text, limits.ref_bytes_max)?;
            Ok(Some(Reference::Text(text.into())))
        }
        Some(Value::Signed(value)) => Ok(Some(Reference::Signed(value))),
        Some(Value::Unsigned(value)) => Ok(Some(Reference::Unsigned(value))),
        Some(_) => Err(Fault::WrongType),
    }
}

fn string<'b>(value: Option<Value<'_, 'b>>) -> Result<Option<&'b str>, Fault> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::WrongType),
    }
}

fn integer(value: Option<Value<'_, '_>>, min: u64, max: u64) -> Result<Option<u64>, Fault> {
    let number = match value {
        None => return Ok(None),
        Some(Value::Unsigned(number)) => Some(number),
        Some(Value::Signed(number)) => u64::try_from(number).ok(),
        Some(_) => return Err(Fault::WrongType),
    };
    number
        .filter(|number| (min..=max).contains(number))
        .map(Some)
        .ok_or(Fault::OutOfRange { min, max })
}

fn in_field(field: Field) -> impl Fn(Fault) -> Problem {
    move |fault| Problem::new(field, fault)
}
