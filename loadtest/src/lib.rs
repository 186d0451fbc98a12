//! The operators' load-test harness: it owns the load on a server and the judgement of what arrives.

pub mod audit;
pub mod cli;
pub mod clock;
pub mod command;
pub mod corpus;
pub mod counters;
pub mod descriptors;
pub mod error;
pub mod fingerprint;
pub mod floor;
pub mod ingest;
pub mod latency;
pub mod ledger;
pub mod mix;
pub mod process;
pub mod publisher;
pub mod random;
pub mod report;
pub mod schedule;
pub mod sealing;
pub mod session;
pub mod swarm;
pub mod synthetic;
pub mod table;
pub mod target;
pub mod timeline;
