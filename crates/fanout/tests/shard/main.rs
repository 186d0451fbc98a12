//! A shard in memory and a fake clock: what a viewer gets when it keeps up, falls behind, leaves or is closed.
//!
//! `shard_records` runs the same tests over a sink that buffers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod closing;
mod fixture;
mod ladder;
mod membership;
#[path = "../receiver/mod.rs"]
mod receiver;
mod silence;
mod sink;
mod slices;
mod stream;
mod vectored;

use danmaku_fanout::memory::MemoryKind;

/// What viewers are connected by.
pub(crate) const SINK: MemoryKind = MemoryKind::Plain;
