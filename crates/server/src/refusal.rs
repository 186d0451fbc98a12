//! Owns the one mapping from refusals to what a poster is told, over HTTP, WebSocket and the demo feed alike.

use std::time::Duration;

use danmaku_engine::admission::RateRefusal;
use danmaku_log::{AppendError, Unavailable};
use danmaku_wire::Problem;
use danmaku_wire::Reference;
use danmaku_wire::outbound::ErrorReply;

use crate::admission::HoldRefusal;
use crate::auth::{Denied, NotValid, TooManySessions};
use crate::objection::Objection;
use crate::origins::OriginNotAllowed;
use crate::slow_mode::NoTurn;

/// Why a message or a post was refused. Except for [`Refusal::OutcomeUnknown`], none of it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A comment or a message is invalid.
    #[error("{}{problem}", index.map(|i| format!("comment {i}: ")).unwrap_or_default())]
    BadInput {
        /// The comment's index in a posted array, if there is one.
        index: Option<usize>,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Over a rate limit.
    #[error("{scope}")]
    RateLimited {
        /// Which limit it was.
        scope: RateScope,
        /// A retry after this many milliseconds succeeds.
        retry_after_ms: u64,
    },
    /// An array longer than the burst can never be accepted.
    #[error("the array is longer than allowed at once, which is {burst}")]
    ArrayOverBurst {
        /// The burst.
        burst: u32,
    },
    /// In slow mode an array may have one comment of each poster.
    #[error("the room is in slow mode: an array may have one comment of each poster")]
    ArrayInSlowMode,
    /// Nobody can post in the room now.
    #[error("the room is closed for comments")]
    RoomClosed,
    /// The room is in slow mode, and the poster's last comment was too short a time ago.
    #[error("slow mode: one comment every {interval_s} s")]
    SlowMode {
        /// Seconds between two comments.
        interval_s: u32,
        /// A retry after this many milliseconds succeeds.
        retry_after_ms: u64,
    },
    /// Moderation speaks against it.
    #[error("{}{objection}", index.map(|i| format!("comment {i}: ")).unwrap_or_default())]
    Moderated {
        /// The comment's index in a posted array, if it is one comment's fault.
        index: Option<usize>,
        /// Why.
        objection: Objection,
    },
    /// The room has not caught up with its log.
    #[error("the room is {behind} comments behind and accepts no more right now")]
    Overloaded {
        /// Comments in the log that the room has not read yet.
        behind: u64,
    },
    /// Bodies and responses are at their memory limit.
    #[error("request bodies and unread responses are at their memory limit")]
    TooManyBytes,
    /// As many exports are running as may.
    #[error("the server is writing as many exports as it may")]
    TooManyExports,
    /// The room table is full.
    #[error("the server is at its limit of {rooms_max} rooms")]
    TooManyRooms {
        /// The bound, `--rooms-max`.
        rooms_max: usize,
    },
    /// The store is unavailable.
    #[error("the store is unavailable; nothing was accepted")]
    Unavailable,
    /// The store did not answer.
    #[error(
        "the store did not answer: the comment may or may not be in the log; retry with the same key"
    )]
    OutcomeUnknown,
    /// The key was used for another post.
    #[error("this idempotency key was used for another post")]
    KeyReused,
    /// The first post with this key is still running.
    #[error("a post with this idempotency key is still running")]
    KeyInProgress,
    /// The page's origin may watch and read, but not post.
    #[error("pages of this origin may watch and read but not post")]
    OriginNotAllowed,
    /// The token or key is missing or not valid.
    #[error("a valid token is needed")]
    Unauthorized,
    /// The token or key does not allow it.
    #[error("this token or key does not allow it")]
    Forbidden,
    /// The user has as many connections to the room as are allowed.
    #[error("too many connections of this user to this room")]
    TooManySessions,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateScope {
    /// Messages from one connection.
    #[error("too many messages from this connection")]
    Connection,
    /// Posts from one user.
    #[error("too many comments from this user")]
    User,
    /// Posts from one address.
    #[error("too many comments from this address")]
    Address,
    /// Rooms made by one address.
    #[error("too many new rooms from this address")]
    Rooms,
    /// Comments into one room.
    #[error("too many comments in this room")]
    Room,
    /// Requests from one address.
    #[error("too many requests from this address")]
    Requests,
    /// Bodies and responses held for one address.
    #[error("too many bytes of request bodies and unread responses for this address")]
    Bytes,
}

impl Refusal {
    /// The refusal of a rate limit.
    #[must_use]
    pub fn rate(scope: RateScope, refusal: RateRefusal) -> Self {
        match refusal {
            RateRefusal::RetryAfter(wait) => Self::RateLimited {
                scope,
                retry_after_ms: whole_ms(wait),
            },
            RateRefusal::OverBurst { burst } => Self::ArrayOverBurst { burst },
        }
    }

    /// The refusal of a room's slow mode.
    #[must_use]
    pub fn slow_mode(interval_s: u32, no_turn: NoTurn) -> Self {
        match no_turn {
            NoTurn::Wait(wait) => Self::SlowMode {
                interval_s,
                retry_after_ms: whole_ms(wait),
            },
            NoTurn::Twice => Self::ArrayInSlowMode,
        }
    }

    /// The stable machine-readable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadInput { problem, .. } => problem.code(),
            Self::RateLimited { .. } => "rate_limited",
            Self::ArrayOverBurst { .. } | Self::ArrayInSlowMode => "array_over_burst",
            Self::RoomClosed => "room_closed",
            Self::SlowMode { .. } => "slow_mode",
            Self::Moderated { objection, .. } => objection.code(),
            Self::Overloaded { .. } | Self::TooManyBytes => "overloaded",
            Self::TooManyExports => "too_many_exports",
            Self::TooManyRooms { .. } => "too_many_rooms",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::KeyReused => "idempotency_key_reused",
            Self::KeyInProgress => "idempotency_in_progress",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::TooManySessions => "too_many_connections",
            Self::Stopping => "stopping",
        }
    }

    /// The offending JSON member.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::BadInput { problem, .. } => problem.field.name(),
            _ => None,
        }
    }

    /// The index of the offending comment in a posted array.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        match self {
            Self::BadInput { index, .. } | Self::Moderated { index, .. } => *index,
            _ => None,
        }
    }

    /// When to retry, in milliseconds; `None` if a retry would not help.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_ms, .. } | Self::SlowMode { retry_after_ms, .. } => {
                Some(*retry_after_ms)
            }
            Self::Moderated { objection, .. } => objection.retry_after_ms(),
            Self::Overloaded { .. } | Self::TooManyRooms { .. } | Self::KeyInProgress => {
                Some(BUSY_RETRY_MS)
            }
            Self::TooManySessions => Some(SESSIONS_RETRY_MS),
            Self::TooManyBytes | Self::TooManyExports => Some(BYTES_RETRY_MS),
            Self::Unavailable | Self::OutcomeUnknown => Some(STORE_RETRY_MS),
            Self::BadInput { .. }
            | Self::ArrayOverBurst { .. }
            | Self::ArrayInSlowMode
            | Self::RoomClosed
            | Self::KeyReused
            | Self::OriginNotAllowed
            | Self::Unauthorized
            | Self::Forbidden
            | Self::Stopping => None,
        }
    }

    /// The answer on a WebSocket.
    #[must_use]
    pub fn error_json(&self, reference: Option<&Reference>) -> String {
        ErrorReply {
            reference,
            code: self.code(),
            field: self.field(),
            message: &self.to_string(),
            retry_after_ms: self.retry_after_ms(),
        }
        .to_json()
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Overloaded { behind } => Self::Overloaded { behind },
            AppendError::KeyReused => Self::KeyReused,
            AppendError::Unavailable => Self::Unavailable,
            AppendError::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

impl From<Unavailable> for Refusal {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl From<HoldRefusal> for Refusal {
    fn from(refusal: HoldRefusal) -> Self {
        match refusal {
            HoldRefusal::Total => Self::TooManyBytes,
            HoldRefusal::Address => Self::RateLimited {
                scope: RateScope::Bytes,
                retry_after_ms: BYTES_RETRY_MS,
            },
        }
    }
}

impl From<NotValid> for Refusal {
    fn from(_: NotValid) -> Self {
        Self::Unauthorized
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Guest => Self::Unauthorized,
            Denied::Forbidden => Self::Forbidden,
        }
    }
}

impl From<TooManySessions> for Refusal {
    fn from(_: TooManySessions) -> Self {
        Self::TooManySessions
    }
}

impl From<OriginNotAllowed> for Refusal {
    fn from(_: OriginNotAllowed) -> Self {
        Self::OriginNotAllowed
    }
}

/// A wait in whole milliseconds, rounded up: a retry after it succeeds.
fn whole_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Retry delay while a room catches up or a first try still runs, in milliseconds.
const BUSY_RETRY_MS: u64 = 250;

/// Retry delay while peers read their responses, in milliseconds.
const BYTES_RETRY_MS: u64 = 1_000;

/// Retry delay while a user's other connections stay, in milliseconds.
const SESSIONS_RETRY_MS: u64 = 5_000;

/// Retry delay while the store recovers, in milliseconds.
const STORE_RETRY_MS: u64 = 1_000;
