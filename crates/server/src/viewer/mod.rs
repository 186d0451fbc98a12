//! Owns viewers' connections: how a viewer joins its room, and the reading half. Everything sent to the viewer goes through
//! its shard.

mod join;
mod listener;
mod reader;
mod session;

pub use join::{JoinError, Joining, join};
pub use listener::Listener;
pub use reader::{Attached, Reader};
pub use session::{first_message, open_session};
