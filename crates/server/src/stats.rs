//! Owns the server's counters and their one snapshot: `GET /v1/stats` as it is,
//! and what `GET /metrics` writes down.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use danmaku_engine::RoomCounters;
use danmaku_fanout::StatsSnapshot;
use danmaku_wire::Priority;
use serde::{Serialize, Serializer};

use crate::admission::ConnectionRefusal;
use crate::context::Context;
use crate::room::PostError;

/// Counters since the start, by the part of the road they count.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections.
    pub connections: ConnectionStats,
    /// What posters sent.
    pub inbound: InboundStats,
    /// What rooms sealed.
    pub rooms: RoomStats,
}

/// A counter that is only read for a snapshot.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Connections, by what became of them.
#[derive(Debug, Default)]
pub struct ConnectionStats {
    accepted: Counter,
    refused_total: Counter,
    refused_address: Counter,
    broken: Counter,
    upgraded: Counter,
    accept_errors: Counter,
    joins_timed_out: Counter,
}

impl ConnectionStats {
    /// A connection was accepted.
    pub fn accepted(&self) {
        self.accepted.add(1);
    }

    /// A connection was refused.
    pub fn refused(&self, refusal: ConnectionRefusal) {
        match refusal {
            ConnectionRefusal::Total => self.refused_total.add(1),
            ConnectionRefusal::Address => self.refused_address.add(1),
        }
    }

    /// A connection broke a deadline or the rules of HTTP.
    pub fn broken(&self) {
        self.broken.add(1);
    }

    /// A connection became a viewer's.
    pub fn upgraded(&self) {
        self.upgraded.add(1);
    }

    /// A viewer waited too long for its room.
    pub fn join_timed_out(&self) {
        self.joins_timed_out.add(1);
    }

    /// The system had no connection to give.
    pub fn accept_error(&self) {
        self.accept_errors.add(1);
    }
}

/// What posters sent, by what became of it.
#[derive(Debug, Default)]
pub struct InboundStats {
    accepted: Counter,
    rejected: Counter,
    rate_limited: Counter,
    overloaded: Counter,
    protocol_errors: Counter,
}

impl InboundStats {
    /// Comments were accepted: they are in the log.
    pub fn accepted(&self, comments: usize) {
        self.accepted.add(comments as u64);
    }

    /// A message or a body cannot be taken as it is.
    pub fn rejected(&self) {
        self.rejected.add(1);
    }

    /// A message or a body came too soon.
    pub fn rate_limited(&self) {
        self.rate_limited.add(1);
    }

    /// A room's log was behind.
    pub fn overloaded(&self) {
        self.overloaded.add(1);
    }

    /// A room refused a post.
    pub fn refused(&self, error: &PostError) {
        match error {
            PostError::RoomRate(_) => self.rate_limited(),
            PostError::Log(_) => self.overloaded(),
        }
    }

    /// A viewer broke the rules of the WebSocket protocol.
    pub fn protocol_error(&self) {
        self.protocol_errors.add(1);
    }
}

/// What rooms sealed.
#[derive(Debug, Default)]
pub struct RoomStats {
    frames: Counter,
    comments: Counter,
    shed: [Counter; Priority::ALL.len()],
    missed: Counter,
    repeated: Counter,
    likes: Counter,
    held_up: Counter,
}

impl RoomStats {
    /// Adds what a room counted since it was last asked: once per frame.
    pub fn add(&self, room: &RoomCounters) {
        self.frames.add(room.batches);
        self.comments.add(room.comments_total() - room.shed_total());
        for (counter, priority) in self.shed.iter().zip(Priority::ALL) {
            counter.add(room.shed(priority));
        }
        self.missed.add(room.missed);
        self.repeated.add(room.repeated);
        self.likes.add(room.likes);
    }

    /// A room waited for a full shard inbox.
    pub fn held_up(&self) {
        self.held_up.add(1);
    }
}

/// All counters at one moment.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    pub(crate) uptime_ms: u64,
    pub(crate) rooms: u64,
    pub(crate) connections: u32,
    pub(crate) connections_accepted: u64,
    pub(crate) connections_refused_total: u64,
    pub(crate) connections_refused_address: u64,
    pub(crate) connections_broken: u64,
    pub(crate) connections_upgraded: u64,
    pub(crate) accept_errors: u64,
    pub(crate) joins_timed_out: u64,
    pub(crate) comments_accepted: u64,
    pub(crate) messages_rejected: u64,
    pub(crate) messages_rate_limited: u64,
    pub(crate) messages_overloaded: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) frames_sealed: u64,
    pub(crate) comments_sealed: u64,
    pub(crate) comments_shed: u64,
    pub(crate) comments_shed_by_priority: BTreeMap<&'static str, u64>,
    pub(crate) comments_missed: u64,
    pub(crate) comments_repeated: u64,
    pub(crate) likes: u64,
    pub(crate) shard_inbox_full: u64,
    #[serde(flatten, serialize_with = "by_name")]
    pub(crate) fanout: StatsSnapshot,
}

impl Context {
    /// All counters at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Stats {
            connections,
            inbound,
            rooms,
        } = &self.stats;
        let uptime = self.clock.now().monotonic.as_millis();
        Snapshot {
            uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
            rooms: self.rooms.len() as u64,
            connections: self.admission.connections(),
            connections_accepted: connections.accepted.value(),
            connections_refused_total: connections.refused_total.value(),
            connections_refused_address: connections.refused_address.value(),
            connections_broken: connections.broken.value(),
            connections_upgraded: connections.upgraded.value(),
            accept_errors: connections.accept_errors.value(),
            joins_timed_out: connections.joins_timed_out.value(),
            comments_accepted: inbound.accepted.value(),
            messages_rejected: inbound.rejected.value(),
            messages_rate_limited: inbound.rate_limited.value(),
            messages_overloaded: inbound.overloaded.value(),
            protocol_errors: inbound.protocol_errors.value(),
            frames_sealed: rooms.frames.value(),
            comments_sealed: rooms.comments.value(),
            comments_shed: rooms.shed.iter().map(Counter::value).sum(),
            comments_shed_by_priority: Priority::ALL
                .iter()
                .zip(&rooms.shed)
                .map(|(priority, counter)| (priority.as_str(), counter.value()))
                .collect(),
            comments_missed: rooms.missed.value(),
            comments_repeated: rooms.repeated.value(),
            likes: rooms.likes.value(),
            shard_inbox_full: rooms.held_up.value(),
            fanout: self.fanout.snapshot(),
        }
    }
}

/// The shards' counters, and the two sums people ask for.
fn by_name<S: Serializer>(stats: &StatsSnapshot, serializer: S) -> Result<S::Ok, S::Error> {
    let mut counters: BTreeMap<_, _> = stats.named().into_iter().collect();
    counters.insert("frames_skipped", stats.frames_skipped());
    counters.insert("evicted", stats.evicted());
    serializer.collect_map(counters)
}
