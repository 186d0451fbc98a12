//! Owns the view of all counters, which `GET /v1/stats` and `GET /metrics` print.

use std::collections::BTreeMap;

use danmaku_fanout::StatsSnapshot;
use danmaku_log::{Sqlite, StoreStats};
use serde::{Serialize, Serializer};

use crate::context::Context;
use crate::stats::{ConnectionStats, InboundStats, PullStats, RequestStats, RoomStats};

/// All counters at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot<'a> {
    pub(crate) uptime_ms: u64,
    pub(crate) rooms: u64,
    pub(crate) room_bytes: u64,
    pub(crate) connections: u32,
    pub(crate) http_bytes_held: u64,
    #[serde(flatten)]
    pub(crate) connection: &'a ConnectionStats,
    #[serde(flatten)]
    pub(crate) inbound: &'a InboundStats,
    #[serde(flatten)]
    pub(crate) request: &'a RequestStats,
    #[serde(flatten)]
    pub(crate) pull: &'a PullStats,
    #[serde(flatten)]
    pub(crate) room: &'a RoomStats,
    pub(crate) comments_shed: u64,
    #[serde(flatten, serialize_with = "store_by_name")]
    pub(crate) store: Option<StoreStats>,
    #[serde(flatten, serialize_with = "by_name")]
    pub(crate) fanout: StatsSnapshot,
}

impl<'a> Snapshot<'a> {
    /// All counters now.
    pub(crate) fn of(context: &'a Context) -> Self {
        let uptime = context.clock.now().monotonic.as_millis();
        let room = &context.stats.rooms;
        Self {
            uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
            rooms: context.registry.len() as u64,
            room_bytes: context.memory.held() as u64,
            connections: context.admission.connections(),
            http_bytes_held: context.admission.bytes_held(),
            connection: &context.stats.connections,
            inbound: &context.stats.inbound,
            request: &context.stats.requests,
            pull: &context.stats.pull,
            room,
            comments_shed: room.shed.iter().map(|(_, shed)| shed.value()).sum(),
            store: context.log.file().map(Sqlite::stats),
            fanout: context.fanout.snapshot(),
        }
    }
}

/// The counters of the data file, if there is one.
fn store_by_name<S: Serializer>(
    stats: &Option<StoreStats>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let counters = stats.iter().flat_map(|stats| {
        [
            ("store_up", stats.up.into()),
            ("store_commits", stats.commits.iter().sum()),
            ("store_rows", stats.rows),
            ("store_errors", stats.errors),
            ("store_queue", stats.queued),
            ("store_file_bytes", stats.file_bytes),
            ("store_wal_bytes", stats.wal_bytes),
        ]
    });
    serializer.collect_map(counters)
}

/// The shards' counters, and two commonly needed sums.
fn by_name<S: Serializer>(stats: &StatsSnapshot, serializer: S) -> Result<S::Ok, S::Error> {
    let mut counters: BTreeMap<_, _> = stats.named().into_iter().collect();
    counters.insert("frames_skipped", stats.frames_skipped());
    counters.insert("evicted", stats.evicted());
    serializer.collect_map(counters)
}
