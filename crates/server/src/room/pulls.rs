//! Owns the count of viewers who pull segments instead of holding a connection: an estimate from their requests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The pull viewers of one room. Each asks for each segment once, so the requests of the last few segments, divided by the
/// number of segments, are the viewers. Behind a cache it is the cache that is counted.
#[derive(Debug)]
pub struct Pulls {
    segment_ms: u32,
    // Held for a few instructions per request, never while a frame is delivered.
    window: Mutex<Window>,
}

/// Requests in the current stretch of [`WINDOW_SEGMENTS`] segments, and in the one before.
#[derive(Debug, Default)]
struct Window {
    current: u32,
    previous: u32,
    /// The latest request, in milliseconds of monotonic time; 0 when there was none.
    asked_ms: u64,
}

impl Pulls {
    /// Nobody pulls yet. Segments are `segment_ms` long.
    #[must_use]
    pub fn new(segment_ms: u32) -> Self {
        Self {
            segment_ms,
            window: Mutex::default(),
        }
    }

    /// Somebody asked for a segment, or where the newest one is.
    pub fn asked(&self, now: Duration) {
        let _asked = self.window(now);
    }

    /// Somebody got a recent segment.
    pub fn served(&self, now: Duration) {
        let mut window = self.window(now);
        window.current = window.current.saturating_add(1);
    }

    /// How many viewers pull.
    #[must_use]
    pub fn viewers(&self, now: Duration) -> u32 {
        let window = self.lock();
        let now_ms = millis(now);
        let (current, previous) = window.at(now_ms, self.window_ms());
        if current == 0 && previous == 0 {
            return 0;
        }
        // The share of the previous stretch that the last `window_ms` still cover.
        let passed_ms = now_ms % self.window_ms();
        let previous = u64::from(previous) * (self.window_ms() - passed_ms);
        let requests_ms = previous + u64::from(current) * self.window_ms();
        let per_viewer_ms = WINDOW_SEGMENTS * self.window_ms();
        let viewers = (requests_ms + per_viewer_ms / 2) / per_viewer_ms;
        u32::try_from(viewers.max(1)).unwrap_or(u32::MAX)
    }

    /// Whether somebody asked so recently that they may ask again.
    #[must_use]
    pub fn is_used(&self, now: Duration) -> bool {
        let asked_ms = self.lock().asked_ms;
        asked_ms > 0 && millis(now) < asked_ms + self.window_ms()
    }

    fn window_ms(&self) -> u64 {
        u64::from(self.segment_ms) * WINDOW_SEGMENTS
    }

    /// The window moved on to a request at `now`.
    fn window(&self, now: Duration) -> MutexGuard<'_, Window> {
        let now_ms = millis(now);
        let mut window = self.lock();
        let (current, previous) = window.at(now_ms, self.window_ms());
        *window = Window {
            current,
            previous,
            asked_ms: now_ms.max(window.asked_ms),
        };
        window
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// The counts as of `now_ms`: of the current stretch, and of the previous one.
    fn at(&self, now_ms: u64, window_ms: u64) -> (u32, u32) {
        let moved = (now_ms / window_ms).saturating_sub(self.asked_ms / window_ms);
        match moved {
            0 => (self.current, self.previous),
            1 => (0, self.current),
            _ => (0, 0),
        }
    }
}

/// At least 1: 0 is no time.
fn millis(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Segments over which requests are counted.
const WINDOW_SEGMENTS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT_MS: u32 = 2_000;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn viewers_are_requests_per_segment() {
        for viewers in [1_u64, 3, 1_000] {
            let pulls = Pulls::new(SEGMENT_MS);
            assert_eq!(pulls.viewers(at(0)), 0);
            for segment in 0..20 {
                for viewer in 0..viewers {
                    let ms = segment * u64::from(SEGMENT_MS) + viewer * 7 % 2_000;
                    pulls.served(at(ms));
                }
                let counted = u64::from(pulls.viewers(at((segment + 1) * 2_000 - 1)));
                if segment >= 8 {
                    assert!(
                        counted.abs_diff(viewers) * 8 <= viewers,
                        "{counted} of {viewers}"
                    );
                }
                assert!(counted > 0 && counted <= viewers.max(1) * 9 / 8);
            }
            // They leave.
            assert_eq!(pulls.viewers(at(60_000)), 0);
        }
    }

    #[test]
    fn a_question_keeps_a_room_but_is_no_viewer() {
        let pulls = Pulls::new(SEGMENT_MS);
        assert!(!pulls.is_used(at(0)));
        pulls.asked(at(0));
        assert_eq!(pulls.viewers(at(0)), 0);
        assert!(pulls.is_used(at(7_999)));
        assert!(!pulls.is_used(at(8_001)));
        pulls.served(at(9_000));
        pulls.asked(at(16_500));
        assert_eq!(pulls.viewers(at(16_500)), 1);
        assert!(pulls.is_used(at(20_000)));
        assert_eq!(pulls.viewers(at(24_000)), 0);
    }

    #[test]
    fn every_room_has_one_so_it_is_small() {
        assert!(size_of::<Pulls>() <= 32, "{}", size_of::<Pulls>());
    }
}
