//! Sealed frames: their forms, that each is made once and shared, and that a viewer of `deflate` decodes every batch.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod deflate;
mod forms;
mod room;
