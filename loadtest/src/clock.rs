//! The one clock of a run: microseconds since the run began, shared by publisher, swarm and audit.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment of the run, in microseconds since its origin.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Moment(u64);

impl Moment {
    /// A moment by its distance from the origin.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Microseconds since an earlier moment; zero when that one is later.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment this much later.
    #[must_use]
    pub fn after(self, distance: Duration) -> Self {
        Self(self.0.saturating_add(micros(distance)))
    }
}

/// Reads the monotonic clock, and translates moments to and from wall-clock time for comparisons with the server's `ts`.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    unix_micros: u64,
}

impl Clock {
    /// Starts a run: its origin is now.
    #[must_use]
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            origin: Instant::now(),
            unix_micros: micros(unix.unwrap_or_default()),
        }
    }

    /// The origin in milliseconds since the Unix epoch.
    #[must_use]
    pub fn origin_unix_ms(&self) -> u64 {
        self.unix_micros / 1000
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(micros(self.origin.elapsed()))
    }

    /// The moment of a wall-clock time in milliseconds since the Unix epoch; the origin when it lies before it.
    #[must_use]
    pub fn at_unix_ms(&self, unix_ms: u64) -> Moment {
        Moment((unix_ms.saturating_mul(1000)).saturating_sub(self.unix_micros))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_never_go_below_zero() {
        let early = Moment::from_micros(5);
        let late = early.after(Duration::from_millis(2));
        assert_eq!(late.micros_since(early), 2000);
        assert_eq!(early.micros_since(late), 0);
    }

    #[test]
    fn wall_clock_and_moments_agree() {
        let clock = Clock::start();
        let before = clock.now();
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis();
        let after = clock.now();
        let moment = clock.at_unix_ms(u64::try_from(unix_ms).unwrap());
        // Milliseconds are cut off, and the wall clock may be adjusted a little meanwhile.
        let close = Duration::from_millis(20);
        assert!(
            moment.after(close) >= before && moment <= after.after(close),
            "{before:?} {moment:?} {after:?}"
        );
    }
}
