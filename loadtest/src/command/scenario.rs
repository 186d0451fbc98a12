//! The scenarios: each is a `run` with something more, and ends with a verdict.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use serde::Serialize;

use crate::audit::Tally;
use crate::cli::{Cli, Command, RunArgs, ScenarioArgs, ServerArgs};
use crate::command::run::{lines, prepare, setup};
use crate::command::{Verdict, print, process, say};
use crate::error::HarnessError;
use crate::report::{RunReport, write_json};
use crate::restart::Restart;
use crate::scenario::{Check, Evidence, Kind, Searched, Slo, Spec, memory_mib_per_hour};
use crate::schedule::{Schedule, Spread};
use crate::session::{Act, Deed, Event, Gathering, Outcome, Party, Program, Session};
use crate::table::{Table, count};
use crate::target::Target;

/// Everything a scenario found: the report of its run, and beside it what makes it a scenario.
#[derive(Debug, Serialize)]
struct ScenarioReport {
    #[serde(flatten)]
    run: RunReport,
    scenario: Findings,
}

#[derive(Debug, Serialize)]
struct Findings {
    /// The scenario with all its fields.
    fields: Spec,
    /// Each figure against its limit.
    checks: Vec<Check>,
    /// Whether posts left so late that the figures say little of the server.
    generator_was_the_limit: bool,
    /// What happened to the viewers.
    events: Vec<Event>,
    /// Viewers on their way back.
    returns: Returns,
    /// Growth of the server's memory.
    memory_mib_per_hour: Option<f64>,
    /// The audit by room: rooms with faults first, then those with the most deliveries.
    rooms: Vec<RoomTally>,
    /// The steps of a search.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Returns {
    rejoined: u64,
    resumed: u64,
    renumbered: u64,
    unreplayed: u64,
    retries: u64,
    latency: crate::latency::Summary,
}

#[derive(Debug, Serialize)]
struct RoomTally {
    room: String,
    audit: Tally,
}

#[derive(Clone, Debug, Serialize)]
struct Step {
    value: f64,
    met: bool,
    failed: Vec<String>,
}

/// Rooms that are listed by name.
const ROOMS_LISTED_MAX: usize = 100;
/// How long everybody may take to be back when the verdict does not say it.
const PATIENCE_S: f64 = 60.0;
/// Steps of a search; bisection needs far fewer.
const STEPS_MAX: usize = 32;

/// Runs a shipped scenario.
pub(super) async fn shipped(
    kind: Kind,
    args: &ScenarioArgs,
    stop: Arc<AtomicBool>,
) -> Result<Verdict, HarnessError> {
    conduct(Spec::shipped(kind, &args.set)?, &args.server, stop).await
}

/// Runs a scenario from a file.
pub(super) async fn own(
    file: &Path,
    args: &ScenarioArgs,
    stop: Arc<AtomicBool>,
) -> Result<Verdict, HarnessError> {
    conduct(Spec::read(file, &args.set)?, &args.server, stop).await
}

async fn conduct(
    spec: Spec,
    server: &ServerArgs,
    stop: Arc<AtomicBool>,
) -> Result<Verdict, HarnessError> {
    if matches!(spec.scenario, Kind::Restart | Kind::Soak) && server.server_pid.is_none() {
        let text = format!("{} needs --server-pid", spec.scenario.name());
        return Err(HarnessError::Flags(text));
    }
    let report = if spec.scenario == Kind::Search {
        search(&spec, server, &stop).await?
    } else {
        perform(&spec, server, &stop).await?
    };
    print(&report.run.render());
    print(&report.scenario.render(&report.run));
    if let Some(path) = &server.json {
        write_json(path, &report)?;
    }
    Ok(if report.run.passed {
        Verdict::Good
    } else {
        Verdict::Bad
    })
}

/// One scenario, from the first dial to the verdict.
async fn perform(
    spec: &Spec,
    server: &ServerArgs,
    stop: &Arc<AtomicBool>,
) -> Result<ScenarioReport, HarnessError> {
    let args = run_args(spec, server)?;
    let (mut party, mut program) = prepare(&args)?;
    let process = process(server)?;
    let mut target = Target::reach(&server.url).await?;
    arrange(spec, &args, &target, &mut party, &mut program)?;
    let posts = count(program.schedule.posts().len() as u64);
    say(&format!(
        "{}: {} viewers, {posts} posts over {} s",
        spec.scenario.name(),
        count(spec.viewers.into()),
        spec.duration_s
    ));
    let names: Vec<String> = party.rooms.iter().map(ToString::to_string).collect();
    let session = Session::open(&target, party, program.late, process, Arc::clone(stop)).await?;
    let connect = session.connect.clone();
    let outcome = session.play(&mut target, &program).await?;
    let partial = stop.load(Ordering::Relaxed);
    let evidence = evidence(spec, &outcome);
    let mut run = RunReport::new(setup(&args), connect, &outcome, partial);
    let checks = spec.slo.judge(&evidence);
    run.passed = checks.iter().all(|check| check.met);
    let tolls = &outcome.result.tolls;
    let scenario = Findings {
        fields: spec.clone(),
        checks,
        generator_was_the_limit: Slo::generator_was_the_limit(&evidence),
        returns: Returns {
            rejoined: tolls.rejoined,
            resumed: tolls.resumed,
            renumbered: tolls.renumbered,
            unreplayed: tolls.unreplayed,
            retries: tolls.retries,
            latency: tolls.rejoins.summary(),
        },
        memory_mib_per_hour: evidence.memory_mib_per_hour,
        rooms: by_room(&outcome.result.findings.rooms, &names),
        events: outcome.events,
        steps: Vec::new(),
    };
    Ok(ScenarioReport { run, scenario })
}

/// Bisects between the ends. Each step has rooms of its own, so that nothing of the one before is left in them.
async fn search(
    spec: &Spec,
    server: &ServerArgs,
    stop: &Arc<AtomicBool>,
) -> Result<ScenarioReport, HarnessError> {
    let searched = spec.search.unwrap_or(Searched::Viewers);
    let mut steps: Vec<Step> = Vec::new();
    let (mut good, mut bad) = (None::<ScenarioReport>, None::<ScenarioReport>);
    let (mut low, mut high) = (spec.from, spec.to);
    let mut value = spec.from;
    for number in 0..STEPS_MAX {
        let mut step = spec.clone();
        match searched {
            Searched::Viewers => step.viewers = whole(value),
            Searched::Rate => step.rate = value,
        }
        let server = ServerArgs {
            room_prefix: format!("{}-s{number}", server.room_prefix),
            ..server.clone()
        };
        let report = perform(&step, &server, stop).await?;
        let met = report.run.passed;
        let failed = report.scenario.failed();
        let why = if met {
            "met".to_owned()
        } else {
            format!("not met: {}", failed.join("; "))
        };
        say(&format!("{value:.0}: {why}"));
        steps.push(Step { value, met, failed });
        if met {
            low = value;
            good = Some(report);
        } else {
            high = value;
            bad = Some(report);
        }
        let done = good.is_none() || (high - low) * 100.0 <= spec.precision_percent * low;
        if done || stop.load(Ordering::Relaxed) {
            break;
        }
        // The upper end first: often it is met, and everything below it needs no look.
        value = if number == 0 {
            spec.to
        } else {
            f64::midpoint(low, high)
        };
    }
    let last = good.or(bad);
    let mut report =
        last.ok_or_else(|| HarnessError::Flags("a search without a step".to_owned()))?;
    report.scenario.fields = spec.clone();
    report.scenario.steps = steps;
    Ok(report)
}

/// The flags of the `run` a scenario is made from, so that both check and mean the same.
fn run_args(spec: &Spec, server: &ServerArgs) -> Result<RunArgs, HarnessError> {
    let stalling = spec.slow_percent / 100.0 * f64::from(spec.viewers);
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
        ("--stall-viewers", whole(stalling).to_string()),
        ("--stall-after-s", spec.slow_after_s.to_string()),
        ("--corpus", spec.corpus.clone()),
    ] {
        if !value.is_empty() {
            words.push(format!("{flag}={value}"));
        }
    }
    let parsed = Cli::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        HarnessError::Flags(line.trim_start_matches("error: ").to_owned())
    })?;
    let Command::Run(mut args) = parsed.command else {
        return Err(HarnessError::Flags("not a run".to_owned()));
    };
    args.server = server.clone();
    if let Some(per_second) = spec.ramp_per_second {
        if !(per_second > 0.0 && per_second.is_finite()) {
            let text = format!("ramp_per_second = {per_second}: not a number above 0");
            return Err(HarnessError::Flags(text));
        }
        args.server.connect_rate = per_second;
    }
    Ok(args)
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
        Kind::HotRoom | Kind::Search => party.gathering = Gathering::Meanwhile,
        Kind::ManyRooms => {
            party.audience.zipf = spec.zipf;
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
            let lines = lines(&args.load, recorded)?;
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
        Kind::Soak => {}
    }
    Ok(())
}

fn evidence(spec: &Spec, outcome: &Outcome) -> Evidence {
    let tolls = &outcome.result.tolls;
    let faults: u64 = tolls.faults.values().sum();
    let posts = outcome.publication.summary();
    let stages = &outcome.result.findings.stages;
    let p99 = stages
        .iter()
        .map(|stage| stage.beyond_window.summary().p99_ms);
    let ended = tolls.closes.values().sum::<u64>() + tolls.silent_ends;
    Evidence {
        tally: outcome.result.findings.tally,
        breaches: faults + outcome.publication.contradicted,
        p99_beyond_window_ms: p99.fold(0.0, f64::max),
        posts: [posts.due, posts.acknowledged],
        missing_viewers: u64::from(spec.viewers).saturating_sub(tolls.joined - tolls.rejoined),
        // A server that stops tells everybody to go: that is what is measured.
        ended_viewers: if spec.scenario == Kind::Restart {
            0
        } else {
            ended
        },
        events: outcome
            .events
            .iter()
            .filter(|event| event.what != "churn")
            .cloned()
            .collect(),
        memory_mib_per_hour: memory_mib_per_hour(&outcome.timeline, spec.warm_up_s),
        lateness_p99_ms: posts.lateness.p99_ms,
    }
}

fn by_room(rooms: &[Tally], names: &[String]) -> Vec<RoomTally> {
    let mut listed: Vec<RoomTally> = (0..)
        .zip(rooms)
        .filter(|(_, tally)| **tally != Tally::default())
        .filter_map(|(index, tally): (usize, &Tally)| {
            let name = names.get(index % names.len().max(1))?;
            let anew = if index < names.len() {
                ""
            } else {
                " (numbered anew)"
            };
            Some(RoomTally {
                room: format!("{name}{anew}"),
                audit: *tally,
            })
        })
        .collect();
    listed.sort_by_key(|room| {
        (
            room.audit.is_clean(),
            std::cmp::Reverse(room.audit.delivered),
        )
    });
    listed.truncate(ROOMS_LISTED_MAX);
    listed
}

impl Findings {
    fn failed(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| !check.met);
        failed.map(|check| check.what.clone()).collect()
    }

    fn render(&self, run: &RunReport) -> String {
        let mut table = Table::new(format!("verdict of {}", self.fields.scenario.name()));
        for check in &self.checks {
            let value = check
                .value
                .map_or_else(|| "not measured".to_owned(), |value| format!("{value:.2}"));
            let mark = if check.met { "ok" } else { "NOT MET" };
            table.row([
                &check.what,
                &format!("{value}, limit {:.2}: {mark}", check.limit),
            ]);
        }
        self.render_events(&mut table);
        self.render_returns(&mut table);
        self.render_rooms(&mut table);
        if self.generator_was_the_limit {
            let text =
                "the generator was the limit: posts left late, so this says little of the server";
            table.row(["note", text]);
        }
        let most = self
            .steps
            .iter()
            .filter(|step| step.met)
            .map(|step| step.value)
            .fold(0.0, f64::max);
        if most > 0.0 {
            table.row(["the most that meets it", &format!("{most:.0}")]);
        }
        let verdict = match (run.passed, run.partial) {
            (true, false) => "passed",
            (true, true) => "passed as far as it went (ended early)",
            (false, false) => "FAILED",
            (false, true) => "FAILED (ended early)",
        };
        table.row(["verdict", verdict]);
        table.render()
    }

    fn render_events(&self, table: &mut Table) {
        for event in &self.events {
            let last = event.last_back_s.map_or_else(
                || "not all".to_owned(),
                |last| format!("the last after {last:.2} s"),
            );
            let down = event.down_s.map_or_else(String::new, |down| {
                format!(", nobody listened for {down:.2} s")
            });
            if event.what != "churn" {
                let text = format!(
                    "{} of {} viewers back, {last}, {:.0} a second{down}",
                    count(event.back),
                    count(event.viewers),
                    event.per_second
                );
                table.row([&event.what, &text]);
            }
            if let Some(pid) = event.server_pid {
                table.row(["the server now", &format!("pid {pid}")]);
            }
        }
    }

    fn render_rooms(&self, table: &mut Table) {
        for room in self
            .rooms
            .iter()
            .filter(|room| !room.audit.is_clean())
            .take(10)
        {
            let audit = &room.audit;
            let text = format!(
                "lost {}, duplicate {}, reordered {}, corrupt {}, late {}, shed {}, skipped {}",
                audit.lost,
                audit.duplicate,
                audit.reordered,
                audit.corrupt,
                audit.late,
                audit.shed,
                audit.skipped
            );
            table.row([&format!("room {}", room.room), &text]);
        }
    }

    fn render_returns(&self, table: &mut Table) {
        let returns = &self.returns;
        if returns.rejoined == 0 {
            return;
        }
        let latency = &returns.latency;
        let text = format!(
            "{} ({} went on where they were), p50 {:.0} ms, p99 {:.0} ms, {} dials in vain",
            count(returns.rejoined),
            count(returns.resumed),
            latency.p50_ms,
            latency.p99_ms,
            count(returns.retries)
        );
        table.row(["viewers that came back", &text]);
        if returns.renumbered > 0 {
            let text = format!(
                "the epoch changed for {} viewers: {} viewer-comments could not be replayed",
                count(returns.renumbered),
                count(returns.unreplayed)
            );
            table.row(["numbered anew", &text]);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a double saturates, and the flags check what is too much"
)]
fn whole(value: f64) -> u32 {
    value.round() as u32
}
