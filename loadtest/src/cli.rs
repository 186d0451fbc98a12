//! Command-line flags.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use danmaku_client::ServerAddress;
use danmaku_wire::Encoding;

use crate::error::HarnessError;
use crate::mix::EncodingMix;
use crate::publisher::PostVia;
use crate::scenario::Kind;
use crate::swarm::WatchVia;

/// The largest `--processes`.
pub const PROCESSES_MAX: u16 = 64;

/// The largest `--frame-bytes`.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Puts viewers and comments on a danmaku server and checks everything that arrives.
#[derive(Debug, Parser)]
#[command(name = "danmaku-loadtest", version, about)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Post generated or recorded chat to viewers and audit every delivery
    Run(RunArgs),
    /// Scenario: one room that fills up while people write
    #[command(after_long_help = fields(Kind::HotRoom))]
    HotRoom(ScenarioArgs),
    /// Scenario: viewers spread over many rooms by a Zipf law
    #[command(after_long_help = fields(Kind::ManyRooms))]
    ManyRooms(ScenarioArgs),
    /// Scenario: everyone is disconnected and reconnects at once
    #[command(after_long_help = fields(Kind::Storm))]
    Storm(ScenarioArgs),
    /// Scenario: some viewers read slowly or not at all
    #[command(after_long_help = fields(Kind::SlowViewers))]
    SlowViewers(ScenarioArgs),
    /// Scenario: normal traffic, twenty times as much, normal again
    #[command(after_long_help = fields(Kind::Burst))]
    Burst(ScenarioArgs),
    /// Scenario: viewers leave and join all the time
    #[command(after_long_help = fields(Kind::Churn))]
    Churn(ScenarioArgs),
    /// Scenario: hours of steady load, to see whether the server's memory grows
    #[command(after_long_help = fields(Kind::Soak))]
    Soak(ScenarioArgs),
    /// Scenario: the server is stopped and started again under load
    #[command(after_long_help = fields(Kind::Restart))]
    Restart(ScenarioArgs),
    /// Scenario: the server is killed at random moments and started again
    #[command(after_long_help = fields(Kind::Crash))]
    Crash(ScenarioArgs),
    /// Scenario: find the most viewers, or the highest rate, within the limits
    #[command(after_long_help = fields(Kind::Search))]
    Search(ScenarioArgs),
    /// Run a scenario from a file; the built-in ones are in loadtest/scenarios
    Scenario {
        /// The scenario, in TOML
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
        #[command(flatten)]
        #[expect(
            missing_docs,
            reason = "clap would show it as the command's description"
        )]
        args: ScenarioArgs,
    },
    /// Hold idle connections: memory per viewer and cost of a connect
    Idle(IdleArgs),
    /// Measure the latency of single comments in a quiet room
    Quiet(QuietArgs),
    /// Measure what the kernel alone needs: a bare `send` loop to the same receivers
    Floor(FloorArgs),
    /// Send random bytes, truncated handshakes and broken frames, and hold half-open connections
    Abuse(AbuseArgs),
    /// Encode batches without a server: bytes per comment and cost per batch
    Seal(SealArgs),
    /// Compare two reports: what got worse?
    Compare(CompareArgs),
    /// Hold a share of the viewers, started by a command with several processes
    #[command(hide = true)]
    ViewerProcess,
    /// The other end of `floor`, started by it
    #[command(hide = true)]
    FloorSender {
        /// The plan, as JSON
        plan: String,
    },
}

impl Command {
    /// The files it writes.
    #[must_use]
    pub fn outputs(&self) -> Vec<&Path> {
        let (json, html) = match self {
            Self::Run(args) => args.report.files(),
            Self::HotRoom(args)
            | Self::ManyRooms(args)
            | Self::Storm(args)
            | Self::SlowViewers(args)
            | Self::Burst(args)
            | Self::Churn(args)
            | Self::Soak(args)
            | Self::Restart(args)
            | Self::Crash(args)
            | Self::Search(args)
            | Self::Scenario { args, .. } => args.report.files(),
            Self::Idle(args) => (args.json.as_deref(), None),
            Self::Quiet(args) => (args.json.as_deref(), None),
            Self::Floor(args) => (args.json.as_deref(), None),
            Self::Seal(args) => (args.json.as_deref(), None),
            Self::Abuse(_) | Self::Compare(_) | Self::FloorSender { .. } | Self::ViewerProcess => {
                (None, None)
            }
        };
        json.into_iter().chain(html).collect()
    }
}

impl ReportArgs {
    fn files(&self) -> (Option<&Path>, Option<&Path>) {
        (self.json.as_deref(), self.html.as_deref())
    }
}

const CONNECTS_PER_SECOND: f64 = 2000.0;

/// The server and how viewers connect to it.
#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    /// URL of the server
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: ServerAddress,
    /// The server's process, to read its CPU and memory if it runs on this machine; otherwise they come from its /metrics
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// How viewers connect: WebSocket or Server-Sent Events
    #[arg(long, default_value = "ws", value_enum, value_name = "PROTOCOL")]
    pub protocol: WatchVia,
    /// Connects a second, 2000 by default; hot-room and search have the field ramp_per_second instead
    #[arg(long, value_name = "N", value_parser = positive)]
    pub connect_rate: Option<f64>,
    /// Handshakes in progress at once
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub connecting_max: u32,
    /// Reading threads per process
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Processes to spread the viewers over, each with its own --threads and descriptor limit
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(PROCESSES_MAX)))]
    pub processes: u16,
    /// Rooms are named PREFIX-0, PREFIX-1, …
    #[arg(long, default_value = "load", value_name = "PREFIX")]
    pub room_prefix: String,
}

impl ServerArgs {
    /// Connects a second.
    pub(crate) fn connects_per_second(&self) -> f64 {
        self.connect_rate.unwrap_or(CONNECTS_PER_SECOND)
    }
}

/// Where the report goes besides the terminal.
#[derive(Clone, Debug, Default, Args)]
pub struct ReportArgs {
    /// Write the result as JSON; loadtest/REPORT.md describes it
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the result as an HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Viewers and rooms.
#[derive(Clone, Debug, Args)]
pub struct ViewingArgs {
    /// Viewers in total
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub viewers: u32,
    /// Rooms to spread them over evenly
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Encodings, in equal shares or as name:weight; default: identity,gzip,deflate over WebSocket, identity,gzip over
    /// Server-Sent Events
    #[arg(long, value_name = "LIST")]
    pub encodings: Option<EncodingMix>,
}

impl ViewingArgs {
    /// The shares of the encodings for viewers that use this protocol.
    ///
    /// # Errors
    /// An encoding the protocol does not have.
    pub fn mix(&self, via: WatchVia) -> Result<EncodingMix, HarnessError> {
        let mix = self.encodings.clone().unwrap_or_else(|| {
            let has = |encoding: &Encoding| via.dialect(*encoding).is_some();
            EncodingMix::even(Encoding::ALL.into_iter().filter(has))
        });
        match mix
            .encodings()
            .into_iter()
            .find(|encoding| via.dialect(*encoding).is_none())
        {
            None => Ok(mix),
            Some(encoding) => Err(HarnessError::Flags(format!(
                "--encodings: there is no `{encoding}` with --protocol {}",
                via.name()
            ))),
        }
    }
}

/// What is posted.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// A recording in JSON Lines; without it chat is generated
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Seconds to skip at the start of the recording
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub skip_s: u64,
    /// Playback speed, 1 is as recorded
    #[arg(long, default_value_t = 1.0, value_name = "X", value_parser = positive)]
    pub speed: f64,
    /// Comments a second of generated chat, before --speed
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = positive)]
    pub rate: f64,
    /// Post every comment to every room instead of one room in turn
    #[arg(long)]
    pub replicate: bool,
    /// How to post
    #[arg(long, default_value = "http", value_enum, value_name = "VIA")]
    pub post_via: PostVia,
    /// Connections for posting over HTTP
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub post_connections: u16,
    /// Random seed
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would show them as the command's description"
    )]
    pub server: ServerArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub viewing: ViewingArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub load: LoadArgs,
    /// Length of the measured interval in seconds
    #[arg(long, default_value_t = 60, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub duration_s: u64,
    /// Seconds between the last connect and the first post
    #[arg(long, default_value_t = 2, value_name = "S")]
    pub settle_s: u64,
    /// Seconds the last comments may take to arrive before they count as lost
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub drain_s: u64,
    /// Viewers per room, encoding and thread that decode every byte
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: u32,
    /// Deliveries later than this beyond the window count as late
    #[arg(long, default_value_t = 1000, value_name = "MS")]
    pub late_ms: u64,
    /// How many of the viewers stop reading
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub stall_viewers: u32,
    /// When they stop, in seconds of the measured interval; default: halfway
    #[arg(long, value_name = "S")]
    pub stall_after_s: Option<u64>,
    /// Measure a bare `send` loop before and after, with the same viewers, frame sizes and pace
    #[arg(long)]
    pub with_floor: bool,
    /// Sending threads of the floor; set it to the server's shard count for a fair comparison
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub floor_threads: u16,
    /// First post everything to a room without viewers, to measure what posting alone costs; takes as long as the run
    /// itself and needs the server's CPU time from --server-pid or its /metrics
    #[arg(long)]
    pub with_post_cost: bool,
    /// Seconds for each half of the floor measurement; default: half of --duration-s
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub floor_s: Option<u64>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub report: ReportArgs,
}

/// Flags of `compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// The baseline report
    #[arg(value_name = "A.json")]
    pub before: PathBuf,
    /// The report to compare with it
    #[arg(value_name = "B.json")]
    pub after: PathBuf,
    /// How much worse a figure may get before it is flagged; faults are always flagged. On a shared machine runs vary by
    /// 15 %; for longer runs on a quiet machine use 5
    #[arg(long, default_value_t = 20.0, value_name = "PERCENT", value_parser = positive)]
    pub tolerance: f64,
}

/// Flags of a scenario; the rest are fields of its file.
#[derive(Clone, Debug, Args)]
pub struct ScenarioArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would show them as the command's description"
    )]
    pub server: ServerArgs,
    /// Set a field of the scenario, such as viewers=500 or slo.p99_beyond_window_ms=200; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub report: ReportArgs,
}

/// Flags of `idle`.
#[derive(Clone, Debug, Args)]
pub struct IdleArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would show them as the command's description"
    )]
    pub server: ServerArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub viewing: ViewingArgs,
    /// Seconds between the last connect and the memory reading
    #[arg(long, default_value_t = 5, value_name = "S")]
    pub settle_s: u64,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Flags of `quiet`.
#[derive(Clone, Debug, Args)]
pub struct QuietArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would show them as the command's description"
    )]
    pub server: ServerArgs,
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub viewing: ViewingArgs,
    /// Milliseconds between posts; should be more than two windows
    #[arg(long, default_value_t = 2500, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub every_ms: u64,
    /// Number of posts
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub posts: u32,
    /// How to post
    #[arg(long, default_value = "http", value_enum, value_name = "VIA")]
    pub post_via: PostVia,
    /// Random seed
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Flags of `floor`.
#[derive(Clone, Debug, Args)]
pub struct FloorArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "clap would show them as the command's description"
    )]
    pub viewing: ViewingArgs,
    /// Frame size in bytes: one number, or one for each of --encodings in the order identity,gzip,deflate
    #[arg(
        long,
        default_value = "500",
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = frame_bytes
    )]
    pub frame_bytes: Vec<usize>,
    /// Sends per viewer
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rounds: u32,
    /// Milliseconds between rounds
    #[arg(long, default_value_t = 1000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub interval_ms: u64,
    /// Sending threads
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub floor_threads: u16,
    /// Reading threads
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Connects a second
    #[arg(long, default_value_t = 2000.0, value_name = "N", value_parser = positive)]
    pub connect_rate: f64,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Flags of `abuse`.
#[derive(Clone, Debug, Args)]
pub struct AbuseArgs {
    /// URL of the server
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: ServerAddress,
    /// Connections at once
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub connections: u16,
    /// Duration in seconds
    #[arg(long, default_value_t = 30, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub duration_s: u64,
    /// The room to connect to
    #[arg(long, default_value = "load-0", value_name = "ROOM")]
    pub room: String,
    /// Random seed
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
}

/// Flags of `seal`.
#[derive(Clone, Debug, Args)]
pub struct SealArgs {
    /// A recording in JSON Lines; without it chat is generated
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Seconds to skip at the start of the recording
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub skip_s: u64,
    /// Seconds of chat to use; default: all of a recording, or an hour of generated chat
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub take_s: Option<u64>,
    /// Playback speeds to compare
    #[arg(long, default_value = "1,10", value_name = "LIST", value_delimiter = ',', value_parser = positive)]
    pub speed: Vec<f64>,
    /// The window in milliseconds
    #[arg(long, default_value_t = 1000, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub window_ms: u64,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The fields for `--set`, with their defaults.
fn fields(kind: Kind) -> String {
    format!(
        "Fields for --set, with their defaults:\n\n{}",
        kind.shipped()
    )
}

/// A frame size within what a viewer accepts.
fn frame_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 0..=FRAME_BYTES_MAX) => Ok(bytes),
        _ => Err(format!("not a number up to {FRAME_BYTES_MAX}")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("not a number above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn odd_values_are_refused() {
        for args in [
            "run --speed 0",
            "run --viewers 0",
            "run --encodings brotli",
            "run --url https://127.0.0.1",
            "run --speed NaN",
            "run --processes 0",
            "storm --processes 65",
            "seal --speed 1,x",
            "floor --rounds 0",
            "floor --rounds 4294967295",
            "floor --interval-ms 18446744073709551615",
            "floor --frame-bytes 500,100000000000",
            "seal --take-s 0",
            "seal --take-s 18446744073709551615",
            "dance",
        ] {
            let words = std::iter::once("danmaku-loadtest").chain(args.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{args}");
        }
    }
}
