//! Rooms, shards and viewers as one deterministic world per seed: real rooms and real shards, connections in memory, a
//! clock that we turn. Viewers are prompt, slow, choppy, stalled or mute; they join and leave in mid-tick and resume;
//! bursts go over the batch cap, comments are taken back, the log loses some, a room begins a new epoch; all dialects
//! are mixed, positions are dense or sparse. Each viewer decodes its bytes and holds the server to what it promises.
//!
//! Every seed is run over both kinds of connection, which must make no difference.
//!
//! `DANMAKU_SIM_SEEDS` sets how many seeds are run, `DANMAKU_SIM_SEED` runs a single one.

// What tests call is test code too, which the lint's exceptions for tests do not see.
#![allow(clippy::unwrap_used)]

mod account;
mod ending;
mod ledger;
mod live;
mod plan;
#[path = "../receiver/mod.rs"]
mod receiver;
mod truth;
mod viewer;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use danmaku_fanout::memory::MemoryKind;

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
    let mut sums = [Coverage::default(), Coverage::default()];
    for seed in seeds.clone() {
        let [plain, records] = MemoryKind::ALL.map(|sink| {
            catch_unwind(AssertUnwindSafe(|| World::new(seed, sink).run())).unwrap_or_else(
                |panic| {
                    eprintln!("failed over {sink:?}; run it again with DANMAKU_SIM_SEED={seed}");
                    resume_unwind(panic)
                },
            )
        });
        assert_eq!(plain.told, records.told, "seed {seed}: the sink shows");
        for (sum, coverage) in sums.iter_mut().zip([plain, records]) {
            *sum += coverage;
        }
    }
    println!("{sums:#?}");
    if seeds.end - seeds.start >= SEEDS {
        sums.iter().for_each(Coverage::check);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text}"))
    })
}
