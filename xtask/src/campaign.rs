//! Owns the campaigns: regular tests with far more input than a change should wait for.

use std::path::Path;

use crate::{Failure, cargo, run, say};

/// A test command, and the environment variable that extends it.
struct Campaign {
    name: &'static str,
    variable: Option<(&'static str, &'static str)>,
    arguments: &'static [&'static str],
}

/// Runs the campaigns with these names, or all of them.
pub(crate) fn run_all(root: &Path, names: &[String]) -> Result<(), Failure> {
    let known = |name: &String| CAMPAIGNS.iter().any(|campaign| campaign.name == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(Failure(format!(
            "there is no campaign `{name}`; see `cargo xtask help`"
        )));
    }
    for campaign in &CAMPAIGNS {
        if names.is_empty() || names.iter().any(|name| name == campaign.name) {
            campaign.run(root)?;
        }
    }
    Ok(())
}

impl Campaign {
    fn run(&self, root: &Path) -> Result<(), Failure> {
        let mut cargo = cargo(root);
        cargo.args(self.arguments);
        if let Some((variable, value)) = self.variable {
            say(&format!("{variable}={value} "));
            cargo.env(variable, value);
        }
        run(&mut cargo)
    }
}

/// One test of a server's data.
const fn durability(test: &str) -> [&str; 8] {
    let file = "durability";
    let package = "danmaku-server";
    [
        "test",
        "-p",
        package,
        "--test",
        file,
        test,
        "--",
        "--nocapture",
    ]
}

const CAMPAIGNS: [Campaign; 8] = [
    Campaign {
        name: "rooms",
        variable: Some(("DANMAKU_SIM_SEEDS", "5000")),
        arguments: &["test", "-p", "danmaku-engine", "--test", "simulation"],
    },
    Campaign {
        name: "shards",
        variable: Some(("DANMAKU_SIM_SEEDS", "1000")),
        arguments: &["test", "-p", "danmaku-fanout", "--test", "simulation"],
    },
    Campaign {
        name: "properties",
        variable: Some(("PROPTEST_CASES", "20000")),
        arguments: &[
            "test",
            "-p",
            "danmaku-wire",
            "-p",
            "danmaku-engine",
            "-p",
            "danmaku-fanout",
            "--lib",
            "--test",
            "decoder",
            "--test",
            "frames",
            "--test",
            "inbound",
            "--test",
            "room",
            "--test",
            "shard",
        ],
    },
    Campaign {
        name: "parsers",
        variable: Some(("DANMAKU_FUZZ_ROUNDS", "5000000")),
        arguments: &["test", "-p", "danmaku-wire", "--test", "fuzz_targets"],
    },
    Campaign {
        name: "durability",
        variable: Some(("DANMAKU_KILLS", "100")),
        arguments: &durability("is_killed"),
    },
    Campaign {
        name: "full-disk",
        variable: Some(("DANMAKU_FULL_DISKS", "50")),
        arguments: &durability("disk_fills_up"),
    },
    Campaign {
        name: "slow-disk",
        variable: Some(("DANMAKU_SLOW_COMMITS", "120")),
        arguments: &durability("slow_disk_holds_up"),
    },
    Campaign {
        name: "joins",
        variable: None,
        arguments: &["bench", "-p", "danmaku-benches", "--bench", "joins"],
    },
];
