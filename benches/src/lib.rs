//! Shared fixtures of the benches.

mod chat;

pub use chat::Chat;
