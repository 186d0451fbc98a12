//! Owns the one shape of HTTP errors: `{"error":{"code":…,"message":…}}`.

use bytes::Bytes;
use danmaku_engine::admission::Refusal;
use danmaku_log::AppendError;
use danmaku_wire::{Problem, RoomIdError};
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::admission::ConnectionRefusal;
use crate::registry::TooManyRooms;
use crate::room::PostError;
use crate::viewer::{OVERLOADED_RETRY_MS, ROOM_RATE_LIMITED, retry_ms};

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
    /// A comment cannot be taken as it is.
    #[error("{}{problem}", index.map(|i| format!("comment {i}: ")).unwrap_or_default())]
    BadComment {
        /// Its place in the array, when there is one.
        index: Option<usize>,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The idempotency key is none.
    #[error("`Idempotency-Key` must be 1 to {max} visible ASCII characters")]
    BadIdempotencyKey {
        /// The most a key may have.
        max: usize,
    },
    /// The key was used with another body.
    #[error("this `Idempotency-Key` was used with another body")]
    IdempotencyKeyReused,
    /// The first request with this key is still running.
    #[error("a request with this `Idempotency-Key` is still running")]
    IdempotencyInProgress,
    /// More posts than the limit.
    #[error("{message}")]
    RateLimited {
        /// Which limit it was.
        message: &'static str,
        /// When to come again, in milliseconds.
        retry_after_ms: u64,
    },
    /// An array longer than the burst can never be taken.
    #[error("the array is longer than the {burst} comments that are taken at once")]
    ArrayOverBurst {
        /// The burst.
        burst: u32,
    },
    /// The room's log is behind.
    #[error("{0}")]
    Overloaded(AppendError),
    /// One room too many.
    #[error(transparent)]
    TooManyRooms(#[from] TooManyRooms),
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
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
            Self::BadComment { problem, .. } => problem.code(),
            Self::BadIdempotencyKey { .. } => "bad_idempotency_key",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::IdempotencyInProgress => "idempotency_in_progress",
            Self::RateLimited { .. } => "rate_limited",
            Self::ArrayOverBurst { .. } => "array_over_burst",
            Self::Overloaded(_) => "overloaded",
            Self::TooManyRooms(_) => "too_many_rooms",
            Self::Stopping => "stopping",
        }
    }

    /// The status that fits.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::RoomNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UpgradeRequired | Self::BadWebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BadHttpVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::IdempotencyInProgress => StatusCode::CONFLICT,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded(_) | Self::TooManyRooms(_) | Self::Stopping => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::BadRoomId(_)
            | Self::BadWebSocketKey
            | Self::BadEncoding
            | Self::BadSince
            | Self::BadHistory { .. }
            | Self::BadLimit { .. }
            | Self::BadAfter
            | Self::BodyBroken
            | Self::BadComment { .. }
            | Self::BadIdempotencyKey { .. }
            | Self::ArrayOverBurst { .. } => StatusCode::BAD_REQUEST,
        }
    }

    fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_ms, .. } => Some(*retry_after_ms),
            Self::Overloaded(_) | Self::TooManyRooms(_) | Self::IdempotencyInProgress => {
                Some(OVERLOADED_RETRY_MS)
            }
            _ => None,
        }
    }

    /// The answer.
    #[must_use]
    pub fn response(&self) -> Response<Full<Bytes>> {
        let (field, index) = match self {
            Self::BadComment { index, problem } => (problem.field.name(), *index),
            _ => (None, None),
        };
        let retry_after_ms = self.retry_after_ms();
        let mut response = json(
            self.status(),
            &Envelope {
                error: Body {
                    code: self.code(),
                    field,
                    index,
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

impl From<PostError> for ApiError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::RoomRate(refusal) => Self::rate(refusal, ROOM_RATE_LIMITED),
            PostError::Log(error) => Self::Overloaded(error),
        }
    }
}

impl ApiError {
    /// A rate limit's refusal; `message` says which limit it was.
    #[must_use]
    pub fn rate(refusal: Refusal, message: &'static str) -> Self {
        match refusal {
            Refusal::RetryAfter(wait) => Self::RateLimited {
                message,
                retry_after_ms: retry_ms(wait),
            },
            Refusal::OverBurst { burst } => Self::ArrayOverBurst { burst },
        }
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
    let status = match refusal {
        ConnectionRefusal::Total => StatusCode::SERVICE_UNAVAILABLE,
        ConnectionRefusal::Address => StatusCode::TOO_MANY_REQUESTS,
    };
    let body = format!(r#"{{"error":{{"code":"too_many_connections","message":"{refusal}"}}}}"#);
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Retry-After: {REFUSED_RETRY_S}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// When a refused connection may come again, in seconds.
const REFUSED_RETRY_S: u32 = 5;

/// A JSON answer.
#[must_use]
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let bytes = serde_json::to_vec(body).expect("invariant: our answers have string keys only");
    raw_json(status, Bytes::from(bytes))
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
