//! The time, as the caller read it.

use std::time::Duration;

/// One reading of the caller's two clocks. Nothing in this crate reads a clock itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Time since an arbitrary origin, the same for all calls; never runs backwards. Decides when something is due.
    pub monotonic: Duration,
    /// Milliseconds since 1970 UTC. Only written into batches.
    pub unix_ms: u64,
}

/// A `Duration` as nanoseconds; 2^64 of them are 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
