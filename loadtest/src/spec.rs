//! What is run: one specification for the flags, the scenario files, the report's setup and `compare`. A scenario is a file of
//! fields that differ from [`Spec::default`]; a file of your own and flags change more of them.

mod slo;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::post_via::PostVia;
use crate::spec_error::SpecError;
use crate::swarm::{EncodingMix, Reconnect, WatchVia};
use danmaku_chat::Random;

pub use slo::Slo;

/// What is run. Each field is also a flag: `storm_at_s` is `--storm-at-s`.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// The scenario whose file has the defaults
    #[arg(skip)]
    pub scenario: String,

    /// URL of the server
    #[arg(long)]
    pub url: String,
    /// The server's process, to read its CPU and memory if it runs on this machine; otherwise they come from its /metrics
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    /// Trust only certificates of this file (PEM), or signed by one, with https
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub insecure: bool,
    /// Header of every request, such as "X-Stage: canary"; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Viewers' tokens, one on a line, taken in turn; posters take them too unless they have their own
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Mint a token for each viewer and poster with this secret or private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub token_key: Option<PathBuf>,
    /// What to sign them with: HS256, RS256, ES256 or EdDSA
    #[arg(long, value_name = "NAME")]
    pub token_algorithm: String,
    /// The role in minted tokens
    #[arg(long, value_name = "ROLE")]
    pub token_role: String,
    /// Posters' tokens or server keys, one on a line
    #[arg(long, value_name = "FILE")]
    pub post_token_file: Option<PathBuf>,
    /// Addresses of this machine to connect from, in turn
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub source_addresses: Vec<IpAddr>,
    /// Serve the harness's own figures for Prometheus here while it runs
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Application of a Pusher server; its secret is in the environment as PUSHER_APP_SECRET
    #[arg(long, value_name = "ID:KEY")]
    pub pusher_app: Option<String>,
    /// How viewers connect: WebSocket, Server-Sent Events, or WebSocket with the Pusher protocol
    #[arg(long, value_enum)]
    pub protocol: WatchVia,
    /// Connects a second
    #[arg(long, value_name = "N")]
    pub connect_rate: f64,
    /// Handshakes in progress at once
    #[arg(long, value_name = "N")]
    pub connecting_max: u32,
    /// Reading threads
    #[arg(long, value_name = "N")]
    pub threads: u16,
    /// Rooms are named PREFIX-0, PREFIX-1, …
    #[arg(long, value_name = "PREFIX")]
    pub room_prefix: String,

    /// Viewers in total
    #[arg(long, value_name = "N")]
    pub viewers: u32,
    /// Rooms to spread them over
    #[arg(long, value_name = "N")]
    pub rooms: u32,
    /// The k-th room's share of viewers and comments is proportional to 1 / k^zipf; 0 is even
    #[arg(long, value_name = "EXPONENT")]
    pub zipf: f64,
    /// Encodings, in equal shares or as name:weight; by default all that the protocol has
    #[arg(long, value_name = "LIST")]
    #[schemars(with = "Option<String>")]
    pub encodings: Option<EncodingMix>,
    /// Viewers per room, encoding and thread that decode every byte
    #[arg(long, value_name = "N")]
    pub sample: u32,
    /// Comments to ask for with `history=` when a viewer joins for the first time
    #[arg(long, value_name = "N")]
    pub history: u32,
    /// Share of the viewers that ask for them
    #[arg(long, value_name = "PERCENT")]
    pub history_percent: f64,
    /// How viewers that lost their connection come back
    #[arg(long, value_enum, value_name = "HOW")]
    pub reconnect: Reconnect,
    /// Post from the first connect on, while viewers still join
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub join_meanwhile: bool,

    /// A recording in JSON Lines; without it chat is generated
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Seconds to skip at the start of the recording
    #[arg(long, value_name = "S")]
    pub skip_s: u64,
    /// Playback speed, 1 is as recorded
    #[arg(long, value_name = "X")]
    pub speed: f64,
    /// Comments a second of generated chat, before the playback speed
    #[arg(long, value_name = "N")]
    pub rate: f64,
    /// Post one comment every so many milliseconds instead, in one room after the other
    #[arg(long, value_name = "MS")]
    pub post_every_ms: Option<u64>,
    /// Post every comment to every room instead of one room in turn
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub replicate: bool,
    /// How much faster chat is in the middle third
    #[arg(long, value_name = "X")]
    pub burst_factor: f64,
    /// How to post
    #[arg(long, value_enum, value_name = "VIA")]
    pub post_via: PostVia,
    /// Connections for posting over HTTP
    #[arg(long, value_name = "N")]
    pub post_connections: u16,
    /// Random seed
    #[arg(long, value_name = "N")]
    pub seed: u64,

    /// Seconds between the last connect and the first post
    #[arg(long, value_name = "S")]
    pub settle_s: u64,
    /// Length of the measured interval in seconds; 0 posts nothing
    #[arg(long, value_name = "S")]
    pub duration_s: u64,
    /// Seconds the last comments may take to arrive before they count as lost
    #[arg(long, value_name = "S")]
    pub drain_s: u64,
    /// Deliveries later than this beyond the window count as late
    #[arg(long, value_name = "MS")]
    pub late_ms: u64,

    /// Disconnect all viewers at this second; they reconnect at once
    #[arg(long, value_name = "S")]
    pub storm_at_s: Option<u64>,
    /// Viewers that leave each second, and as many that join
    #[arg(long, value_name = "N")]
    pub churn_per_second: f64,
    /// Share of the viewers that read slowly or stop reading
    #[arg(long, value_name = "PERCENT")]
    pub slow_percent: f64,
    /// The second in which they begin to; by default half-way
    #[arg(long, value_name = "S")]
    pub slow_after_s: Option<u64>,
    /// How fast they read; 0 means they stop
    #[arg(long, value_name = "BYTES")]
    pub slow_bytes_per_second: u32,
    /// Stop the server with SIGTERM at this second and start it again
    #[arg(long, value_name = "S")]
    pub restart_at_s: Option<u64>,
    /// Kill the server with SIGKILL so many times, at random moments, and start it again
    #[arg(long, value_name = "N")]
    pub crashes: u32,
    /// Shell command that starts the server again, such as "./server --flag >>log 2>&1"
    #[arg(long, value_name = "COMMAND")]
    pub start: Option<String>,

    /// Search for the most viewers or the highest rate within the limits
    #[arg(long, value_enum, value_name = "FIELD")]
    pub search: Option<Searched>,
    /// Where the search begins
    #[arg(long, value_name = "N")]
    pub from: f64,
    /// Where the search ends
    #[arg(long, value_name = "N")]
    pub to: f64,
    /// The search ends when the step is smaller than this share of the value
    #[arg(long, value_name = "PERCENT")]
    pub precision_percent: f64,

    /// Measure a bare `send` loop before and after, with the same viewers, frame sizes and pace
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub with_floor: bool,
    /// Sending threads of the floor; set it to the server's shard count for a fair comparison
    #[arg(long, value_name = "N")]
    pub floor_threads: u16,
    /// Seconds for each half of the floor; by default half of the measured interval
    #[arg(long, value_name = "S")]
    pub floor_s: Option<u64>,
    /// First post everything to a room without viewers, to measure what posting alone costs; takes as long as the run itself
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub with_post_cost: bool,

    /// The limits of the verdict.
    #[command(flatten)]
    pub slo: Slo,
}

/// What a search varies.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Searched {
    /// Viewers.
    Viewers,
    /// Comments a second.
    Rate,
}

/// The built-in scenarios: name and file. The first comment of a file says what it is.
pub const SCENARIOS: [(&str, &str); 13] = [
    ("run", include_str!("../scenarios/run.toml")),
    ("idle", include_str!("../scenarios/idle.toml")),
    ("quiet", include_str!("../scenarios/quiet.toml")),
    ("hot-room", include_str!("../scenarios/hot-room.toml")),
    ("many-rooms", include_str!("../scenarios/many-rooms.toml")),
    ("storm", include_str!("../scenarios/storm.toml")),
    (
        "slow-viewers",
        include_str!("../scenarios/slow-viewers.toml"),
    ),
    ("burst", include_str!("../scenarios/burst.toml")),
    ("churn", include_str!("../scenarios/churn.toml")),
    ("soak", include_str!("../scenarios/soak.toml")),
    ("restart", include_str!("../scenarios/restart.toml")),
    ("crash", include_str!("../scenarios/crash.toml")),
    ("search", include_str!("../scenarios/search.toml")),
];

/// A slope per hour is fitted to at least this many seconds.
const SLOPE_S_MIN: u64 = 60;

impl Default for Spec {
    fn default() -> Self {
        Self {
            scenario: "run".to_owned(),
            url: "http://127.0.0.1:8080".to_owned(),
            server_pid: None,
            ca: None,
            insecure: false,
            header: Vec::new(),
            token_file: None,
            token_key: None,
            token_algorithm: "HS256".to_owned(),
            token_role: "viewer".to_owned(),
            post_token_file: None,
            source_addresses: Vec::new(),
            metrics_listen: None,
            pusher_app: None,
            protocol: WatchVia::Ws,
            connect_rate: 2000.0,
            connecting_max: 256,
            threads: 2,
            room_prefix: "load".to_owned(),
            viewers: 1000,
            rooms: 1,
            zipf: 0.0,
            encodings: None,
            sample: 1,
            history: 50,
            history_percent: 0.0,
            reconnect: Reconnect::AtOnce,
            join_meanwhile: false,
            corpus: None,
            skip_s: 0,
            speed: 1.0,
            rate: 10.0,
            post_every_ms: None,
            replicate: false,
            burst_factor: 1.0,
            post_via: PostVia::Http,
            post_connections: 32,
            seed: 1,
            settle_s: 2,
            duration_s: 60,
            drain_s: 10,
            late_ms: 1000,
            storm_at_s: None,
            churn_per_second: 0.0,
            slow_percent: 0.0,
            slow_after_s: None,
            slow_bytes_per_second: 0,
            restart_at_s: None,
            crashes: 0,
            start: None,
            search: None,
            from: 1.0,
            to: 1.0,
            precision_percent: 10.0,
            with_floor: false,
            floor_threads: 1,
            floor_s: None,
            with_post_cost: false,
            slo: Slo::default(),
        }
    }
}

impl Spec {
    /// A built-in scenario.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn shipped(name: &str) -> Result<Self, SpecError> {
        Self::merged(name, Table::new())
    }

    /// A scenario of the operator's own: what its file changes in a built-in one.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, names no scenario, or has a field or value that does not exist.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = std::fs::read_to_string(path).map_err(|source| SpecError::File {
            path: path.to_owned(),
            source,
        })?;
        let named = |source| SpecError::Within {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let mut own: Table = text.parse().map_err(|source: toml::de::Error| {
            let end = source.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text[..end].matches('\n').count();
            named(SpecError::Syntax { line, source })
        })?;
        let name = own.remove("scenario");
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
        Self::merged(name, own).map_err(named)
    }

    fn merged(name: &str, own: Table) -> Result<Self, SpecError> {
        let Some((_, file)) = SCENARIOS.iter().find(|(known, _)| *known == name) else {
            let names = SCENARIOS.map(|(name, _)| name).join(", ");
            return Err(SpecError::NoScenario { names });
        };
        let mut table: Table = file.parse().expect("invariant: a test reads every file");
        merge(&mut table, own);
        let spec: Self = table.try_into().map_err(SpecError::Field)?;
        Ok(Self {
            scenario: name.to_owned(),
            ..spec
        })
    }

    /// The shares of the encodings.
    ///
    /// # Errors
    /// An encoding the protocol does not have.
    pub fn mix(&self) -> Result<EncodingMix, SpecError> {
        let Some(mix) = &self.encodings else {
            return Ok(EncodingMix::all_of(self.protocol));
        };
        match mix
            .encodings()
            .into_iter()
            .find(|encoding| self.protocol.dialect(*encoding).is_none())
        {
            None => Ok(mix.clone()),
            Some(encoding) => Err(SpecError::Encoding {
                encoding,
                protocol: self.protocol.name(),
            }),
        }
    }

    /// The measured interval.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.duration_s)
    }

    /// Viewers that read slowly or not at all.
    #[must_use]
    pub fn slow_viewers(&self) -> u32 {
        whole(self.slow_percent / 100.0 * f64::from(self.viewers))
    }

    /// When they begin to.
    #[must_use]
    pub fn slow_after(&self) -> Option<Duration> {
        let after_s = self.slow_after_s.unwrap_or(self.duration_s / 2);
        (self.slow_viewers() > 0).then_some(Duration::from_secs(after_s))
    }

    /// Whether the server is meant to go down meanwhile.
    #[must_use]
    pub fn restarts_server(&self) -> bool {
        self.restart_at_s.is_some() || self.crashes > 0
    }

    /// When the server is killed: once in each of as many equal stretches of the measured interval.
    #[must_use]
    pub fn crash_times(&self) -> Vec<Duration> {
        let mut random = Random::new(self.seed);
        let stretch_s = self.duration_s as f64 / f64::from(self.crashes.max(1));
        (0..self.crashes)
            .map(|number| (f64::from(number) + random.unit()) * stretch_s)
            .map(Duration::from_secs_f64)
            .collect()
    }

    /// Checks what a type does not say.
    ///
    /// # Errors
    /// The first field that is out of its range, or contradicts another.
    pub fn check(&self) -> Result<(), SpecError> {
        self.check_ranges()?;
        let require = |is_met: bool, what: &'static str| match is_met {
            true => Ok(()),
            false => Err(SpecError::Contradiction(what)),
        };
        let within = |at_s: Option<u64>| at_s.is_none_or(|at_s| at_s < self.duration_s);
        let (viewers, slow) = (self.viewers, self.slow_viewers());
        require(viewers >= self.rooms, "`viewers` must not be below `rooms`")?;
        require(
            self.ca.is_none() || !self.insecure,
            "`ca` and `insecure` contradict each other",
        )?;
        require(
            self.token_file.is_none() || self.token_key.is_none(),
            "`token_file` and `token_key` contradict each other",
        )?;
        if self.protocol == WatchVia::Pusher {
            let app = self.pusher_app.as_ref();
            require(
                app.is_some_and(|app| app.contains(':')),
                "the protocol pusher needs `pusher_app`, as ID:KEY",
            )?;
            require(
                self.post_via == PostVia::Http,
                "the protocol pusher posts over http",
            )?;
            require(
                !self.with_floor && !self.with_post_cost,
                "the protocol pusher has no `with_floor` and no `with_post_cost`",
            )?;
        }
        require(
            within(self.storm_at_s),
            "`storm_at_s` must be below `duration_s`",
        )?;
        require(
            within(self.restart_at_s),
            "`restart_at_s` must be below `duration_s`",
        )?;
        if self.slow_percent > 0.0 {
            require(
                within(self.slow_after_s),
                "`slow_after_s` must be below `duration_s`",
            )?;
            require(slow > 0, "`slow_percent` of so few viewers rounds to none")?;
            require(
                slow < viewers,
                "`slow_percent` leaves no viewers to measure",
            )?;
        }
        if self.restarts_server() {
            let has_start = self.start.as_ref().is_some_and(|it| !it.trim().is_empty());
            require(
                self.server_pid.is_some(),
                "stopping the server needs `server_pid`",
            )?;
            require(
                has_start,
                "stopping the server needs `start`, the command that starts it again",
            )?;
        }
        let needed_s = self.slo.warm_up_s.saturating_add(SLOPE_S_MIN);
        require(
            self.slo.memory_mib_per_hour_max.is_none() || self.duration_s >= needed_s,
            "`duration_s` must exceed `slo.warm_up_s` by a minute: less says nothing about an hour",
        )?;
        let connecting_s = f64::from(viewers) / self.connect_rate;
        require(
            !self.join_meanwhile || connecting_s < self.duration_s as f64,
            "`connect_rate` is too low for all viewers to connect within `duration_s`",
        )?;
        require(
            self.to >= self.from,
            "a search needs a `to` that is not below `from`",
        )?;
        self.mix().map(|_| ())
    }

    fn check_ranges(&self) -> Result<(), SpecError> {
        const ABOVE_ZERO: f64 = f64::MIN_POSITIVE;
        const MOST: f64 = 1e9;
        let check = |field: &'static str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            let range = match (least == ABOVE_ZERO, most >= MOST) {
                (true, _) => "above 0".to_owned(),
                (false, true) => format!("{least} or more"),
                (false, false) => format!("between {least} and {most}"),
            };
            Err(SpecError::Range {
                field,
                range,
                value,
            })
        };
        check("connect_rate", self.connect_rate, ABOVE_ZERO, MOST)?;
        check("connecting_max", self.connecting_max.into(), 1.0, MOST)?;
        check("threads", self.threads.into(), 1.0, 64.0)?;
        check("viewers", self.viewers.into(), 1.0, MOST)?;
        check("rooms", self.rooms.into(), 1.0, MOST)?;
        check("zipf", self.zipf, 0.0, 10.0)?;
        check("sample", self.sample.into(), 1.0, MOST)?;
        check("speed", self.speed, ABOVE_ZERO, MOST)?;
        check("rate", self.rate, ABOVE_ZERO, MOST)?;
        let post_every_ms = self.post_every_ms.unwrap_or(1);
        check("post_every_ms", post_every_ms as f64, 1.0, 600_000.0)?;
        check("burst_factor", self.burst_factor, 1.0, 1000.0)?;
        check("history", self.history.into(), 1.0, 10_000.0)?;
        check("history_percent", self.history_percent, 0.0, 100.0)?;
        check("post_connections", self.post_connections.into(), 1.0, 256.0)?;
        check("settle_s", self.settle_s as f64, 0.0, 86_400.0)?;
        check("duration_s", self.duration_s as f64, 0.0, 604_800.0)?;
        check("drain_s", self.drain_s as f64, 1.0, 3600.0)?;
        check("churn_per_second", self.churn_per_second, 0.0, 1e6)?;
        check("slow_percent", self.slow_percent, 0.0, 99.999)?;
        check("crashes", self.crashes.into(), 0.0, 10_000.0)?;
        check("from", self.from, 1.0, MOST)?;
        check("to", self.to, 1.0, MOST)?;
        check(
            "precision_percent",
            self.precision_percent,
            ABOVE_ZERO,
            100.0,
        )?;
        check("floor_threads", self.floor_threads.into(), 1.0, 64.0)?;
        check("floor_s", self.floor_s.unwrap_or(1) as f64, 1.0, 86_400.0)?;
        for (name, limit) in self.slo.limits() {
            check(name, limit.unwrap_or_default(), 0.0, f64::MAX)?;
        }
        Ok(())
    }
}

/// Replaces fields, also those of tables inside.
fn merge(fields: &mut Table, changes: Table) {
    for (name, change) in changes {
        match (fields.get_mut(&name), change) {
            (Some(Value::Table(inner)), Value::Table(change)) => merge(inner, change),
            (_, change) => drop(fields.insert(name, change)),
        }
    }
}

/// The nearest whole number of viewers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a double saturates, and the checks refuse what is too much"
)]
pub(crate) fn whole(value: f64) -> u32 {
    value.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Spec, SpecError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let spec = Spec::read(file.path())?;
        spec.check()?;
        Ok(spec)
    }

    #[test]
    fn every_built_in_file_is_complete() {
        for (name, file) in SCENARIOS {
            let mut spec = Spec::shipped(name).unwrap();
            assert_eq!(spec.scenario, name);
            assert!(file.starts_with("# "), "{name}");
            if spec.restarts_server() {
                (spec.server_pid, spec.start) = (Some(1), Some("./server".to_owned()));
            }
            spec.check().unwrap();
        }
        assert_eq!(Spec::shipped("run").unwrap(), Spec::default());
    }

    #[test]
    fn a_file_changes_fields_of_a_scenario_and_keeps_the_rest() {
        let text = "scenario = \"hot-room\"\nviewers = 7\nrate = 3\nencodings = \"gzip\"\n[slo]\np99_beyond_window_ms = 9\n";
        let spec = read(text).unwrap();
        assert_eq!((spec.viewers, spec.duration_s), (7, 30));
        assert_eq!(spec.encodings.as_ref().unwrap().to_string(), "gzip:1");
        let slo = &spec.slo;
        assert_eq!(
            (slo.p99_beyond_window_ms, slo.window_ms_max),
            (Some(9.0), Some(5000.0))
        );
    }

    #[test]
    fn a_bad_field_or_value_gets_one_clear_line() {
        let check = |text: &str, said: &str| {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        };
        let of = |name: &str, line: &str, said: &str| {
            check(&format!("scenario = \"{name}\"\n{line}\n"), said);
        };
        check("viewers = 1\n", "`scenario` must be one of run, idle");
        check("scenario = \"storm\"\nviewers = = 3\n", "line 2: ");
        of("hot-room", "viewerz = 1", "viewerz");
        of("hot-room", "slo.p98 = 1", "p98");
        of("hot-room", "viewers = \"5k\"", "invalid type: string");
        of("hot-room", "viewers = 5.5", "5.5");
        of("hot-room", "viewers = -1", "-1");
        of(
            "hot-room",
            "viewers = 0",
            "`viewers` must be 1 or more, not 0",
        );
        of(
            "hot-room",
            "threads = 65",
            "`threads` must be between 1 and 64",
        );
        of("hot-room", "speed = nan", "`speed` must be above 0");
        of("hot-room", "viewers = 60000", "`connect_rate`");
        of(
            "hot-room",
            "slo.late_percent_max = -1",
            "`slo.late_percent_max`",
        );
        of("run", "viewers = 1\nrooms = 2", "`rooms`");
        of(
            "run",
            "protocol = \"sse\"\nencodings = \"deflate\"",
            "no deflate",
        );
        of("run", "encodings = \"brotli\"", "brotli");
        of("run", "insecure = true\nca = \"x\"", "`ca`");
        of(
            "run",
            "token_file = \"x\"\ntoken_key = \"y\"",
            "`token_key`",
        );
        of("run", "protocol = \"pusher\"", "`pusher_app`");
        let pusher = "protocol = \"pusher\"\npusher_app = \"i:k\"\n";
        of("run", &format!("{pusher}post_via = \"ws\""), "over http");
        of("run", &format!("{pusher}with_floor = true"), "`with_floor`");
        of("run", "history_percent = 101", "`history_percent`");
        of("soak", "duration_s = 930", "`slo.warm_up_s`");
        of("slow-viewers", "viewers = 4", "rounds to none");
        of("storm", "storm_at_s = 5000", "`storm_at_s`");
        of("restart", "viewers = 1", "`server_pid`");
        of("crash", "server_pid = 1", "`start`");
        of("search", "from = 9\nto = 8", "`from`");
    }

    #[test]
    fn crashes_are_spread_over_the_interval_by_the_seed() {
        let spec = Spec {
            crashes: 4,
            duration_s: 40,
            ..Spec::default()
        };
        let times = spec.crash_times();
        for (number, at) in (0..).zip(&times) {
            assert_eq!(at.as_secs() / 10, number, "{times:?}");
        }
        assert_eq!(times, spec.crash_times());
    }
}
