//! The run second by second: who was up, what arrived and how late, what both sides and the kernel spent on it.
//!
//! The threads that do the work enter little into a [`Recorder`], once per distinct frame and once per post. A [`Sampler`] of
//! its own thread looks at everything else once a second.

mod buckets;
mod live;
mod recorder;
mod sampler;

use serde::{Deserialize, Serialize};

use crate::latency::Summary;

pub use buckets::Buckets;
pub use live::{Live, clear_live_line};
pub use recorder::Recorder;
pub use sampler::Sampler;

/// One sample per second of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// When its zero was, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// What began when.
    pub marks: Vec<Mark>,
    /// The seconds, in order.
    pub samples: Vec<Sample>,
}

/// The beginning of a part of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds from the timeline's zero.
    pub at_s: f64,
    /// What began: `posting`, `stall`, `storm`, `churn`, `restart`, `drain`.
    pub what: String,
}

/// One second. Counts are of that second alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The end of the second, in seconds from the timeline's zero.
    pub t_s: f64,
    /// How long it really was: the sampler is a thread like others, and the last one is cut short.
    pub interval_s: f64,
    /// Viewers that had joined and not ended, at its end.
    pub viewers_up: u64,
    /// Frames that carry a batch.
    pub frames: u64,
    /// Viewer-comments in them.
    pub comments: u64,
    /// Their bytes, WebSocket heads included.
    pub bytes: u64,
    /// Posts that left.
    pub posts: u64,
    /// Posts that were acknowledged.
    pub acknowledged: u64,
    /// Viewers that could not connect or were disconnected, though not by this harness, and posts refused or without an answer.
    pub errors: u64,
    /// From the scheduled post to each viewer, of what arrived in this second.
    pub latency: Summary,
    /// The same as counts, so that timelines of several processes can be put together.
    pub latency_buckets: Buckets,
    /// How late posts left, against the schedule: the generator's own fault.
    pub lateness: Summary,
    /// The same as counts.
    pub lateness_buckets: Buckets,
    /// The server, when its process was named.
    pub server: Option<Usage>,
    /// This process, or all processes of the harness together.
    pub generator: Option<Usage>,
    /// What the kernel holds for TCP sockets, of both ends when both are on this machine.
    pub kernel_tcp_bytes: Option<u64>,
}

/// What a process used in a second, and held at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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

    fn add(&mut self, other: &Self) {
        self.viewers_up += other.viewers_up;
        self.frames += other.frames;
        self.comments += other.comments;
        self.bytes += other.bytes;
        self.posts += other.posts;
        self.acknowledged += other.acknowledged;
        self.errors += other.errors;
        self.latency_buckets.merge(&other.latency_buckets);
        self.lateness_buckets.merge(&other.lateness_buckets);
        self.latency = self.latency_buckets.summary();
        self.lateness = self.lateness_buckets.summary();
        // All of them look at the same server and the same kernel.
        self.server = self.server.or(other.server);
        self.kernel_tcp_bytes = self.kernel_tcp_bytes.or(other.kernel_tcp_bytes);
        self.generator = match (self.generator, other.generator) {
            (Some(mine), Some(theirs)) => Some(mine.plus(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }
}

impl Usage {
    /// User and kernel together.
    #[must_use]
    pub fn cpu_percent(&self) -> f64 {
        self.user_percent + self.system_percent
    }

    fn plus(self, other: Self) -> Self {
        Self {
            user_percent: self.user_percent + other.user_percent,
            system_percent: self.system_percent + other.system_percent,
            resident_bytes: self.resident_bytes + other.resident_bytes,
            anonymous_bytes: self.anonymous_bytes + other.anonymous_bytes,
        }
    }
}

impl Timeline {
    /// Adds the timeline of another process of the same run: seconds are matched by wall-clock time.
    pub fn merge(&mut self, other: &Self) {
        let ahead_ms = other.started_unix_ms.cast_signed() - self.started_unix_ms.cast_signed();
        for sample in &other.samples {
            let second = second_of(sample.t_s) + (ahead_ms + 500).div_euclid(1000);
            let place = self
                .samples
                .binary_search_by_key(&second, |mine| second_of(mine.t_s));
            match place {
                Ok(index) => self.samples[index].add(sample),
                Err(index) => {
                    let shifted = Sample {
                        t_s: to_f64(second),
                        ..sample.clone()
                    };
                    self.samples.insert(index, shifted);
                }
            }
        }
        for mark in &other.marks {
            if !self.marks.iter().any(|mine| mine.what == mark.what) {
                self.marks.push(Mark {
                    at_s: mark.at_s + to_f64(ahead_ms) / 1000.0,
                    what: mark.what.clone(),
                });
            }
        }
    }
}

/// The number of the second that ends at `t_s`, the last and shorter one included.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a run has far fewer seconds"
)]
fn second_of(t_s: f64) -> i64 {
    // The sampler wakes a little late, never early.
    (t_s - 0.001).max(0.0).round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
fn to_f64(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(t_s: f64, viewers_up: u64, micros: u64) -> Sample {
        let mut buckets = Buckets::default();
        buckets.record(micros, viewers_up);
        Sample {
            t_s,
            interval_s: 1.0,
            viewers_up,
            frames: viewers_up,
            latency: buckets.summary(),
            latency_buckets: buckets,
            generator: Some(Usage {
                user_percent: 10.0,
                ..Usage::default()
            }),
            server: Some(Usage {
                resident_bytes: 7,
                ..Usage::default()
            }),
            ..Sample::default()
        }
    }

    #[test]
    fn timelines_of_two_processes_are_matched_by_wall_clock() {
        let mut one = Timeline {
            started_unix_ms: 10_000,
            marks: Vec::new(),
            samples: vec![sample(1.0, 10, 1000), sample(2.0, 10, 1000)],
        };
        let two = Timeline {
            started_unix_ms: 11_020,
            marks: vec![Mark {
                at_s: 0.5,
                what: "posting".to_owned(),
            }],
            samples: vec![sample(1.0, 30, 9000), sample(2.001, 30, 9000)],
        };
        one.merge(&two);
        let viewers: Vec<u64> = one.samples.iter().map(|sample| sample.viewers_up).collect();
        assert_eq!(viewers, [10, 40, 30]);
        let both = &one.samples[1];
        assert_eq!(both.latency.count, 40);
        assert!(
            both.latency.p50_ms > 8.0,
            "three in four took 9 ms: {:?}",
            both.latency
        );
        assert!((both.generator.unwrap().user_percent - 20.0).abs() < 1e-9);
        assert_eq!(
            both.server.unwrap().resident_bytes,
            7,
            "the server is one, not two"
        );
        assert!((one.marks[0].at_s - 1.52).abs() < 1e-9);
    }

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
}
