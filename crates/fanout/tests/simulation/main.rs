//! Rooms, shards and viewers as one deterministic world per seed: real rooms and real shards, connections in memory, a
//! clock that we turn. Viewers are prompt, slow, choppy, stalled or mute; they join and leave in mid-tick and resume;
//! bursts go over the batch cap; all encodings are mixed. Each viewer decodes its bytes and holds the server to
//! what it promises.
//!
//! `DANMAKU_SIM_SEEDS` sets how many seeds are run, `DANMAKU_SIM_SEED` runs a single one.

// What tests call is test code too, which the lint's exceptions for tests do not see.
#![allow(clippy::unwrap_used)]

mod account;
mod ledger;
mod live;
mod plan;
mod receiver;
mod viewer;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::ledger::Coverage;
use crate::world::World;

/// Seeds that are run when nobody asks for more.
const SEEDS: u64 = 40;

#[test]
fn every_position_reaches_every_viewer_or_is_accounted_for() {
    let seeds = match (number("DANMAKU_SIM_SEED"), number("DANMAKU_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let mut sum = Coverage::default();
    for seed in seeds.clone() {
        let coverage =
            catch_unwind(AssertUnwindSafe(|| World::new(seed).run())).unwrap_or_else(|panic| {
                eprintln!("failed; run it again with DANMAKU_SIM_SEED={seed}");
                resume_unwind(panic)
            });
        sum.stats += coverage.stats;
        sum.frames_chained += coverage.frames_chained;
        sum.told_slow += coverage.told_slow;
    }
    println!("{sum:#?}");
    if seeds.end - seeds.start >= SEEDS {
        sum.check();
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text}"))
    })
}
