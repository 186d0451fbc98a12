//! Owns the answers to posts that carried an `Idempotency-Key`, so that a
//! poster that lost an answer can ask again without posting twice.
//!
//! The header's meaning is that of draft-ietf-httpapi-idempotency-key-header:
//! the same key with the same body is answered as before, with another body
//! it is 422, and while the first is still running it is 409.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, VecDeque};
use std::hash::Hasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use danmaku_wire::RoomId;

use super::error::ApiError;

/// Answers by room and key. Bounded in number and age.
#[derive(Clone, Debug, Default)]
pub struct Idempotency {
    table: Arc<Mutex<Table>>,
}

/// What to do with a request that carries a key.
#[derive(Debug)]
pub enum Claim {
    /// Run it, then tell the reservation its answer.
    Run(Reservation),
    /// It ran before: this was the answer.
    Answered(Bytes),
}

/// The right to run the one request of a key. Dropped without an answer it
/// frees the key, so that the poster can try again.
#[derive(Debug)]
pub struct Reservation {
    table: Arc<Mutex<Table>>,
    key: Key,
    digest: u64,
    answered: bool,
}

impl Idempotency {
    /// Claims `key` for a request with this body.
    ///
    /// # Errors
    /// [`ApiError::BadIdempotencyKey`], [`ApiError::IdempotencyKeyReused`],
    /// [`ApiError::IdempotencyInProgress`].
    pub fn claim(
        &self,
        room: &RoomId,
        key: &[u8],
        body: &[u8],
        now: Duration,
    ) -> Result<Claim, ApiError> {
        let bad = ApiError::BadIdempotencyKey { max: KEY_BYTES_MAX };
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.iter().all(u8::is_ascii_graphic) {
            return Err(bad);
        }
        let key: Key = (room.clone(), key.into());
        let digest = digest(body);
        let mut table = lock(&self.table);
        table.forget_old(now);
        match table.answers.entry(key.clone()) {
            Entry::Occupied(known) => match known.get() {
                Answer::Running => Err(ApiError::IdempotencyInProgress),
                Answer::Done { digest: before, .. } if *before != digest => {
                    Err(ApiError::IdempotencyKeyReused)
                }
                Answer::Done { body, .. } => Ok(Claim::Answered(body.clone())),
            },
            Entry::Vacant(vacant) => {
                vacant.insert(Answer::Running);
                Ok(Claim::Run(Reservation {
                    table: Arc::clone(&self.table),
                    key,
                    digest,
                    answered: false,
                }))
            }
        }
    }
}

impl Reservation {
    /// Keeps the answer for whoever asks again.
    pub fn answer(mut self, body: Bytes, now: Duration) {
        let mut table = lock(&self.table);
        let digest = self.digest;
        table
            .answers
            .insert(self.key.clone(), Answer::Done { digest, body });
        table.order.push_back((now, self.key.clone()));
        self.answered = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.answered {
            lock(&self.table).answers.remove(&self.key);
        }
    }
}

type Key = (RoomId, Box<[u8]>);

#[derive(Debug)]
enum Answer {
    Running,
    Done { digest: u64, body: Bytes },
}

#[derive(Debug, Default)]
struct Table {
    answers: HashMap<Key, Answer>,
    /// Answered keys, the oldest first.
    order: VecDeque<(Duration, Key)>,
}

impl Table {
    fn forget_old(&mut self, now: Duration) {
        while let Some((at, key)) = self.order.front()
            && (self.order.len() > ANSWERS_MAX || now.saturating_sub(*at) > ANSWER_AGE_MAX)
        {
            self.answers.remove(key);
            self.order.pop_front();
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn digest(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

/// Answers kept, at most.
const ANSWERS_MAX: usize = 10_000;

/// How long an answer is kept.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(600);

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn room() -> RoomId {
        RoomId::parse("r").unwrap()
    }

    fn run(table: &Idempotency, key: &[u8], body: &[u8], now: Duration) -> Reservation {
        match table.claim(&room(), key, body, now).unwrap() {
            Claim::Run(reservation) => reservation,
            Claim::Answered(body) => panic!("answered with {body:?}"),
        }
    }

    #[test]
    fn the_same_request_is_answered_as_before() {
        let table = Idempotency::default();
        run(&table, b"k", b"body", NOW).answer(Bytes::from_static(b"answer"), NOW);
        match table.claim(&room(), b"k", b"body", NOW).unwrap() {
            Claim::Answered(body) => assert_eq!(body, "answer"),
            Claim::Run(_) => panic!("ran twice"),
        }
        assert_eq!(
            table.claim(&room(), b"k", b"other", NOW).unwrap_err(),
            ApiError::IdempotencyKeyReused
        );
        let other = RoomId::parse("other").unwrap();
        assert!(matches!(
            table.claim(&other, b"k", b"other", NOW),
            Ok(Claim::Run(_))
        ));
    }

    #[test]
    fn a_running_request_holds_its_key_and_a_failed_one_frees_it() {
        let table = Idempotency::default();
        let running = run(&table, b"k", b"body", NOW);
        assert_eq!(
            table.claim(&room(), b"k", b"body", NOW).unwrap_err(),
            ApiError::IdempotencyInProgress
        );
        drop(running);
        run(&table, b"k", b"another body", NOW);
    }

    #[test]
    fn answers_are_bounded_in_age_and_number() {
        let table = Idempotency::default();
        run(&table, b"old", b"", NOW).answer(Bytes::new(), NOW);
        let later = NOW + ANSWER_AGE_MAX + Duration::from_millis(1);
        run(&table, b"old", b"", later).answer(Bytes::new(), later);
        for i in 0..ANSWERS_MAX + 10 {
            run(&table, format!("k{i}").as_bytes(), b"", later).answer(Bytes::new(), later);
        }
        let held = lock(&table.table).answers.len();
        assert!(held <= ANSWERS_MAX + 1, "{held} answers held");
    }

    #[test]
    fn keys_are_checked() {
        let table = Idempotency::default();
        for key in [&b""[..], &[b'k'; KEY_BYTES_MAX + 1], b"a b", b"\x80"] {
            assert_eq!(
                table.claim(&room(), key, b"", NOW).unwrap_err(),
                ApiError::BadIdempotencyKey { max: KEY_BYTES_MAX }
            );
        }
    }
}
