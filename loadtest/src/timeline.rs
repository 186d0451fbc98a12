//! The run second by second: viewers connected, deliveries and their latency, and what both sides and the kernel spent.
//!
//! Working threads record little in a [`Recorder`], once per distinct frame and once per post. A [`Sampler`] on
//! its own thread reads everything else once a second.

mod live;
mod meter;
mod recorder;
mod sampler;

use schemars::JsonSchema;
use serde::Serialize;

use crate::latency::Summary;

pub use live::{Live, clear_live_line};
pub use recorder::Recorder;
pub use sampler::Sampler;

/// One sample per second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Timeline {
    /// When it began, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// What began when.
    pub marks: Vec<Mark>,
    /// The seconds, in order.
    pub samples: Vec<Sample>,
}

/// The beginning of a part of the run.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Mark {
    /// Seconds from the timeline's zero.
    pub at_s: f64,
    /// What began: `posting`, `stall`, `storm`, `churn`, `restart`, `drain`.
    pub what: String,
}

/// One second. Counts are of that second alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Sample {
    /// The end of the second, in seconds from the timeline's zero.
    pub t_s: f64,
    /// How long it really was: the sampler is a thread like others, and the last one ends with the run.
    pub interval_s: f64,
    /// Viewers that had joined and not ended, at its end.
    pub viewers_up: u64,
    /// Frames that carry a batch.
    pub frames: u64,
    /// Viewer-comments in them.
    pub comments: u64,
    /// Their bytes, WebSocket heads included.
    pub bytes: u64,
    /// Posts sent.
    pub posts: u64,
    /// Posts that were acknowledged.
    pub acknowledged: u64,
    /// Viewers that could not connect or were disconnected, though not by this harness, and posts refused or without an answer.
    pub errors: u64,
    /// From the scheduled post to each viewer, of what arrived in this second.
    pub latency: Summary,
    /// How late posts were sent, because the generator was slow or all connections waited for answers.
    pub lateness: Summary,
    /// The server, if its figures are known.
    pub server: Option<Usage>,
    /// All processes of the harness together.
    pub generator: Option<Usage>,
    /// What the kernel holds for TCP sockets, of both ends when both are on this machine.
    pub kernel_tcp_bytes: Option<u64>,
    /// The same on the server's machine, if the server reports it.
    pub server_kernel_tcp_bytes: Option<u64>,
}

/// What a process used in a second, and held at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Usage {
    /// CPU in user space, as a share of one CPU.
    pub user_percent: f64,
    /// CPU in the kernel.
    pub system_percent: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Of that, anonymous.
    pub anonymous_bytes: u64,
}

impl Sample {
    /// A count of this second as a rate.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a second are far below 2^53"
    )]
    pub fn per_second(&self, count: u64) -> f64 {
        if self.interval_s > 0.0 {
            count as f64 / self.interval_s
        } else {
            0.0
        }
    }
}

impl Sample {
    /// Adds the short rest after it, without the processes' figures.
    fn extend(&mut self, rest: &Self) {
        self.t_s = rest.t_s;
        self.interval_s += rest.interval_s;
        self.viewers_up = rest.viewers_up;
        self.frames += rest.frames;
        self.comments += rest.comments;
        self.bytes += rest.bytes;
        self.errors += rest.errors;
    }
}

impl Usage {
    /// User and kernel together.
    #[must_use]
    pub fn cpu_percent(&self) -> f64 {
        self.user_percent + self.system_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_real_interval() {
        let sample = Sample {
            interval_s: 0.5,
            frames: 100,
            ..Sample::default()
        };
        assert!((sample.per_second(sample.frames) - 200.0).abs() < 1e-9);
        assert!(Sample::default().per_second(5).abs() < 1e-9);
    }

    #[test]
    fn a_sample_that_is_extended_keeps_every_count() {
        let sample = |t_s, interval_s| Sample {
            t_s,
            interval_s,
            viewers_up: 7,
            frames: 1,
            comments: 20,
            bytes: 300,
            errors: 4,
            ..Sample::default()
        };
        let mut last = sample(5.0, 1.0);
        last.extend(&sample(5.25, 0.25));
        let sums = (last.frames, last.comments, last.bytes, last.errors);
        assert_eq!((last.viewers_up, sums), (7, (2, 40, 600, 8)));
        assert!((last.t_s - 5.25).abs() + (last.interval_s - 1.25).abs() < 1e-9);
    }
}
