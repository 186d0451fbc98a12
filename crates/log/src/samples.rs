//! Likes and viewers of a room per step of time, from samples.

use danmaku_store::Sample;

/// Steps of time: [`from_ms`, `to_ms`) in pieces of `step_ms`, the last of which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Where the first begins, Unix time in milliseconds.
    pub from_ms: u64,
    /// Where the last ends, Unix time in milliseconds.
    pub to_ms: u64,
    /// The length of each, in milliseconds; not 0.
    pub step_ms: u64,
}

/// What was sampled in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Likes.
    pub likes: u64,
    /// The most viewers at one time.
    pub viewers: u32,
}

impl Steps {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.to_ms
            .saturating_sub(self.from_ms)
            .div_ceil(self.step_ms)
    }

    /// Where each begins, and where the last one ends.
    pub(crate) fn boundaries(self) -> impl Iterator<Item = u64> {
        let starts = (0..self.count()).map(move |n| self.from_ms + n * self.step_ms);
        starts.chain(std::iter::once(self.to_ms))
    }

    /// The time since which samples say something about these steps.
    pub(crate) fn samples_from_ms(&self) -> u64 {
        self.from_ms.saturating_sub(SAMPLE_LASTS_MS)
    }
}

/// Adds up samples that come in the order of their times.
#[derive(Debug)]
pub(crate) struct Summary {
    steps: Steps,
    sampled: Vec<Sampled>,
    /// Time and viewers of the last sample.
    last: Option<(u64, u32)>,
}

impl Summary {
    pub(crate) fn new(steps: Steps) -> Self {
        Self {
            sampled: Vec::new(),
            steps,
            last: None,
        }
    }

    pub(crate) fn add(&mut self, sample: &Sample) {
        if let Some(since_ms) = sample.at_ms.checked_sub(self.steps.from_ms) {
            self.carry_to(since_ms / self.steps.step_ms);
            if let Some(step) = self.sampled.last_mut() {
                step.likes += sample.likes;
                step.viewers = step.viewers.max(sample.viewers);
            }
        }
        self.last = Some((sample.at_ms, sample.viewers));
    }

    pub(crate) fn finish(mut self) -> Vec<Sampled> {
        if let Some(last) = self.steps.count().checked_sub(1) {
            self.carry_to(last);
        }
        self.sampled
    }

    /// Adds the steps up to and including `step`. The last sample's viewers stay for a while after it.
    fn carry_to(&mut self, step: u64) {
        while (self.sampled.len() as u64) <= step {
            let begins_ms = self.steps.from_ms + self.sampled.len() as u64 * self.steps.step_ms;
            let viewers = match self.last {
                Some((at_ms, viewers)) if begins_ms < at_ms + SAMPLE_LASTS_MS => viewers,
                _ => 0,
            };
            self.sampled.push(Sampled { likes: 0, viewers });
        }
    }
}

/// How often likes and viewers are sampled, in milliseconds.
pub const SAMPLE_INTERVAL_MS: u64 = 10_000;

/// How long viewers that did not change need no other sample, in milliseconds.
pub const SAMPLE_SAME_MS: u64 = 60_000;

/// How long a sample's viewers are taken to stay: those of a server that was killed stay no longer.
const SAMPLE_LASTS_MS: u64 = SAMPLE_SAME_MS + 2 * SAMPLE_INTERVAL_MS;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(steps: (u64, u64, u64), samples: &[(u64, u64, u32)], expected: &[(u64, u32)]) {
        let (from_ms, to_ms, step_ms) = steps;
        let steps = Steps {
            from_ms,
            to_ms,
            step_ms,
        };
        let mut summary = Summary::new(steps);
        for &(at_ms, likes, viewers) in samples {
            summary.add(&Sample {
                room: String::new(),
                at_ms,
                likes,
                viewers,
            });
        }
        let found = summary.finish();
        let found: Vec<_> = found.iter().map(|it| (it.likes, it.viewers)).collect();
        assert_eq!(found, expected);
        assert_eq!(steps.count(), expected.len() as u64);
    }

    #[test]
    fn samples_are_added_up_by_step() {
        let from = 1_000_000;
        let at = |ms| from + ms;
        check((from, from, 1_000), &[], &[]);
        check((from, at(2_500), 1_000), &[], &[(0, 0), (0, 0), (0, 0)]);
        let samples = [(at(100), 3, 5), (at(900), 4, 2), (at(2_000), 1, 9)];
        let expected = [(7, 5), (0, 2), (1, 9), (0, 9)];
        check((from, at(4_000), 1_000), &samples, &expected);
        // Viewers of before stay, but not forever.
        let samples = [(from - 1_000, 8, 5)];
        let expected = [(0, 5), (0, 5), (0, 0)];
        check((from, at(120_000), 40_000), &samples, &expected);
        // Unless they left.
        let samples = [(from - 1_000, 8, 5), (at(10_000), 0, 0)];
        check(
            (from, at(120_000), 40_000),
            &samples,
            &[(0, 5), (0, 0), (0, 0)],
        );
    }

    #[test]
    fn boundaries() {
        let steps = Steps {
            from_ms: 5,
            to_ms: 30,
            step_ms: 10,
        };
        assert_eq!(steps.boundaries().collect::<Vec<_>>(), [5, 15, 25, 30]);
    }
}
