//! The decoder of client frames: every rule of RFC 6455 it holds clients to, delivery in pieces, and a second opinion.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod against_fastwebsockets;
mod client;
mod delivery;
mod rules;
