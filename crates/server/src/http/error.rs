//! Owns the shape of every HTTP error: `{"error":{"code":…,"message":…}}`.

use bytes::Bytes;
use danmaku_log::{ChangeError, ChangeRefusal};
use danmaku_wire::RoomIdError;
use danmaku_wire::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::admission::{ConnectionRefusal, Held};
use crate::objection::Objection;
use crate::refusal::Refusal;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No such path.
    #[error("not found; see /v1/rooms")]
    NotFound,
    /// The room has no viewers and no comments.
    #[error("no such room; a room is created by its first comment or viewer")]
    RoomNotFound,
    /// The path does not take this method.
    #[error("this path accepts {allow}")]
    MethodNotAllowed {
        /// The `Allow` header's value.
        allow: &'static str,
    },
    /// The path's room id is invalid.
    #[error("{0}")]
    BadRoomId(RoomIdError),
    /// The path is for WebSocket upgrades.
    #[error(
        "this path needs a WebSocket upgrade: send `Connection: Upgrade` and `Upgrade: websocket`"
    )]
    UpgradeRequired,
    /// The handshake asks for another WebSocket version (RFC 6455, 4.4).
    #[error("`Sec-WebSocket-Version` must be 13")]
    BadWebSocketVersion,
    /// The handshake's key is missing or is not 16 bytes in base64 (RFC 6455, 4.1).
    #[error("`Sec-WebSocket-Key` must be 16 bytes in base64")]
    BadWebSocketKey,
    /// The request came over HTTP/1.0, which has neither upgrades nor chunks.
    #[error("this path needs HTTP/1.1")]
    BadHttpVersion,
    /// `encoding` is unknown.
    #[error("`encoding` must be identity, gzip or deflate")]
    BadEncoding,
    /// `since` is not a position.
    #[error("`since` must be EPOCH:SEQ (or just SEQ when listing comments)")]
    BadSince,
    /// `until` is not a position.
    #[error("`until` must be EPOCH:SEQ or SEQ")]
    BadUntil,
    /// `from` or `to` is not a time.
    #[error("`{field}` must be a Unix time in milliseconds")]
    BadTime {
        /// Which of them.
        field: &'static str,
    },
    /// `from` is not before `to`.
    #[error("`from` must be before `to`")]
    BadRange,
    /// `step` is out of range.
    #[error("`step` must be a number of milliseconds from {min} to {max}")]
    BadStep {
        /// The smallest allowed.
        min: u32,
        /// The largest allowed.
        max: u32,
    },
    /// The range has too many steps.
    #[error("there are more than {max} steps between `from` and `to`")]
    TooManySteps {
        /// The most allowed.
        max: u64,
    },
    /// `format` is unknown.
    #[error("`format` must be jsonl, xml, ass or dandanplay")]
    BadFormat,
    /// `stream` is not a stream's id.
    #[error("`stream` must be the id of one of the room's streams, and excludes `start`")]
    BadStream,
    /// A stream's body is no object.
    #[error("a stream is a JSON object with `start`, `end` and `title`, all optional")]
    BadStreamBody,
    /// A member of a stream is invalid.
    #[error(
        "`{member}` is invalid: `start` and `end` are Unix times in milliseconds, in this order, and `title` has at most 200 characters"
    )]
    BadStreamMember {
        /// The member.
        member: &'static str,
    },
    /// A stream has no such member.
    #[error("a stream has `start`, `end` and `title`, not `{member}`")]
    UnknownStreamMember {
        /// The member, or the beginning of it.
        member: String,
    },
    /// A change of a stream changes nothing.
    #[error("give `end`, `start` or `title`; `{{\"end\":\"now\"}}` ends the stream")]
    EmptyStreamChange,
    /// The room has no stream with this id.
    #[error("the room has no such stream")]
    StreamNotFound,
    /// `order` is unknown.
    #[error("`order` must be oldest or newest")]
    BadOrder,
    /// The path's user id is invalid.
    #[error("a user id must be printable and have at most {max} bytes")]
    BadUserId {
        /// The largest allowed.
        max: usize,
    },
    /// `history` is out of range.
    #[error("`history` must be a number from 0 to {max}")]
    BadHistory {
        /// The largest allowed.
        max: u32,
    },
    /// `limit` is out of range.
    #[error("`limit` must be a number from 1 to {max}")]
    BadLimit {
        /// The largest allowed.
        max: u32,
    },
    /// `after` or `after_room` is not a room id.
    #[error("`after` and `after_room` must be room ids")]
    BadAfter,
    /// The body is too long.
    #[error("the body has more than {max} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The body ended early.
    #[error("the body ended early")]
    BodyBroken,
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    BodyTimeout,
    /// The idempotency key is invalid.
    #[error("`Idempotency-Key` must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters")]
    BadIdempotencyKey,
    /// A comment id is invalid.
    #[error("a comment id must be a positive integer")]
    BadCommentId {
        /// Where it is.
        field: &'static str,
    },
    /// `Last-Event-ID` is not a position.
    #[error("`Last-Event-ID` must be EPOCH:SEQ")]
    BadLastEventId,
    /// A setting is unknown, of another type, or out of range.
    #[error("{problem}")]
    BadSetting {
        /// Its name; `None` if the body is no object.
        field: Option<String>,
        /// What is wrong.
        problem: String,
    },
    /// A request about moderation has a member that is missing, unknown, of another type or out of range.
    #[error("{problem}")]
    BadMember {
        /// The code, by what the request is about.
        code: &'static str,
        /// The member; `None` if the body as a whole is wrong.
        field: Option<&'static str>,
        /// The index of the element that has it, in an array.
        index: Option<usize>,
        /// What is wrong.
        problem: String,
    },
    /// There is no sanction with this id here.
    #[error("there is no such sanction here")]
    SanctionNotFound,
    /// No comment with this id waits for a moderator in the room.
    #[error("no such comment waits here; maybe it is decided already")]
    HeldNotFound,
    /// `why` is too long.
    #[error("`why` must have at most {max} characters")]
    BadWhy {
        /// The most allowed.
        max: usize,
    },
    /// The `after` of the revocations is not a number.
    #[error("`after` must be an integer from 0 on")]
    BadAfterId,
    /// `before` is not the id of an entry of the audit trail.
    #[error("`before` must be a positive integer")]
    BadBefore,
    /// There is no revocation with this id.
    #[error("no such revocation")]
    RevocationNotFound,
    /// There are too many records of the kind.
    #[error("{0}")]
    TooManyRecords(ChangeRefusal),
    /// Neither does a token or key allow this, nor is the client on the server's own machine.
    #[error(
        "this needs a token or server key that allows it, or a client on the server's own machine without a proxy in between"
    )]
    Forbidden,
    /// A page posted something other than JSON.
    #[error("web pages must post with `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// The address behind a proxy is at its connection limit.
    #[error(transparent)]
    TooManyConnections(#[from] ConnectionRefusal),
    /// Segments have another length here.
    #[error("segments are {length_ms} ms long here")]
    BadSegmentLength {
        /// The length that is served.
        length_ms: u64,
    },
    /// The path's segment number is invalid.
    #[error("a segment's number must be an integer from 0 on, without leading zeros")]
    BadSegment,
    /// Comments may still be added to the segment.
    #[error("this segment is not complete yet")]
    SegmentNotReady {
        /// It is complete after this many milliseconds.
        retry_after_ms: u64,
    },
    /// The log has dropped the segment, or part of it.
    #[error("the room's log no longer holds all of this segment")]
    SegmentGone,
    /// No comment ever had this id.
    #[error("no such comment")]
    CommentNotFound,
    /// No comment is pinned.
    #[error("no comment is pinned")]
    PinNotFound,
    /// How long a pin lasts is out of range.
    #[error("`duration_s` must be a number from 1 to {max}")]
    BadDuration {
        /// The largest allowed.
        max: u32,
    },
    /// The data file cannot be written.
    #[error("the data file cannot be written: {reason}")]
    DataFailing {
        /// What is wrong.
        reason: String,
    },
    /// The post is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl ApiError {
    /// The machine-readable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::RoomNotFound => "room_not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::BadRoomId(_) => "bad_room_id",
            Self::UpgradeRequired => "upgrade_required",
            Self::BadWebSocketVersion => "bad_websocket_version",
            Self::BadWebSocketKey => "bad_websocket_key",
            Self::BadHttpVersion => "bad_http_version",
            Self::BadEncoding => "bad_encoding",
            Self::BadSince => "bad_since",
            Self::BadUntil => "bad_until",
            Self::BadFormat => "bad_format",
            Self::BadStream
            | Self::BadStreamBody
            | Self::BadStreamMember { .. }
            | Self::UnknownStreamMember { .. }
            | Self::EmptyStreamChange => "bad_stream",
            Self::StreamNotFound => "stream_not_found",
            Self::BadTime { .. } => "bad_time",
            Self::BadRange => "bad_range",
            Self::BadStep { .. } => "bad_step",
            Self::TooManySteps { .. } => "too_many_steps",
            Self::BadOrder => "bad_order",
            Self::BadUserId { .. } => "bad_user_id",
            Self::BadHistory { .. } => "bad_history",
            Self::BadLimit { .. } => "bad_limit",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyBroken => "body_broken",
            Self::BodyTimeout => "body_timeout",
            Self::BadIdempotencyKey => "bad_idempotency_key",
            Self::BadCommentId { .. } => "bad_comment_id",
            Self::BadLastEventId => "bad_last_event_id",
            Self::BadSetting { .. } => "bad_setting",
            Self::BadMember { code, .. } => code,
            Self::SanctionNotFound => "sanction_not_found",
            Self::HeldNotFound => "held_not_found",
            Self::BadWhy { .. } => "bad_why",
            Self::RevocationNotFound => "revocation_not_found",
            Self::BadBefore => "bad_before",
            Self::BadAfter | Self::BadAfterId => "bad_after",
            Self::TooManyRecords(_) => "too_many_records",
            Self::Forbidden => "forbidden",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TooManyConnections(_) => TOO_MANY_CONNECTIONS,
            Self::BadSegmentLength { .. } => "bad_segment_length",
            Self::BadSegment => "bad_segment",
            Self::SegmentNotReady { .. } => "segment_not_ready",
            Self::SegmentGone => "segment_gone",
            Self::CommentNotFound => "comment_not_found",
            Self::PinNotFound => "pin_not_found",
            Self::BadDuration { .. } => "bad_duration",
            Self::DataFailing { .. } => "unavailable",
            Self::Refused(refusal) => refusal.code(),
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound
            | Self::RoomNotFound
            | Self::CommentNotFound
            | Self::SanctionNotFound
            | Self::HeldNotFound
            | Self::RevocationNotFound
            | Self::StreamNotFound
            | Self::PinNotFound
            | Self::SegmentNotReady { .. } => StatusCode::NOT_FOUND,
            Self::SegmentGone => StatusCode::GONE,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpgradeRequired | Self::BadWebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BadHttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::DataFailing { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyRecords(_) => StatusCode::CONFLICT,
            Self::TooManyConnections(refusal) => connection_status(*refusal),
            Self::Refused(refusal) => refusal_status(refusal),
            Self::BadRoomId(_)
            | Self::BadWebSocketKey
            | Self::BadEncoding
            | Self::BadSince
            | Self::BadUntil
            | Self::BadFormat
            | Self::BadStream
            | Self::BadStreamBody
            | Self::BadStreamMember { .. }
            | Self::UnknownStreamMember { .. }
            | Self::EmptyStreamChange
            | Self::BadTime { .. }
            | Self::BadRange
            | Self::BadStep { .. }
            | Self::TooManySteps { .. }
            | Self::BadOrder
            | Self::BadUserId { .. }
            | Self::BadHistory { .. }
            | Self::BadLimit { .. }
            | Self::BadAfter
            | Self::BadAfterId
            | Self::BodyBroken
            | Self::BadIdempotencyKey
            | Self::BadCommentId { .. }
            | Self::BadLastEventId
            | Self::BadSetting { .. }
            | Self::BadMember { .. }
            | Self::BadWhy { .. }
            | Self::BadDuration { .. }
            | Self::BadBefore
            | Self::BadSegmentLength { .. }
            | Self::BadSegment => StatusCode::BAD_REQUEST,
        }
    }

    /// The offending member or parameter.
    fn field(&self) -> Option<&str> {
        match self {
            Self::BadStreamMember { member } => Some(member),
            Self::UnknownStreamMember { member } => Some(member),
            Self::BadSetting { field, .. } => field.as_deref(),
            Self::BadMember { field, .. } => *field,
            Self::BadTime { field } | Self::BadCommentId { field } => Some(field),
            Self::BadDuration { .. } => Some("duration_s"),
            Self::BadRange => Some("from"),
            Self::BadStep { .. } | Self::TooManySteps { .. } => Some("step"),
            Self::BadEncoding => Some("encoding"),
            Self::BadSince => Some("since"),
            Self::BadUntil => Some("until"),
            Self::BadFormat => Some("format"),
            Self::BadStream => Some("stream"),
            Self::BadOrder => Some("order"),
            Self::BadHistory { .. } => Some("history"),
            Self::BadLimit { .. } => Some("limit"),
            Self::BadBefore => Some("before"),
            Self::BadAfterId => Some("after"),
            Self::BadWhy { .. } => Some("why"),
            Self::Refused(refusal) => refusal.field(),
            _ => None,
        }
    }

    /// The HTTP response.
    #[must_use]
    pub fn response(&self) -> Response<Full<Bytes>> {
        let refusal = match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        };
        let retry_after_ms = match self {
            Self::TooManyConnections(_) => Some(u64::from(REFUSED_RETRY_S) * 1_000),
            Self::SegmentNotReady { retry_after_ms } => Some(*retry_after_ms),
            _ => refusal.and_then(Refusal::retry_after_ms),
        };
        let mut response = json(
            self.status(),
            &Envelope {
                error: Body {
                    code: self.code(),
                    field: self.field(),
                    index: match self {
                        Self::BadMember { index, .. } => *index,
                        _ => refusal.and_then(Refusal::index),
                    },
                    message: self.to_string(),
                    retry_after_ms,
                },
            },
        );
        let headers = response.headers_mut();
        if let Some(ms) = retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::UpgradeRequired => {
                headers.insert("upgrade", HeaderValue::from_static("websocket"));
            }
            // RFC 9110, 11.6.1. Whether a token was there and what was wrong with it is not said.
            Self::Refused(Refusal::Unauthorized) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // RFC 6455, 4.4: the versions the server supports.
            Self::BadWebSocketVersion => {
                headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
            }
            _ => {}
        }
        response
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => Self::TooManyRecords(refusal),
            ChangeError::NotTaken(error) => Self::Refused(error.into()),
        }
    }
}

fn refusal_status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::BadInput { .. } | Refusal::ArrayOverBurst { .. } | Refusal::ArrayInSlowMode => {
            StatusCode::BAD_REQUEST
        }
        Refusal::Moderated { objection, .. } => objection_status(*objection),
        Refusal::RateLimited { .. } | Refusal::SlowMode { .. } | Refusal::TooManySessions => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Refusal::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::KeyInProgress => StatusCode::CONFLICT,
        Refusal::OriginNotAllowed | Refusal::RoomClosed | Refusal::Forbidden => {
            StatusCode::FORBIDDEN
        }
        Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
        Refusal::Overloaded { .. }
        | Refusal::TooManyBytes
        | Refusal::TooManyExports
        | Refusal::TooManyRooms { .. }
        | Refusal::Unavailable
        | Refusal::OutcomeUnknown
        | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn objection_status(objection: Objection) -> StatusCode {
    match objection {
        Objection::TimedOut { .. } | Objection::Banned { .. } | Objection::MembersOnly => {
            StatusCode::FORBIDDEN
        }
        Objection::Repeated { .. } => StatusCode::TOO_MANY_REQUESTS,
        Objection::EmojiOnly
        | Objection::Link
        | Objection::SpecialCharacters { .. }
        | Objection::BlockedTerm
        | Objection::NeedsReview => StatusCode::UNPROCESSABLE_ENTITY,
        Objection::QueueFull => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The whole response to a refused connection.
#[must_use]
pub fn refusal(refusal: ConnectionRefusal) -> String {
    let status = connection_status(refusal);
    let retry_after_ms = REFUSED_RETRY_S * 1_000;
    let body = format!(
        r#"{{"error":{{"code":"{TOO_MANY_CONNECTIONS}","message":"{refusal}","retry_after_ms":{retry_after_ms}}}}}"#
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Access-Control-Allow-Origin: *\r\nRetry-After: {REFUSED_RETRY_S}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn connection_status(refusal: ConnectionRefusal) -> StatusCode {
    match refusal {
        ConnectionRefusal::Total => StatusCode::SERVICE_UNAVAILABLE,
        ConnectionRefusal::Address => StatusCode::TOO_MANY_REQUESTS,
    }
}

const TOO_MANY_CONNECTIONS: &str = "too_many_connections";

/// When a refused connection may retry, in seconds.
const REFUSED_RETRY_S: u32 = 5;

/// A JSON response.
#[must_use]
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let bytes = serde_json::to_vec(body).expect("invariant: our responses have string keys only");
    raw_json(status, Bytes::from(bytes))
}

/// A page of JSON, counted as held until its last byte is written or its connection ends.
pub(super) fn held_json(json: impl Into<Bytes>, held: Held) -> Response<Full<Bytes>> {
    struct Page {
        json: Bytes,
        _held: Held,
    }
    impl AsRef<[u8]> for Page {
        fn as_ref(&self) -> &[u8] {
            &self.json
        }
    }
    let json = json.into();
    raw_json(
        StatusCode::OK,
        Bytes::from_owner(Page { json, _held: held }),
    )
}

/// A response from JSON text.
#[must_use]
pub(super) fn raw_json(status: StatusCode, bytes: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
