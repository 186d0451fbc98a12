//! What a specification means for a session: the viewers, the posts and the disruptions.

use std::time::Duration;

use danmaku_wire::RoomId;
use rustix::process::Signal;

use crate::descriptors;
use crate::error::HarnessError;
use crate::restart::Restart;
use crate::schedule::{Schedule, Spread};
use crate::session::{Act, Deed, Gathering, Party, Program};
use crate::spec::Spec;
use crate::spec_error::SpecError;
use crate::swarm::{Habits, Seating};
use crate::target::Target;
use danmaku_chat::{Line, Stretch};

/// How long reconnecting may take if there is no limit for it.
const PATIENCE_S: f64 = 60.0;
/// The whole schedule is kept in memory, so it has to fit.
const POSTS_MAX: f64 = 10_000_000.0;
/// Different texts in a quiet room.
const QUIET_LINES: Duration = Duration::from_secs(60);

/// The viewers and their rooms. Checks that their sockets fit.
pub(super) fn party(spec: &Spec) -> Result<Party, HarnessError> {
    let posters = spec.post_via.posters(spec.post_connections, spec.rooms);
    let posters = if spec.duration_s == 0 { 0 } else { posters };
    descriptors::reserve(spec.viewers.into(), posters.into())?;
    let rooms = (0..spec.rooms)
        .map(|number| RoomId::parse(&format!("{}-{number}", spec.room_prefix)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(SpecError::RoomPrefix)?;
    Ok(Party {
        seating: Seating {
            viewers: spec.viewers,
            rooms: spec.rooms,
            zipf: spec.zipf,
            via: spec.protocol,
            mix: spec.mix()?,
            sampled: spec.sample,
            stalling: spec.slow_viewers(),
        },
        rooms: rooms.into(),
        connects_per_second: spec.connect_rate,
        connecting_max: spec.connecting_max as usize,
        threads: usize::from(spec.threads),
        settle: Duration::from_secs(spec.settle_s),
        metrics_listen: spec.metrics_listen,
        sources: spec.source_addresses.clone(),
        habits: Habits {
            history: (spec.history_percent > 0.0).then_some((spec.history, spec.history_percent)),
            reconnect: spec.reconnect,
            reconnects: spec.storm_at_s.is_some() || spec.restarts_server(),
            churn_per_second: spec.churn_per_second,
            slow_bytes_per_second: spec.slow_bytes_per_second,
        },
        gathering: if spec.join_meanwhile {
            Gathering::Meanwhile
        } else {
            Gathering::First
        },
    })
}

/// The posts, and what happens meanwhile except to the server.
pub(super) fn program(spec: &Spec) -> Result<Program, HarnessError> {
    let (lines, schedule) = posts(spec)?;
    let mut acts = Vec::new();
    if spec.churn_per_second > 0.0 {
        acts.push(act(spec, Duration::ZERO, Deed::Churn));
    }
    if let Some(at_s) = spec.storm_at_s {
        acts.push(act(spec, Duration::from_secs(at_s), Deed::Storm));
    }
    Ok(Program {
        lines: lines.into(),
        schedule,
        duration: spec.duration(),
        drain: Duration::from_secs(spec.drain_s),
        late: Duration::from_millis(spec.late_ms),
        stall_after: spec.slow_after(),
        acts,
        post_via: spec.post_via,
        post_connections: usize::from(spec.post_connections),
    })
}

/// Adds how the server is stopped and started again.
pub(super) fn add_restarts(spec: &Spec, target: &Target, program: &mut Program) {
    let restart = |signal| {
        Deed::Restart(Restart {
            pid: spec.server_pid.unwrap_or_default(),
            command: spec.start.clone().unwrap_or_default(),
            server: target.socket,
            signal,
        })
    };
    let stop = spec.restart_at_s.map(Duration::from_secs);
    let acts = stop.map(|at| act(spec, at, restart(Signal::TERM)));
    program.acts.extend(acts);
    let crashes = spec.crash_times().into_iter();
    let acts = crashes.map(|at| act(spec, at, restart(Signal::KILL)));
    program.acts.extend(acts);
    program.acts.sort_by_key(|act| act.at);
}

fn act(spec: &Spec, at: Duration, what: Deed) -> Act {
    let patience_s = spec.slo.last_back_s_max.unwrap_or(PATIENCE_S) * 2.0;
    let patience = Duration::try_from_secs_f64(patience_s);
    Act {
        at,
        what,
        patience: patience.unwrap_or(Duration::from_secs(60)),
    }
}

fn posts(spec: &Spec) -> Result<(Vec<Line>, Schedule), HarnessError> {
    let duration = spec.duration();
    if duration.is_zero() {
        return Ok(Default::default());
    }
    if let Some(every_ms) = spec.post_every_ms {
        let lines = danmaku_chat::chat(spec.seed, 10.0, QUIET_LINES);
        let kinds = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let every = Duration::from_millis(every_ms);
        let schedule = Schedule::steady(every, duration, spec.rooms, kinds);
        return Ok((lines, schedule));
    }
    let spread = if spec.replicate {
        Spread::Replicate
    } else {
        Spread::RoundRobin
    };
    let third = duration / 3;
    let needed = third.mul_f64(2.0 + spec.burst_factor);
    let lines = lines(spec, needed.max(duration))?;
    let mut schedule = Schedule::replay(&lines, spec.speed, spec.rooms, spread);
    if spec.burst_factor > 1.0 {
        schedule = schedule.warped(&[(third, 1.0), (third, spec.burst_factor), (third, 1.0)]);
    }
    schedule = schedule.until(duration);
    if spec.zipf > 0.0 && !spec.replicate {
        schedule = schedule.drawn(spec.rooms, spec.zipf, spec.seed);
    }
    Ok((lines, schedule))
}

/// The comments for `duration`, sped up.
fn lines(spec: &Spec, duration: Duration) -> Result<Vec<Line>, HarnessError> {
    let recorded_s = duration.as_secs_f64() * spec.speed;
    let take = Duration::try_from_secs_f64(recorded_s).unwrap_or(Duration::MAX);
    let copies = if spec.replicate {
        f64::from(spec.rooms)
    } else {
        1.0
    };
    let fits = |comments: f64| {
        let posts = comments * copies;
        if posts <= POSTS_MAX {
            return Ok(());
        }
        Err(SpecError::Posts {
            posts,
            most: POSTS_MAX,
        })
    };
    match &spec.corpus {
        Some(path) => {
            let skip = Duration::from_secs(spec.skip_s);
            let lines = danmaku_chat::read(path, Stretch { skip, take })?;
            fits(lines.len() as f64)?;
            Ok(lines)
        }
        None => {
            fits(recorded_s * spec.rate)?;
            Ok(danmaku_chat::chat(spec.seed, spec.rate, take))
        }
    }
}
