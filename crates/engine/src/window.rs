//! When a room's windows end.
//!
//! Every room has a *phase*: it ticks at `k * window + phase`, so that the ticks of many rooms spread evenly over the
//! window. See [`Flush`] for how a room uses it.

use std::time::Duration;

use danmaku_wire::RoomId;

use crate::now::nanos;
use crate::random::{mix, scale};

/// When the window of a room ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flush {
    /// The first comment after a quiet window goes out at once; after that, one frame per window. Each window lasts up
    /// to a twentieth longer than configured until the room reaches its phase.
    #[default]
    Leading,
    /// Windows end at the room's phase, and only then.
    Fixed,
}

/// The phase of `room`: the same on every node, and evenly spread across rooms.
pub fn phase(room: &RoomId, window: Duration) -> Duration {
    // FNV-1a; its upper bits are weak for short ids, so they are mixed once more.
    let hash = room
        .as_str()
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
    Duration::from_nanos(scale(mix(hash), nanos(window)))
}

/// The windows of one room: decides when pending comments are due.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    window: Duration,
    phase: Duration,
    /// No frame is due before this time, when the last one's window ends.
    open_at: Duration,
    /// Whether the last frame was sealed at the end of a window, rather than at once.
    steady: bool,
    flush: Flush,
}

impl Windows {
    pub(crate) fn new(window: Duration, flush: Flush, phase: Duration) -> Self {
        assert!(!window.is_zero(), "a window takes time");
        Self {
            window,
            phase: remainder(phase, window),
            open_at: Duration::ZERO,
            steady: false,
            flush,
        }
    }

    /// When something that became pending at `since` is due.
    pub(crate) fn due(&self, since: Duration) -> Duration {
        let from = since.max(self.open_at);
        match self.flush {
            Flush::Leading => from,
            Flush::Fixed => from + self.to_phase(from),
        }
    }

    /// Ends the window that was `due`, at `now`.
    pub(crate) fn end(&mut self, due: Duration, now: Duration) {
        self.steady = due <= self.open_at;
        self.open_at = match self.flush {
            Flush::Leading => {
                // Timers fire a little late. Measuring from the due time keeps the delay from adding up and pushing
                // the room off its phase. A room that ran too late starts afresh, so that its frames do not bunch.
                let late = now.saturating_sub(due);
                let next = if late <= self.slack() { due } else { now } + self.window;
                next + self.to_phase(next).min(self.slack())
            }
            // The next tick, or the one after it when this frame was so late that two would bunch.
            Flush::Fixed => now + self.window / 2,
        };
    }

    /// The end of the window after the last frame, if that frame ended one too.
    pub(crate) fn awaited_end(&self) -> Option<Duration> {
        self.steady.then_some(self.open_at)
    }

    /// How far a window may move to spread the load: too little for anyone to notice.
    fn slack(&self) -> Duration {
        self.window / 20
    }

    /// From `at` to the room's next tick; zero when `at` is one.
    fn to_phase(&self, at: Duration) -> Duration {
        let past = remainder(at, self.window);
        if past <= self.phase {
            self.phase - past
        } else {
            self.phase + self.window - past
        }
    }
}

fn remainder(at: Duration, window: Duration) -> Duration {
    Duration::from_nanos(nanos(at) % nanos(window))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_millis(1_000);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn windows(flush: Flush, phase_ms: u64) -> Windows {
        Windows::new(WINDOW, flush, ms(phase_ms))
    }

    #[test]
    fn the_first_after_a_quiet_window_is_due_at_once() {
        let mut windows = windows(Flush::Leading, 300);
        assert_eq!(windows.due(ms(5_123)), ms(5_123));
        windows.end(ms(5_123), ms(5_123));
        assert_eq!(windows.due(ms(9_000)), ms(9_000));
    }

    #[test]
    fn a_busy_room_reaches_its_phase_within_twenty_windows_and_stays() {
        let mut windows = windows(Flush::Leading, 300);
        let mut due = windows.due(ms(5_310));
        for n in 0..20 {
            windows.end(due, due);
            let next = windows.due(due);
            assert!(
                (WINDOW..=WINDOW + ms(50)).contains(&(next - due)),
                "window {n} lasts {:?}",
                next - due
            );
            due = next;
        }
        for _ in 0..5 {
            assert_eq!(remainder(due, WINDOW), ms(300));
            // Late by some milliseconds, as timers are.
            windows.end(due, due + ms(7));
            due = windows.due(due);
        }
    }

    #[test]
    fn fixed_windows_end_at_the_phase_only() {
        let mut windows = windows(Flush::Fixed, 300);
        assert_eq!(windows.due(ms(5_100)), ms(5_300));
        assert_eq!(windows.due(ms(5_300)), ms(5_300));
        assert_eq!(windows.due(ms(5_301)), ms(6_300));
        windows.end(ms(5_300), ms(5_302));
        assert_eq!(windows.due(ms(5_300)), ms(6_300));
        assert_eq!(windows.due(ms(5_400)), ms(6_300));
    }

    #[test]
    fn a_room_that_could_not_run_in_time_does_not_bunch_its_frames() {
        let check = |flush: Flush, late_ms: u64, next_ms: u64| {
            let mut windows = windows(flush, 300);
            let due = windows.due(ms(5_300));
            windows.end(due, due + ms(late_ms));
            assert_eq!(
                windows.due(due + ms(late_ms)),
                ms(next_ms),
                "{flush:?} {late_ms}"
            );
        };
        check(Flush::Leading, 50, 6_300);
        check(Flush::Leading, 60, 6_410);
        check(Flush::Leading, 990, 7_300);
        check(Flush::Fixed, 60, 6_300);
        check(Flush::Fixed, 500, 6_300);
        check(Flush::Fixed, 501, 7_300);
    }

    #[test]
    fn phases_are_in_the_window_and_spread() {
        let mut tenths = [0u32; 10];
        for n in 0..10_000 {
            let room = RoomId::parse(&format!("room-{n}")).unwrap();
            let phase = phase(&room, WINDOW);
            assert!(phase < WINDOW);
            tenths[usize::try_from(phase.as_millis() / 100).unwrap()] += 1;
        }
        assert!(
            tenths.iter().all(|&n| (850..1_150).contains(&n)),
            "{tenths:?}"
        );
    }

    proptest! {
        /// Whatever comes and however late the caller is: a run of n frames takes n - 1 windows, but for the lateness
        /// of the first, and nothing waits longer than it may.
        #[test]
        fn at_most_one_frame_per_window(
            leading: bool,
            phase_ms in 0u64..1_000,
            steps in prop::collection::vec((0u64..3_000, 0u64..60), 1..100),
        ) {
            let (flush, wait_max) =
                if leading { (Flush::Leading, WINDOW + WINDOW / 20) } else { (Flush::Fixed, WINDOW) };
            let mut windows = windows(flush, phase_ms);
            let (mut sealed, mut now) = (Vec::new(), ms(10_000));
            for (quiet_ms, late_ms) in steps {
                // Often 0: the next comment comes right after the frame.
                let since = now + ms(quiet_ms.saturating_sub(1_500));
                let due = windows.due(since);
                prop_assert!(due >= since && due - since <= wait_max, "waits {:?}", due - since);
                now = due + ms(late_ms);
                windows.end(due, now);
                sealed.push(now);
            }
            for (from, &first) in sealed.iter().enumerate() {
                for (n, &last) in sealed[from..].iter().enumerate() {
                    prop_assert!(last - first + ms(60) >= WINDOW * u32::try_from(n).unwrap());
                }
            }
        }
    }
}
