//! Owns the server's I/O and wiring: listener, HTTP API, upgrade, rooms'
//! actors, viewers' readers, limits, start and stop.
//!
//! Windows, shedding and positions are the engine's decisions; how a frame is
//! packed is up to `danmaku-wire`, and how it is written to `danmaku-fanout`.

pub mod admission;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod context;
pub mod crash;
pub mod demo;
pub mod export;
pub mod http;
pub mod idempotency;
pub mod import;
pub mod memory;
mod metrics;
pub mod mint;
pub mod moderation;
pub mod objection;
pub mod origins;
pub mod posting;
mod process;
pub mod proxies;
pub mod recording;
pub mod refusal;
pub mod registry;
pub mod replay;
pub mod room;
pub mod samples;
pub mod segments;
pub mod slow_mode;
mod snapshot;
pub mod stats;
pub mod stop_gate;
pub mod tasks;
pub mod viewer;
