//! Owns the server's flags: their names, units and defaults, and the check at
//! startup that they are consistent.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use danmaku_engine::admission::{Rate, RateError};
use danmaku_engine::{Flush, RoomConfig};
use danmaku_fanout::FanoutConfig;
use danmaku_log::{LogConfig, SqliteConfig};
use danmaku_wire::{CompressionPolicy, RoomId};

use crate::admission::AdmissionConfig;
use crate::auth::{AuthArgs, AuthArgsError, AuthConfig};
use crate::origins::{AllowedOrigins, OriginArg};
use crate::proxies::{Network, TrustedProxies};

/// The flags of the server, which runs when no subcommand is given.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Separate address for `/metrics` and `/v1/stats`; also serves the probes. It has no limits, so keep it reachable by
    /// operators only
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Access")]
    pub admin_listen: Option<SocketAddr>,

    /// Origins whose pages may post, such as `https://live.example`, comma-separated; `*` allows all. Pages of the server's
    /// own origin and clients that send no `Origin` may always post; anyone may watch and read
    #[arg(
        long,
        value_name = "ORIGIN",
        value_delimiter = ',',
        help_heading = "Access"
    )]
    pub allowed_origins: Vec<OriginArg>,

    /// Proxies whose `X-Forwarded-For` or `Forwarded` header is trusted: addresses or blocks such as `10.0.0.0/8`,
    /// comma-separated. Limits per address then apply to the client, not to the proxy
    #[arg(
        long,
        value_name = "ADDR",
        value_delimiter = ',',
        help_heading = "Access"
    )]
    pub trusted_proxies: Vec<Network>,

    /// Identity.
    #[command(flatten)]
    pub auth: AuthArgs,

    /// Folder to keep comments in, so that they outlive a restart or a crash; without it they are kept in memory only
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,

    /// Bytes of the data file in use; beyond that the oldest comments are deleted
    #[arg(long, value_name = "BYTES", default_value_t = 10 << 30, value_parser = clap::value_parser!(u64).range(1 << 20..=1 << 46), help_heading = "Data")]
    pub data_bytes_max: u64,

    /// Delete comments from the data file after this many days; without it they are kept as long as there is space
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500), help_heading = "Data")]
    pub data_days_max: Option<u32>,

    /// Comments the data file keeps per room, checked when the room gets its next one; without it as many as there is
    /// space for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Data")]
    pub data_comments_per_room_max: Option<u32>,

    /// Post made-up comments to a room called `demo`
    #[arg(long)]
    pub demo: bool,

    /// How long a room merges comments into one frame, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=60_000), help_heading = "Rooms")]
    pub window_ms: u32,

    /// When frames are sent: `leading` sends the first comment after a quiet window immediately, `fixed` waits for the next
    /// tick
    #[arg(long, value_enum, default_value = "leading", help_heading = "Rooms")]
    pub flush: FlushArg,

    /// Maximum comments in one frame; beyond that the lowest priority is shed, and the frame says how many
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Rooms")]
    pub batch_comments_max: u32,

    /// Maximum number of rooms; a room is created on first use
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rooms")]
    pub rooms_max: u32,

    /// Forget a room without viewers after this long without a comment or like, in seconds; one that never had any after
    /// at most 5 seconds
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rooms")]
    pub room_idle_s: u32,

    /// Sealed frames a room keeps for returning viewers
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(0..=100_000), help_heading = "Rooms")]
    pub history_frames_max: u32,

    /// Bytes of sealed frames a room keeps for returning viewers
    #[arg(long, value_name = "BYTES", default_value_t = 2 << 20, value_parser = clap::value_parser!(u32).range(0..=1 << 30), help_heading = "Rooms")]
    pub history_bytes_max: u32,

    /// Comments a room's log keeps
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rooms")]
    pub log_comments_max: u32,

    /// Bytes of comments a room's log keeps
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rooms")]
    pub log_bytes_max: u32,

    /// Bytes of frames and comments that all rooms together keep for returning viewers; beyond that, the least recently
    /// active rooms forget their oldest first
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(1..=1 << 50), help_heading = "Rooms")]
    pub memory_max: u64,

    /// Length of the segments that pull viewers request, in milliseconds; the same on all servers of a room
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=60_000), help_heading = "Rooms")]
    pub segment_ms: u32,

    /// How long caches may keep a segment, in seconds; a retracted comment may live there as long
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=86_400), help_heading = "Rooms")]
    pub segment_max_age_s: u32,

    /// Maximum connections in total; `auto` uses what the descriptor limit allows
    #[arg(
        long,
        value_name = "N|auto",
        default_value = "auto",
        help_heading = "Limits"
    )]
    pub connections_max: AutoOr<NonZeroU32>,

    /// Maximum connections from one address (IPv6: one /64; a /48 may have 16 times as many)
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub connections_per_address_max: u32,

    /// Comments and likes per second from one connection; one that sends four times as many messages of any kind, pings
    /// included, is closed with 4004
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_connection: u32,

    /// Burst of comments and likes from one connection
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_connection_burst: u32,

    /// Comments and likes per second from one user with a token, over all connections
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_user: u32,

    /// Burst of comments and likes from one user with a token
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_user_burst: u32,

    /// Comments and likes per second from one address
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_address: u32,

    /// Burst of comments and likes from one address; also the longest array in one post
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_address_burst: u32,

    /// Comments per second into one room
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_room: u32,

    /// Burst of comments into one room
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_room_burst: u32,

    /// New rooms per second from one address; the first viewer or comment creates a room
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub rooms_per_second_per_address: u32,

    /// Burst of new rooms from one address
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub rooms_per_second_per_address_burst: u32,

    /// Requests for comments, rooms or counters per second from one address
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub requests_per_second_per_address: u32,

    /// Burst of requests for comments, rooms or counters from one address
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub requests_per_second_per_address_burst: u32,

    /// Total bytes of request bodies and unread responses held; one address may have a sixteenth, but at least 1 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u32).range(1 << 20..), help_heading = "Limits")]
    pub http_bytes_max: u32,

    /// A connection that has not sent a whole request head by then is closed, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..), help_heading = "Limits")]
    pub handshake_deadline_ms: u32,

    /// Close a peer that takes longer than this to read an HTTP response, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(10..), help_heading = "Limits")]
    pub answer_deadline_ms: u32,

    /// Shard threads that write to viewers; `auto` starts one per processor
    #[arg(
        long,
        value_name = "N|auto",
        default_value = "auto",
        help_heading = "Viewers"
    )]
    pub shards: AutoOr<NonZeroUsize>,

    /// Bytes a viewer may be behind before it skips frames
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10, value_parser = clap::value_parser!(u32).range(1_024..=1 << 30), help_heading = "Viewers")]
    pub outbox_bytes_max: u32,

    /// Skip frames that have waited this long for a slow viewer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Viewers")]
    pub outbox_age_ms_max: u32,

    /// Close a viewer with 4001 after it has been behind this long, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Viewers")]
    pub evict_after_ms: u32,

    /// Kernel send buffer per viewer, in bytes; what doesn't fit waits in the viewer's outbox
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10, value_parser = clap::value_parser!(u32).range(4_096..=16 << 20), help_heading = "Viewers")]
    pub send_buffer_bytes: u32,

    /// Ping a viewer after this long without hearing from it, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 55_000, value_parser = clap::value_parser!(u32).range(10..), help_heading = "Viewers")]
    pub ping_interval_ms: u32,

    /// Close a viewer with 4002 after this long without hearing from it, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120_000, value_parser = clap::value_parser!(u32).range(10..), help_heading = "Viewers")]
    pub idle_deadline_ms: u32,

    /// How long shutdown may take to flush to slow viewers, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 5_000,
        help_heading = "Viewers"
    )]
    pub stop_deadline_ms: u32,
}

/// A number, or `auto` for what suits the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoOr<T> {
    /// What suits the machine.
    Auto,
    /// This number.
    Given(T),
}

impl<T: FromStr> FromStr for AutoOr<T> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            number => number
                .parse()
                .map(Self::Given)
                .map_err(|_| "must be a number from 1 on, or auto"),
        }
    }
}

/// See [`Flush`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlushArg {
    /// Send the first comment after a quiet window immediately
    Leading,
    /// Send frames only at the room's ticks
    Fixed,
}

/// The server's configuration: the flags, checked and typed.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The operators' listener, if there is one.
    pub admin_listen: Option<SocketAddr>,
    /// Origins whose pages may post.
    pub allowed_origins: AllowedOrigins,
    /// Proxies trusted to name their clients.
    pub trusted_proxies: TrustedProxies,
    /// How users and back ends are known.
    pub auth: AuthConfig,
    /// The file that comments are kept in, if any.
    pub data: Option<SqliteConfig>,
    /// The demo room, if any.
    pub demo: Option<RoomId>,
    /// Every room's configuration; `phase` and `seed` are set per room.
    pub room: RoomConfig,
    /// Bound of the room registry.
    pub rooms_max: usize,
    /// Idle time after which a room is forgotten.
    pub room_idle: Duration,
    /// Bytes that all rooms may hold for returning viewers.
    pub memory_bytes_max: usize,
    /// Bounds of a room's log.
    pub log: LogConfig,
    /// Length of a segment, in milliseconds.
    pub segment_ms: u32,
    /// How long caches may keep a segment, in seconds.
    pub segment_max_age_s: u32,
    /// Limits on connections, posts and requests.
    pub admission: AdmissionConfig,
    /// Deadline of a request head and of a request body.
    pub handshake_deadline: Duration,
    /// How long a peer may take to read an HTTP response once it is held up.
    pub answer_deadline: Duration,
    /// The shards.
    pub fanout: FanoutConfig,
    /// `SO_SNDBUF` of accepted sockets.
    pub send_buffer_bytes: u32,
    /// Deadline of the flush at shutdown.
    pub stop_deadline: Duration,
}

/// Why the flags are inconsistent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Viewers would be closed before they were ever pinged.
    #[error("--idle-deadline-ms {idle_ms} must be longer than --ping-interval-ms {ping_ms}")]
    IdleBeforePing {
        /// The idle deadline.
        idle_ms: u32,
        /// The ping interval.
        ping_ms: u32,
    },
    /// More connections than descriptors.
    #[error(
        "--connections-max {wanted} is more than the descriptor limit allows ({allowed}): raise `ulimit -n`"
    )]
    Descriptors {
        /// The flag's value.
        wanted: u32,
        /// What the limit leaves for connections.
        allowed: u32,
    },
    /// Too few descriptors to serve anyone.
    #[error("the limit of {descriptors} open files is too low to serve anyone: raise `ulimit -n`")]
    FewDescriptors {
        /// The limit.
        descriptors: u64,
    },
    /// An invalid rate.
    #[error("{flag} and its burst: {source}")]
    Rate {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        source: RateError,
    },
    /// Invalid shard configuration.
    #[error("--{0}")]
    Fanout(#[from] danmaku_fanout::ConfigError),
    /// The flags of identity.
    #[error(transparent)]
    Auth(#[from] AuthArgsError),
    /// Every frame would be skipped before a slow viewer could be evicted.
    #[error("--evict-after-ms {evict_ms} must not be shorter than --outbox-age-ms-max {age_ms}")]
    EvictBeforeSkip {
        /// The eviction deadline.
        evict_ms: u32,
        /// The age bound of the outbox.
        age_ms: u32,
    },
}

impl ServeArgs {
    /// Checks the flags against each other and against `descriptors`, the
    /// process's limit of open files.
    ///
    /// # Errors
    /// [`ConfigError`] names the offending flags.
    pub fn check(&self, descriptors: u64) -> Result<Config, ConfigError> {
        if self.idle_deadline_ms <= self.ping_interval_ms {
            return Err(ConfigError::IdleBeforePing {
                idle_ms: self.idle_deadline_ms,
                ping_ms: self.ping_interval_ms,
            });
        }
        if self.evict_after_ms < self.outbox_age_ms_max {
            return Err(ConfigError::EvictBeforeSkip {
                evict_ms: self.evict_after_ms,
                age_ms: self.outbox_age_ms_max,
            });
        }
        let room = RoomConfig {
            window: millis(self.window_ms),
            flush: match self.flush {
                FlushArg::Leading => Flush::Leading,
                FlushArg::Fixed => Flush::Fixed,
            },
            batch_comments_max: self.batch_comments_max as usize,
            history_frames_max: self.history_frames_max as usize,
            history_bytes_max: self.history_bytes_max as usize,
            phase: Duration::ZERO,
            seed: 0,
            compression: CompressionPolicy::default(),
        };
        Ok(Config {
            listen: self.listen,
            admin_listen: self.admin_listen,
            allowed_origins: AllowedOrigins::new(&self.allowed_origins),
            trusted_proxies: TrustedProxies::new(&self.trusted_proxies),
            auth: self.auth.check()?,
            data: self.data.as_ref().map(|folder| SqliteConfig {
                folder: folder.clone(),
                age_max: self.data_days_max.map(|days| DAY.saturating_mul(days)),
                bytes_max: Some(self.data_bytes_max),
                room_entries_max: self.data_comments_per_room_max.map(u64::from),
            }),
            demo: self.demo.then(demo_room),
            room,
            rooms_max: self.rooms_max as usize,
            room_idle: Duration::from_secs(u64::from(self.room_idle_s)),
            memory_bytes_max: usize::try_from(self.memory_max).unwrap_or(usize::MAX),
            log: LogConfig {
                entries_max: self.log_comments_max as usize,
                bytes_max: self.log_bytes_max as usize,
                ..LogConfig::default()
            },
            segment_ms: self.segment_ms,
            segment_max_age_s: self.segment_max_age_s,
            admission: self.admission(descriptors)?,
            handshake_deadline: millis(self.handshake_deadline_ms),
            answer_deadline: millis(self.answer_deadline_ms),
            fanout: self.fanout()?,
            send_buffer_bytes: self.send_buffer_bytes,
            stop_deadline: millis(self.stop_deadline_ms),
        })
    }

    fn admission(&self, descriptors: u64) -> Result<AdmissionConfig, ConfigError> {
        let allowed = u32::try_from(descriptors.saturating_sub(DESCRIPTORS_RESERVED))
            .unwrap_or(u32::MAX)
            .max(1);
        if allowed < CONNECTIONS_MIN {
            return Err(ConfigError::FewDescriptors { descriptors });
        }
        let connections_max = match self.connections_max {
            AutoOr::Auto => allowed,
            AutoOr::Given(wanted) if wanted.get() > allowed => {
                return Err(ConfigError::Descriptors {
                    wanted: wanted.get(),
                    allowed,
                });
            }
            AutoOr::Given(wanted) => wanted.get(),
        };
        Ok(AdmissionConfig {
            connections_max,
            connections_per_address_max: self.connections_per_address_max,
            per_connection: rate(
                "--posts-per-second-per-connection",
                self.posts_per_second_per_connection,
                self.posts_per_second_per_connection_burst,
            )?,
            flood: rate(
                "--posts-per-second-per-connection",
                self.posts_per_second_per_connection
                    .saturating_mul(FLOOD_FACTOR),
                self.posts_per_second_per_connection_burst
                    .saturating_mul(FLOOD_FACTOR),
            )?,
            per_user: rate(
                "--posts-per-second-per-user",
                self.posts_per_second_per_user,
                self.posts_per_second_per_user_burst,
            )?,
            per_address: rate(
                "--posts-per-second-per-address",
                self.posts_per_second_per_address,
                self.posts_per_second_per_address_burst,
            )?,
            rooms_per_address: rate(
                "--rooms-per-second-per-address",
                self.rooms_per_second_per_address,
                self.rooms_per_second_per_address_burst,
            )?,
            per_room: rate(
                "--posts-per-second-per-room",
                self.posts_per_second_per_room,
                self.posts_per_second_per_room_burst,
            )?,
            requests: rate(
                "--requests-per-second-per-address",
                self.requests_per_second_per_address,
                self.requests_per_second_per_address_burst,
            )?,
            http_bytes_max: self.http_bytes_max,
        })
    }

    fn fanout(&self) -> Result<FanoutConfig, ConfigError> {
        let shards = match self.shards {
            AutoOr::Auto => processors(),
            AutoOr::Given(shards) => shards,
        };
        let config = FanoutConfig {
            shards,
            outbox_bytes_max: self.outbox_bytes_max as usize,
            outbox_age_max: millis(self.outbox_age_ms_max),
            evict_after: millis(self.evict_after_ms),
            ping_interval: millis(self.ping_interval_ms),
            idle_deadline: millis(self.idle_deadline_ms),
            ..FanoutConfig::default()
        };
        config.check()?;
        Ok(config)
    }
}

/// The room that `--demo` feeds.
fn demo_room() -> RoomId {
    RoomId::parse("demo").expect("invariant: `demo` is a valid id")
}

/// Processors this process may use.
#[must_use]
pub fn processors() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

fn rate(flag: &'static str, per_second: u32, burst: u32) -> Result<Rate, ConfigError> {
    Rate::new(f64::from(per_second), burst).map_err(|source| ConfigError::Rate { flag, source })
}

/// Messages of any kind allowed per comment or like. Refusals and pongs cost about as much as answering a comment, so a
/// peer that does not slow down when refused is closed.
const FLOOD_FACTOR: u32 = 4;

const DAY: Duration = Duration::from_secs(86_400);

/// With fewer connections, a server is useless.
const CONNECTIONS_MIN: u32 = 16;

/// Descriptors kept for listeners, timers, log files and the like.
const DESCRIPTORS_RESERVED: u64 = 64;
