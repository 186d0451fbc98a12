//! The scenarios: each is a `run` with additions, and ends with a verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;

use crate::cli::{Cli, Command, RunArgs, ServerArgs};
use crate::clock::Clock;
use crate::command::run::{lines, prepare, setup};
use crate::command::{one_line, say};
use crate::error::HarnessError;
use crate::report::{RunReport, ScenarioReport};
use crate::restart::Restart;
use crate::scenario::{Evidence, Habit, Kind, Spec, memory_mib_per_hour};
use crate::schedule::{Schedule, Spread};
use crate::server_side::ServerSide;
use crate::session::{Act, Deed, Gathering, Outcome, Party, Program, Session};
use crate::swarm::Incidents;
use crate::table::count;
use crate::target::Target;

/// How long reconnecting may take if the verdict has no limit for it.
const PATIENCE_S: f64 = 60.0;

/// The share of the churn that has to happen: the last to leave are not back when the measured interval ends.
const CHURN_SHARE_MIN: f64 = 0.9;

/// One scenario, from the first connect to the verdict.
pub(super) async fn perform(
    spec: &Spec,
    server: &ServerArgs,
    stop: &Arc<AtomicBool>,
) -> Result<RunReport, HarnessError> {
    let args = run_args(spec, server)?;
    let (mut party, mut program) = prepare(&args).map_err(named_by_fields)?;
    let began = Clock::start();
    let mut target = Target::reach(&server.url).await?;
    let server_side = server_side(spec, server, &target).await?;
    arrange(spec, &args, &target, &mut party, &mut program)?;
    let posts = count(program.schedule.posts().len() as u64);
    say(&format!(
        "{}: {} viewers, {posts} posts over {} s",
        spec.scenario.name(),
        count(spec.viewers.into()),
        spec.duration_s
    ));
    let opened = Session::open(&target, party, program.late, &server_side, Arc::clone(stop)).await;
    let session = match opened {
        Err(HarnessError::Interrupted { joined, .. }) => {
            let mut report = RunReport::interrupted(setup(&args, &target), joined, began);
            report.set_scenario(ScenarioReport::new(spec, Vec::new(), None));
            return Ok(report);
        }
        opened => opened?,
    };
    let connect = session.connect.clone();
    let outcome = session.play(&mut target, &program).await?;
    let partial = stop.load(Ordering::Relaxed);
    let evidence = evidence(spec, &outcome, partial);
    let mut report = RunReport::new(setup(&args, &target), connect, &outcome, partial);
    report.set_scenario(ScenarioReport::new(
        spec,
        spec.slo.judge(&evidence),
        evidence.memory_mib_per_hour,
    ));
    Ok(report)
}

/// Where this scenario's server figures come from. Metrics are those of the listening process, so they continue after a
/// restart.
async fn server_side(
    spec: &Spec,
    server: &ServerArgs,
    target: &Target,
) -> Result<ServerSide, HarnessError> {
    let named = ServerSide::find(server.server_pid, target).await?;
    match spec.scenario {
        Kind::Restart => match ServerSide::find(None, target).await? {
            ServerSide::Unknown => Ok(named),
            metrics => Ok(metrics),
        },
        Kind::Soak if matches!(named, ServerSide::Unknown) => Err(HarnessError::Flags(
            "soak needs --server-pid, or a server that reports its memory at /metrics".to_owned(),
        )),
        _ => Ok(named),
    }
}

/// The flags of the `run` behind a scenario, so that both are checked alike and mean the same.
pub(super) fn run_args(spec: &Spec, server: &ServerArgs) -> Result<RunArgs, HarnessError> {
    let mut words: Vec<String> = vec!["danmaku-loadtest".to_owned(), "run".to_owned()];
    for (flag, value) in [
        ("--viewers", spec.viewers.to_string()),
        ("--rooms", spec.rooms.to_string()),
        ("--encodings", spec.encodings.clone()),
        ("--duration-s", spec.duration_s.to_string()),
        ("--drain-s", spec.drain_s.to_string()),
        ("--rate", spec.rate.to_string()),
        ("--speed", spec.speed.to_string()),
        ("--seed", spec.seed.to_string()),
        ("--late-ms", spec.late_ms.to_string()),
        ("--stall-viewers", whole(spec.slow_viewers()).to_string()),
        ("--stall-after-s", spec.slow_after_s.to_string()),
        ("--corpus", spec.corpus.clone()),
    ] {
        // An empty corpus means none; other empty values are rejected by the flag.
        if !(value.is_empty() && flag == "--corpus") {
            words.push(format!("{flag}={value}"));
        }
    }
    let parsed = Cli::try_parse_from(words)
        .map_err(|error| HarnessError::Flags(in_fields(&one_line(&error))))?;
    let Command::Run(mut args) = parsed.command else {
        return Err(HarnessError::Flags("not a run".to_owned()));
    };
    args.server = server.clone();
    if let Some(per_second) = spec.ramp_per_second {
        if !(per_second > 0.0 && per_second.is_finite()) {
            let text = format!("ramp_per_second = {per_second}: must be above 0");
            return Err(HarnessError::Flags(text));
        }
        if args.server.connect_rate.is_some() {
            let text = "--connect-rate: this scenario uses --set ramp_per_second=N instead";
            return Err(HarnessError::Flags(text.to_owned()));
        }
        args.server.connect_rate = Some(per_second);
    }
    Ok(args)
}

/// Translates a flag into the field it came from: `'--late-ms <MS>'` into `late_ms`.
fn in_fields(text: &str) -> String {
    let mut named = String::new();
    let mut rest = text;
    while let Some((before, flag)) = rest.split_once("'--") {
        let (flag, after) = flag.split_once('\'').unwrap_or((flag, ""));
        let name = flag.split(' ').next().unwrap_or_default();
        named.push_str(before);
        named.push_str(&format!("`{}`", name.replace('-', "_")));
        rest = after;
    }
    named + rest
}

/// Turns an error about a flag into one about the field.
pub(super) fn named_by_fields(error: HarnessError) -> HarnessError {
    const FLAGS: [(&str, &str); 6] = [
        ("--encodings", "encodings"),
        ("--viewers", "viewers"),
        ("--rooms", "rooms"),
        ("--stall-viewers", "slow viewers"),
        ("--stall-after-s", "slow_after_s"),
        ("--duration-s", "duration_s"),
    ];
    match error {
        HarnessError::Flags(_) | HarnessError::Descriptors { .. } => {
            let text = error.to_string();
            HarnessError::Flags(
                FLAGS
                    .iter()
                    .fold(text, |text, (flag, field)| text.replace(flag, field)),
            )
        }
        other => other,
    }
}

/// Adds to a run what makes it this scenario.
fn arrange(
    spec: &Spec,
    args: &RunArgs,
    target: &Target,
    party: &mut Party,
    program: &mut Program,
) -> Result<(), HarnessError> {
    let patience = spec.slo.last_back_s_max.unwrap_or(PATIENCE_S) * 2.0;
    let act = |at_s: u64, what: Deed| Act {
        at: Duration::from_secs(at_s),
        what,
        patience: Duration::try_from_secs_f64(patience).unwrap_or(Duration::from_secs(60)),
    };
    match spec.scenario {
        Kind::HotRoom => party.gathering = Gathering::Meanwhile,
        Kind::ManyRooms => {
            party.seating.zipf = spec.zipf;
            let schedule = std::mem::take(&mut program.schedule);
            program.schedule = schedule.drawn(spec.rooms, spec.zipf, spec.seed);
        }
        Kind::Storm => {
            party.habits.reconnects = true;
            program.acts = vec![act(spec.storm_at_s, Deed::Storm)];
        }
        Kind::SlowViewers => party.habits.slow_bytes_per_second = spec.slow_bytes_per_second,
        Kind::Burst => {
            let third = program.duration / 3;
            let steps = [(third, 1.0), (third, spec.burst_factor), (third, 1.0)];
            let recorded = third.mul_f64(2.0 + spec.burst_factor);
            let lines = lines(&args.load, spec.rooms, recorded)?;
            program.schedule = Schedule::replay(&lines, spec.speed, spec.rooms, Spread::RoundRobin)
                .warped(&steps)
                .until(program.duration);
            program.lines = lines.into();
        }
        Kind::Churn => {
            party.habits.churn_per_second = spec.churn_per_second;
            program.acts = vec![act(0, Deed::Churn)];
        }
        Kind::Restart => {
            party.habits.reconnects = true;
            let restart = Restart {
                pid: args.server.server_pid.unwrap_or_default(),
                command: spec.start.clone(),
                server: target.socket,
            };
            program.acts = vec![act(spec.restart_at_s, Deed::Restart(restart))];
        }
        // The result of a search must not depend on how fast this harness connects, so it measures with everyone connected.
        Kind::Soak | Kind::Search => {}
    }
    Ok(())
}

/// Viewers that could not connect. One that left and could not rejoin has joined once, so only its failure counts; and in a run
/// that was ended early, not every viewer was due yet.
fn missing_viewers(spec: &Spec, incidents: &Incidents, partial: bool) -> u64 {
    let due = if partial { 0 } else { u64::from(spec.viewers) };
    let never = due.saturating_sub(incidents.joined - incidents.rejoined);
    never.max(incidents.failures.values().sum())
}

fn evidence(spec: &Spec, outcome: &Outcome, partial: bool) -> Evidence {
    let incidents = &outcome.result.incidents;
    let faults: u64 = incidents.faults.values().sum();
    let posts = outcome.publication.summary();
    let stages = &outcome.result.findings.stages;
    let p99 = stages
        .iter()
        .map(|stage| stage.each.summary().beyond(outcome.window_ms).p99_ms);
    let ended = incidents.closes.values().sum::<u64>() + incidents.silent_ends;
    Evidence {
        tally: outcome.result.findings.tally,
        // A room in a new epoch has lost its log; only a restarted server may do that.
        breaches: faults
            + outcome.publication.contradicted
            + if spec.scenario == Kind::Restart {
                0
            } else {
                incidents.renumbered
            },
        p99_beyond_window_ms: p99.fold(0.0, f64::max),
        window_ms: outcome.window_ms,
        posts: [posts.due, posts.acknowledged],
        missing_viewers: missing_viewers(spec, incidents, partial),
        // A server that stops closes every viewer: that is what is measured here.
        ended_viewers: if spec.scenario == Kind::Restart {
            0
        } else {
            ended
        },
        events: outcome
            .events
            .iter()
            .filter(|event| !event.is_churn())
            .cloned()
            .collect(),
        unreplayed: incidents.unreplayed,
        // Other scenarios have no warm-up after which growth means something.
        memory_mib_per_hour: (spec.scenario == Kind::Soak)
            .then(|| memory_mib_per_hour(&outcome.timeline, spec.warm_up_s))
            .flatten(),
        lateness_p99_ms: posts.lateness.p99_ms,
        server_gone: outcome.server_gone,
        habit: habit(spec, outcome),
    }
}

/// What the viewers of this scenario had to do, and whether they did.
fn habit(spec: &Spec, outcome: &Outcome) -> Option<Habit> {
    match spec.scenario {
        Kind::SlowViewers => {
            let found = &outcome.result.incidents.stalled;
            Some(Habit {
                what: "viewers that stopped reading, or slowed down",
                done: (found.open + found.silent + found.closes.values().sum::<u64>()) as f64,
                enough: spec.slow_viewers(),
            })
        }
        Kind::Churn => Some(Habit {
            what: "viewers that left and were replaced, a second",
            done: outcome.events.iter().map(|event| event.per_second).sum(),
            enough: spec.churn_per_second * CHURN_SHARE_MIN,
        }),
        _ => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a double saturates, and the flags check what is too much"
)]
pub(super) fn whole(value: f64) -> u32 {
    value.round() as u32
}
