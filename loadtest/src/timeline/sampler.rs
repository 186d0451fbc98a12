//! Samples the run once a second, and shows its progress.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::HarnessError;
use crate::process::Process;
use crate::server_side::ServerSide;
use crate::swarm::{Delivered, Lookout, Snapshot};
use crate::timeline::live::{Live, Posting, Progress, clear_live_line, line};
use crate::timeline::meter::{GeneratorMeter, ServerMeter, kernel_tcp_bytes};
use crate::timeline::recorder::Recorder;
use crate::timeline::{Mark, Sample, Timeline};

/// Takes a sample a second in a thread of its own, until it is dropped or collected.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    marks: Mutex<Vec<Mark>>,
    posting: Arc<OnceLock<Posting>>,
    clock: Clock,
    recorder: Arc<Recorder>,
    thread: Option<JoinHandle<Vec<Sample>>>,
}

/// The frames of a second are judged by then: the audit takes their latencies some seconds after their last arrival.
const JUDGED_AFTER_S: u64 = 5;
/// Nothing that matters is found about a second later than this.
const SETTLED_AFTER_S: usize = 60;
/// The last second is a sample of its own when at least this much of it has passed; otherwise it belongs to the one before.
const LAST_MIN: Duration = Duration::from_millis(200);

impl Sampler {
    /// Starts; the timeline's zero is the clock's.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        clock: Clock,
        lookout: Lookout,
        recorder: Arc<Recorder>,
        server: &ServerSide,
        generator: Option<Process>,
        live: Live,
    ) -> Result<Self, HarnessError> {
        let stop = Arc::new(AtomicBool::new(false));
        let posting = Arc::new(OnceLock::new());
        let watcher = Watcher {
            clock,
            lookout,
            recorder: Arc::clone(&recorder),
            server: ServerMeter::new(server),
            generator: GeneratorMeter::new(generator),
            live,
            posting: Arc::clone(&posting),
            last: Moment::default(),
            before: Snapshot::default(),
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || watcher.run(&stopped))
            .map_err(HarnessError::system("thread of the sampler"))?;
        Ok(Self {
            stop,
            marks: Mutex::default(),
            posting,
            clock,
            recorder,
            thread: Some(thread),
        })
    }

    /// Notes that a part of the run begins at a moment.
    pub fn mark(&self, what: &str, at: Moment) {
        if let Ok(mut marks) = self.marks.lock() {
            marks.push(Mark {
                at_s: seconds(at.micros()),
                what: what.to_owned(),
            });
        }
    }

    /// Notes when posting begins and for how long it is planned.
    pub fn mark_posting(&self, from: Moment, planned: Duration) {
        self.mark("posting", from);
        // Only the first plan is shown; a session posts once.
        let _ = self.posting.set(Posting { from, planned });
    }

    /// Stops sampling. `EndedSampler::timeline` still adds what the audit finds later.
    #[must_use]
    pub fn stop(mut self) -> EndedSampler {
        let samples = self.join();
        EndedSampler {
            started_unix_ms: self.clock.origin_unix_ms(),
            marks: self.marks.get_mut().map(std::mem::take).unwrap_or_default(),
            samples,
            recorder: Arc::clone(&self.recorder),
        }
    }

    fn join(&mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Vec::new();
        };
        thread.thread().unpark();
        thread.join().unwrap_or_default()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.join();
    }
}

/// Samples without what the audit has yet to judge.
pub struct EndedSampler {
    started_unix_ms: u64,
    marks: Vec<Mark>,
    samples: Vec<Sample>,
    recorder: Arc<Recorder>,
}

impl EndedSampler {
    /// The timeline. To be called when all audits are closed.
    #[must_use]
    pub fn timeline(self) -> Timeline {
        let mut samples = self.samples;
        let last = samples.len().saturating_sub(1) as u64;
        for (sample, number) in samples.iter_mut().zip(0_u64..) {
            let numbers = number..if number < last { number + 1 } else { u64::MAX };
            let second = self.recorder.seconds(numbers);
            sample.latency = second.latency.summary();
            sample.lateness = second.lateness.summary();
            sample.posts = second.posts;
            sample.acknowledged = second.acknowledged;
            sample.errors += second.failed;
        }
        Timeline {
            started_unix_ms: self.started_unix_ms,
            marks: self.marks,
            samples,
        }
    }
}

struct Watcher {
    clock: Clock,
    lookout: Lookout,
    recorder: Arc<Recorder>,
    server: ServerMeter,
    generator: GeneratorMeter,
    live: Live,
    posting: Arc<OnceLock<Posting>>,
    last: Moment,
    before: Snapshot,
}

impl Watcher {
    fn run(mut self, stop: &AtomicBool) -> Vec<Sample> {
        let mut samples = Vec::new();
        self.last = self.clock.now();
        loop {
            // Sample n covers second n, so that it matches the recorder's second n.
            let due = Moment::default().after(Duration::from_secs(samples.len() as u64 + 1));
            while self.clock.now() < due && !stop.load(Ordering::Relaxed) {
                let left = Duration::from_micros(due.micros_since(self.clock.now()));
                std::thread::park_timeout(left);
            }
            let stopped = stop.load(Ordering::Relaxed);
            let sample = self.sample();
            if !stopped {
                self.show(&sample, samples.len() as u64 + 1);
                samples.push(sample);
                if let Some(settled) = samples.len().checked_sub(SETTLED_AFTER_S) {
                    self.recorder.settle(settled as u64);
                }
                continue;
            }
            // A second that was cut short has no rates to show.
            match samples.last_mut() {
                Some(last) if sample.interval_s < LAST_MIN.as_secs_f64() => last.extend(&sample),
                _ => samples.push(sample),
            }
            if self.live == Live::Line {
                clear_live_line();
            }
            return samples;
        }
    }

    fn sample(&mut self) -> Sample {
        let now = self.clock.now();
        let interval_s = seconds(now.micros_since(self.last));
        let look = self.lookout.snapshot();
        let (delivered, before) = (total(&look), total(&self.before));
        let delivered = delivered.since(&before);
        let server = self.server.usage();
        let sample = Sample {
            t_s: seconds(now.micros()),
            interval_s,
            viewers_up: look.up(),
            frames: delivered.frames,
            comments: delivered.comments,
            bytes: delivered.bytes,
            errors: look.errors().saturating_sub(self.before.errors()),
            server: server.map(|(usage, _)| usage),
            server_kernel_tcp_bytes: server.and_then(|(_, kernel)| kernel),
            generator: self.generator.usage(),
            kernel_tcp_bytes: kernel_tcp_bytes(),
            ..Sample::default()
        };
        self.last = now;
        self.before = look;
        sample
    }

    fn show(&self, sample: &Sample, number: u64) {
        let judged = number.checked_sub(JUDGED_AFTER_S);
        let latency = judged.map(|judged| self.recorder.latency_of(judged));
        let progress = Progress::of(self.posting.get(), self.last);
        let errors = self.before.errors() + self.recorder.failures();
        self.live.show(number, |columns| {
            line(progress, sample, latency, errors, columns)
        });
    }
}

fn total(snapshot: &Snapshot) -> Delivered {
    let mut total = Delivered::default();
    for delivered in &snapshot.delivered {
        total.add(delivered);
    }
    total
}

#[expect(clippy::cast_precision_loss, reason = "times of a run")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::process::Process;

    #[test]
    fn latencies_judged_after_the_last_sample_are_in_the_timeline() {
        let recorder = Arc::new(Recorder::default());
        let clock = Clock::start();
        let sampler = Sampler::start(
            clock,
            Lookout::default(),
            Arc::clone(&recorder),
            &ServerSide::Unknown,
            Process::this(),
            Live::Lines,
        )
        .unwrap();
        sampler.mark("posting", Moment::from_micros(250_000));
        std::thread::sleep(Duration::from_millis(1500));
        let stopped = sampler.stop();
        recorder
            .arrivals()
            .record(Moment::from_micros(500_000), 7_000, 4);
        recorder.posted(Moment::from_micros(1_100_000), 50);
        recorder.failed(Moment::from_micros(1_100_000));
        recorder.acknowledged(Moment::from_micros(2_900_000));
        let timeline = stopped.timeline();
        // One for each whole second, and one for the rest; a busy machine may have been stopped later.
        let samples = &timeline.samples;
        assert!(samples.len() >= 2, "{samples:?}");
        assert_eq!(samples[0].latency.count, 4);
        assert_eq!((samples[1].posts, samples[1].errors), (1, 1));
        // Nothing at the end is lost, whenever the last sample was.
        let acknowledged: u64 = samples.iter().map(|it| it.acknowledged).sum();
        assert_eq!(acknowledged, 1);
        assert!(samples[0].t_s >= 1.0, "{samples:?}");
        // Without holes, from whenever the thread began.
        for pair in samples.windows(2) {
            let begin_s = pair[1].t_s - pair[1].interval_s;
            assert!((begin_s - pair[0].t_s).abs() < 1e-6, "{samples:?}");
        }
        assert!((timeline.marks[0].at_s - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_sampler_that_is_dropped_ends_its_thread() {
        let recorder = Arc::new(Recorder::default());
        let sampler = Sampler::start(
            Clock::start(),
            Lookout::default(),
            Arc::clone(&recorder),
            &ServerSide::Unknown,
            None,
            Live::Lines,
        );
        assert!(Arc::strong_count(&recorder) > 1);
        drop(sampler);
        assert_eq!(Arc::strong_count(&recorder), 1);
    }
}
