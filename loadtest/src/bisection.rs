//! The search for the highest value that still meets the limits.

/// Steps at most; bisection needs far fewer.
const STEPS_MAX: u32 = 32;

/// Halves the ratio between the highest value that was good and the lowest that was not.
#[derive(Clone, Debug)]
pub struct Bisection {
    /// The highest good value so far; the low end before there is one.
    low: f64,
    /// The lowest bad value so far; the high end before there is one.
    high: f64,
    precision_percent: f64,
    steps: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Low,
    High,
    Between,
    Done,
}

impl Bisection {
    /// A search from `low` to `high`, done when the range is smaller than this share of its low end.
    #[must_use]
    pub fn new(low: f64, high: f64, precision_percent: f64) -> Self {
        Self {
            low,
            high,
            precision_percent,
            steps: 0,
            state: State::Low,
        }
    }

    /// The value to try; `None` when the search is over.
    #[must_use]
    pub fn next(&self) -> Option<f64> {
        match self.state {
            State::Low => Some(self.low),
            // It is often good, and then nothing below it has to be tried.
            State::High => Some(self.high),
            // The geometric mean, because the precision is a ratio.
            State::Between => Some((self.low * self.high).sqrt()),
            State::Done => None,
        }
    }

    /// Whether the value of the last [`Bisection::next`] was good.
    pub fn tell(&mut self, good: bool) {
        let Some(value) = self.next() else {
            return;
        };
        self.steps += 1;
        if good {
            self.low = value;
        } else {
            self.high = value;
        }
        let close = (self.high - self.low) * 100.0 <= self.precision_percent * self.low;
        self.state = match (self.state, good) {
            (State::Low, false) | (State::High, true) | (State::Done, _) => State::Done,
            _ if close || self.steps >= STEPS_MAX => State::Done,
            (State::Low, true) => State::High,
            (State::High, false) | (State::Between, _) => State::Between,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(limit: f64) -> Vec<f64> {
        let mut bisection = Bisection::new(500.0, 4000.0, 10.0);
        let mut tried = Vec::new();
        while let Some(value) = bisection.next() {
            tried.push(value);
            bisection.tell(value <= limit);
        }
        tried
    }

    #[test]
    fn a_bad_low_end_or_a_good_high_end_ends_the_search() {
        assert_eq!(search(100.0), [500.0]);
        assert_eq!(search(9000.0), [500.0, 4000.0]);
    }

    #[test]
    fn it_closes_in_on_the_limit() {
        let tried = search(1700.0);
        assert_eq!(tried[..2], [500.0, 4000.0]);
        assert_eq!(tried[2].round(), 1414.0);
        let good = tried.iter().copied().filter(|value| *value <= 1700.0);
        let most = good.fold(0.0, f64::max);
        assert!((1545.0..=1700.0).contains(&most), "{tried:?}");
        assert!(tried.len() <= 8, "{tried:?}");
    }

    #[test]
    fn a_wide_range_takes_few_steps() {
        let mut bisection = Bisection::new(100.0, 100_000.0, 10.0);
        let mut steps = 0;
        while let Some(value) = bisection.next() {
            steps += 1;
            bisection.tell(value <= 830.0);
        }
        assert!(steps <= 9, "{steps}");
    }
}
