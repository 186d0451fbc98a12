//! How fast viewers connect and leave.

use std::time::Duration;

use crate::clock::Moment;

/// A pacer with an even rate. It catches up after a delay, but by no more at once than is due in a given time.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    per_second: f64,
    at_once: f64,
    credit: f64,
    last: Moment,
}

impl Pace {
    /// `at_once` limits a burst to what is due in that time; one is always allowed.
    pub(super) fn new(per_second: f64, at_once: Duration, now: Moment) -> Self {
        Self {
            per_second,
            at_once: (per_second * at_once.as_secs_f64()).max(1.0),
            credit: 1.0,
            last: now,
        }
    }

    /// Whether one more is allowed now.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a run are far below 2^53"
    )]
    pub(super) fn take(&mut self, now: Moment) -> bool {
        let elapsed_s = now.micros_since(self.last) as f64 / 1e6;
        self.last = now;
        self.credit = (self.credit + elapsed_s * self.per_second).min(self.at_once);
        let goes = self.credit >= 1.0;
        if goes {
            self.credit -= 1.0;
        }
        goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are allowed in a second when asked this often.
    fn gone(pace: &mut Pace, every: Duration) -> usize {
        let mut gone = 0;
        let mut now = Moment::default();
        while now < Moment::default().after(Duration::from_secs(1)) {
            now = now.after(every);
            while pace.take(now) {
                gone += 1;
            }
        }
        gone
    }

    #[test]
    fn the_rate_is_kept_and_a_pause_is_only_partly_made_up() {
        let hundredth = Duration::from_millis(10);
        let mut pace = Pace::new(1000.0, hundredth, Moment::default());
        let gone = gone(&mut pace, Duration::from_millis(1));
        assert!((999..=1001).contains(&gone), "{gone} in a second");
        let later = Moment::from_micros(60_000_000);
        assert_eq!((0..100).filter(|_| pace.take(later)).count(), 10);
    }

    #[test]
    fn the_rate_is_kept_when_asked_rarely() {
        for (per_second, due) in [(50.0, 50), (1000.0, 1000)] {
            let mut pace = Pace::new(per_second, Duration::from_secs(1), Moment::default());
            let gone = gone(&mut pace, Duration::from_millis(70));
            assert!((due..=due * 11 / 10).contains(&gone), "{gone} of {due}");
        }
    }
}
