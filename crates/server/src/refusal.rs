//! Owns the one mapping of refusals: what a poster is told, whichever way the post came.

use std::time::Duration;

use danmaku_engine::admission::Refusal as RateRefusal;
use danmaku_log::{AppendError, Unavailable};
use danmaku_wire::Problem;
use danmaku_wire::Reference;
use danmaku_wire::outbound::ErrorReply;

use crate::admission::HoldRefusal;
use crate::origins::OriginNotAllowed;

/// Why a message or a post was refused. But for [`Refusal::OutcomeUnknown`], nothing of it was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A comment or a message cannot be taken as it is.
    #[error("{}{problem}", index.map(|i| format!("comment {i}: ")).unwrap_or_default())]
    BadInput {
        /// The comment's place in a posted array, when there is one.
        index: Option<usize>,
        /// What is wrong with it.
        problem: Problem,
    },
    /// More messages than a rate limit allows.
    #[error("{scope}")]
    RateLimited {
        /// Which limit it was.
        scope: RateScope,
        /// A retry after this many milliseconds succeeds.
        retry_after_ms: u64,
    },
    /// An array longer than the burst can never be taken.
    #[error("the array is longer than the {burst} comments that are taken at once")]
    ArrayOverBurst {
        /// The burst.
        burst: u32,
    },
    /// The room has not caught up with its log.
    #[error("the room is {behind} comments behind and takes no more for the moment")]
    Overloaded {
        /// Comments in the log that the room has not taken up yet.
        behind: u64,
    },
    /// Bodies and answers take as much memory as they may.
    #[error("bodies and answers take as much of the server's memory as they may")]
    TooManyBytes,
    /// One room too many.
    #[error("the server holds {rooms_max} rooms and makes no more for the moment")]
    TooManyRooms {
        /// The bound, `--rooms-max`.
        rooms_max: usize,
    },
    /// The store takes nothing for the moment.
    #[error("the store is unavailable; nothing was taken")]
    Unavailable,
    /// The store was asked and did not answer.
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
    /// A page of an origin that may only watch and read wants to post.
    #[error("pages of this origin may watch and read, but not post")]
    OriginNotAllowed,
    /// The server stops.
    #[error("the server is stopping")]
    Stopping,
}

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateScope {
    /// Messages of one connection.
    #[error("too many messages from this connection")]
    Connection,
    /// Posts of one address.
    #[error("too many comments from this address")]
    Address,
    /// Rooms made by one address.
    #[error("too many new rooms from this address")]
    Rooms,
    /// Comments into one room.
    #[error("too many comments in this room")]
    Room,
    /// Requests of one address.
    #[error("too many requests from this address")]
    Requests,
    /// Bodies and answers of one address.
    #[error("too many bytes of bodies and unread answers for this address")]
    Bytes,
}

impl Refusal {
    /// A rate limit's refusal.
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

    /// The stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadInput { problem, .. } => problem.code(),
            Self::RateLimited { .. } => "rate_limited",
            Self::ArrayOverBurst { .. } => "array_over_burst",
            Self::Overloaded { .. } | Self::TooManyBytes => "overloaded",
            Self::TooManyRooms { .. } => "too_many_rooms",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::KeyReused => "idempotency_key_reused",
            Self::KeyInProgress => "idempotency_in_progress",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::Stopping => "stopping",
        }
    }

    /// The JSON member at fault.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::BadInput { problem, .. } => problem.field.name(),
            _ => None,
        }
    }

    /// When to try again, in milliseconds; none when that would not help.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_ms, .. } => Some(*retry_after_ms),
            Self::Overloaded { .. } | Self::TooManyRooms { .. } | Self::KeyInProgress => {
                Some(BUSY_RETRY_MS)
            }
            Self::TooManyBytes => Some(BYTES_RETRY_MS),
            Self::Unavailable | Self::OutcomeUnknown => Some(STORE_RETRY_MS),
            Self::BadInput { .. }
            | Self::ArrayOverBurst { .. }
            | Self::KeyReused
            | Self::OriginNotAllowed
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

impl From<OriginNotAllowed> for Refusal {
    fn from(_: OriginNotAllowed) -> Self {
        Self::OriginNotAllowed
    }
}

/// A wait in whole milliseconds, rounded up: a retry after it succeeds.
fn whole_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// What a poster is told to wait while a room or a first try catches up, in milliseconds.
const BUSY_RETRY_MS: u64 = 250;

/// What a peer is told to wait for others, or itself, to read their answers, in milliseconds.
const BYTES_RETRY_MS: u64 = 1_000;

/// What a poster is told to wait for the store, in milliseconds.
const STORE_RETRY_MS: u64 = 1_000;
