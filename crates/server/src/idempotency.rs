//! Owns the answers to posts with an idempotency key, so that a poster that lost an answer can retry without posting
//! twice.
//!
//! Keys work as in draft-ietf-httpapi-idempotency-key-header: the same key with the same comments gets the same answer;
//! with other comments, or while the first post is still running, it is refused.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use danmaku_engine::admission::AddressKey;
use danmaku_log::Appended;
use danmaku_wire::{Comment, IdempotencyKey, RoomId};

/// Answers by poster, room and key, so nobody can read or evict the answers of others. Bounded in number, per poster and in total, and in age. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Idempotency {
    table: Arc<Mutex<Table>>,
}

/// What became of a post that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The comments are in the log.
    Posted(Appended),
    /// The comment waits for a moderator, under this name.
    Held(u64),
}

/// Whose keys they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PosterKey {
    /// A guest's: those of the address.
    Address(AddressKey),
    /// A user's, by the number of the user's id.
    User(u64),
    /// A back end's, by the number of its key's name.
    BackEnd(u64),
}

impl PosterKey {
    /// The number that a store keeps: the same for the same poster, on every machine.
    #[must_use]
    pub fn value(self) -> u64 {
        match self {
            Self::Address(address) => address.value(),
            Self::User(number) | Self::BackEnd(number) => number,
        }
    }
}

/// What to do with a post that carries a key.
#[derive(Debug)]
pub enum Claim {
    /// Run it, then give the reservation its answer.
    Run(Reservation),
    /// It ran before, with this answer.
    Answered(Accepted),
}

/// Why a key cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyConflict {
    /// It was used for other comments.
    Reused,
    /// The first post with it is still running.
    InProgress,
}

/// The right to run a key's one post. Dropped without an answer, it frees the key so that the poster can retry.
#[derive(Debug)]
pub struct Reservation {
    table: Arc<Mutex<Table>>,
    name: Arc<Name>,
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
        poster: PosterKey,
        room: &RoomId,
        key: &IdempotencyKey,
        comments: &[Comment],
        now: Duration,
    ) -> Result<Claim, KeyConflict> {
        let name = Arc::new(Name {
            poster,
            room: room.clone(),
            key: key.clone(),
        });
        let digest = digest(comments);
        let mut table = lock(&self.table);
        table.forget_old(now);
        match table.records.entry(Arc::clone(&name)) {
            Entry::Occupied(known) => match known.get() {
                Record::Running => Err(KeyConflict::InProgress),
                Record::Done { digest: before, .. } if *before != digest => {
                    Err(KeyConflict::Reused)
                }
                Record::Done { accepted, .. } => Ok(Claim::Answered(accepted.clone())),
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
    /// Keeps the answer for retries.
    pub fn answer(mut self, accepted: Accepted, now: Duration) {
        let record = Record::Done {
            digest: self.digest,
            accepted,
        };
        lock(&self.table).keep(&self.name, record, now);
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

/// Whose key it is, and for which room.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Name {
    poster: PosterKey,
    room: RoomId,
    key: IdempotencyKey,
}

#[derive(Debug)]
enum Record {
    Running,
    Done { digest: u64, accepted: Accepted },
}

/// Invariant: each answered record has one serial, which is in `order` and with its poster.
#[derive(Debug, Default)]
struct Table {
    records: HashMap<Arc<Name>, Record>,
    /// Answered keys by serial, the oldest first.
    order: BTreeMap<u64, (Duration, Arc<Name>)>,
    /// The serials of each poster, the oldest first.
    posters: HashMap<PosterKey, VecDeque<u64>>,
    next_serial: u64,
}

impl Table {
    /// Keeps an answer. A poster over its bound loses its own oldest one. In a full table the bound is the poster's share,
    /// and a poster below it replaces the oldest answer of all.
    fn keep(&mut self, name: &Arc<Name>, record: Record, now: Duration) {
        let is_full = self.order.len() >= RECORDS_MAX;
        let held = self.posters.get(&name.poster);
        let held_max = if is_full {
            RECORDS_PER_POSTER_WHEN_FULL
        } else {
            RECORDS_PER_POSTER_MAX
        };
        if let Some(held) = held.filter(|held| held.len() >= held_max) {
            self.forget(held[0]);
        } else if is_full && let Some((&oldest, _)) = self.order.first_key_value() {
            self.forget(oldest);
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.records.insert(Arc::clone(name), record);
        self.order.insert(serial, (now, Arc::clone(name)));
        let held = self.posters.entry(name.poster).or_default();
        held.push_back(serial);
    }

    fn forget_old(&mut self, now: Duration) {
        while let Some((&oldest, (at, _))) = self.order.first_key_value()
            && now.saturating_sub(*at) > RECORD_AGE_MAX
        {
            self.forget(oldest);
        }
    }

    /// Forgets a poster's oldest answer.
    fn forget(&mut self, serial: u64) {
        let Some((_, name)) = self.order.remove(&serial) else {
            return;
        };
        self.records.remove(&name);
        if let Entry::Occupied(mut held) = self.posters.entry(name.poster) {
            let oldest = held.get_mut().pop_front();
            debug_assert_eq!(oldest, Some(serial), "answers are forgotten oldest first");
            if held.get().is_empty() {
                held.remove();
            }
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

/// Answers kept in total.
const RECORDS_MAX: usize = 50_000;

/// Answers kept for one poster: 100 s of posts at the default rate of an address.
const RECORDS_PER_POSTER_MAX: usize = 5_000;

/// A poster's share of a full table: one over it loses its oldest key for each new one.
const RECORDS_PER_POSTER_WHEN_FULL: usize = 100;

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

    fn appended(seq: u64) -> Accepted {
        Accepted::Posted(Appended {
            epoch: Epoch::new(7),
            seqs: vec![Seq::new(seq)],
        })
    }

    fn poster(n: u32) -> PosterKey {
        PosterKey::Address(AddressKey::of(std::net::Ipv4Addr::from(n).into()))
    }

    fn claim(
        table: &Idempotency,
        who: u32,
        name: &str,
        text: &str,
        now: Duration,
    ) -> Result<Claim, KeyConflict> {
        table.claim(poster(who), &room(), &key(name), &comments(text), now)
    }

    fn run(table: &Idempotency, who: u32, name: &str, text: &str, now: Duration) -> Reservation {
        match claim(table, who, name, text, now) {
            Ok(Claim::Run(reservation)) => reservation,
            other => panic!("{other:?}"),
        }
    }

    /// Posts with `count` new keys.
    fn flood(table: &Idempotency, who: u32, count: usize) {
        for n in 0..count {
            run(table, who, &format!("k{n}"), "x", NOW).answer(appended(9), NOW);
        }
    }

    /// How many answers are held; checks that the three indexes agree.
    fn held(table: &Idempotency) -> usize {
        let table = lock(&table.table);
        let by_poster: usize = table.posters.values().map(VecDeque::len).sum();
        assert_eq!(table.records.len(), table.order.len());
        assert_eq!(table.order.len(), by_poster);
        by_poster
    }

    fn is_answered(table: &Idempotency, who: u32, name: &str) -> bool {
        matches!(claim(table, who, name, "x", NOW), Ok(Claim::Answered(_)))
    }

    #[test]
    fn a_retry_gets_the_same_answer() {
        let table = Idempotency::default();
        run(&table, 1, "k", "a", NOW).answer(appended(3), NOW);
        match claim(&table, 1, "k", "a", NOW) {
            Ok(Claim::Answered(answer)) => assert_eq!(answer, appended(3)),
            other => panic!("{other:?}"),
        }
        let other = claim(&table, 1, "k", "b", NOW);
        assert_eq!(other.unwrap_err(), KeyConflict::Reused);
        let elsewhere = RoomId::parse("other").unwrap();
        let other = table.claim(poster(1), &elsewhere, &key("k"), &comments("b"), NOW);
        assert!(matches!(other, Ok(Claim::Run(_))));
    }

    #[test]
    fn a_key_belongs_to_its_poster() {
        let table = Idempotency::default();
        run(&table, 1, "k", "a", NOW).answer(appended(3), NOW);
        run(&table, 2, "k", "b", NOW).answer(appended(4), NOW);
        match claim(&table, 1, "k", "a", NOW) {
            Ok(Claim::Answered(answer)) => assert_eq!(answer, appended(3)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_running_post_holds_its_key_and_a_failed_one_frees_it() {
        let table = Idempotency::default();
        let running = run(&table, 1, "k", "a", NOW);
        let second = claim(&table, 1, "k", "a", NOW);
        assert_eq!(second.unwrap_err(), KeyConflict::InProgress);
        drop(running);
        run(&table, 1, "k", "b", NOW);
        assert_eq!(held(&table), 0);
    }

    #[test]
    fn an_answer_expires() {
        let table = Idempotency::default();
        run(&table, 1, "old", "a", NOW).answer(appended(1), NOW);
        let later = NOW + RECORD_AGE_MAX + Duration::from_millis(1);
        run(&table, 1, "old", "b", later).answer(appended(2), later);
        assert_eq!(held(&table), 1);
    }

    #[test]
    fn a_flood_of_keys_evicts_only_the_flooders_own() {
        let table = Idempotency::default();
        run(&table, 1, "mine", "x", NOW).answer(appended(1), NOW);
        flood(&table, 2, RECORDS_PER_POSTER_MAX + 10);
        assert!(is_answered(&table, 1, "mine"));
        assert!(!is_answered(&table, 2, "k9") && is_answered(&table, 2, "k10"));
        assert_eq!(held(&table), RECORDS_PER_POSTER_MAX + 1);
        // Enough flooders to fill the table evict someone's oldest key, but from then on only their own.
        for who in 3..=11 {
            flood(&table, who, RECORDS_PER_POSTER_MAX);
        }
        assert_eq!(held(&table), RECORDS_MAX);
        run(&table, 1, "again", "x", NOW).answer(appended(2), NOW);
        for who in 2..=11 {
            for n in 0..RECORDS_PER_POSTER_MAX {
                let name = format!("second{n}");
                run(&table, who, &name, "x", NOW).answer(appended(9), NOW);
            }
        }
        assert!(is_answered(&table, 1, "again"));
        assert_eq!(held(&table), RECORDS_MAX);
    }
}
