//! Owns the reasons for which moderation refuses a comment.

/// Why a comment is refused. Each has a code of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// The poster has a timeout.
    #[error("you cannot post for a while")]
    TimedOut {
        /// Until it ends, in milliseconds.
        retry_after_ms: u64,
    },
    /// The poster is banned.
    #[error("you are banned")]
    Banned {
        /// Until it ends, in milliseconds; `None` if it does not.
        retry_after_ms: Option<u64>,
    },
    /// The room is for members.
    #[error("only members can post in this room")]
    MembersOnly,
    /// The room takes emoji only.
    #[error("only emoji can be posted in this room")]
    EmojiOnly,
    /// The room takes no links.
    #[error("links cannot be posted in this room")]
    Link,
    /// The room has a limit on special characters.
    #[error("at most {max_percent} % of a comment's characters can be special ones")]
    SpecialCharacters {
        /// The limit.
        max_percent: u8,
    },
    /// The text or the name has a blocked term.
    #[error("it has a blocked term")]
    BlockedTerm,
    /// A comment of an array has to wait for a moderator, and the others cannot wait with it.
    #[error("a moderator has to see this comment: post it by itself")]
    NeedsReview,
    /// Too many comments of the room wait for a moderator.
    #[error("too many comments wait for a moderator")]
    QueueFull,
    /// The same was said a short time ago.
    #[error("the same was posted a short time ago")]
    Repeated {
        /// Until it can be said again, in milliseconds.
        retry_after_ms: u64,
    },
}

impl Objection {
    /// The stable machine-readable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "timed_out",
            Self::Banned { .. } => "banned",
            Self::MembersOnly => "members_only",
            Self::EmojiOnly => "emoji_only",
            Self::Link => "link_not_allowed",
            Self::SpecialCharacters { .. } => "too_many_special_characters",
            Self::BlockedTerm => "blocked_term",
            Self::NeedsReview => "needs_review",
            Self::QueueFull => "held_queue_full",
            Self::Repeated { .. } => "repeated_text",
        }
    }

    /// When the comment can be posted, in milliseconds; `None` if waiting does not help.
    #[must_use]
    pub fn retry_after_ms(self) -> Option<u64> {
        match self {
            Self::TimedOut { retry_after_ms } | Self::Repeated { retry_after_ms } => {
                Some(retry_after_ms)
            }
            Self::Banned { retry_after_ms } => retry_after_ms,
            Self::QueueFull => Some(QUEUE_RETRY_MS),
            Self::MembersOnly
            | Self::EmojiOnly
            | Self::Link
            | Self::SpecialCharacters { .. }
            | Self::BlockedTerm
            | Self::NeedsReview => None,
        }
    }
}

/// Retry delay while moderators catch up, in milliseconds.
const QUEUE_RETRY_MS: u64 = 30_000;
