//! A token bucket of eight bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::now::nanos;

/// How fast a [`TokenBucket`] fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Time in which one token comes back.
    interval_ns: u64,
    burst: u32,
}

impl Rate {
    /// A rate of `per_second` tokens, of which `burst` may be taken at once after a pause.
    ///
    /// # Errors
    ///
    /// [`RateError`] when the rate is not a number from [`Rate::PER_SECOND_MIN`] to [`Rate::PER_SECOND_MAX`], when no
    /// token fits, or when an empty bucket would need longer than [`Rate::FILL_TIME_MAX`] to fill.
    pub fn new(per_second: f64, burst: u32) -> Result<Self, RateError> {
        // A NaN is in no range.
        if !(Self::PER_SECOND_MIN..=Self::PER_SECOND_MAX).contains(&per_second) {
            return Err(RateError::PerSecond);
        }
        if burst == 0 {
            return Err(RateError::Burst);
        }
        let interval = Duration::from_secs_f64(1.0 / per_second);
        match interval.checked_mul(burst) {
            Some(fill_time) if fill_time <= Self::FILL_TIME_MAX => Ok(Self {
                interval_ns: nanos(interval),
                burst,
            }),
            _ => Err(RateError::FillTime),
        }
    }

    /// The slowest rate: one token in about seventeen minutes.
    pub const PER_SECOND_MIN: f64 = 0.001;

    /// The fastest rate: one token a nanosecond, the resolution of [`Duration`].
    pub const PER_SECOND_MAX: f64 = 1e9;

    /// An empty bucket must refill within this time, so that the table of addresses can drop it.
    pub const FILL_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// A rate `factor` times as fast with a burst `factor` times as large, as far as rates go.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        let factor = factor.max(1);
        Self {
            interval_ns: (self.interval_ns / u64::from(factor)).max(1),
            burst: self.burst.saturating_mul(factor),
        }
    }

    /// Tokens that may be taken at once after a pause.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Bounded by [`Rate::FILL_TIME_MAX`] for every `n` up to the burst.
    fn cost_ns(self, n: u32) -> u64 {
        self.interval_ns * u64::from(n)
    }
}

/// Why a [`Rate`] was not built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RateError {
    /// The rate is not a number in the range.
    #[error("a rate must be from 0.001 to 1000000000 a second")]
    PerSecond,
    /// A bucket that holds no token lets nobody through.
    #[error("a burst must be at least 1")]
    Burst,
    /// The burst is too large for the rate.
    #[error("a burst must refill within 24 hours at its rate")]
    FillTime,
}

/// Why no token was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[must_use]
pub enum RateRefusal {
    /// A retry after this delay succeeds, unless something else takes tokens meanwhile.
    #[error("too many at this rate, try again in {} ms", .0.as_millis())]
    RetryAfter(Duration),
    /// More than the bucket ever holds: waiting does not help, a smaller request does.
    #[error("more than {burst} at once are never let through")]
    OverBurst {
        /// The most that can be taken at once.
        burst: u32,
    },
}

/// A token bucket, stored as the time at which it is full again (the "theoretical arrival time" of ITU-T I.371's
/// generic cell rate algorithm). This one number is all that a rate limit costs an idle viewer, so the [`Rate`] is an
/// argument.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    full_at_ns: u64,
}

impl TokenBucket {
    /// A full bucket.
    pub const fn new() -> Self {
        Self { full_at_ns: 0 }
    }

    /// Takes `n` tokens at the monotonic time `now`, or none.
    ///
    /// # Errors
    ///
    /// [`RateRefusal`] with the time to wait, or with the burst when `n` is above it.
    pub fn try_take(&mut self, rate: Rate, now: Duration, n: u32) -> Result<(), RateRefusal> {
        if n > rate.burst {
            return Err(RateRefusal::OverBurst { burst: rate.burst });
        }
        let now_ns = nanos(now);
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(rate.cost_ns(n));
        let empty_ns = rate.cost_ns(rate.burst);
        match (full_at_ns - now_ns).checked_sub(empty_ns) {
            None | Some(0) => {
                self.full_at_ns = full_at_ns;
                Ok(())
            }
            Some(missing_ns) => Err(RateRefusal::RetryAfter(Duration::from_nanos(missing_ns))),
        }
    }

    /// Whether the bucket is full at `now`, and so no different from a new one.
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at_ns <= nanos(now)
    }
}

/// A [`TokenBucket`] shared without a lock.
#[derive(Debug, Default)]
pub struct SharedBucket {
    full_at_ns: AtomicU64,
}

impl SharedBucket {
    /// A full bucket.
    pub const fn new() -> Self {
        Self {
            full_at_ns: AtomicU64::new(0),
        }
    }

    /// Takes `n` tokens at the monotonic time `now`, or none.
    ///
    /// # Errors
    ///
    /// See [`TokenBucket::try_take`].
    pub fn try_take(&self, rate: Rate, now: Duration, n: u32) -> Result<(), RateRefusal> {
        let mut full_at_ns = self.full_at_ns.load(Ordering::Relaxed);
        loop {
            let mut bucket = TokenBucket { full_at_ns };
            bucket.try_take(rate, now, n)?;
            // The number is all there is, so nothing has to be ordered around it.
            match self.full_at_ns.compare_exchange_weak(
                full_at_ns,
                bucket.full_at_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(other) => full_at_ns = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: f64, burst: u32) -> Rate {
        Rate::new(per_second, burst).unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_passes_then_one_each_interval() {
        let rate = rate(2.0, 3);
        let mut bucket = TokenBucket::new();
        for _ in 0..3 {
            assert_eq!(bucket.try_take(rate, ms(10_000), 1), Ok(()));
        }
        assert_eq!(
            bucket.try_take(rate, ms(10_000), 1),
            Err(RateRefusal::RetryAfter(ms(500)))
        );
        assert_eq!(
            bucket.try_take(rate, ms(10_499), 1),
            Err(RateRefusal::RetryAfter(ms(1)))
        );
        assert_eq!(bucket.try_take(rate, ms(10_500), 1), Ok(()));
        assert_eq!(
            bucket.try_take(rate, ms(10_500), 1),
            Err(RateRefusal::RetryAfter(ms(500)))
        );
    }

    #[test]
    fn many_who_take_at_once_get_no_more_than_the_burst() {
        let rate = rate(1.0, 1_000);
        let bucket = SharedBucket::new();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while bucket.try_take(rate, ms(0), 1).is_ok() {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1_000);
        assert_eq!(bucket.try_take(rate, ms(1_000), 1), Ok(()));
    }

    #[test]
    fn a_pause_refills_no_more_than_the_burst() {
        let rate = rate(10.0, 2);
        let mut bucket = TokenBucket::new();
        assert_eq!(bucket.try_take(rate, ms(0), 2), Ok(()));
        assert!(!bucket.is_full(ms(199)));
        assert!(bucket.is_full(ms(200)));
        assert_eq!(bucket.try_take(rate, ms(60_000), 2), Ok(()));
        assert!(bucket.try_take(rate, ms(60_000), 1).is_err());
    }

    #[test]
    fn a_refused_request_takes_nothing() {
        let rate = rate(1.0, 4);
        let mut bucket = TokenBucket::new();
        assert_eq!(bucket.try_take(rate, ms(0), 3), Ok(()));
        assert_eq!(
            bucket.try_take(rate, ms(0), 2),
            Err(RateRefusal::RetryAfter(ms(1_000)))
        );
        assert_eq!(bucket.try_take(rate, ms(0), 1), Ok(()));
    }

    #[test]
    fn more_than_the_burst_is_told_apart_from_too_early() {
        let mut bucket = TokenBucket::new();
        assert_eq!(
            bucket.try_take(rate(100.0, 5), ms(0), 6),
            Err(RateRefusal::OverBurst { burst: 5 })
        );
    }

    #[test]
    fn a_clock_that_steps_back_takes_from_the_same_bucket() {
        let rate = rate(1.0, 1);
        let mut bucket = TokenBucket::new();
        assert_eq!(bucket.try_take(rate, ms(5_000), 1), Ok(()));
        assert_eq!(
            bucket.try_take(rate, ms(4_000), 1),
            Err(RateRefusal::RetryAfter(ms(2_000)))
        );
    }

    #[test]
    fn bad_rates_are_told() {
        let check = |per_second: f64, burst: u32, error: RateError| {
            assert_eq!(
                Rate::new(per_second, burst),
                Err(error),
                "{per_second} {burst}"
            );
        };
        check(0.0, 1, RateError::PerSecond);
        check(-1.0, 1, RateError::PerSecond);
        check(f64::NAN, 1, RateError::PerSecond);
        check(f64::INFINITY, 1, RateError::PerSecond);
        check(1.0, 0, RateError::Burst);
        check(0.001, 87, RateError::FillTime);
        check(1.0, u32::MAX, RateError::FillTime);
        assert!(Rate::new(0.001, 86).is_ok());
        assert!(Rate::new(1e9, u32::MAX).is_ok());
    }

    #[test]
    fn a_bucket_is_eight_bytes() {
        assert_eq!(size_of::<TokenBucket>(), 8);
    }

    proptest! {
        /// Over any pattern of requests no more passes than the burst plus the rate times the time, and a poster who
        /// waits as long as told gets through.
        #[test]
        fn never_more_than_the_rate(
            per_second in 1u32..500,
            burst in 1u32..50,
            steps in prop::collection::vec((0u64..200, 1u32..8), 1..200),
        ) {
            let rate = rate(f64::from(per_second), burst);
            let mut bucket = TokenBucket::new();
            let (mut now, mut passed) = (ms(1_000), 0u64);
            for (pause_ms, n) in steps {
                now += ms(pause_ms);
                match bucket.try_take(rate, now, n) {
                    Ok(()) => passed += u64::from(n),
                    Err(RateRefusal::RetryAfter(wait)) => {
                        prop_assert!(bucket.try_take(rate, now + wait - Duration::from_nanos(1), n).is_err());
                        prop_assert!(bucket.clone().try_take(rate, now + wait, n).is_ok());
                    }
                    Err(RateRefusal::OverBurst { .. }) => prop_assert!(n > burst),
                }
            }
            let elapsed_s = (now - ms(1_000)).as_secs_f64();
            prop_assert!(passed as f64 <= f64::from(burst) + elapsed_s * f64::from(per_second) + 1e-3);
        }
    }
}
