//! How often a shard's thread is woken: frequent messages are gathered.

use std::time::Duration;

/// Whether messages wake a thread so often that it should let some gather.
///
/// Waking a thread costs the waker a system call, and the thread another one and a context switch: more than writing a
/// small room's frame to a viewer. A thread that sleeps for a fixed time needs no waking.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    woken_at: Duration,
    often: bool,
}

impl Pace {
    /// Records that a message was there after a sleep.
    pub(crate) fn woken(&mut self, now: Duration) {
        self.often = now.saturating_sub(self.woken_at) <= OFTEN;
        self.woken_at = now;
    }

    /// Records that nothing came during a pause.
    pub(crate) fn calm(&mut self) {
        self.often = false;
    }

    /// How long to sleep before looking for messages again; `None` to be woken by the next one.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.often.then_some(PAUSE)
    }
}

/// Short compared to a window, long compared to a wake-up: two cores with 5,000 rooms get twenty messages in it.
const PAUSE: Duration = Duration::from_millis(8);

/// Messages closer together than this are frequent.
const OFTEN: Duration = Duration::from_millis(16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_that_come_often_wait_for_each_other() {
        let ms = Duration::from_millis;
        let mut pace = Pace::default();
        assert_eq!(pace.pause(), None);
        pace.woken(ms(100));
        assert_eq!(pace.pause(), None, "one alone");
        pace.woken(ms(101));
        assert_eq!(pace.pause(), Some(PAUSE));
        // Slept for the pause, and something was there again.
        pace.woken(ms(109));
        assert_eq!(pace.pause(), Some(PAUSE));
        pace.calm();
        assert_eq!(pace.pause(), None);
        pace.woken(ms(140));
        assert_eq!(pace.pause(), None, "rare again");
    }
}
