//! Shared criteria of all auditors: the rooms' window, what counts as late, and when viewers stall.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::latency::Stage;
use crate::timeline::Recorder;

/// The shared criteria.
#[derive(Debug)]
pub struct Judge {
    pub(super) clock: Clock,
    recorder: Arc<Recorder>,
    late_micros: u64,
    window_micros: AtomicU64,
    stall_micros: AtomicU64,
}

impl Judge {
    /// Deliveries later than `late` beyond the window count as late.
    #[must_use]
    pub fn new(clock: Clock, late: Duration) -> Self {
        let late_micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        Self {
            clock,
            recorder: Arc::default(),
            late_micros,
            window_micros: AtomicU64::new(0),
            stall_micros: AtomicU64::new(u64::MAX),
        }
    }

    /// Sets the rooms' window as reported by the server. Returns whether it agrees with earlier reports.
    pub fn set_window_ms(&self, window_ms: u64) -> bool {
        let window_micros = window_ms.saturating_mul(1000);
        let known = self.window_micros.swap(window_micros, Ordering::Relaxed);
        known == 0 || known == window_micros
    }

    /// Comments scheduled from this moment on belong to the stage in which viewers stall.
    pub fn set_stall(&self, from: Moment) {
        self.stall_micros.store(from.micros(), Ordering::Relaxed);
    }

    /// The rooms' window in microseconds.
    #[must_use]
    pub fn window_micros(&self) -> u64 {
        self.window_micros.load(Ordering::Relaxed)
    }

    /// The stage of a moment.
    #[must_use]
    pub fn stage(&self, moment: Moment) -> Stage {
        if moment.micros() < self.stall_micros.load(Ordering::Relaxed) {
            Stage::Calm
        } else {
            Stage::Stalled
        }
    }

    /// Where the seconds of the run are recorded.
    #[must_use]
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    pub(super) fn late_micros(&self) -> u64 {
        self.late_micros
    }
}
