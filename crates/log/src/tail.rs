//! Follows one room's log.

use std::sync::Arc;
use std::time::Duration;

use danmaku_wire::Seq;
use tokio::time::{Instant, timeout_at};

use crate::entry::Entry;
use crate::feed::Feed;
use crate::ring::Taken;
use crate::store::RoomStore;

/// Follows one room's log. The room's actor holds the only tail.
///
/// Entries that the feed skipped or the ring dropped are read from the store
/// before anything later: entries come in order, each once.
#[derive(Debug)]
pub struct Tail {
    feed: Arc<Feed>,
    store: RoomStore,
    /// Where the ring ended when a committed entry was first missed, and when to
    /// stop waiting for it.
    late: Option<(Seq, Instant)>,
}

/// What a tail found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Tailed {
    /// Entries, appended to `out`.
    Entries,
    /// Nothing for now.
    Nothing,
    /// Everything up to here that was not yet read is gone. Nothing was appended
    /// to `out`; the tail continues after it.
    Lost {
        /// The last lost position.
        through: Seq,
    },
    /// The room began a new epoch: this tail yields nothing more, and the room
    /// has to be reopened.
    NewEpoch,
}

impl Tail {
    pub(crate) fn new(feed: Arc<Feed>, store: RoomStore) -> Self {
        Self {
            feed,
            store,
            late: None,
        }
    }

    /// Waits until there is something and appends up to `max` entries to
    /// `out`. Never returns [`Tailed::Nothing`]. Retries a store that does not
    /// answer. Dropping the future loses nothing.
    pub async fn next(&mut self, out: &mut Vec<Entry>, max: usize) -> Tailed {
        loop {
            match self.step(out, max).await {
                Step::Found(tailed) => return tailed,
                Step::Wait => self.feed.more().await,
                Step::WaitUntil(at) => {
                    // Whichever comes first: the next step sees which.
                    let _elapsed = Box::pin(timeout_at(at, self.feed.more())).await;
                }
            }
        }
    }

    /// Reads what is there now. Does not wait for new entries, only for the
    /// store when the tail is behind the ring. Dropping the future loses nothing.
    pub async fn drain(&mut self, out: &mut Vec<Entry>, max: usize) -> Tailed {
        match self.step(out, max).await {
            Step::Found(tailed) => tailed,
            Step::Wait | Step::WaitUntil(_) => Tailed::Nothing,
        }
    }

    /// Waits until the tail has reached half its allowed lag, so that a room that
    /// reads at its ticks can read earlier. It may wake once too often.
    pub async fn crowded(&self) {
        self.feed.crowded().await;
    }

    async fn step(&mut self, out: &mut Vec<Entry>, max: usize) -> Step {
        loop {
            let taken = self.feed.drain(out, max);
            if taken == Taken::Entries {
                return Step::Found(Tailed::Entries);
            }
            if self.feed.has_ended() {
                return Step::Found(Tailed::NewEpoch);
            }
            match taken {
                Taken::Entries | Taken::Nothing => return Step::Wait,
                Taken::Behind | Taken::Skipped => {}
                Taken::Late { head } => {
                    let until = self.late_until(head);
                    if Instant::now() < until {
                        return Step::WaitUntil(until);
                    }
                }
            }
            // A read either advances the tail or ends the loop.
            if let Some(step) = Box::pin(self.read(out, max)).await {
                return step;
            }
        }
    }

    /// When to stop waiting for the entry that is missing after `head`.
    fn late_until(&mut self, head: Seq) -> Instant {
        match self.late {
            Some((at, until)) if at == head => until,
            _ => {
                let until = Instant::now() + FEED_LATE_MAX;
                self.late = Some((head, until));
                until
            }
        }
    }

    /// Continues from the store. `None` when the tail advanced, but only over
    /// holes and retracted comments.
    async fn read(&mut self, out: &mut Vec<Entry>, max: usize) -> Option<Step> {
        let (since, ring_after) = {
            let ring = self.feed.ring();
            (ring.taken(), ring.after())
        };
        if matches!(self.store, RoomStore::None) {
            return Some(self.lose(ring_after));
        }
        let Ok(page) = self.store.read_after(since, max).await else {
            return Some(Step::WaitUntil(Instant::now() + STORE_RETRY));
        };
        if page.after > since {
            return Some(self.lose(page.after));
        }
        self.late = None;
        self.feed.fill(&page);
        if !page.entries.is_empty() {
            out.extend(page.entries);
            Some(Step::Found(Tailed::Entries))
        } else if page.seq > since {
            None
        } else {
            Some(Step::WaitUntil(Instant::now() + STORE_RETRY))
        }
    }

    fn lose(&self, through: Seq) -> Step {
        self.feed.ring().set_taken(through);
        Step::Found(Tailed::Lost { through })
    }
}

/// The result of one look at the ring, and at the store if needed.
enum Step {
    Found(Tailed),
    Wait,
    WaitUntil(Instant),
}

/// How long a committed entry may take from the store to the ring before it is
/// read from the store.
const FEED_LATE_MAX: Duration = Duration::from_millis(250);

/// Delay between tries of a store that does not answer.
const STORE_RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use danmaku_wire::Epoch;

    use super::*;
    use crate::double::{Double, DoubleConfig};
    use crate::fixture::{comments, config, ids, keyed, memory, over, room_id};
    use crate::{AppendError, LogConfig};

    async fn drain(tail: &mut Tail) -> (Tailed, Vec<u64>) {
        let mut out = Vec::new();
        let tailed = tail.drain(&mut out, 2).await;
        (tailed, ids(&out))
    }

    async fn next(tail: &mut Tail) -> (Tailed, Vec<u64>) {
        let mut out = Vec::new();
        let tailed = tail.next(&mut out, 2).await;
        (tailed, ids(&out))
    }

    #[tokio::test]
    async fn a_tail_that_is_half_way_to_its_bound_is_told() {
        let log = memory(LogConfig {
            tail_lag_max: 4,
            ..config(10)
        })
        .await;
        let tail = log.tail_after(Seq::ZERO);
        log.append(comments(&["1"])).await.unwrap();
        tokio::select! {
            biased;
            () = tail.crowded() => panic!("one of four is not half"),
            () = std::future::ready(()) => {}
        }
        log.append(comments(&["2"])).await.unwrap();
        tail.crowded().await;
    }

    #[tokio::test]
    async fn a_waiting_tail_wakes_and_a_dropped_wait_loses_nothing() {
        let log = memory(config(10)).await;
        let mut tail = log.tail_after(Seq::ZERO);
        tokio::select! {
            biased;
            _ = next(&mut tail) => panic!("nothing was appended"),
            () = std::future::ready(()) => {}
        }
        let appender = log.clone();
        let task = tokio::spawn(async move { appender.append(comments(&["a", "b"])).await });
        assert_eq!(next(&mut tail).await, (Tailed::Entries, vec![1, 2]));
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_tail_starts_after_a_position() {
        let log = memory(config(2)).await;
        let mut tail = log.tail_after(Seq::ZERO);
        log.append(comments(&["1", "2", "3"])).await.unwrap();
        assert_eq!(drain(&mut tail).await.1, [1, 2]);
        let mut tail = log.tail_after(Seq::new(2));
        assert_eq!(drain(&mut tail).await, (Tailed::Entries, vec![3]));
        assert_eq!(drain(&mut tail).await, (Tailed::Nothing, vec![]));
        // Before the ring, and there is nothing else.
        let mut tail = log.tail_after(Seq::ZERO);
        let through = Seq::new(1);
        assert_eq!(drain(&mut tail).await, (Tailed::Lost { through }, vec![]));
        assert_eq!(drain(&mut tail).await, (Tailed::Entries, vec![2, 3]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_full_ring_dropped_comes_from_the_store() {
        let double = Double::new(DoubleConfig::calm(1));
        let log = over(&double, config(3)).await;
        let mut tail = log.tail_after(Seq::ZERO);
        for text in ["1", "2", "3", "4", "5", "6", "7"] {
            log.append(comments(&[text])).await.unwrap();
        }
        assert_eq!(drain(&mut tail).await, (Tailed::Entries, vec![1, 2]));
        double.fail();
        assert_eq!(drain(&mut tail).await, (Tailed::Nothing, vec![]));
        let waiting = tokio::time::timeout(Duration::from_secs(3), next(&mut tail)).await;
        assert!(waiting.is_err());
        double.recover();
        assert_eq!(next(&mut tail).await, (Tailed::Entries, vec![3, 4]));
        // Four is in the ring by now: the rest needs no store.
        double.fail();
        assert_eq!(next(&mut tail).await, (Tailed::Entries, vec![5, 6]));
        assert_eq!(next(&mut tail).await, (Tailed::Entries, vec![7]));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_store_no_longer_has_is_lost() {
        let double = Double::new(DoubleConfig::calm(1));
        let log = over(&double, config(2)).await;
        let mut tail = log.tail_after(Seq::ZERO);
        for text in ["1", "2", "3", "4", "5", "6"] {
            log.append(comments(&[text])).await.unwrap();
        }
        double.drop_through(&room_id(), Seq::new(3));
        let through = Seq::new(3);
        assert_eq!(drain(&mut tail).await, (Tailed::Lost { through }, vec![]));
        assert_eq!(drain(&mut tail).await, (Tailed::Entries, vec![4, 5]));
        assert_eq!(drain(&mut tail).await, (Tailed::Entries, vec![6]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_feed_loses_is_read_from_the_store() {
        let double = Double::new(DoubleConfig {
            unfed_permille: 1_000,
            ..DoubleConfig::calm(1)
        });
        let log = over(&double, config(10)).await;
        let other = over(&double, config(10)).await;
        let mut tail = log.tail_after(Seq::ZERO);
        let started = Instant::now();
        // Its poster's node knows at once that it is missing,
        log.append(comments(&["1"])).await.unwrap();
        assert_eq!(drain(&mut tail).await, (Tailed::Nothing, vec![]));
        assert_eq!(next(&mut tail).await, (Tailed::Entries, vec![1]));
        assert_eq!(started.elapsed(), FEED_LATE_MAX);
        // and the other one hears of it.
        other.append(comments(&["2"])).await.unwrap();
        assert_eq!(next(&mut tail).await, (Tailed::Entries, vec![2]));
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_epoch_ends_the_tail_after_what_came_before() {
        let double = Double::new(DoubleConfig::calm(1));
        let log = over(&double, config(10)).await;
        let mut tail = log.tail_after(Seq::ZERO);
        log.append(keyed("1", "k")).await.unwrap();
        double.begin_epoch(&room_id(), Epoch::new(8));
        assert_eq!(next(&mut tail).await, (Tailed::Entries, vec![1]));
        assert_eq!(next(&mut tail).await, (Tailed::NewEpoch, vec![]));
        assert_eq!(drain(&mut tail).await, (Tailed::NewEpoch, vec![]));
        let refused = log.append(comments(&["2"])).await;
        assert_eq!(refused, Err(AppendError::Unavailable));

        let log = over(&double, config(10)).await;
        assert_eq!((log.epoch(), log.head()), (Epoch::new(8), Seq::ZERO));
        assert_eq!(
            log.append(keyed("1", "k")).await.unwrap().epoch,
            log.epoch()
        );
    }
}
