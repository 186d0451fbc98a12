//! The log of a room.
