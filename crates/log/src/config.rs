//! Bounds of a log.

/// Bounds of a log, per room.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// Entries kept in memory for later reads.
    pub entries_max: usize,
    /// Bytes of entries kept in memory for later reads.
    pub bytes_max: usize,
    /// Entries the room may lag behind before appends are refused.
    pub tail_lag_max: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            entries_max: 10_000,
            bytes_max: 4 << 20,
            tail_lag_max: 8_192,
        }
    }
}
