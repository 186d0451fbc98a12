//! How fast viewers are dialled.

use crate::clock::Moment;

/// Lets through `per_second` dials a second, evenly, and at most a hundredth of a second's worth at once.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    per_second: f64,
    credit: f64,
    last: Moment,
}

impl Pace {
    pub(super) fn new(per_second: f64, now: Moment) -> Self {
        Self {
            per_second,
            credit: 1.0,
            last: now,
        }
    }

    /// Whether one more may go now.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a run are far below 2^53"
    )]
    pub(super) fn take(&mut self, now: Moment) -> bool {
        let elapsed_s = now.micros_since(self.last) as f64 / 1e6;
        self.last = now;
        self.credit =
            (self.credit + elapsed_s * self.per_second).min((self.per_second / 100.0).max(1.0));
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

    #[test]
    fn the_rate_is_kept_and_a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(1000.0, Moment::default());
        let mut dialled = 0;
        for millis in 0..1000 {
            let now = Moment::from_micros(millis * 1000);
            while pace.take(now) {
                dialled += 1;
            }
        }
        assert!((990..=1001).contains(&dialled), "{dialled} in a second");
        let later = Moment::from_micros(60_000_000);
        let burst = (0..100).filter(|_| pace.take(later)).count();
        assert_eq!(burst, 10);
    }
}
