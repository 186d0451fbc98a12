//! The commands: each reads its flags, does its work and prints the result.

mod abuse;
mod compare;
mod evidence;
mod pace;
mod plan;
mod run;
mod scenario;
mod search;

use std::io::{self, BufReader, Write};
use std::process::ExitCode;
use std::task::Poll;

use clap::error::ErrorKind;
use tokio::signal::unix::{Signal, SignalKind, signal};

use tokio_util::sync::CancellationToken;

use crate::cli::{Invocation, Tool, Unparsed, parse};
use crate::error::HarnessError;
use crate::report::{self, check_writable};
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
    let invocation = match parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(Unparsed::Flags(error)) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(Unparsed::Flags(error)) => return refuse(&one_line(&error)),
        Err(Unparsed::Spec(error)) => return refuse(&error.to_string()),
    };
    match &invocation {
        Invocation::Tool(Tool::FloorSender { plan }) => return floor_sender(plan),
        Invocation::Tool(_) => {}
        Invocation::Scenario(_, report) => {
            let mut paths: Vec<_> = report.paths().collect();
            paths.sort();
            if paths.windows(2).any(|pair| pair[0] == pair[1]) {
                return refuse("two of --json, --html and --csv name the same file");
            }
            for path in paths {
                if let Err(error) = check_writable(path) {
                    return refuse(&error.to_string());
                }
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let concluded = runtime
        .map_err(HarnessError::system("runtime"))
        .and_then(|runtime| {
            let concluded = runtime.block_on(interruptible(invocation));
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
async fn interruptible(invocation: Invocation) -> Result<Verdict, HarnessError> {
    let stop = CancellationToken::new();
    tokio::select! {
        // Commands that only compute never get to catch a signal: it kills them.
        biased;
        concluded = dispatch(invocation, &stop) => concluded,
        () = interrupted_twice(&stop) => {
            Err(HarnessError::InterruptedTwice)
        }
    }
}

async fn dispatch(
    invocation: Invocation,
    stop: &CancellationToken,
) -> Result<Verdict, HarnessError> {
    match invocation {
        Invocation::Scenario(spec, report) => scenario::run(&spec, &report, stop).await,
        Invocation::Tool(Tool::Abuse(args)) => abuse::abuse(args, stop).await,
        Invocation::Tool(Tool::Compare(args)) => compare::compare(&args),
        Invocation::Tool(Tool::Schema) => {
            print(&report::schema());
            Ok(Verdict::Good)
        }
        Invocation::Tool(Tool::FloorSender { .. }) => Ok(Verdict::Good),
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
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
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
async fn interrupted_twice(stop: &CancellationToken) {
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    // `nohup` ignores it, and a handler would undo that.
    if !is_ignored(SignalKind::hangup()) {
        kinds.push(SignalKind::hangup());
    }
    let mut signals: Vec<Signal> = kinds.into_iter().flat_map(signal).collect();
    one_of(&mut signals).await;
    stop.cancel();
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
