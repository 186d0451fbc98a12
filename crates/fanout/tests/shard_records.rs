//! The tests of `shard` over a sink that buffers: nothing that a viewer gets may depend on it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "shard/closing.rs"]
mod closing;
#[path = "shard/fixture.rs"]
mod fixture;
#[path = "shard/ladder.rs"]
mod ladder;
#[path = "shard/membership.rs"]
mod membership;
#[path = "receiver/mod.rs"]
mod receiver;
#[path = "shard/silence.rs"]
mod silence;
#[path = "shard/sink.rs"]
mod sink;
#[path = "shard/slices.rs"]
mod slices;
#[path = "shard/stream.rs"]
mod stream;
#[path = "shard/vectored.rs"]
mod vectored;

use danmaku_fanout::memory::MemoryKind;

/// What viewers are connected by.
pub(crate) const SINK: MemoryKind = MemoryKind::Records;
