//! The pure decisions of a live room: what goes into which frame and when, what is shed, who may post, and what a
//! returning viewer gets.
//!
//! Time and seeds are arguments; this crate knows no clock, thread, channel or socket. Start with [`Room`];
//! [`admission`] is independent of it.

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
