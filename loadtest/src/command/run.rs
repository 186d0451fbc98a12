//! `run`: replays a recording to viewers and audits every delivery.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use danmaku_client::{Connect, Connection, Event};
use danmaku_wire::{Dialect, Encoding, RoomId};

use crate::cli::{LoadArgs, ReportArgs, RunArgs};
use crate::clock::Clock;
use crate::command::{Verdict, connecting, party, print, say};
use crate::corpus::{self, Line, Stretch};
use crate::error::HarnessError;
use crate::floor::{self, FloorPlan};
use crate::ingest;
use crate::report::{RunReport, Setup, write_html, write_json};
use crate::schedule::{Schedule, Spread};
use crate::sealing::Sealing;
use crate::server_side::ServerSide;
use crate::session::{Outcome, Party, Program, Session};
use crate::swarm::WatchVia;
use crate::synthetic;
use crate::table::count;
use crate::target::Target;

pub(super) async fn run(args: RunArgs, stop: Arc<AtomicBool>) -> Result<Verdict, HarnessError> {
    if args.with_floor && args.server.processes > 1 {
        let text = format!(
            "--with-floor works in one process only: drop --processes {}",
            args.server.processes
        );
        return Err(HarnessError::Flags(text));
    }
    let (party, program) = prepare(&args)?;
    let began = Clock::start();
    let mut target = Target::reach(&args.server.url).await?;
    let server = ServerSide::find(args.server.server_pid, &target).await?;
    let half = Duration::from_secs(args.floor_s.unwrap_or(args.duration_s.div_ceil(2)));
    let mut halves = Vec::new();
    if args.with_floor {
        say(&format!("floor, first half: {} s", half.as_secs()));
        let pace = Pace::asked(&target, &args, &party, &program).await?;
        let measured = floor::measure(&pace.plan(&args, &party, half), &stop).await;
        if stop.load(Ordering::Relaxed) {
            let report = RunReport::interrupted(setup(&args, &target), 0, began);
            return publish(&args.report, &report);
        }
        halves.push(measured?);
    }
    let post_cost = if args.with_post_cost {
        say("posting to a room without viewers");
        let name = format!("{}-unwatched", args.server.room_prefix);
        let room = RoomId::parse(&name)
            .map_err(|error| HarnessError::Flags(format!("--room-prefix: {name}: {error}")))?;
        Some(ingest::measure(&target, &program, room, &server, &stop).await?)
    } else {
        None
    };
    say(&format!(
        "connecting {} viewers",
        count(args.viewing.viewers.into())
    ));
    let late = Duration::from_millis(args.late_ms);
    let opened = Session::open(&target, party.clone(), late, &server, Arc::clone(&stop)).await;
    let session = match opened {
        Err(HarnessError::Interrupted { joined, .. }) => {
            return publish(
                &args.report,
                &RunReport::interrupted(setup(&args, &target), joined, began),
            );
        }
        opened => opened?,
    };
    let connect = session.connect.clone();
    let posts = count(program.schedule.posts().len() as u64);
    say(&format!(
        "posting {posts} comments over {} s",
        program.duration.as_secs()
    ));
    let outcome = session.play(&mut target, &program).await?;
    if args.with_floor && !stop.load(Ordering::Relaxed) {
        say(&format!("floor, second half: {} s", half.as_secs()));
        let pace = Pace::measured(&outcome, args.viewing.viewers);
        match floor::measure(&pace.plan(&args, &party, half), &stop).await {
            Ok(floor) => halves.push(floor),
            // This must not discard the results of the run.
            Err(error) => say(&format!("floor, second half failed: {error}")),
        }
    }
    let partial = stop.load(Ordering::Relaxed);
    let mut report = RunReport::new(setup(&args, &target), connect, &outcome, partial);
    if let Some(post_cost) = post_cost {
        report.set_post_cost(post_cost);
    }
    if let [first, second] = halves[..] {
        report.set_floor([first, second], usize::from(args.floor_threads));
    }
    if !outcome.caught_up && !partial {
        say(&format!(
            "not every viewer had received everything {} s after the last post",
            args.drain_s
        ));
    }
    publish(&args.report, &report)
}

/// Prints and writes the report.
pub(super) fn publish(args: &ReportArgs, report: &RunReport) -> Result<Verdict, HarnessError> {
    print(&report.render());
    // If one file cannot be written, still write the other.
    let json = args.json.as_ref().map(|path| write_json(path, report));
    let html = args.html.as_ref().map(|path| write_html(path, report));
    json.transpose().and(html.transpose())?;
    Ok(if report.passed {
        Verdict::Good
    } else {
        Verdict::Bad
    })
}

pub(super) fn prepare(args: &RunArgs) -> Result<(Party, Program), HarnessError> {
    if args.stall_viewers >= args.viewing.viewers {
        let text = format!(
            "--stall-viewers {} leaves no viewers to measure",
            args.stall_viewers
        );
        return Err(HarnessError::Flags(text));
    }
    let stall_after_s = args.stall_after_s.unwrap_or(args.duration_s / 2);
    if args.stall_viewers > 0 && stall_after_s >= args.duration_s {
        let text = format!(
            "--stall-after-s {stall_after_s} must be below --duration-s {}",
            args.duration_s
        );
        return Err(HarnessError::Flags(text));
    }
    let load = &args.load;
    let posters = load
        .post_via
        .posters(load.post_connections, args.viewing.rooms);
    let mut party = party(&args.server, &args.viewing, args.settle_s, posters)?;
    party.seating.sampled = args.sample;
    party.seating.stalling = args.stall_viewers;
    let duration = Duration::from_secs(args.duration_s);
    let lines = lines(load, args.viewing.rooms, duration)?;
    let spread = if args.load.replicate {
        Spread::Replicate
    } else {
        Spread::RoundRobin
    };
    let schedule =
        Schedule::replay(&lines, args.load.speed, args.viewing.rooms, spread).until(duration);
    let program = Program {
        lines: lines.into(),
        schedule,
        duration,
        drain: Duration::from_secs(args.drain_s),
        late: Duration::from_millis(args.late_ms),
        stall_after: (args.stall_viewers > 0).then(|| Duration::from_secs(stall_after_s)),
        acts: Vec::new(),
        post_via: args.load.post_via,
        post_connections: usize::from(args.load.post_connections),
    };
    Ok((party, program))
}

/// The whole schedule is kept in memory, so it has to fit.
const POSTS_MAX: f64 = 10_000_000.0;

/// The comments for `duration`, sped up.
pub(super) fn lines(
    load: &LoadArgs,
    rooms: u32,
    duration: Duration,
) -> Result<Vec<Line>, HarnessError> {
    let recorded_s = duration.as_secs_f64() * load.speed;
    let take = Duration::try_from_secs_f64(recorded_s).map_err(|_| {
        HarnessError::Flags(format!("{recorded_s:.0} recorded seconds are too many"))
    })?;
    match &load.corpus {
        Some(path) => {
            let stretch = Stretch {
                skip: Duration::from_secs(load.skip_s),
                take,
            };
            let lines = corpus::read(path, stretch)?;
            check_posts(lines.len() as f64, "comments", load, rooms)?;
            Ok(lines)
        }
        None => {
            check_posts(
                recorded_s * load.rate,
                "seconds x rate x speed",
                load,
                rooms,
            )?;
            Ok(synthetic::chat(load.seed, load.rate, take))
        }
    }
}

/// Rejects more posts than fit in memory.
fn check_posts(comments: f64, what: &str, load: &LoadArgs, rooms: u32) -> Result<(), HarnessError> {
    let (posts, times_rooms) = if load.replicate {
        (comments * f64::from(rooms), " x rooms")
    } else {
        (comments, "")
    };
    if posts <= POSTS_MAX {
        return Ok(());
    }
    Err(HarnessError::Flags(format!(
        "{posts:.0} posts ({what}{times_rooms}) are over the limit of {POSTS_MAX:.0}"
    )))
}

pub(super) fn setup(args: &RunArgs, target: &Target) -> Setup {
    let name = |path: &std::path::PathBuf| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    Setup {
        corpus: args
            .load
            .corpus
            .as_ref()
            .map_or_else(|| "made up".to_owned(), name),
        rate: args.load.corpus.is_none().then_some(args.load.rate),
        settle_s: Some(args.settle_s),
        drain_s: Some(args.drain_s),
        stall_viewers: Some(args.stall_viewers),
        stall_after_s: args.stall_after_s,
        skip_s: args.load.skip_s,
        replicate: args.load.replicate,
        post_via: Some(args.load.post_via),
        post_connections: Some(args.load.post_connections),
        sample: Some(args.sample),
        speed: args.load.speed,
        seed: args.load.seed,
        duration_s: args.duration_s,
        late_ms: args.late_ms,
        ..connecting(&args.server, &args.viewing, target)
    }
}

/// Asks the server for its window by joining a room once.
async fn window_of(target: &Target, room: &RoomId) -> Result<Duration, HarnessError> {
    let failed = |source| HarnessError::Server {
        address: target.address.to_string(),
        source,
    };
    let connect = Connect::new(target.address.clone(), room.clone());
    let mut connection = Connection::connect(&connect).await.map_err(failed)?;
    let event = connection.next().await.map_err(failed)?;
    let window_ms = if let Event::Joined(joined) = event {
        joined.window_ms
    } else {
        1000
    };
    let _ = connection.close().await;
    Ok(Duration::from_millis(window_ms.max(1)))
}

/// The traffic the floor imitates: frame sizes, and how often a viewer gets a frame.
struct Pace {
    frame_bytes: [usize; 3],
    interval: Duration,
}

impl Pace {
    /// Before the run: from the server's window.
    async fn asked(
        target: &Target,
        args: &RunArgs,
        party: &Party,
        program: &Program,
    ) -> Result<Self, HarnessError> {
        let window = window_of(target, &party.rooms[0]).await?;
        let (rooms, via) = (args.viewing.rooms, party.seating.via);
        let sealing = Sealing::of(&program.schedule, &program.lines, rooms, window);
        Ok(Self::expected(&sealing, via, program, rooms, window))
    }

    /// Before the run: from sealing the schedule offline.
    fn expected(
        sealing: &Sealing,
        via: WatchVia,
        program: &Program,
        rooms: u32,
        window: Duration,
    ) -> Self {
        let batches = u32::try_from(sealing.batches / u64::from(rooms)).unwrap_or(u32::MAX);
        let interval = program
            .duration
            .checked_div(batches)
            .unwrap_or(program.duration);
        Self {
            frame_bytes: Encoding::ALL.map(|encoding| {
                let dialect = via.dialect(encoding).unwrap_or(Dialect::WsDeflate);
                sealing.frame_bytes(dialect)
            }),
            interval: interval.max(window),
        }
    }

    /// After the run: from what was delivered.
    fn measured(outcome: &Outcome, viewers: u32) -> Self {
        let frame_bytes = outcome.delivered.map(|delivered| {
            usize::try_from(
                delivered
                    .bytes
                    .checked_div(delivered.frames)
                    .unwrap_or_default(),
            )
            .unwrap_or(usize::MAX)
        });
        let frames: u64 = outcome
            .delivered
            .iter()
            .map(|delivered| delivered.frames)
            .sum();
        let per_viewer = u32::try_from(frames / u64::from(viewers)).unwrap_or(u32::MAX);
        let seconds = Duration::from_secs_f64(outcome.seconds);
        Self {
            frame_bytes,
            interval: seconds.checked_div(per_viewer).unwrap_or(seconds),
        }
    }

    fn plan(&self, args: &RunArgs, party: &Party, half: Duration) -> FloorPlan {
        let rounds = half
            .as_nanos()
            .checked_div(self.interval.as_nanos())
            .unwrap_or(1)
            .max(1);
        let mut seating = party.seating.clone();
        seating.stalling = 0;
        // The same sends to the same sockets: the kernel does not care what the bytes mean.
        seating.via = WatchVia::Ws;
        FloorPlan {
            seating,
            frame_bytes: self.frame_bytes,
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            interval: self.interval,
            sender_threads: usize::from(args.floor_threads),
            swarm_threads: party.threads,
            connects_per_second: party.connects_per_second,
        }
    }
}
