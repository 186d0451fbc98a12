//! Owns the rate limits of users.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use danmaku_engine::admission::{Rate, RateRefusal, TokenBucket};

/// A bucket for each user who posted lately, whatever their connections and addresses.
#[derive(Debug)]
pub(super) struct UserBuckets {
    rate: Rate,
    slices: [Mutex<HashMap<u64, TokenBucket>>; SLICES],
}

impl UserBuckets {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            slices: Default::default(),
        }
    }

    /// Charges `count` posts to the user.
    ///
    /// # Errors
    /// [`RateRefusal`] says when to retry.
    pub(super) fn try_post(&self, user: u64, now: Duration, count: u32) -> Result<(), RateRefusal> {
        // In range, so nothing is lost.
        let index = usize::try_from(user % SLICES as u64).unwrap_or(0);
        let mut buckets = self.slices[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if buckets.len() == buckets.capacity() || buckets.len() >= USERS_PER_SLICE_MAX {
            // Before the table grows: a full bucket is like a new one.
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        if buckets.len() >= USERS_PER_SLICE_MAX && !buckets.contains_key(&user) {
            return Err(RateRefusal::RetryAfter(FULL_RETRY));
        }
        buckets
            .entry(user)
            .or_default()
            .try_take(self.rate, now, count)
    }
}

/// Slices of the table, so that posts rarely wait for each other.
const SLICES: usize = 16;

/// Users in a slice whose buckets are not full.
const USERS_PER_SLICE_MAX: usize = 1 << 16;

/// When to retry while the table is full.
const FULL_RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_bucket_until_it_is_full_again() {
        let buckets = UserBuckets::new(Rate::new(1.0, 2).unwrap());
        let at = Duration::from_secs;
        for user in 0..100_000 {
            buckets.try_post(user, at(0), 2).unwrap();
        }
        let refused = buckets.try_post(7, at(0), 1);
        assert_eq!(refused, Err(RateRefusal::RetryAfter(at(1))));
        buckets.try_post(7, at(1), 1).unwrap();
        for user in 100_000..300_000 {
            buckets.try_post(user, at(10), 1).unwrap();
        }
        let held: usize = buckets
            .slices
            .iter()
            .map(|it| it.lock().unwrap().len())
            .sum();
        assert!(held <= 300_000 - 90_000, "{held}");
    }
}
