//! The decisions of a live room, pure: what goes into which frame and when, what is shed, who may post, what a viewer
//! who comes back gets.
//!
//! The time and the seeds are arguments; this crate knows no clock, thread, channel or socket. [`Room`] is where to
//! begin; [`admission`] stands beside it.

pub mod admission;

mod counters;
mod history;
mod now;
mod pending;
mod random;
mod room;
mod window;

pub use counters::RoomCounters;
pub use now::Now;
pub use random::SplitMix64;
pub use room::{Resume, Room, RoomConfig, SealInput};
pub use window::{Flush, phase};
