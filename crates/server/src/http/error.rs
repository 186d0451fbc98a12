//! Owns the one shape of HTTP errors: `{"error":{"code":…,"message":…}}`.

use bytes::Bytes;
use danmaku_wire::RoomIdError;
use danmaku_wire::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::admission::{ConnectionRefusal, Held};
use crate::refusal::Refusal;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No such path.
    #[error("there is nothing here; see /v1/rooms")]
    NotFound,
    /// The room has no viewers and no comments.
    #[error("there is no such room; a room exists from its first comment or viewer on")]
    RoomNotFound,
    /// The path takes other methods.
    #[error("this path takes {allow}")]
    MethodNotAllowed {
        /// The `Allow` header's value.
        allow: &'static str,
    },
    /// The path's room id is none.
    #[error("{0}")]
    BadRoomId(RoomIdError),
    /// The path is for WebSocket upgrades.
    #[error(
        "this path takes a WebSocket upgrade: send `Connection: Upgrade` and `Upgrade: websocket`"
    )]
    UpgradeRequired,
    /// The handshake is for another WebSocket version (RFC 6455, 4.4).
    #[error("`Sec-WebSocket-Version` must be 13")]
    BadWebSocketVersion,
    /// The handshake's key is missing or is not 16 bytes in base64 (RFC 6455, 4.1).
    #[error("`Sec-WebSocket-Key` must be 16 bytes in base64")]
    BadWebSocketKey,
    /// The handshake came over HTTP/1.0.
    #[error("a WebSocket upgrade needs HTTP/1.1")]
    BadHttpVersion,
    /// `encoding` names none.
    #[error("`encoding` must be identity, gzip or deflate")]
    BadEncoding,
    /// `since` is no position.
    #[error("`since` must be EPOCH:SEQ (for a list of comments, SEQ will do)")]
    BadSince,
    /// `history` is out of range.
    #[error("`history` must be a number from 0 to {max}")]
    BadHistory {
        /// The most that may be asked.
        max: u32,
    },
    /// `limit` is out of range.
    #[error("`limit` must be a number from 1 to {max}")]
    BadLimit {
        /// The most that may be asked.
        max: u32,
    },
    /// `after` is no room id.
    #[error("`after` must be a room id")]
    BadAfter,
    /// The body is longer than a body may be.
    #[error("the body is over {max} bytes")]
    BodyTooLarge {
        /// The most a body may have.
        max: usize,
    },
    /// The body broke off.
    #[error("the body broke off")]
    BodyBroken,
    /// The body did not come in time.
    #[error("the body did not come in time")]
    BodyTimeout,
    /// The idempotency key is none.
    #[error("`Idempotency-Key` must be 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters")]
    BadIdempotencyKey,
    /// The path's comment id is none.
    #[error("a comment id is an integer from 1 on")]
    BadCommentId,
    /// `Last-Event-ID` is no position.
    #[error("`Last-Event-ID` must be EPOCH:SEQ")]
    BadLastEventId,
    /// Only the machine itself may do this.
    #[error("only a client on the server's own machine may do this, without a proxy in between")]
    Forbidden,
    /// A page posted something else than JSON.
    #[error("a page must post `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// The address behind a proxy has as many connections as it may.
    #[error(transparent)]
    TooManyConnections(#[from] ConnectionRefusal),
    /// There never was a comment of this id.
    #[error("there is no such comment")]
    CommentNotFound,
    /// What was posted is refused.
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
            Self::BadHistory { .. } => "bad_history",
            Self::BadLimit { .. } => "bad_limit",
            Self::BadAfter => "bad_after",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::BodyBroken => "body_broken",
            Self::BodyTimeout => "body_timeout",
            Self::BadIdempotencyKey => "bad_idempotency_key",
            Self::BadCommentId => "bad_comment_id",
            Self::BadLastEventId => "bad_last_event_id",
            Self::Forbidden => "forbidden",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TooManyConnections(_) => TOO_MANY_CONNECTIONS,
            Self::CommentNotFound => "comment_not_found",
            Self::Refused(refusal) => refusal.code(),
        }
    }

    /// The status that fits.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::RoomNotFound | Self::CommentNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpgradeRequired | Self::BadWebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BadHttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyConnections(refusal) => connection_status(*refusal),
            Self::Refused(refusal) => refusal_status(refusal),
            Self::BadRoomId(_)
            | Self::BadWebSocketKey
            | Self::BadEncoding
            | Self::BadSince
            | Self::BadHistory { .. }
            | Self::BadLimit { .. }
            | Self::BadAfter
            | Self::BodyBroken
            | Self::BadIdempotencyKey
            | Self::BadCommentId
            | Self::BadLastEventId => StatusCode::BAD_REQUEST,
        }
    }

    /// The answer.
    #[must_use]
    pub fn response(&self) -> Response<Full<Bytes>> {
        let refusal = match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        };
        let retry_after_ms = match self {
            Self::TooManyConnections(_) => Some(u64::from(REFUSED_RETRY_S) * 1_000),
            _ => refusal.and_then(Refusal::retry_after_ms),
        };
        let mut response = json(
            self.status(),
            &Envelope {
                error: Body {
                    code: self.code(),
                    field: refusal.and_then(Refusal::field),
                    index: match refusal {
                        Some(Refusal::BadInput { index, .. }) => *index,
                        _ => None,
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
            // RFC 6455, 4.4: the versions the server would take.
            Self::BadWebSocketVersion => {
                headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
            }
            _ => {}
        }
        response
    }
}

fn refusal_status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::BadInput { .. } | Refusal::ArrayOverBurst { .. } => StatusCode::BAD_REQUEST,
        Refusal::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::KeyInProgress => StatusCode::CONFLICT,
        Refusal::OriginNotAllowed => StatusCode::FORBIDDEN,
        Refusal::Overloaded { .. }
        | Refusal::TooManyBytes
        | Refusal::TooManyRooms { .. }
        | Refusal::Unavailable
        | Refusal::OutcomeUnknown
        | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[derive(Serialize)]
struct Envelope {
    error: Body,
}

#[derive(Serialize)]
struct Body {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The whole answer, head and body, to a connection that may not stay.
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

/// When a refused connection may come again, in seconds.
const REFUSED_RETRY_S: u32 = 5;

/// A JSON answer.
#[must_use]
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let bytes = serde_json::to_vec(body).expect("invariant: our answers have string keys only");
    raw_json(status, Bytes::from(bytes))
}

/// A page of JSON, which counts as held until its last byte is written or its connection has ended.
pub(super) fn held_json(json: Vec<u8>, held: Held) -> Response<Full<Bytes>> {
    struct Page {
        json: Vec<u8>,
        _held: Held,
    }
    impl AsRef<[u8]> for Page {
        fn as_ref(&self) -> &[u8] {
            &self.json
        }
    }
    raw_json(
        StatusCode::OK,
        Bytes::from_owner(Page { json, _held: held }),
    )
}

/// An answer that is JSON already.
#[must_use]
pub(super) fn raw_json(status: StatusCode, bytes: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
