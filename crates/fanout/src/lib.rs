//! Shards: threads that each own a slice of the viewers and are the only writer to their sockets.
//!
//! Nothing here knows HTTP, JSON or the rules of a room: sealed frames and ready messages come in, bytes go out.
//!
//! - [`Fanout`] starts the shard threads; a [`ShardHandle`] takes a [`ShardMsg`] into a shard's bounded inbox.
//! - [`Link`] is a viewer's socket, shared by the task that reads it and the shard that writes it.
//! - [`Audience`] tells a room which shards have viewers of it, without asking them.
//! - [`Shard`] is what a thread runs: a state machine with time as an argument, so that a simulation can run it too.
//!
//! A viewer that keeps up costs one non-blocking write of shared bytes per frame. One that does not gets an outbox and
//! climbs the ladder: frames wait, bounded in bytes and age; the oldest are skipped and reported in one `gap` with
//! their events; a viewer that stays behind is evicted. Each step is counted by reason in [`StatsSnapshot`].
//!
//! The viewer's [`Dialect`](danmaku_wire::Dialect) makes what a shard writes on its own: heartbeats, gaps and closes.

mod audience;
mod config;
mod fanout;
mod link;
#[cfg(feature = "memory")]
pub mod memory;
mod message;
mod outbox;
mod pace;
mod packing;
mod pass;
mod room_sets;
mod schedule;
mod shard;
mod stats;
mod viewer;

pub use audience::Audience;
pub use config::{ConfigError, FanoutConfig};
pub use fanout::{Fanout, Full, ShardHandle};
pub use link::{Link, Sink};
pub use message::{Attach, ConnId, Outgoing, RoomKey, ShardMsg};
pub use shard::{Drained, Shard};
pub use stats::{ShardStats, StatsSnapshot};
