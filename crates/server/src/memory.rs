//! Owns the memory budget of all rooms: what their rings of frames and their logs hold for returning viewers.
//!
//! Each room reports what it holds once per frame. Over the budget, the least recently active rooms are asked to forget
//! their oldest data, so that a flood of rooms cannot take memory from busy ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The limit for all rooms together, and what they hold.
#[derive(Debug)]
pub struct MemoryBudget {
    bytes_max: usize,
    held: AtomicUsize,
    over: Notify,
}

/// Something that holds memory.
#[derive(Debug)]
pub struct Holder<T> {
    /// When it was last active, in milliseconds.
    pub active_ms: u64,
    /// What it holds, in bytes.
    pub held: usize,
    /// Its owner.
    pub who: T,
}

impl MemoryBudget {
    /// An unused budget.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            held: AtomicUsize::new(0),
            over: Notify::new(),
        }
    }

    /// Bytes that all rooms hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Notes that a holder of `before` bytes now holds `after`.
    pub fn recharge(&self, before: usize, after: usize) {
        // Both sums wrap, so that the order in which two rooms are counted does not matter.
        let change = after.wrapping_sub(before);
        let held = self.held.fetch_add(change, Ordering::Relaxed);
        if after > before && held.wrapping_add(change) > self.bytes_max {
            self.over.notify_one();
        }
    }

    /// Waits until the budget may be exceeded.
    pub async fn over(&self) {
        self.over.notified().await;
    }

    /// Bytes to free when the budget is exceeded: an eighth more than needed, so that it is not exceeded again right
    /// away.
    #[must_use]
    pub fn excess(&self) -> Option<usize> {
        let held = self.held();
        (held > self.bytes_max).then(|| held - (self.bytes_max - self.bytes_max / 8))
    }
}

/// Who should free how much to get `bytes`: the least recently active first, each all it holds.
#[must_use]
pub fn least_active<T>(mut holders: Vec<Holder<T>>, bytes: usize) -> Vec<(T, usize)> {
    holders.retain(|holder| holder.held > 0);
    holders.sort_unstable_by_key(|holder| holder.active_ms);
    let mut left = bytes;
    let mut asked = Vec::new();
    for Holder { held, who, .. } in holders {
        if left == 0 {
            break;
        }
        let share = held.min(left);
        left -= share;
        asked.push((who, share));
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_active_free_all_and_the_last_one_the_remainder() {
        fn check(bytes: usize, expected: &[(char, usize)]) {
            let holder = |who, active_ms, held| Holder {
                active_ms,
                held,
                who,
            };
            let holders = vec![
                holder('b', 20, 5),
                holder('c', 30, 7),
                holder('a', 10, 3),
                holder('-', 0, 0),
            ];
            assert_eq!(least_active(holders, bytes), expected);
        }
        check(0, &[]);
        check(2, &[('a', 2)]);
        check(4, &[('a', 3), ('b', 1)]);
        check(99, &[('a', 3), ('b', 5), ('c', 7)]);
    }

    #[tokio::test]
    async fn over_the_budget_an_eighth_more_than_needed_is_freed() {
        let budget = MemoryBudget::new(800);
        budget.recharge(0, 700);
        budget.recharge(0, 100);
        assert_eq!((budget.held(), budget.excess()), (800, None));
        budget.recharge(100, 150);
        assert_eq!(budget.excess(), Some(150));
        budget.over().await;
        budget.recharge(700, 0);
        assert_eq!((budget.held(), budget.excess()), (150, None));
    }
}
