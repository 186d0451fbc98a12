//! The operators' load-test harness: it owns the load on a server and the judgement of what arrives.

pub mod audit;
pub mod clock;
pub mod corpus;
pub mod error;
pub mod fingerprint;
pub mod latency;
pub mod ledger;
pub mod mix;
pub mod random;
pub mod schedule;
pub mod swarm;
