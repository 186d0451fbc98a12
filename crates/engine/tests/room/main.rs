//! A room as its callers see it: comments go in, frames come out, and a viewer can account for every position.

// What tests call is test code too, which the lint's exception for tests does not see.
#![allow(clippy::unwrap_used)]

mod examples;
mod fixture;
mod life;
