//! `seal`: bytes per comment and cost per batch, without a server.

use std::time::Duration;

use serde::Serialize;

use danmaku_wire::Dialect;

use crate::cli::SealArgs;
use crate::command::{Verdict, print};
use crate::corpus::{self, Stretch};
use crate::error::HarnessError;
use crate::report::write_json;
use crate::schedule::{Schedule, Spread};
use crate::sealing::Sealing;
use crate::synthetic;
use crate::table::{Table, count, figure};

/// How much chat is generated without a recording.
const MADE_UP: Duration = Duration::from_secs(3600);

#[derive(Serialize)]
struct SealReport {
    speed: f64,
    sealing: Sealing,
}

pub(super) fn seal(args: &SealArgs) -> Result<Verdict, HarnessError> {
    let lines = match &args.corpus {
        Some(path) => {
            let take = args.take_s.map_or(Duration::MAX, Duration::from_secs);
            corpus::read(
                path,
                Stretch {
                    skip: Duration::from_secs(args.skip_s),
                    take,
                },
            )?
        }
        None => synthetic::chat(1, 10.0, args.take_s.map_or(MADE_UP, Duration::from_secs)),
    };
    let mut reports = Vec::new();
    let mut table = Table::new(format!("sealed in windows of {} ms", args.window_ms));
    table.heads([
        "",
        "batches",
        "comments",
        "bytes/frame",
        "bytes/comment",
        "without heads",
        "µs/batch",
    ]);
    for speed in &args.speed {
        let schedule = Schedule::replay(&lines, *speed, 1, Spread::RoundRobin);
        let sealing = Sealing::of(&schedule, &lines, 1, Duration::from_millis(args.window_ms));
        for dialect in Dialect::ALL {
            table.row([
                &format!("{speed} x {}", dialect.name()),
                &count(sealing.batches),
                &count(sealing.comments),
                &count(sealing.frame_bytes(dialect) as u64),
                &figure(sealing.comment_bytes(dialect)),
                &figure(sealing.payload_bytes(dialect)),
                &figure(sealing.batch_micros(dialect)),
            ]);
        }
        reports.push(SealReport {
            speed: *speed,
            sealing,
        });
    }
    print(&table.render());
    if let Some(path) = &args.json {
        write_json(path, &reports)?;
    }
    Ok(Verdict::Good)
}
