//! A shard on pipes and a fake clock: what a viewer gets when it keeps up, falls behind, leaves or is closed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod closing;
mod fixture;
mod ladder;
mod membership;
#[path = "../receiver/mod.rs"]
mod receiver;
mod silence;
mod stream;
