//! `quiet`: a room with a comment every few seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::audit::Tally;
use crate::cli::QuietArgs;
use crate::command::{Verdict, connecting, party, print, say};
use crate::error::HarnessError;
use crate::latency::{Stage, Summary};
use crate::publisher::PublicationSummary;
use crate::report::{Setup, outcome_of, quantiles, write_json};
use crate::schedule::Schedule;
use crate::server_side::ServerSide;
use crate::session::{Outcome, Program, Session, of_stage};
use crate::synthetic;
use crate::table::{Table, count};
use crate::target::Target;

#[derive(Serialize)]
struct QuietReport {
    setup: Setup,
    every_ms: u64,
    partial: bool,
    posts: PublicationSummary,
    audit: Tally,
    each_viewer: Summary,
    last_viewer: Summary,
}

/// A few are enough: posts are seconds apart.
const POST_CONNECTIONS: u16 = 1;

pub(super) async fn quiet(args: QuietArgs, stop: Arc<AtomicBool>) -> Result<Verdict, HarnessError> {
    let posters = args.post_via.posters(POST_CONNECTIONS, args.viewing.rooms);
    let party = party(&args.server, &args.viewing, 1, posters)?;
    let mut target = Target::reach(&args.server.url).await?;
    let server = ServerSide::find(args.server.server_pid, &target).await?;
    let every = Duration::from_millis(args.every_ms);
    let duration = every * args.posts;
    let lines = synthetic::chat(args.seed, 10.0, Duration::from_secs(60));
    let kinds = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let program = Program {
        lines: lines.into(),
        schedule: Schedule::steady(every, duration, args.viewing.rooms, kinds),
        duration,
        drain: Duration::from_secs(10),
        late: Duration::from_secs(1),
        stall_after: None,
        acts: Vec::new(),
        post_via: args.post_via,
        post_connections: POST_CONNECTIONS.into(),
    };
    say(&format!(
        "{} posts, one every {} ms",
        args.posts, args.every_ms
    ));
    let session = Session::open(&target, party, program.late, &server, Arc::clone(&stop)).await?;
    let outcome = session.play(&mut target, &program).await?;
    let latencies = &outcome.result.findings.stages[Stage::Calm as usize];
    let report = QuietReport {
        setup: Setup {
            corpus: "made up".to_owned(),
            speed: 1.0,
            seed: args.seed,
            duration_s: duration.as_secs(),
            window_ms: outcome.window_ms,
            late_ms: u64::try_from(program.late.as_millis()).unwrap_or(u64::MAX),
            ..connecting(&args.server, &args.viewing, &target)
        },
        every_ms: args.every_ms,
        partial: stop.load(Ordering::Relaxed),
        posts: outcome.publication.summary(),
        audit: outcome.result.findings.tally,
        each_viewer: latencies.each.summary(),
        last_viewer: of_stage(&outcome.last_viewer, Stage::Calm),
    };
    let mut table = Table::new(format!(
        "quiet room at {}: {} viewers, window {} ms",
        args.server.url,
        count(args.viewing.viewers.into()),
        report.setup.window_ms
    ));
    table.row(["posts", &outcome_of(&report.posts)]);
    table.row(["post to each viewer", &quantiles(&report.each_viewer)]);
    table.row(["post to the last viewer", &quantiles(&report.last_viewer)]);
    table.row(["post to answer", &quantiles(&report.posts.answer)]);
    table.row(["posts sent late by", &quantiles(&report.posts.lateness)]);
    let clean = audit_row(&outcome, &mut table);
    if report.partial {
        table.row(["partial", "ended early"]);
    }
    print(&table.render());
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(if clean { Verdict::Good } else { Verdict::Bad })
}

/// Prints the faults found; returns whether there were none.
fn audit_row(outcome: &Outcome, table: &mut Table) -> bool {
    let (incidents, audit) = (&outcome.result.incidents, &outcome.result.findings.tally);
    let ended = incidents.silent_ends + incidents.closes.values().sum::<u64>();
    let breaches = incidents.faults.values().sum::<u64>() + outcome.publication.contradicted;
    let untaken = outcome.publication.summary().untaken();
    let clean = audit.is_clean()
        && audit.delivered > 0
        && breaches == 0
        && ended == 0
        && untaken == 0
        && !outcome.server_gone;
    let found = format!(
        "{}: {} delivered, {} lost, {} protocol violations, {} connections ended, {} posts not accepted",
        if clean { "clean" } else { "faults" },
        count(audit.delivered),
        count(audit.lost),
        count(breaches),
        count(ended),
        count(untaken)
    );
    table.row(["audit", &found]);
    clean
}
