//! The `danmaku-server` binary: flags, start, stop, exit codes.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand, ValueEnum};
use danmaku_engine::Flush;
use danmaku_server::cli::{self, PostArgs, WatchArgs};
use danmaku_server::config::{Config, ServeArgs, processors};
use danmaku_server::crash;
use danmaku_server::export::{self, ExportArgs};
use danmaku_server::import::{self, ImportArgs, ImportError};
use danmaku_server::mint::{self, ServerKeyArgs, TokenArgs};
use danmaku_server::tasks::{Server, StopOutcome};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A live-stream comment (danmaku) fan-out server
///
/// Without a command it runs the server, which merges about a second of a
/// room's comments into one frame, encoded once and shared by all viewers.
#[derive(Parser, Debug)]
#[command(
    name = "danmaku-server",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: ServeArgs,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Watch a room in the terminal
    Watch(WatchArgs),
    /// Post one comment to a room
    Post(PostArgs),
    /// Write a room's comments to standard output, for players and subtitles
    Export(ExportArgs),
    /// Make a token for development
    Token(Box<TokenArgs>),
    /// Make a key for a back end
    ServerKey(ServerKeyArgs),
    /// Put a file of comments into a room of a stopped server's data folder: all of it or nothing
    Import(ImportArgs),
    /// Copy the data file of a server, whether or not it runs
    Backup(BackupArgs),
}

#[derive(Args, Debug)]
struct BackupArgs {
    /// The server's data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// The backup, which must not exist yet
    file: PathBuf,
}

#[derive(Args, Debug)]
struct LogArgs {
    /// What to log to stderr: a level, or a filter such as `danmaku_server=debug`
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "DANMAKU_LOG",
        help_heading = "Log"
    )]
    log: String,

    /// Format of log lines
    #[arg(long, value_enum, default_value = "text", help_heading = "Log")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// Human-readable
    Text,
    /// One JSON object per line
    Json,
}

fn main() -> ExitCode {
    crash::end_on_panic();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return usage(&error),
        // `--help` and `--version`.
        Err(error) => error.exit(),
    };
    let outcome = match cli.command {
        None => serve(&cli.serve, &cli.log),
        Some(Command::Watch(args)) => client(cli::watch(args)),
        Some(Command::Post(args)) => client(cli::post(args)),
        Some(Command::Export(args)) => client(export::export(args)),
        Some(Command::Token(args)) => Ok(finish(mint::token(&args))),
        Some(Command::ServerKey(args)) => Ok(finish(mint::server_key(&args))),
        Some(Command::Import(args)) => import(&args),
        Some(Command::Backup(args)) => Ok(finish(danmaku_log::back_up(&args.data, &args.file))),
    };
    outcome.unwrap_or_else(|line| {
        // On one line, so that a supervisor's journal shows all of it.
        let _ = writeln!(std::io::stderr(), "danmaku-server: {line}");
        ExitCode::from(EXIT_USAGE)
    })
}

/// Reports invalid flags: clap's first paragraph, on one line.
fn usage(error: &clap::Error) -> ExitCode {
    let text = without_secret(error).unwrap_or_else(|| error.to_string());
    let line = text
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let _ = writeln!(std::io::stderr(), "danmaku-server: {line} (see --help)");
    ExitCode::from(EXIT_USAGE)
}

/// The error of a flag whose value may hold a secret, which clap would repeat.
fn without_secret(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = argument.split(' ').next().unwrap_or_default();
    let cause = std::error::Error::source(error)?;
    SECRET_FLAGS
        .contains(&flag)
        .then(|| format!("{flag}: {cause}"))
}

fn client(command: impl Future<Output = Result<(), cli::CliError>>) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    Ok(finish(runtime.block_on(command)))
}

fn import(args: &ImportArgs) -> Result<ExitCode, String> {
    // Only for the signal: an import itself needs no runtime.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async { survive_file_size_limit() })?;
    match import::import(args) {
        Err(ImportError::Open(error)) => Err(error.to_string()),
        imported => Ok(finish(imported)),
    }
}

/// Lets a write over the limit on file sizes (`ulimit -f`) fail like one to a full disk. By default its signal ends the process;
/// once it is caught, it never does again.
fn survive_file_size_limit() -> Result<(), String> {
    let kind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let _never_read = signal(kind).map_err(|error| error.to_string())?;
    Ok(())
}

/// A command's exit code, after one line if it failed.
fn finish(outcome: Result<(), impl Display>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "danmaku-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ServeArgs, log: &LogArgs) -> Result<ExitCode, String> {
    start_log(log)?;
    let config = args
        .check(raise_descriptor_limit())
        .map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors().get())
        .thread_name("danmaku-front")
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        survive_file_size_limit()?;
        let summary = summary(&config);
        let server = Server::start(config).map_err(|error| error.to_string())?;
        // Before announcing that the server is ready, so that any later signal stops it cleanly.
        let stop = StopSignals::catch()?;
        announce(server.address(), server.admin_address(), &summary);
        stop.wait().await;
        tracing::info!("stopping");
        let stopped = server.stop().await;
        tracing::info!(outcome = ?stopped, "stopped");
        Ok(match stopped {
            StopOutcome::Clean => ExitCode::SUCCESS,
            StopOutcome::Deadline => ExitCode::FAILURE,
        })
    })
}

/// The configuration, for the startup message.
fn summary(config: &Config) -> String {
    format!(
        "window {} ms, {} flush, {}, {} shards, up to {} connections{}",
        config.room.window.as_millis(),
        match config.room.flush {
            Flush::Leading => "leading",
            Flush::Fixed => "fixed",
        },
        match &config.data {
            Some(data) => format!("log in {}", data.folder.display()),
            None => "memory log".to_owned(),
        },
        config.fanout.shards,
        config.admission.connections_max,
        if config.demo.is_some() {
            ", feeding the room demo"
        } else {
            ""
        },
    )
}

/// Scripts read the bound port from the first line.
fn announce(address: SocketAddr, admin: Option<SocketAddr>, summary: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "listening on http://{address}");
    let _ = writeln!(out, "{summary}");
    if let Some(admin) = admin {
        let _ = writeln!(out, "metrics on http://{admin}/metrics");
    }
    let _ = out.flush();
}

fn start_log(args: &LogArgs) -> Result<(), String> {
    let filter = EnvFilter::try_new(&args.log).map_err(|error| format!("--log: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
    Ok(())
}

/// SIGTERM and SIGINT, caught so that they no longer kill the process.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn catch() -> Result<Self, String> {
        let catch = |kind| signal(kind).map_err(|error| error.to_string());
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// Waits for either signal.
    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Raises the descriptor limit as far as the system allows (each viewer takes
/// one descriptor) and returns it.
fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    // If raising fails (macOS caps it below "unlimited"), the soft limit
    // stays.
    let holds = match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current,
        Err(_) => before,
    };
    holds.unwrap_or(DESCRIPTORS_UNLIMITED)
}

/// What "unlimited" counts as.
const DESCRIPTORS_UNLIMITED: u64 = 1 << 20;

/// Flags whose value may be a secret given by mistake, or a URL with a password.
const SECRET_FLAGS: &[&str] = &["--jwt-key", "--key", "--jwks"];

/// Exit code for invalid flags.
const EXIT_USAGE: u8 = 2;
