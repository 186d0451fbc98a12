//! Owns the server's counters. Exporters read them; they know no exporter.

use std::sync::atomic::{AtomicU64, Ordering};

use danmaku_engine::RoomCounters;
use danmaku_wire::Priority;
use serde::{Serialize, Serializer};

use crate::admission::ConnectionRefusal;
use crate::refusal::Refusal;

/// Counters since the start, by the part of the server they count.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections.
    pub connections: ConnectionStats,
    /// What posters sent.
    pub inbound: InboundStats,
    /// HTTP requests.
    pub requests: RequestStats,
    /// Segments.
    pub pull: PullStats,
    /// What rooms sealed.
    pub rooms: RoomStats,
}

/// A counter that is only read by exporters.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Serialize for Counter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.value())
    }
}

/// Connections, by outcome.
#[derive(Debug, Default, Serialize)]
pub struct ConnectionStats {
    /// Accepted.
    #[serde(rename = "connections_accepted")]
    pub accepted: Counter,
    /// Refused: the server is at its limit.
    #[serde(rename = "connections_refused_total")]
    pub refused_total: Counter,
    /// Refused: their address is at its limit.
    #[serde(rename = "connections_refused_address")]
    pub refused_address: Counter,
    /// Missed a deadline or broke HTTP before becoming a viewer's.
    #[serde(rename = "connections_broken")]
    pub broken: Counter,
    /// Became a WebSocket viewer's.
    #[serde(rename = "connections_upgraded")]
    pub upgraded: Counter,
    /// Became an SSE viewer's.
    #[serde(rename = "connections_sse")]
    pub sse: Counter,
    /// Failed accepts.
    pub accept_errors: Counter,
    /// Viewers that waited too long for their room.
    pub joins_timed_out: Counter,
}

impl ConnectionStats {
    /// A connection was refused.
    pub fn refused(&self, refusal: ConnectionRefusal) {
        match refusal {
            ConnectionRefusal::Total => self.refused_total.add(1),
            ConnectionRefusal::Address => self.refused_address.add(1),
        }
    }
}

/// What posters sent, by outcome.
#[derive(Debug, Default, Serialize)]
pub struct InboundStats {
    /// Comments that are in the log.
    comments_accepted: Counter,
    /// Comments that wait for a moderator.
    comments_held: Counter,
    /// Bad input.
    messages_rejected: Counter,
    /// Over a rate limit.
    messages_rate_limited: Counter,
    /// A room was closed for comments.
    messages_room_closed: Counter,
    /// A room was in slow mode.
    messages_slow_mode: Counter,
    /// Moderation spoke against a comment.
    messages_moderated: Counter,
    /// A room's log was behind, or bodies took too much memory.
    messages_overloaded: Counter,
    /// The room table was full.
    messages_too_many_rooms: Counter,
    /// The store was unavailable.
    messages_unavailable: Counter,
    /// The store did not confirm an append.
    messages_outcome_unknown: Counter,
    /// An idempotency key was used for another post, or its post is still running.
    messages_key_conflict: Counter,
    /// A page's origin may not post.
    messages_origin_not_allowed: Counter,
    /// The token or key was missing or not valid.
    messages_unauthorized: Counter,
    /// The token or key did not allow it, or the user had too many connections.
    messages_forbidden: Counter,
    /// The server was stopping.
    messages_stopping: Counter,
    /// Viewers closed for sending far too many messages.
    pub floods: Counter,
    /// Viewers that broke the rules of the WebSocket protocol.
    pub protocol_errors: Counter,
}

impl InboundStats {
    /// Comments were accepted: they are in the log.
    pub fn accepted(&self, comments: usize) {
        self.comments_accepted.add(comments as u64);
    }

    /// A comment waits for a moderator.
    pub fn held(&self) {
        self.comments_held.add(1);
    }

    /// Comments held so far.
    #[must_use]
    pub fn comments_held(&self) -> u64 {
        self.comments_held.value()
    }

    /// Comments accepted so far.
    #[must_use]
    pub fn comments_accepted(&self) -> u64 {
        self.comments_accepted.value()
    }

    /// A message or a post was refused.
    pub fn refused(&self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::BadInput { .. } => &self.messages_rejected,
            Refusal::RateLimited { .. }
            | Refusal::ArrayOverBurst { .. }
            | Refusal::ArrayInSlowMode => &self.messages_rate_limited,
            Refusal::Overloaded { .. } | Refusal::TooManyBytes | Refusal::TooManyExports => {
                &self.messages_overloaded
            }
            Refusal::RoomClosed => &self.messages_room_closed,
            Refusal::SlowMode { .. } => &self.messages_slow_mode,
            Refusal::Moderated { .. } => &self.messages_moderated,
            Refusal::TooManyRooms { .. } => &self.messages_too_many_rooms,
            Refusal::Unavailable => &self.messages_unavailable,
            Refusal::OutcomeUnknown => &self.messages_outcome_unknown,
            Refusal::KeyReused | Refusal::KeyInProgress => &self.messages_key_conflict,
            Refusal::OriginNotAllowed => &self.messages_origin_not_allowed,
            Refusal::Unauthorized => &self.messages_unauthorized,
            Refusal::Forbidden | Refusal::TooManySessions => &self.messages_forbidden,
            Refusal::Stopping => &self.messages_stopping,
        };
        counter.add(1);
    }

    /// Refused messages and posts, by reason.
    #[must_use]
    pub fn refused_by_reason(&self) -> [(&'static str, u64); 14] {
        [
            ("bad_input", &self.messages_rejected),
            ("rate_limited", &self.messages_rate_limited),
            ("room_closed", &self.messages_room_closed),
            ("slow_mode", &self.messages_slow_mode),
            ("moderated", &self.messages_moderated),
            ("overloaded", &self.messages_overloaded),
            ("too_many_rooms", &self.messages_too_many_rooms),
            ("unavailable", &self.messages_unavailable),
            ("outcome_unknown", &self.messages_outcome_unknown),
            ("key_conflict", &self.messages_key_conflict),
            ("origin_not_allowed", &self.messages_origin_not_allowed),
            ("unauthorized", &self.messages_unauthorized),
            ("forbidden", &self.messages_forbidden),
            ("stopping", &self.messages_stopping),
        ]
        .map(|(reason, counter)| (reason, counter.value()))
    }
}

/// What was asked over HTTP and not answered, by reason; posts are [`InboundStats`].
#[derive(Debug, Default, Serialize)]
pub struct RequestStats {
    /// Over a rate limit, or too many unread bytes for one address.
    requests_rate_limited: Counter,
    /// Responses were at their memory limit.
    requests_overloaded: Counter,
}

impl RequestStats {
    /// A request was refused because of its cost.
    pub fn refused(&self, refusal: &Refusal) {
        match refusal {
            Refusal::RateLimited { .. } => self.requests_rate_limited.add(1),
            Refusal::TooManyBytes => self.requests_overloaded.add(1),
            // Not because of its cost.
            _ => {}
        }
    }

    /// Refused requests, by reason.
    #[must_use]
    pub fn refused_by_reason(&self) -> [(&'static str, u64); 2] {
        [
            ("rate_limited", self.requests_rate_limited.value()),
            ("overloaded", self.requests_overloaded.value()),
        ]
    }
}

/// Requests of pull viewers and caches, by outcome.
#[derive(Debug, Default, Serialize)]
pub struct PullStats {
    /// Segments sent.
    #[serde(rename = "segments_served")]
    pub served: Counter,
    /// Segments the requester already had.
    #[serde(rename = "segments_not_modified")]
    pub not_modified: Counter,
    /// Requests for segments that were not complete.
    #[serde(rename = "segments_not_ready")]
    pub not_ready: Counter,
    /// Requests for segments that the log had dropped.
    #[serde(rename = "segments_gone")]
    pub gone: Counter,
    /// Requests for the newest segment's number.
    #[serde(rename = "segments_head")]
    pub heads: Counter,
}

impl PullStats {
    /// Requests, by outcome.
    #[must_use]
    pub fn by_outcome(&self) -> [(&'static str, u64); 5] {
        [
            ("served", &self.served),
            ("not_modified", &self.not_modified),
            ("not_ready", &self.not_ready),
            ("gone", &self.gone),
            ("head", &self.heads),
        ]
        .map(|(outcome, counter)| (outcome, counter.value()))
    }
}

/// What rooms sealed.
#[derive(Debug, Default, Serialize)]
pub struct RoomStats {
    /// Frames.
    #[serde(rename = "frames_sealed")]
    pub frames: Counter,
    /// Comments in frames, or in windows without viewers.
    #[serde(rename = "comments_sealed")]
    pub comments: Counter,
    /// Comments left out of a full window's frame.
    #[serde(rename = "comments_shed_by_priority")]
    pub shed: ByPriority,
    /// Events in frames, or in windows without viewers.
    #[serde(rename = "events_sealed")]
    pub events: Counter,
    /// Gaps for everyone, because a log had lost entries.
    #[serde(rename = "gaps_sealed")]
    pub gaps: Counter,
    /// Entries ignored because their position came before.
    #[serde(rename = "entries_repeated")]
    pub repeated: Counter,
    /// Likes, before a window's sum is capped.
    pub likes: Counter,
    /// Bytes of frames and comments forgotten because the rooms were over their memory budget.
    #[serde(rename = "room_bytes_freed")]
    pub bytes_freed: Counter,
    /// Times a room waited for a full shard inbox.
    #[serde(rename = "shard_inbox_full")]
    pub held_up: Counter,
}

impl RoomStats {
    /// Adds what a room counted since the last call: once per frame.
    pub fn add(&self, room: &RoomCounters) {
        self.frames.add(room.batches.into());
        self.comments.add(room.comments_total() - room.shed_total());
        for (priority, counter) in self.shed.iter() {
            counter.add(room.shed(priority));
        }
        self.events.add(room.events.into());
        self.gaps.add(room.gaps.into());
        self.repeated.add(room.repeated.into());
        self.likes.add(room.likes);
    }
}

/// A counter for each priority.
#[derive(Debug, Default)]
pub struct ByPriority([Counter; Priority::ALL.len()]);

impl ByPriority {
    /// Each priority and its counter.
    pub fn iter(&self) -> impl Iterator<Item = (Priority, &Counter)> {
        Priority::ALL.into_iter().zip(&self.0)
    }
}

impl Serialize for ByPriority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(priority, it)| (priority.as_str(), it)))
    }
}
