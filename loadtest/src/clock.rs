//! The one clock of a run: microseconds since the run began, shared by publisher, swarm and audit.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
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
    sent: Origin,
}

/// The origin of a clock as another process of this machine can read it. An `Instant` means nothing there, but the monotonic
/// clock behind it is the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    monotonic_ns: u64,
    unix_micros: u64,
}

impl Clock {
    /// Starts a run: its origin is now.
    #[must_use]
    pub fn start() -> Self {
        let reading = Reading::close();
        Self {
            origin: reading.instant,
            sent: reading.origin,
        }
    }

    /// The clock of a run that another process of this machine has started.
    #[must_use]
    pub fn join(origin: Origin) -> Self {
        let now = Reading::close();
        let elapsed_ns = now.origin.monotonic_ns.saturating_sub(origin.monotonic_ns);
        let elapsed = Duration::from_nanos(elapsed_ns);
        Self {
            origin: now.instant.checked_sub(elapsed).unwrap_or(now.instant),
            sent: origin,
        }
    }

    /// The origin, for [`Clock::join`].
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.sent
    }

    /// The origin in milliseconds since the Unix epoch.
    #[must_use]
    pub fn origin_unix_ms(&self) -> u64 {
        self.sent.unix_micros / 1000
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(micros(self.origin.elapsed()))
    }

    /// The moment of a wall-clock time in milliseconds since the Unix epoch; the origin when it lies before it.
    #[must_use]
    pub fn from_unix_ms(&self, unix_ms: u64) -> Moment {
        Moment((unix_ms.saturating_mul(1000)).saturating_sub(self.sent.unix_micros))
    }
}

/// One moment, read in three ways.
struct Reading {
    instant: Instant,
    origin: Origin,
    took: Duration,
}

/// Readings taken, of which the quickest is used.
const READINGS: usize = 16;

impl Reading {
    /// A reading whose parts are close to each other. A thread may be preempted in the middle of one, and the clocks of two
    /// processes would then differ by as much: a viewer would seem to have joined before a comment that it joined after.
    fn close() -> Self {
        (1..READINGS).fold(Self::now(), |best, _| {
            let next = Self::now();
            if next.took < best.took { next } else { best }
        })
    }

    fn now() -> Self {
        let instant = Instant::now();
        let monotonic_ns = monotonic_ns();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            instant,
            origin: Origin {
                monotonic_ns,
                unix_micros: micros(unix.unwrap_or_default()),
            },
            took: instant.elapsed(),
        }
    }
}

/// What `Instant` reads, as a number.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: Duration = Duration::from_micros(100);

    #[test]
    fn distances_never_go_below_zero() {
        let early = Moment::from_micros(5);
        let late = early.after(Duration::from_millis(2));
        assert_eq!(late.micros_since(early), 2000);
        assert_eq!(early.micros_since(late), 0);
    }

    #[test]
    fn a_joined_clock_has_the_same_origin() {
        let clock = Clock::start();
        std::thread::sleep(Duration::from_millis(20));
        let json = serde_json::to_string(&clock.origin()).unwrap();
        let joined = Clock::join(serde_json::from_str(&json).unwrap());
        assert_eq!(joined.origin(), clock.origin());
        assert_eq!(
            joined.from_unix_ms(1_900_000_000_000),
            clock.from_unix_ms(1_900_000_000_000)
        );
        let (before, between, after) = (clock.now(), joined.now(), clock.now());
        // The two readings of one origin are some hundred nanoseconds apart.
        assert!(
            between.after(CLOSE) >= before && between <= after.after(CLOSE),
            "{before:?} {between:?} {after:?}"
        );
        assert!(between.micros() >= 18_000, "{between:?}");
    }

    /// Regression: clocks of threads that were preempted between two readings were milliseconds apart.
    #[test]
    fn joined_clocks_agree_on_a_busy_machine() {
        let clock = Clock::start();
        let (began, until) = (Instant::now(), Duration::from_millis(300));
        let worst = std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| while began.elapsed() < until {});
            }
            let mut worst = Duration::ZERO;
            while began.elapsed() < until {
                let other = Clock::join(clock.origin()).origin;
                let apart = clock.origin.max(other) - clock.origin.min(other);
                worst = worst.max(apart);
            }
            worst
        });
        assert!(worst < CLOSE, "{worst:?}");
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
        let moment = clock.from_unix_ms(u64::try_from(unix_ms).unwrap());
        // Milliseconds are cut off, and the wall clock may be adjusted a little meanwhile.
        let close = Duration::from_millis(20);
        assert!(
            moment.after(close) >= before && moment <= after.after(close),
            "{before:?} {moment:?} {after:?}"
        );
    }
}
