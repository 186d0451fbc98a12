//! `idle`: viewers that only hold their connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::cli::IdleArgs;
use crate::command::{Verdict, connecting, party, print, say};
use crate::error::HarnessError;
use crate::latency::Summary;
use crate::report::{Setup, connect_rows, quantiles, write_json};
use crate::server_side::ServerSide;
use crate::session::{ConnectReport, Session};
use crate::table::{Table, bytes, count};
use crate::target::Target;

#[derive(Serialize)]
struct IdleReport {
    setup: Setup,
    connect: ConnectReport,
    connect_latency: Summary,
    /// Whether it was ended early.
    partial: bool,
    /// Protocol violations, by kind.
    faults: BTreeMap<String, u64>,
    /// Viewers that were no longer connected after the settling time.
    ended: u64,
}

pub(super) async fn idle(args: IdleArgs, stop: Arc<AtomicBool>) -> Result<Verdict, HarnessError> {
    let party = party(&args.server, &args.viewing, args.settle_s, 0)?;
    let target = Target::reach(&args.server.url).await?;
    let server = ServerSide::find(args.server.server_pid, &target).await?;
    say(&format!(
        "connecting {} viewers, then waiting {} s",
        count(args.viewing.viewers.into()),
        args.settle_s
    ));
    let session = Session::open(&target, party, Duration::ZERO, &server, Arc::clone(&stop)).await?;
    let connect = session.connect.clone();
    let result = session.close()?;
    let report = IdleReport {
        setup: connecting(&args.server, &args.viewing, &target),
        connect,
        connect_latency: result.incidents.connects.summary(),
        partial: stop.load(Ordering::Relaxed),
        faults: result.incidents.faults.clone(),
        ended: result.incidents.silent_ends + result.incidents.closes.values().sum::<u64>(),
    };
    let mut table = Table::new(format!("idle viewers at {}", args.server.url));
    connect_rows(&report.connect, &mut table);
    if let (Some(before), Some(idle)) = (report.connect.memory_before, report.connect.memory_idle) {
        let text = format!(
            "{} before, {} with all viewers",
            bytes(before.anonymous_bytes),
            bytes(idle.anonymous_bytes)
        );
        table.row(["server, anonymous", &text]);
    }
    table.row(["connect to joined", &quantiles(&report.connect_latency)]);
    table.row(["viewers that ended early", &count(report.ended)]);
    for (fault, times) in &report.faults {
        table.row([
            "protocol violation",
            &format!("{} x {fault}", count(*times)),
        ]);
    }
    if report.partial {
        table.row(["partial", "ended early, so the settling time was cut short"]);
    }
    print(&table.render());
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(if report.ended == 0 && report.faults.is_empty() {
        Verdict::Good
    } else {
        Verdict::Bad
    })
}
