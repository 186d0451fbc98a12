//! Owns the clock: the only place in the server that reads time. Everything
//! else takes `now` as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use danmaku_engine::Now;

/// Monotonic time since the server started, and wall-clock time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The zero of [`Now::monotonic`].
    #[must_use]
    pub fn origin(&self) -> Instant {
        self.start
    }

    /// Both times, read together.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            monotonic: self.start.elapsed(),
            unix_ms: unix_ms(),
        }
    }

    /// The instant at which [`Now::monotonic`] will be `at`.
    #[must_use]
    pub fn instant(&self, at: Duration) -> Instant {
        self.start + at
    }
}

/// Milliseconds since 1970; 0 on a machine whose clock is before that.
fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
