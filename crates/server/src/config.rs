//! Owns the server's flags: their names, units and defaults, and the check at
//! start that they fit together.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use danmaku_engine::admission::{Rate, RateError};
use danmaku_engine::{Flush, RoomConfig};
use danmaku_fanout::FanoutConfig;
use danmaku_log::LogConfig;
use danmaku_wire::{CompressionPolicy, RoomId};

use crate::admission::AdmissionConfig;
use crate::origins::{AllowedOrigins, OriginArg};
use crate::proxies::{Network, TrustedProxies};

/// The flags of `danmaku-server serve` (which is also what runs without a
/// subcommand).
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Where to serve `/metrics` and `/v1/stats` instead, beside the probes; nothing there is limited, so only operators
    /// should reach it
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Access")]
    pub admin_listen: Option<SocketAddr>,

    /// Origins whose pages may post, such as `https://live.example`, comma-separated; `*` is every one. Pages of the
    /// server's own origin may always post, and so may clients that send no `Origin`; watching and reading is open to all
    #[arg(
        long,
        value_name = "ORIGIN",
        value_delimiter = ',',
        help_heading = "Access"
    )]
    pub allowed_origins: Vec<OriginArg>,

    /// Proxies whose `X-Forwarded-For` or `Forwarded` says who a viewer is: addresses or blocks such as `10.0.0.0/8`,
    /// comma-separated. Limits per address then count that client, and the proxies themselves have none
    #[arg(
        long,
        value_name = "ADDR",
        value_delimiter = ',',
        help_heading = "Access"
    )]
    pub trusted_proxies: Vec<Network>,

    /// Feed a room called `demo` with comments, so that a first look shows something alive
    #[arg(long)]
    pub demo: bool,

    /// How long a room merges comments into one frame, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=60_000), help_heading = "Rooms")]
    pub window_ms: u32,

    /// `leading`: the first comment after a quiet window leaves at once; `fixed`: only ticks
    #[arg(long, value_enum, default_value = "leading", help_heading = "Rooms")]
    pub flush: FlushArg,

    /// Comments in one frame; over it the lowest priority is shed, and counted in the frame
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Rooms")]
    pub batch_comments_max: u32,

    /// Rooms at a time; rooms are made on first use
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rooms")]
    pub rooms_max: u32,

    /// A room without viewers is forgotten after this long without a comment or like, in seconds; one that never had
    /// any after 5 seconds at the latest
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rooms")]
    pub room_idle_s: u32,

    /// Sealed frames a room keeps for viewers that come back
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u32).range(0..=100_000), help_heading = "Rooms")]
    pub history_frames_max: u32,

    /// Bytes of sealed frames a room keeps for viewers that come back
    #[arg(long, value_name = "BYTES", default_value_t = 2 << 20, value_parser = clap::value_parser!(u32).range(0..=1 << 30), help_heading = "Rooms")]
    pub history_bytes_max: u32,

    /// Comments a room's log keeps for reading again
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rooms")]
    pub log_comments_max: u32,

    /// Bytes of comments a room's log keeps for reading again
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Rooms")]
    pub log_bytes_max: u32,

    /// Bytes that all rooms together keep of frames and comments for viewers that come back; over it, rooms that were
    /// active least recently forget their oldest first
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(1..=1 << 50), help_heading = "Rooms")]
    pub memory_max: u64,

    /// Connections in all; `auto` takes what the descriptor limit allows
    #[arg(
        long,
        value_name = "N|auto",
        default_value = "auto",
        help_heading = "Limits"
    )]
    pub connections_max: AutoOr<NonZeroU32>,

    /// Connections from one address (IPv6: one /64; a /48 may have 16 times as many)
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub connections_per_address_max: u32,

    /// Comments and likes a second from one connection; one that sends four times as many messages of any kind, pings
    /// included, is closed with 4004
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_connection: u32,

    /// Comments and likes at once from one connection
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_connection_burst: u32,

    /// Comments and likes a second from one address
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_address: u32,

    /// Comments and likes at once from one address; also the longest array one post may carry
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_address_burst: u32,

    /// Comments a second into one room
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_room: u32,

    /// Comments at once into one room
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub posts_per_second_per_room_burst: u32,

    /// New rooms a second from one address; a room is made by its first viewer or comment
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub rooms_per_second_per_address: u32,

    /// New rooms at once from one address
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub rooms_per_second_per_address_burst: u32,

    /// Requests a second from one address that ask for comments, rooms or counters
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub requests_per_second_per_address: u32,

    /// Requests at once from one address that ask for comments, rooms or counters
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub requests_per_second_per_address_burst: u32,

    /// Bytes of request bodies and unread answers held in all; one address may have a sixteenth, but at least 1 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u32).range(1 << 20..), help_heading = "Limits")]
    pub http_bytes_max: u32,

    /// A connection that has not sent a whole request head by then is closed, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..), help_heading = "Limits")]
    pub handshake_deadline_ms: u32,

    /// A peer that does not take an HTTP answer by then is closed, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(10..), help_heading = "Limits")]
    pub answer_deadline_ms: u32,

    /// Shard threads that write to viewers; `auto` takes one per processor
    #[arg(
        long,
        value_name = "N|auto",
        default_value = "auto",
        help_heading = "Viewers"
    )]
    pub shards: AutoOr<NonZeroUsize>,

    /// Bytes a slow viewer may be behind before frames are skipped for it
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10, value_parser = clap::value_parser!(u32).range(1_024..=1 << 30), help_heading = "Viewers")]
    pub outbox_bytes_max: u32,

    /// Age of a waiting frame at which it is skipped, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Viewers")]
    pub outbox_age_ms_max: u32,

    /// A viewer that stays behind this long is closed with 4001, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Viewers")]
    pub evict_after_ms: u32,

    /// Kernel send buffer of one viewer: what it can be behind before its outbox is used, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10, value_parser = clap::value_parser!(u32).range(4_096..=16 << 20), help_heading = "Viewers")]
    pub send_buffer_bytes: u32,

    /// A viewer is pinged when nothing was heard from it for this long, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 55_000, value_parser = clap::value_parser!(u32).range(10..), help_heading = "Viewers")]
    pub ping_interval_ms: u32,

    /// A viewer that is silent this long is closed with 4002, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120_000, value_parser = clap::value_parser!(u32).range(10..), help_heading = "Viewers")]
    pub idle_deadline_ms: u32,

    /// How long a stop may take to flush to slow viewers, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 5_000,
        help_heading = "Viewers"
    )]
    pub stop_deadline_ms: u32,
}

/// A number, or `auto`: what the machine suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoOr<T> {
    /// What the machine suggests.
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
    /// The first comment after a quiet window leaves at once
    Leading,
    /// Frames leave at the room's ticks only
    Fixed,
}

/// What the server runs with: the flags, checked, with units made types.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where operators ask, if not where everybody does.
    pub admin_listen: Option<SocketAddr>,
    /// Whose pages may post.
    pub allowed_origins: AllowedOrigins,
    /// Who is believed about its clients.
    pub trusted_proxies: TrustedProxies,
    /// The room that is fed, if any.
    pub demo: Option<RoomId>,
    /// What every room is made with; `phase` and `seed` are set per room.
    pub room: RoomConfig,
    /// Bound of the room registry.
    pub rooms_max: usize,
    /// Idle time after which a room is forgotten.
    pub room_idle: Duration,
    /// What all rooms may hold for viewers that come back.
    pub memory_bytes_max: usize,
    /// Bounds of a room's log.
    pub log: LogConfig,
    /// Who may connect and post, how often.
    pub admission: AdmissionConfig,
    /// Deadline of a request head and of a request body.
    pub handshake_deadline: Duration,
    /// How long a peer may take to read an HTTP answer once it is held up.
    pub answer_deadline: Duration,
    /// The shards.
    pub fanout: FanoutConfig,
    /// `SO_SNDBUF` of accepted sockets.
    pub send_buffer_bytes: u32,
    /// Deadline of the flush at stop.
    pub stop_deadline: Duration,
}

/// Why flags do not fit together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A viewer would be closed before it was ever pinged.
    #[error("--idle-deadline-ms {idle_ms} must be longer than --ping-interval-ms {ping_ms}")]
    IdleBeforePing {
        /// The idle deadline.
        idle_ms: u32,
        /// The ping interval.
        ping_ms: u32,
    },
    /// More connections than descriptors.
    #[error(
        "--connections-max {wanted} is over what the descriptor limit allows ({allowed}): raise `ulimit -n`"
    )]
    Descriptors {
        /// The flag's value.
        wanted: u32,
        /// What the limit leaves for connections.
        allowed: u32,
    },
    /// Too few descriptors to serve anybody.
    #[error("the limit of {descriptors} open files is too low to serve anybody: raise `ulimit -n`")]
    FewDescriptors {
        /// The limit.
        descriptors: u64,
    },
    /// A rate that is none.
    #[error("{flag} and its burst: {source}")]
    Rate {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        source: RateError,
    },
    /// The shards cannot be run like this.
    #[error("--{0}")]
    Fanout(#[from] danmaku_fanout::ConfigError),
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
    /// [`ConfigError`] names the flags that do not fit.
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

/// Messages of any kind for each comment or like that a connection may send. Refusals and pongs cost about what an
/// answer to a comment does, so a peer that does not slow down when it is refused is closed.
const FLOOD_FACTOR: u32 = 4;

/// Below this a server is of no use.
const CONNECTIONS_MIN: u32 = 16;

/// Descriptors kept for listeners, timers, log files and the like.
const DESCRIPTORS_RESERVED: u64 = 64;
