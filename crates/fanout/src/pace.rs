//! How often a shard's thread is woken: messages that come often are gathered.

use std::time::Duration;

/// Whether messages wake a thread so often that it had better let some gather.
///
/// To wake a sleeping thread costs its waker a system call, and the thread another one and a change of context: more
/// than the write to a viewer that a frame of a small room is for. A thread that sleeps for a fixed time is woken by
/// nobody.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    woken_at: Duration,
    often: bool,
}

impl Pace {
    /// Notes that there was a message when the thread had slept.
    pub(crate) fn woken(&mut self, now: Duration) {
        self.often = now.saturating_sub(self.woken_at) <= OFTEN;
        self.woken_at = now;
    }

    /// Notes that nothing had come when a pause was over.
    pub(crate) fn calm(&mut self) {
        self.often = false;
    }

    /// How long to sleep before looking for messages again; none to be woken by the next one.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.often.then_some(PAUSE)
    }
}

/// Short beside a window, and long beside what it costs to wake: two cores with 5,000 rooms get five messages in it.
const PAUSE: Duration = Duration::from_millis(2);

/// Between two messages that are taken to come often.
const OFTEN: Duration = Duration::from_millis(4);

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
        pace.woken(ms(103));
        assert_eq!(pace.pause(), Some(PAUSE));
        pace.calm();
        assert_eq!(pace.pause(), None);
        pace.woken(ms(120));
        assert_eq!(pace.pause(), None, "rare again");
    }
}
