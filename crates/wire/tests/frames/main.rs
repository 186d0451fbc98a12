//! Sealed frames: each form is made once and shared, and `deflate` viewers decode every batch.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod deflate;
mod forms;
mod room;
