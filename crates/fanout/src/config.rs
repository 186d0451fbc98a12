//! The bounds of the shards, in one place.

use std::num::NonZeroUsize;
use std::time::Duration;

/// What the shards run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanoutConfig {
    /// Shard threads.
    pub shards: NonZeroUsize,
    /// Messages that fit in a shard's inbox, which is allocated up front.
    pub inbox_len: usize,
    /// Viewers written to in one go. A larger delivery is cut into slices, and the shard does other work in between.
    pub slice_viewers_max: NonZeroUsize,
    /// Bytes of frames that wait for one slow viewer before the oldest are skipped. A partly written frame is not
    /// counted: it can no longer be skipped.
    pub outbox_bytes_max: usize,
    /// How long a frame waits for a slow viewer before it is skipped.
    pub outbox_age_max: Duration,
    /// Bytes of unskippable messages that wait for one viewer before it is evicted.
    pub control_bytes_max: usize,
    /// How long a viewer's outbox may stay non-empty before the viewer is evicted.
    pub evict_after: Duration,
    /// How often each viewer is checked, and pinged if it was silent since.
    pub ping_interval: Duration,
    /// How long a viewer may be silent.
    pub idle_deadline: Duration,
    /// How long a closing viewer may take, before its connection is reset.
    pub close_deadline: Duration,
}

impl Default for FanoutConfig {
    fn default() -> Self {
        Self {
            shards: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            inbox_len: 4_096,
            slice_viewers_max: SLICE_VIEWERS_MAX,
            outbox_bytes_max: 256 << 10,
            outbox_age_max: Duration::from_secs(5),
            control_bytes_max: 64 << 10,
            evict_after: Duration::from_secs(15),
            ping_interval: Duration::from_secs(55),
            idle_deadline: Duration::from_secs(120),
            close_deadline: Duration::from_secs(2),
        }
    }
}

/// Why a configuration is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An inbox that holds nothing.
    #[error("inbox_len must not be 0")]
    InboxLen,
    /// Viewers would be checked without a pause.
    #[error("ping_interval must be at least {PING_INTERVAL_MIN:?}")]
    PingInterval,
    /// A viewer would be closed before it was ever pinged.
    #[error("idle_deadline must be longer than ping_interval")]
    IdleDeadline,
    /// More shards than a connection's id has room for.
    #[error("shards must be at most {SHARDS_MAX}")]
    Shards,
}

impl FanoutConfig {
    /// Checks the bounds against each other.
    ///
    /// # Errors
    /// [`ConfigError`] names the invalid one.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.inbox_len == 0 {
            return Err(ConfigError::InboxLen);
        }
        if self.shards.get() > SHARDS_MAX {
            return Err(ConfigError::Shards);
        }
        if self.ping_interval < PING_INTERVAL_MIN {
            return Err(ConfigError::PingInterval);
        }
        if self.idle_deadline <= self.ping_interval {
            return Err(ConfigError::IdleDeadline);
        }
        Ok(())
    }
}

/// About 8 ms of writes.
const SLICE_VIEWERS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("it is not 0");

/// Threads beyond this are a mistake in a flag.
pub(crate) const SHARDS_MAX: usize = 4_096;

/// Below this, checking all viewers would be most of a shard's work.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked_against_each_other() {
        fn check(change: impl FnOnce(&mut FanoutConfig), expected: Result<(), ConfigError>) {
            let mut config = FanoutConfig::default();
            change(&mut config);
            assert_eq!(config.check(), expected);
        }
        check(|_| {}, Ok(()));
        check(|it| it.inbox_len = 0, Err(ConfigError::InboxLen));
        check(|it| it.shards = NonZeroUsize::MAX, Err(ConfigError::Shards));
        check(
            |it| it.ping_interval = Duration::ZERO,
            Err(ConfigError::PingInterval),
        );
        check(
            |it| it.idle_deadline = it.ping_interval,
            Err(ConfigError::IdleDeadline),
        );
    }
}
