//! The load-test harness: it owns the load on a server and the audit of what arrives.

#![allow(
    unreachable_pub,
    reason = "modules are private; `pub` marks what one has for the others"
)]

mod audit;
mod bisection;
mod causes;
mod cli;
mod clock;
mod command;
mod counters;
mod descriptors;
mod entrance;
mod error;
mod event_text;
mod fingerprint;
mod floor;
mod ingest;
mod latency;
mod ledger;
mod limits;
mod metrics;
mod post_via;
mod process;
mod publisher;
mod pusher;
mod quoted;
mod report;
mod restart;
mod schedule;
mod server_side;
mod session;
mod spec;
mod spec_error;
mod swarm;
mod table;
mod target;
mod timeline;
mod tokens;

pub use command::main;
