//! Owns one room: the handle others hold, and the actor that merges the room's comments and hands sealed frames to
//! the shards.

pub mod actor;
pub mod handle;
pub mod mailbox;
pub mod pulls;
