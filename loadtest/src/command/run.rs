//! Runs a scenario from the first connect to the verdict.

use std::time::Duration;

use danmaku_wire::RoomId;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::command::evidence::evidence;
use crate::command::pace::Pace;
use crate::command::plan::{add_restarts, party, program};
use crate::command::say;
use crate::entrance::Entrance;
use crate::error::HarnessError;
use crate::floor::{self, Floor};
use crate::ingest;
use crate::limits::judge;
use crate::report::{Machine, RunReport, ScenarioReport, Setup};
use crate::server_side::ServerSide;
use crate::session::{Party, Program, Session};
use crate::spec::Spec;
use crate::spec_error::SpecError;
use crate::table::count;
use crate::target::Target;

/// One run.
pub(super) async fn perform(
    spec: &Spec,
    stop: &CancellationToken,
) -> Result<RunReport, HarnessError> {
    let (party, mut program) = (party(spec)?, program(spec)?);
    let began = Clock::start();
    let mut target = Target::reach(Entrance::of(spec)?).await?;
    let server = server_side(spec, &target).await?;
    add_restarts(spec, &target, &mut program);
    let interrupted = |joined| RunReport::interrupted(setup(spec, &target), joined, began);
    let mut halves = Vec::new();
    if spec.with_floor {
        let pace = Pace::asked(&target, spec, &party, &program).await?;
        let measured = floor_half(spec, &party, &pace, stop).await;
        if stop.is_cancelled() {
            return Ok(interrupted(0));
        }
        halves.push(measured?);
    }
    let post_cost = if spec.with_post_cost {
        say("posting to a room without viewers");
        let room = RoomId::parse(&format!("{}-unwatched", spec.room_prefix))
            .map_err(SpecError::RoomPrefix)?;
        Some(ingest::measure(&target, &program, room, &server, stop).await?)
    } else {
        None
    };
    announce(spec, &program);
    let opened = Session::open(&target, party.clone(), program.late, &server, stop.clone());
    let session = match opened.await {
        Err(HarnessError::Interrupted { joined, .. }) => return Ok(interrupted(joined)),
        opened => opened?,
    };
    let connect = session.connect.clone();
    let outcome = if spec.duration_s == 0 {
        session.close()?
    } else {
        session.play(&mut target, &program).await?
    };
    if spec.with_floor && !stop.is_cancelled() {
        let pace = Pace::measured(&outcome, spec.viewers);
        match floor_half(spec, &party, &pace, stop).await {
            Ok(floor) => halves.push(floor),
            // This must not discard the results of the run.
            Err(error) => say(&format!("floor, second half failed: {error}")),
        }
    }
    let partial = stop.is_cancelled();
    if !outcome.caught_up && !partial && spec.duration_s > 0 {
        let drain_s = spec.drain_s;
        say(&format!(
            "not every viewer had received everything {drain_s} s after the last post"
        ));
    }
    let mut report = RunReport::new(setup(spec, &target), connect, &outcome, partial);
    if let Some(post_cost) = post_cost {
        report.set_post_cost(post_cost);
    }
    if let [first, second] = halves[..] {
        report.set_floor([first, second], usize::from(spec.floor_threads));
    }
    if spec.slo.is_set() {
        let evidence = evidence(spec, &outcome, partial);
        report.set_scenario(ScenarioReport {
            checks: judge(&spec.slo, &evidence),
            memory_mib_per_hour: evidence.memory_mib_per_hour,
            ..ScenarioReport::default()
        });
    }
    Ok(report)
}

fn announce(spec: &Spec, program: &Program) {
    say(&format!(
        "{}: {} viewers, {} posts over {} s",
        spec.scenario,
        count(spec.viewers.into()),
        count(program.schedule.posts().len() as u64),
        spec.duration_s
    ));
}

async fn floor_half(
    spec: &Spec,
    party: &Party,
    pace: &Pace,
    stop: &CancellationToken,
) -> Result<Floor, HarnessError> {
    let half = Duration::from_secs(spec.floor_s.unwrap_or(spec.duration_s.div_ceil(2)));
    say(&format!("floor: {} s", half.as_secs()));
    let sender_threads = usize::from(spec.floor_threads);
    floor::measure(&pace.plan(party, sender_threads, half), stop).await
}

/// Where the server's figures come from. Metrics are those of the listening process, so they continue after a restart.
async fn server_side(spec: &Spec, target: &Target) -> Result<ServerSide, HarnessError> {
    let named = ServerSide::find(spec.server_pid, target).await?;
    if spec.restarts_server() {
        return Ok(match ServerSide::find(None, target).await? {
            ServerSide::Unknown => named,
            metrics => metrics,
        });
    }
    if spec.slo.memory_mib_per_hour_max.is_some() && matches!(named, ServerSide::Unknown) {
        return Err(HarnessError::NoServerFigures("a limit of the memory"));
    }
    Ok(named)
}

fn setup(spec: &Spec, target: &Target) -> Setup {
    Setup {
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server_version: target.version.clone(),
        spec: spec.clone(),
        window_ms: 0,
        machine: Machine::this(),
    }
}
