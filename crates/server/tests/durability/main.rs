//! Fails the server in every way that a disk or a kill can, while viewers watch and posters post: every acknowledged comment
//! is in the log exactly once and in order, and viewers have no gap and no duplicate.
//!
//! `DANMAKU_KILLS`, `DANMAKU_FULL_DISKS` and `DANMAKU_SLOW_COMMITS` set how often; from 50 on, 1,000 viewers watch and 50
//! posters post.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(target_os = "linux")]
mod disk;
mod show;
mod slow;

#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use show::{Crowd, Show};
use support::Server;
use tempfile::TempDir;

const FLAGS: &[&str] = &[
    "--window-ms",
    "50",
    "--posts-per-second-per-address",
    "100000",
    "--posts-per-second-per-address-burst",
    "100000",
    "--posts-per-second-per-room",
    "100000",
    "--posts-per-second-per-room-burst",
    "100000",
    "--connections-per-address-max",
    "10000",
];

/// Marsaglia's xorshift64.
fn random(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % bound
}

/// How often a test repeats its fault, and for how many.
fn scale(variable: &str, short: u32) -> (u32, Crowd) {
    let times = std::env::var(variable).map_or(short, |times| times.parse().unwrap());
    let crowd = if times < 50 {
        Crowd::SMALL
    } else {
        Crowd::LARGE
    };
    (times, crowd)
}

/// Flags for a data folder.
fn flags(folder: &TempDir) -> Vec<&str> {
    [&["--data", folder.path().to_str().unwrap()], FLAGS].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let (kills, crowd) = scale("DANMAKU_KILLS", 4);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut state = u64::try_from(seed.as_nanos()).unwrap() | 1;
    println!("seed {state}");
    let folder = TempDir::new().unwrap();
    let flags = flags(&folder);
    let mut server = Server::start(&flags);
    let show = Show::begin(server.server_address(), crowd);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(200 + random(&mut state, 500))).await;
        server.end("KILL");
        server = Server::start(&flags);
        show.go_to(server.server_address());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let outcome = show.end().await;
    println!("{kills} kills: {outcome}");
    assert!(outcome.acknowledged > 0 && outcome.refused == 0);
}
