//! Owns the answers to posts that carried an idempotency key, so that a poster that lost an answer can ask again
//! without posting twice.
//!
//! The key's meaning is that of draft-ietf-httpapi-idempotency-key-header: the same key with the same comments is
//! answered as before, with other comments it is refused, and while the first post is still running too.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use danmaku_log::Appended;
use danmaku_wire::{Comment, IdempotencyKey, RoomId};

/// Answers by room and key. Bounded in number and age. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Idempotency {
    table: Arc<Mutex<Table>>,
}

/// What to do with a post that carries a key.
#[derive(Debug)]
pub enum Claim {
    /// Run it, then tell the reservation its answer.
    Run(Reservation),
    /// It ran before: this was the answer.
    Answered(Appended),
}

/// Why a key cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyConflict {
    /// It was used for other comments.
    Reused,
    /// The first post with it is still running.
    InProgress,
}

/// The right to run the one post of a key. Dropped without an answer it frees the key, so that the poster can try
/// again.
#[derive(Debug)]
pub struct Reservation {
    table: Arc<Mutex<Table>>,
    name: Name,
    digest: u64,
    answered: bool,
}

impl Idempotency {
    /// Claims `key` for a post of these comments.
    ///
    /// # Errors
    /// [`KeyConflict`].
    pub fn claim(
        &self,
        room: &RoomId,
        key: &IdempotencyKey,
        comments: &[Comment],
        now: Duration,
    ) -> Result<Claim, KeyConflict> {
        let name: Name = (room.clone(), key.clone());
        let digest = digest(comments);
        let mut table = lock(&self.table);
        table.forget_old(now);
        match table.records.entry(name.clone()) {
            Entry::Occupied(known) => match known.get() {
                Record::Running => Err(KeyConflict::InProgress),
                Record::Done { digest: before, .. } if *before != digest => {
                    Err(KeyConflict::Reused)
                }
                Record::Done { appended, .. } => Ok(Claim::Answered(appended.clone())),
            },
            Entry::Vacant(vacant) => {
                vacant.insert(Record::Running);
                Ok(Claim::Run(Reservation {
                    table: Arc::clone(&self.table),
                    name,
                    digest,
                    answered: false,
                }))
            }
        }
    }
}

impl Reservation {
    /// Keeps the answer for whoever asks again.
    pub fn answer(mut self, appended: Appended, now: Duration) {
        let mut table = lock(&self.table);
        let digest = self.digest;
        table
            .records
            .insert(self.name.clone(), Record::Done { digest, appended });
        table.order.push_back((now, self.name.clone()));
        self.answered = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.answered {
            lock(&self.table).records.remove(&self.name);
        }
    }
}

type Name = (RoomId, IdempotencyKey);

#[derive(Debug)]
enum Record {
    Running,
    Done { digest: u64, appended: Appended },
}

#[derive(Debug, Default)]
struct Table {
    records: HashMap<Name, Record>,
    /// Answered keys, the oldest first.
    order: VecDeque<(Duration, Name)>,
}

impl Table {
    fn forget_old(&mut self, now: Duration) {
        while let Some((at, name)) = self.order.front()
            && (self.order.len() > RECORDS_MAX || now.saturating_sub(*at) > RECORD_AGE_MAX)
        {
            self.records.remove(name);
            self.order.pop_front();
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest(comments: &[Comment]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for comment in comments {
        comment.fragment().as_bytes().hash(&mut hasher);
    }
    hasher.finish()
}

/// Answers kept, at most.
const RECORDS_MAX: usize = 10_000;

/// How long an answer is kept.
const RECORD_AGE_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use danmaku_wire::{CommentLimits, CommentText, Epoch, Seq};

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn room() -> RoomId {
        RoomId::parse("r").unwrap()
    }

    fn key(key: &str) -> IdempotencyKey {
        IdempotencyKey::new(key).unwrap()
    }

    fn comments(text: &str) -> [Comment; 1] {
        [Comment::new(
            CommentText::new(text, &CommentLimits::default()).unwrap(),
        )]
    }

    fn appended(seq: u64) -> Appended {
        Appended {
            epoch: Epoch::new(7),
            seqs: vec![Seq::new(seq)],
        }
    }

    fn run(table: &Idempotency, name: &str, text: &str, now: Duration) -> Reservation {
        match table.claim(&room(), &key(name), &comments(text), now) {
            Ok(Claim::Run(reservation)) => reservation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_same_post_is_answered_as_before() {
        let table = Idempotency::default();
        run(&table, "k", "a", NOW).answer(appended(3), NOW);
        match table.claim(&room(), &key("k"), &comments("a"), NOW) {
            Ok(Claim::Answered(answer)) => assert_eq!(answer, appended(3)),
            other => panic!("{other:?}"),
        }
        let other = table.claim(&room(), &key("k"), &comments("b"), NOW);
        assert_eq!(other.unwrap_err(), KeyConflict::Reused);
        let elsewhere = RoomId::parse("other").unwrap();
        let other = table.claim(&elsewhere, &key("k"), &comments("b"), NOW);
        assert!(matches!(other, Ok(Claim::Run(_))));
    }

    #[test]
    fn a_running_post_holds_its_key_and_a_failed_one_frees_it() {
        let table = Idempotency::default();
        let running = run(&table, "k", "a", NOW);
        let second = table.claim(&room(), &key("k"), &comments("a"), NOW);
        assert_eq!(second.unwrap_err(), KeyConflict::InProgress);
        drop(running);
        run(&table, "k", "b", NOW);
    }

    #[test]
    fn answers_are_bounded_in_age_and_number() {
        let table = Idempotency::default();
        run(&table, "old", "a", NOW).answer(appended(1), NOW);
        let later = NOW + RECORD_AGE_MAX + Duration::from_millis(1);
        run(&table, "old", "b", later).answer(appended(2), later);
        for i in 0..RECORDS_MAX + 10 {
            run(&table, &format!("k{i}"), "a", later).answer(appended(3), later);
        }
        let held = lock(&table.table).records.len();
        assert!(held <= RECORDS_MAX + 1, "{held} answers held");
    }
}
