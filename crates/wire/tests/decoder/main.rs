//! The decoder of client frames: the rules of RFC 6455 it enforces, input in pieces, and a comparison with fastwebsockets.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod against_fastwebsockets;
mod client;
mod delivery;
mod rules;
