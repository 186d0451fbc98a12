//! The limits of a verdict, and whether they were met.

use clap::Args;
use serde::{Deserialize, Serialize};

/// The limits of a verdict. Lost, duplicate, reordered or corrupt comments fail in any case; a field that is absent is not judged.
/// Without any field a run fails on faults only.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Args, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct Slo {
    /// Limit: p99 latency beyond the window, from when the post was due
    #[arg(long = "slo.p99-beyond-window-ms", value_name = "MS")]
    pub p99_beyond_window_ms: Option<f64>,
    /// Limit: the rooms' window as the server reports it, because latency is measured beyond it
    #[arg(long = "slo.window-ms-max", value_name = "MS")]
    pub window_ms_max: Option<f64>,
    /// Limit: late viewer-comments
    #[arg(long = "slo.late-percent-max", value_name = "PERCENT")]
    pub late_percent_max: Option<f64>,
    /// Limit: shed or skipped viewer-comments
    #[arg(long = "slo.shed-or-skipped-percent-max", value_name = "PERCENT")]
    pub shed_or_skipped_percent_max: Option<f64>,
    /// Limit: posts that are refused or unanswered
    #[arg(long = "slo.failed-posts-percent-max", value_name = "PERCENT")]
    pub failed_posts_percent_max: Option<f64>,
    /// Limit: viewers cut off by the server
    #[arg(long = "slo.ended-viewers-max", value_name = "N")]
    pub ended_viewers_max: Option<f64>,
    /// Limit: p99 of how late posts are sent; beyond it the generator was the bottleneck, or answers were slow too and the server
    /// was
    #[arg(long = "slo.lateness-p99-ms-max", value_name = "MS")]
    pub lateness_p99_ms_max: Option<f64>,
    /// Limit: time until every viewer is back. The server may take twice as long, at most 30 s, to stop, and again to listen
    #[arg(long = "slo.last-back-s-max", value_name = "S")]
    pub last_back_s_max: Option<f64>,
    /// Limit: acknowledged viewer-comments that cannot be replayed because a room begins a new epoch, relative to those delivered
    #[arg(long = "slo.unreplayed-percent-max", value_name = "PERCENT")]
    pub unreplayed_percent_max: Option<f64>,
    /// Limit: growth of the server's anonymous memory after the warm-up, by linear fit
    #[arg(long = "slo.memory-mib-per-hour-max", value_name = "MIB")]
    pub memory_mib_per_hour_max: Option<f64>,
    /// Seconds at the start to leave out of the memory's slope, while buffers fill
    #[arg(long = "slo.warm-up-s", value_name = "S")]
    pub warm_up_s: u64,
}

impl Slo {
    /// The limits by name.
    #[must_use]
    pub fn limits(&self) -> [(&'static str, Option<f64>); 10] {
        [
            ("slo.p99_beyond_window_ms", self.p99_beyond_window_ms),
            ("slo.window_ms_max", self.window_ms_max),
            ("slo.late_percent_max", self.late_percent_max),
            (
                "slo.shed_or_skipped_percent_max",
                self.shed_or_skipped_percent_max,
            ),
            (
                "slo.failed_posts_percent_max",
                self.failed_posts_percent_max,
            ),
            ("slo.ended_viewers_max", self.ended_viewers_max),
            ("slo.lateness_p99_ms_max", self.lateness_p99_ms_max),
            ("slo.last_back_s_max", self.last_back_s_max),
            ("slo.unreplayed_percent_max", self.unreplayed_percent_max),
            ("slo.memory_mib_per_hour_max", self.memory_mib_per_hour_max),
        ]
    }

    /// Whether a run is judged by limits.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.limits().iter().any(|(_, limit)| limit.is_some())
    }
}
