//! The log of one room.

use std::sync::Arc;

use danmaku_wire::{Epoch, Seq};

use crate::entry::{Append, AppendError, Appended, Unavailable};
use crate::feed::Feed;
use crate::page::{Interval, Lookup, Page, Recent};
use crate::samples::Steps;
use crate::store::RoomStore;
use crate::tail::Tail;

/// The log of one room: a ring of its newest entries, and the store behind it.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct RoomLog {
    feed: Arc<Feed>,
    store: RoomStore,
}

impl RoomLog {
    pub(crate) fn new(feed: Arc<Feed>, store: RoomStore) -> Self {
        Self { feed, store }
    }

    /// Appends all entries, or none. They are accepted once this returns.
    ///
    /// Dropping the future does not undo an append that has reached a store.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        match &self.store {
            RoomStore::None => self.feed.append(append),
            RoomStore::Sqlite(room) => {
                self.feed.check_lag(&self.feed.ring())?;
                // The ring is fed before the answer comes.
                room.append(append).await
            }
            #[cfg(feature = "double")]
            RoomStore::Double(room) => {
                self.feed.check_lag(&self.feed.ring())?;
                let appended = room.append(append).await?;
                if let Some(&last) = appended.seqs.last() {
                    self.feed.announce(last);
                }
                Ok(appended)
            }
        }
    }

    /// Up to `limit` entries after `since`.
    ///
    /// # Errors
    /// [`Unavailable`] when the store has to be asked and does not answer.
    pub async fn read_after(&self, since: Seq, limit: usize) -> Result<Page, Unavailable> {
        let retractions = {
            let ring = self.feed.ring();
            if let Some(page) = ring.read_after(since, limit) {
                return Ok(page);
            }
            ring.retractions()
        };
        let mut page = self.store.read_after(since, limit).await?;
        self.feed.drop_retracted(&mut page.entries, retractions)?;
        Ok(page)
    }

    /// Up to `limit` entries in (`after`, `until`], the newest first. The page covers everything above its `after`, and
    /// `more` says whether there is something between that and the requested one.
    ///
    /// # Errors
    /// [`Unavailable`] when the store has to be asked and does not answer.
    pub async fn read_down(
        &self,
        until: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        let retractions = {
            let ring = self.feed.ring();
            if let Some(page) = ring.read_down(until, after, limit) {
                return Ok(page);
            }
            ring.retractions()
        };
        let mut page = self.store.read_down(until, after, limit).await?;
        self.feed.drop_retracted(&mut page.entries, retractions)?;
        Ok(page)
    }

    /// The last position before log time `at_ms`; where the log begins if there is none.
    ///
    /// # Errors
    /// [`Unavailable`] when the store has to be asked and does not answer.
    pub async fn last_before(&self, at_ms: u64) -> Result<Seq, Unavailable> {
        let found = self.feed.ring().last_before(at_ms);
        match found {
            Some(seq) => Ok(seq),
            None => self.store.last_before(at_ms).await,
        }
    }

    /// The comments of each of `steps`, retracted ones included, as far back as the log goes.
    ///
    /// # Errors
    /// [`Unavailable`] when the store has to be asked and does not answer.
    pub async fn count_comments(&self, steps: Steps) -> Result<Vec<u64>, Unavailable> {
        match &self.store {
            RoomStore::None => Ok(self.feed.ring().count_comments(steps)),
            store => store.count_comments(steps).await,
        }
    }

    /// The newest comments at or below `until`, at most `comments` of them in
    /// at most `bytes_max` bytes, with the events between them.
    ///
    /// # Errors
    /// [`Unavailable`] when the store has to be asked and does not answer.
    pub async fn read_last(
        &self,
        until: Seq,
        comments: usize,
        bytes_max: usize,
    ) -> Result<Recent, Unavailable> {
        let retractions = {
            let ring = self.feed.ring();
            if let Some(recent) = ring.read_last(until, comments, bytes_max) {
                return Ok(recent);
            }
            ring.retractions()
        };
        let mut recent = self.store.read_last(until, comments, bytes_max).await?;
        self.feed.drop_retracted(&mut recent.entries, retractions)?;
        Ok(recent)
    }

    /// The entries whose log time is in [`from_ms`, `to_ms`), in Unix
    /// milliseconds, with at most `bytes_max` bytes of comments.
    ///
    /// # Errors
    /// [`Unavailable`] when the store has to be asked and does not answer.
    pub async fn read_between(
        &self,
        from_ms: u64,
        to_ms: u64,
        bytes_max: usize,
    ) -> Result<Interval, Unavailable> {
        let retractions = {
            let ring = self.feed.ring();
            if let Some(interval) = ring.read_between(from_ms, to_ms, bytes_max) {
                return Ok(interval);
            }
            ring.retractions()
        };
        let mut interval = self.store.read_between(from_ms, to_ms, bytes_max).await?;
        self.feed
            .drop_retracted(&mut interval.entries, retractions)?;
        Ok(interval)
    }

    /// The log time that has been reached, in Unix milliseconds: later entries
    /// have at least this. 0 as long as only the store knows.
    #[must_use]
    pub fn reached_ms(&self) -> u64 {
        self.feed.ring().at_ms()
    }

    /// Gives all later entries a log time of at least `at_ms`, so that what was
    /// read before it stays true. Returns the time that is reached: less than
    /// `at_ms` while an entry from before it is being committed.
    #[must_use]
    pub fn reach(&self, at_ms: u64) -> u64 {
        self.store.reach(at_ms).unwrap_or_else(|| {
            self.feed.ring().reach(at_ms);
            at_ms
        })
    }

    /// The log's epoch. It never changes: when a room begins a new epoch, its
    /// log is reopened.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.feed.epoch()
    }

    /// The last position known to be assigned; [`Seq::ZERO`] before the first.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.feed.ring().known()
    }

    /// The last position that is no longer held: a read after a lower position
    /// misses something.
    #[must_use]
    pub fn floor(&self) -> Seq {
        let ring_after = self.feed.ring().after();
        self.store.floor().unwrap_or(ring_after)
    }

    /// Memory of the entries held for later reads.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.feed.ring().bytes_held()
    }

    /// Drops the oldest entries held for later reads, at least `bytes` bytes of memory. What the tail has not taken
    /// stays.
    pub fn shrink(&self, bytes: usize) {
        self.feed.ring().shrink(bytes);
    }

    /// Follows the log after `after`. The room's actor holds the only tail; a
    /// new tail replaces the previous one.
    #[must_use]
    pub fn tail_after(&self, after: Seq) -> Tail {
        self.feed.ring().set_taken(after);
        Tail::new(Arc::clone(&self.feed), self.store.clone())
    }

    /// What is known of the position `id`, from memory.
    #[must_use]
    pub fn lookup(&self, id: Seq) -> Lookup {
        self.feed.ring().lookup(id)
    }

    /// What is known of the position `id`, from memory or else from the store.
    ///
    /// # Errors
    /// [`Unavailable`] when the store has to be asked and does not answer.
    pub async fn find(&self, id: Seq) -> Result<Lookup, Unavailable> {
        match self.lookup(id) {
            Lookup::NotHeld => self.store.lookup(id).await,
            known => Ok(known),
        }
    }

    /// Retractions since this log was opened. When the count changes, earlier
    /// reads are out of date.
    #[must_use]
    pub fn retractions(&self) -> u64 {
        self.feed.ring().retractions()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::double::{Double, DoubleConfig};
    use crate::fixture::{
        EPOCH, append, comment, comments, config, ids, memory, over, retract, values,
    };
    use crate::{LogConfig, Tailed};

    #[tokio::test]
    async fn positions_are_consecutive_from_one() {
        let log = memory(config(10)).await;
        let one = log.append(comments(&["a"])).await.unwrap();
        let two = log.append(comments(&["b", "c"])).await.unwrap();
        assert_eq!((values(&one.seqs), one.epoch), (vec![1], EPOCH));
        assert_eq!(values(&two.seqs), [2, 3]);
        assert_eq!(log.head(), Seq::new(3));
        assert_eq!(log.lookup(Seq::new(4)), Lookup::AboveHead);
    }

    #[tokio::test]
    async fn a_read_is_bounded_and_says_what_is_gone() {
        let log = memory(config(3)).await;
        let mut tail = log.tail_after(Seq::ZERO);
        let texts = ["1", "2", "3", "4", "5"];
        log.append(comments(&texts)).await.unwrap();
        assert_eq!(tail.drain(&mut Vec::new(), 100).await, Tailed::Entries);

        let page = log.read_after(Seq::ZERO, 2).await.unwrap();
        assert_eq!((ids(&page.entries), page.more), (vec![3, 4], true));
        assert_eq!((page.after, page.seq), (Seq::new(2), Seq::new(4)));
        assert_eq!(log.floor(), Seq::new(2));
        assert_eq!(log.lookup(Seq::new(1)), Lookup::NotHeld);

        let page = log.read_after(Seq::new(4), 2).await.unwrap();
        assert_eq!((ids(&page.entries), page.more), (vec![5], false));
        assert_eq!(page.after, Seq::new(4));

        let recent = log.read_last(Seq::new(4), 5, 1_000).await.unwrap();
        assert_eq!(ids(&recent.entries), [3, 4]);
        assert_eq!(
            (recent.asked_after, recent.after),
            (Seq::new(2), Seq::new(2))
        );
        // Nobody can know what comes after the head.
        assert_eq!(
            log.read_last(Seq::new(9), 1, 99).await.unwrap().seq,
            log.head()
        );
    }

    #[tokio::test]
    async fn bytes_are_bounded_too() {
        let one = comment("0123456789").bytes();
        let log = memory(LogConfig {
            bytes_max: 2 * one,
            ..config(1_000)
        })
        .await;
        let mut tail = log.tail_after(Seq::ZERO);
        for _ in 0..10 {
            log.append(comments(&["0123456789"])).await.unwrap();
        }
        assert_eq!(tail.drain(&mut Vec::new(), 100).await, Tailed::Entries);
        let page = log.read_after(Seq::ZERO, 100).await.unwrap();
        assert_eq!(ids(&page.entries), [9, 10]);
    }

    #[tokio::test]
    async fn without_a_store_nothing_is_dropped_before_it_was_taken() {
        let log = memory(LogConfig {
            tail_lag_max: 4,
            ..config(2)
        })
        .await;
        let mut tail = log.tail_after(Seq::ZERO);
        for text in ["1", "2", "3", "4"] {
            log.append(comments(&[text])).await.unwrap();
        }
        let refused = log.append(comments(&["5"])).await.unwrap_err();
        assert_eq!(refused, AppendError::Overloaded { behind: 4 });

        let mut taken = Vec::new();
        assert_eq!(tail.drain(&mut taken, 3).await, Tailed::Entries);
        assert_eq!(ids(&taken), [1, 2, 3]);
        log.append(comments(&["5"])).await.unwrap();
        assert_eq!(tail.drain(&mut taken, 100).await, Tailed::Entries);
        assert_eq!(ids(&taken), [1, 2, 3, 4, 5]);
        assert_eq!(tail.drain(&mut taken, 100).await, Tailed::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_ring_dropped_is_read_from_the_store() {
        let double = Double::new(DoubleConfig::calm(1));
        let log = over(&double, config(3)).await;
        for text in ["1", "2", "3", "4", "5"] {
            log.append(comments(&[text])).await.unwrap();
        }
        log.append(append(vec![retract(&[2])])).await.unwrap();
        assert_eq!((log.floor(), log.head()), (Seq::ZERO, Seq::new(6)));
        assert_eq!(log.lookup(Seq::new(1)), Lookup::NotHeld);
        assert_eq!(log.lookup(Seq::new(2)), Lookup::Retracted);
        let page = log.read_after(Seq::ZERO, 4).await.unwrap();
        assert_eq!((ids(&page.entries), page.more), (vec![1, 3, 4, 5], true));
        let recent = log.read_last(Seq::new(4), 2, 1_000).await.unwrap();
        assert_eq!(ids(&recent.entries), [3, 4]);

        double.drop_through(&crate::fixture::room_id(), Seq::new(3));
        assert_eq!(log.floor(), Seq::new(3));
        let page = log.read_after(Seq::ZERO, 4).await.unwrap();
        assert_eq!(page.after, Seq::new(3));
        double.fail();
        assert_eq!(log.read_after(Seq::ZERO, 4).await, Err(Unavailable));
        // The ring still answers.
        assert!(log.read_after(Seq::new(4), 4).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_is_the_same_from_the_ring_and_from_the_store() {
        let double = Double::new(DoubleConfig::calm(1));
        let log = over(&double, config(100)).await;
        for (now_ms, entry) in [
            (10, comment("1")),
            (15, comment("2")),
            (21, comment("3")),
            (22, comment("4")),
            (33, retract(&[4])),
        ] {
            let append = crate::Append {
                now_ms,
                ..append(vec![entry])
            };
            log.append(append).await.unwrap();
        }
        // A node that was opened later has nothing in its ring.
        let other = over(&double, config(100)).await;
        for (from_ms, expected) in [
            (10, (0, vec![1, 2], 2)),
            (20, (2, vec![3], 4)),
            (30, (4, vec![5], 5)),
            (40, (5, vec![], 5)),
        ] {
            let read = log.read_between(from_ms, from_ms + 10, 1_000).await;
            let interval = read.clone().unwrap();
            let found = (
                interval.after.value(),
                ids(&interval.entries),
                interval.seq.value(),
            );
            assert_eq!(found, expected, "{from_ms}");
            assert_eq!(
                other.read_between(from_ms, from_ms + 10, 1_000).await,
                read,
                "{from_ms}"
            );
        }
        double.drop_through(&crate::fixture::room_id(), Seq::new(3));
        let dropped = async |from_ms| {
            let read = other.read_between(from_ms, from_ms + 10, 1_000).await;
            read.unwrap().dropped
        };
        assert!(dropped(10).await && dropped(20).await && !dropped(30).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_read_shows_nothing_that_was_retracted_meanwhile() {
        let double = Double::new(DoubleConfig {
            read_delay_max: Duration::from_millis(500),
            ..DoubleConfig::calm(3)
        });
        let log = over(&double, config(2)).await;
        for text in ["1", "2", "3", "4"] {
            log.append(comments(&[text])).await.unwrap();
        }
        for id in 1..=4 {
            let (page, retracted) = tokio::join!(log.read_after(Seq::ZERO, 10), async {
                // After the read began, and mostly before it ends.
                tokio::time::sleep(Duration::from_millis(200)).await;
                log.append(append(vec![retract(&[id])])).await
            });
            retracted.unwrap();
            let page = page.unwrap();
            assert!(log.retractions() == id);
            assert!(!ids(&page.entries).contains(&id), "{id}");
        }
    }
}
