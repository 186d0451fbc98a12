//! Owns viewers' connections: how one joins its room, and the half of it that is read. Everything toward the viewer goes
//! through its shard.

mod join;
mod listener;
mod reader;

pub use join::{JoinError, Joining, join};
pub use listener::Listener;
pub use reader::Reader;
