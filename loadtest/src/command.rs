//! The commands: each reads its flags, does its work and prints the result.

mod abuse;
mod compare;
mod conduct;
mod floor;
mod idle;
mod quiet;
mod run;
mod scenario;
mod seal;
mod search;

use std::io::{self, BufReader, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use clap::Parser;
use clap::error::ErrorKind;
use tokio::signal::unix::{Signal, SignalKind, signal};

use danmaku_wire::RoomId;

use crate::cli::{Cli, Command, PROCESSES_MAX, ServerArgs, ViewingArgs};
use crate::descriptors::{self, Need};
use crate::error::HarnessError;
use crate::report::{Machine, Setup, check_writable};
use crate::scenario::Kind;
use crate::session::{Gathering, Party};
use crate::swarm::{Habits, Seating};
use crate::target::Target;
use crate::timeline::clear_live_line;

/// The result of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Everything was good.
    Good,
    /// The audit found faults.
    Bad,
}

/// Runs the command line. Exit code 0: good. 1: the audit found faults. 2: it could not run; one line says why.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            return refuse(&one_line(&error));
        }
    };
    match &cli.command {
        Command::FloorSender { plan } => return floor_sender(plan),
        Command::ViewerProcess => return crate::viewer_processes::attend(),
        _ => {}
    }
    if let [json, html] = cli.command.outputs()[..]
        && json == html
    {
        return refuse("--json and --html name the same file");
    }
    for path in cli.command.outputs() {
        if let Err(error) = check_writable(path) {
            return refuse(&error.to_string());
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let concluded = runtime
        .map_err(HarnessError::system("runtime"))
        .and_then(|runtime| {
            let concluded = runtime.block_on(interruptible(cli.command));
            // After a second Ctrl-C, do not wait for pending work.
            runtime.shutdown_background();
            concluded
        });
    match concluded {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(error) => refuse(&error.to_string()),
    }
}

/// Runs a command until it ends, or until it is interrupted for the second time.
async fn interruptible(command: Command) -> Result<Verdict, HarnessError> {
    let stop = Arc::new(AtomicBool::new(false));
    tokio::select! {
        // Commands that only compute never get to catch a signal: it kills them.
        biased;
        concluded = dispatch(command, Arc::clone(&stop)) => concluded,
        () = interrupted_twice(&stop) => {
            Err(HarnessError::Flags("interrupted twice: no report".to_owned()))
        }
    }
}

async fn dispatch(command: Command, stop: Arc<AtomicBool>) -> Result<Verdict, HarnessError> {
    match command {
        Command::Run(args) => run::run(args, stop).await,
        Command::Idle(args) => idle::idle(args, stop).await,
        Command::Quiet(args) => quiet::quiet(args, stop).await,
        Command::Floor(args) => floor::floor(args, stop).await,
        Command::Abuse(args) => abuse::abuse(args, stop).await,
        Command::HotRoom(args) => conduct::shipped(Kind::HotRoom, &args, stop).await,
        Command::ManyRooms(args) => conduct::shipped(Kind::ManyRooms, &args, stop).await,
        Command::Storm(args) => conduct::shipped(Kind::Storm, &args, stop).await,
        Command::SlowViewers(args) => conduct::shipped(Kind::SlowViewers, &args, stop).await,
        Command::Burst(args) => conduct::shipped(Kind::Burst, &args, stop).await,
        Command::Churn(args) => conduct::shipped(Kind::Churn, &args, stop).await,
        Command::Soak(args) => conduct::shipped(Kind::Soak, &args, stop).await,
        Command::Restart(args) => conduct::shipped(Kind::Restart, &args, stop).await,
        Command::Crash(args) => conduct::shipped(Kind::Crash, &args, stop).await,
        Command::Search(args) => conduct::shipped(Kind::Search, &args, stop).await,
        Command::Scenario { file, args } => conduct::own(&file, &args, stop).await,
        Command::Seal(args) => seal::seal(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::FloorSender { .. } | Command::ViewerProcess => Ok(Verdict::Good),
    }
}

fn floor_sender(plan: &str) -> ExitCode {
    let sent = serde_json::from_str(plan)
        .map_err(io::Error::other)
        .and_then(|plan| {
            crate::floor::send(&plan, &mut BufReader::new(io::stdin()), &mut io::stdout())
        });
    match sent {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("floor sender: {error}")),
    }
}

/// What is wrong with a command line, without the usage, which is in `--help`.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "missing command: see --help".to_owned();
    }
    let hint = if error.kind() == ErrorKind::UnknownArgument && names_scenario() {
        "; use --set key=value to change a scenario's fields"
    } else {
        ""
    };
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").trim_start_matches("error: ").to_owned() + hint
}

/// Whether the command is a scenario.
fn names_scenario() -> bool {
    let command = std::env::args().nth(1);
    Kind::ALL
        .into_iter()
        .map(Kind::name)
        .chain(["scenario"])
        .any(|name| Some(name) == command.as_deref())
}

fn refuse(why: &str) -> ExitCode {
    say(&format!("danmaku-loadtest: {why}"));
    ExitCode::from(2)
}

/// A progress line on stderr, to keep stdout for the result.
fn say(line: &str) {
    // Holds the lock to keep the live line from interleaving.
    let _stderr = io::stderr().lock();
    clear_live_line();
    let _ = writeln!(io::stderr(), "{line}");
}

/// The result.
fn print(text: &str) {
    let mut stdout = io::stdout();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        // The reader is gone, which is fine.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => say(&format!("the result cannot be printed: {error}")),
        Ok(()) => {}
    }
}

/// Raises the flag at the first Ctrl-C, SIGTERM or SIGHUP: commands then end early and print what they have. Returns at the
/// second.
async fn interrupted_twice(stop: &AtomicBool) {
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    // `nohup` ignores it, and a handler would undo that.
    if !is_ignored(SignalKind::hangup()) {
        kinds.push(SignalKind::hangup());
    }
    let mut signals: Vec<Signal> = kinds.into_iter().flat_map(signal).collect();
    one_of(&mut signals).await;
    stop.store(true, Ordering::Relaxed);
    one_of(&mut signals).await;
}

/// Waits for one of these signals.
async fn one_of(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        // Any of them may wake this task, so poll all.
        let has_come = signals.iter_mut().fold(false, |has_come, signal| {
            has_come | signal.poll_recv(context).is_ready()
        });
        if has_come {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Whether this process was started with the signal ignored (proc(5), `SigIgn`). Without `/proc`, no.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

/// The setup for the report, as far as connecting goes.
fn connecting(server: &ServerArgs, viewing: &ViewingArgs, target: &Target) -> Setup {
    // It was made once before, so it can be made.
    let mix = viewing.mix(server.protocol).ok();
    let encodings = mix.map(|mix| mix.encodings()).unwrap_or_default();
    Setup {
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        url: server.url.to_string(),
        server_version: target.version.clone(),
        viewers: viewing.viewers,
        rooms: viewing.rooms,
        processes: server.processes,
        connecting_max: Some(server.connecting_max),
        threads: Some(server.threads),
        connects_per_second: Some(server.connects_per_second()),
        protocol: server.protocol,
        encodings: encodings
            .into_iter()
            .map(|encoding| encoding.as_str().to_owned())
            .collect(),
        cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        machine: Machine::this(),
        ..Setup::default()
    }
}

/// The party of a command, with this many posting connections; stalling viewers may still be added. Checks that it fits its
/// processes if they share it evenly; a session checks more closely.
fn party(
    server: &ServerArgs,
    viewing: &ViewingArgs,
    settle_s: u64,
    posters: u32,
) -> Result<Party, HarnessError> {
    if viewing.viewers < viewing.rooms {
        let text = format!(
            "--viewers {} is below --rooms {}",
            viewing.viewers, viewing.rooms
        );
        return Err(HarnessError::Flags(text));
    }
    let need = Need {
        viewers: viewing.viewers.into(),
        posters: posters.into(),
        processes: server.processes,
        processes_max: PROCESSES_MAX,
    };
    let evenly = |processes: u16| need.viewers.div_ceil(processes.into());
    descriptors::reserve(&need, evenly)?;
    let rooms = (0..viewing.rooms)
        .map(|number| RoomId::parse(&format!("{}-{number}", server.room_prefix)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            HarnessError::Flags(format!("--room-prefix {}: {error}", server.room_prefix))
        })?;
    Ok(Party {
        seating: Seating {
            viewers: viewing.viewers,
            rooms: viewing.rooms,
            zipf: 0.0,
            via: server.protocol,
            mix: viewing.mix(server.protocol)?,
            sampled: 1,
            stalling: 0,
        },
        rooms: rooms.into(),
        posters,
        connects_per_second: server.connects_per_second(),
        connecting_max: server.connecting_max as usize,
        processes: server.processes,
        threads: usize::from(server.threads),
        settle: std::time::Duration::from_secs(settle_s),
        habits: Habits::default(),
        gathering: Gathering::First,
    })
}
