//! The decoder of client frames: every rule of RFC 6455 it holds clients to, delivery in pieces, and a second opinion.

mod against_fastwebsockets;
mod client;
mod delivery;
mod rules;
