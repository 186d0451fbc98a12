//! A room's log, its room and its viewers as one deterministic world per seed: real logs over a store that delays,
//! fails, loses answers and messages, numbers with holes, forgets its oldest entries and begins new epochs; real rooms
//! with small rings; posters who give up and repeat, retractions at random moments, viewers who join, resume from
//! anywhere, and hold the room to what it promises; a second node, and nodes that restart.
//!
//! `DANMAKU_SIM_SEEDS` sets how many seeds are run, `DANMAKU_SIM_SEED` runs a single one.

// What tests call is test code too, which the lint's exception for tests does not see.
#![allow(clippy::unwrap_used)]

mod coverage;
mod join;
mod ledger;
mod node;
mod plan;
mod poster;
mod viewer;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::coverage::Coverage;

/// Seeds that are run when nobody asks for more.
const SEEDS: u64 = 120;

#[test]
fn every_accepted_comment_is_told_once_or_accounted_for() {
    let seeds = match (number("DANMAKU_SIM_SEED"), number("DANMAKU_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let mut sum = Coverage::default();
    for seed in seeds.clone() {
        let coverage =
            catch_unwind(AssertUnwindSafe(|| world::run(seed))).unwrap_or_else(|panic| {
                eprintln!("failed; run it again with DANMAKU_SIM_SEED={seed}");
                resume_unwind(panic)
            });
        sum.add(&coverage);
    }
    println!("{sum:#?}");
    if seeds.end - seeds.start >= SEEDS {
        sum.check();
    }
}

#[test]
fn a_seed_is_the_same_world_again() {
    assert_eq!(world::run(3), world::run(3));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text}"))
    })
}
