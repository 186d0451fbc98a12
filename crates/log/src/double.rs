//! A store for tests: it commits after a delay, fails, and loses answers.
//!
//! It simulates a file (group commits, positions that continue after a restart)
//! and a stream shared by nodes (positions with holes, entries from other
//! nodes, a feed that drops some, a lost tail). All randomness comes from one
//! seed, so a test under tokio's paused clock repeats exactly.

mod room;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use danmaku_wire::{Epoch, RoomId, Seq};

use self::room::Shared;
use crate::config::LogConfig;
use crate::entry::{Entry, Unavailable};
use crate::feed::Feed;

pub(crate) use self::room::DoubleRoom;

/// How a [`Double`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct DoubleConfig {
    /// Seeds all randomness.
    pub seed: u64,
    /// The longest time from an append to the commit of its group.
    pub commit_delay_max: Duration,
    /// The longest time from a commit to the rings.
    pub feed_delay_max: Duration,
    /// The longest time until an open or a read is answered.
    pub read_delay_max: Duration,
    /// Of 1,000 opens, appends and reads, how many fail and change nothing.
    pub failed_permille: u64,
    /// Of 1,000 appends, how many are not answered: half of them committed.
    pub unanswered_permille: u64,
    /// Of 1,000 commits, how many do not reach a ring.
    pub unfed_permille: u64,
    /// The most positions left out before an entry.
    pub holes_max: u64,
    /// Entries kept.
    pub entries_max: usize,
}

impl DoubleConfig {
    /// A store that commits at once, never fails and numbers densely.
    #[must_use]
    pub const fn calm(seed: u64) -> Self {
        Self {
            seed,
            commit_delay_max: Duration::ZERO,
            feed_delay_max: Duration::ZERO,
            read_delay_max: Duration::ZERO,
            failed_permille: 0,
            unanswered_permille: 0,
            unfed_permille: 0,
            holes_max: 0,
            entries_max: usize::MAX,
        }
    }

    /// A file: dense, and no commit is lost on its way to the ring.
    #[must_use]
    pub const fn file(seed: u64) -> Self {
        Self {
            commit_delay_max: Duration::from_millis(40),
            read_delay_max: Duration::from_millis(30),
            failed_permille: 20,
            ..Self::calm(seed)
        }
    }

    /// A stream on other machines: sparse, and it loses answers and messages.
    #[must_use]
    pub const fn stream(seed: u64) -> Self {
        Self {
            commit_delay_max: Duration::from_millis(20),
            feed_delay_max: Duration::from_millis(60),
            read_delay_max: Duration::from_millis(80),
            failed_permille: 30,
            unanswered_permille: 60,
            unfed_permille: 40,
            holes_max: 12,
            ..Self::calm(seed)
        }
    }
}

/// A store for tests. Cheap to clone; clones are the same store, so two logs
/// over it are two nodes, and a second log after the first is a restart.
#[derive(Clone, Debug)]
pub struct Double {
    config: DoubleConfig,
    rooms: Arc<Mutex<HashMap<RoomId, Arc<Shared>>>>,
}

impl Double {
    /// An empty store.
    #[must_use]
    pub fn new(config: DoubleConfig) -> Self {
        Self {
            config,
            rooms: Arc::default(),
        }
    }

    /// Everything committed to `room` in its epoch, even if retracted or dropped
    /// since.
    #[must_use]
    pub fn committed(&self, room: &RoomId) -> Vec<Entry> {
        self.find(room)
            .map(|room| room.state().committed().to_vec())
            .unwrap_or_default()
    }

    /// Drops the entries of `room` up to `through`.
    pub fn drop_through(&self, room: &RoomId, through: Seq) {
        if let Some(room) = self.find(room) {
            room.state().drop_through(through);
        }
    }

    /// Begins a new epoch of `room`: the store lost what it had.
    pub fn begin_epoch(&self, room: &RoomId, epoch: Epoch) {
        if let Some(room) = self.find(room) {
            room.state().begin_epoch(epoch);
        }
    }

    /// Makes every operation fail from now on.
    pub fn fail(&self) {
        for room in self.rooms().values() {
            room.state().set_down(true);
        }
    }

    /// Ends what [`Double::fail`] began.
    pub fn recover(&self) {
        for room in self.rooms().values() {
            room.state().set_down(false);
        }
    }

    pub(crate) async fn open(
        &self,
        room: &RoomId,
        config: LogConfig,
        fresh: Epoch,
    ) -> Result<(DoubleRoom, Arc<Feed>), Unavailable> {
        let shared = {
            let mut rooms = self.rooms();
            let opened = rooms.len() as u64;
            let shared = rooms
                .entry(room.clone())
                .or_insert_with(|| Shared::start(self.config, opened, fresh));
            Arc::clone(shared)
        };
        DoubleRoom::open(shared, config).await
    }

    fn find(&self, room: &RoomId) -> Option<Arc<Shared>> {
        self.rooms().get(room).cloned()
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomId, Arc<Shared>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{comments, config, ids, keyed, over, room_id, values};
    use crate::{AppendError, EntryBody};

    fn texts(double: &Double) -> Vec<String> {
        let text = |entry: &Entry| match &entry.body {
            EntryBody::Comment { fragment, .. } => {
                String::from_utf8(fragment.as_bytes().to_vec()).unwrap()
            }
            EntryBody::Event(_) => panic!("only comments were appended"),
        };
        double.committed(&room_id()).iter().map(text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_append_is_committed_in_its_turn() {
        let double = Double::new(DoubleConfig {
            commit_delay_max: Duration::from_millis(50),
            ..DoubleConfig::calm(1)
        });
        let log = over(&double, config(10)).await;
        let first = log.clone();
        let first = tokio::spawn(async move { first.append(comments(&["1"])).await });
        tokio::task::yield_now().await;
        tokio::select! {
            biased;
            _ = log.append(comments(&["2"])) => panic!("a commit takes time"),
            () = std::future::ready(()) => {}
        }
        let third = log.append(comments(&["3"])).await.unwrap();
        assert_eq!(values(&first.await.unwrap().unwrap().seqs), [1]);
        assert_eq!(values(&third.seqs), [3]);
        assert_eq!(
            texts(&double),
            [r#""text":"1""#, r#""text":"2""#, r#""text":"3""#]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_makes_a_retry_answer_with_the_first_positions() {
        let double = Double::new(DoubleConfig {
            unanswered_permille: 700,
            failed_permille: 100,
            holes_max: 3,
            ..DoubleConfig::calm(5)
        });
        let log = over(&double, config(10)).await;
        let mut acked = Vec::new();
        for n in 0..50 {
            let (text, key) = (format!("c{n}"), format!("k{n}"));
            let seqs = loop {
                match log.append(keyed(&text, &key)).await {
                    Ok(appended) => break appended.seqs,
                    Err(AppendError::OutcomeUnknown | AppendError::Unavailable) => {}
                    Err(error) => panic!("{error}"),
                }
            };
            acked.extend(seqs);
        }
        // Each is there once, under the position that was told.
        assert_eq!(acked.len(), 50);
        assert_eq!(values(&acked), ids(&double.committed(&room_id())));
        assert!(acked.is_sorted_by(|a, b| a < b));
    }

    #[tokio::test(start_paused = true)]
    async fn all_nodes_see_the_same_and_a_restart_goes_on() {
        let double = Double::new(DoubleConfig::calm(1));
        let one = over(&double, config(10)).await;
        let two = over(&double, config(10)).await;
        one.append(comments(&["1"])).await.unwrap();
        two.append(comments(&["2"])).await.unwrap();
        let page = one.read_after(Seq::ZERO, 9).await;
        assert_eq!(page, two.read_after(Seq::ZERO, 9).await);
        assert_eq!(ids(&page.unwrap().entries), [1, 2]);
        drop((one, two));
        let log = over(&double, config(10)).await;
        assert_eq!(log.head(), Seq::new(2));
        assert_eq!(
            values(&log.append(comments(&["3"])).await.unwrap().seqs),
            [3]
        );
        let page = log.read_after(Seq::ZERO, 9).await.unwrap();
        assert_eq!(ids(&page.entries), [1, 2, 3]);
    }
}
