//! Owns when likes and viewers of rooms are sampled, for their figures per step of time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use danmaku_fanout::RoomKey;
use danmaku_log::{SAMPLE_SAME_MS, Sample};
use danmaku_wire::RoomId;

/// What was sampled last, of all rooms that have likes or viewers.
#[derive(Debug, Default)]
pub struct Samples(Mutex<HashMap<RoomKey, Seen>>);

/// A room at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Now {
    /// Its name for the shards: another one whenever it is opened anew.
    pub key: RoomKey,
    /// Its name.
    pub room: RoomId,
    /// Likes since it was opened.
    pub likes: u64,
    /// Viewers.
    pub viewers: u32,
}

/// What a sample says, and what was seen for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The sample.
    pub sample: Sample,
    key: RoomKey,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    likes: u64,
    viewers: u32,
    at_ms: u64,
}

impl Samples {
    /// Samples those of `rooms`, which are all there are, that have something to say: likes, other viewers than before, or
    /// viewers who were there for a while.
    #[must_use]
    pub fn take(&self, rooms: Vec<Now>, at_ms: u64) -> Vec<Taken> {
        let mut known = self.known();
        let mut gone = std::mem::take(&mut *known);
        let mut taken = Vec::new();
        for Now {
            key,
            room,
            likes,
            viewers,
        } in rooms
        {
            let before = gone.remove(&key).unwrap_or_default();
            if likes > 0 || viewers > 0 || before != Seen::default() {
                known.insert(key, before);
            }
            let is_old = viewers > 0 && before.at_ms + SAMPLE_SAME_MS <= at_ms;
            if likes == before.likes && viewers == before.viewers && !is_old {
                continue;
            }
            taken.push(Taken {
                sample: Sample {
                    room: room.as_str().to_owned(),
                    at_ms,
                    likes: likes - before.likes,
                    viewers,
                },
                key,
                seen: Seen {
                    likes,
                    viewers,
                    at_ms,
                },
            });
        }
        taken
    }

    /// The samples are in the store. Likes of those that are not go into the next ones.
    pub fn kept(&self, taken: &[Taken]) {
        let mut known = self.known();
        for Taken { key, seen, .. } in taken {
            known.insert(*key, *seen);
        }
    }

    /// Of a room's likes, those that no sample has yet.
    #[must_use]
    pub fn unsampled(&self, key: RoomKey, likes: u64) -> u64 {
        let sampled = self.known().get(&key).map_or(0, |seen| seen.likes);
        likes.saturating_sub(sampled)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<RoomKey, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(key: u64, likes: u64, viewers: u32) -> Now {
        Now {
            key: RoomKey(key),
            room: RoomId::parse(&format!("r{key}")).unwrap(),
            likes,
            viewers,
        }
    }

    /// Takes samples; returns the rooms, likes and viewers in them.
    fn take(samples: &Samples, rooms: &[Now], at_ms: u64, keep: bool) -> Vec<(String, u64, u32)> {
        let taken = samples.take(rooms.to_vec(), at_ms);
        if keep {
            samples.kept(&taken);
        }
        let of = |Taken { sample, .. }: Taken| (sample.room, sample.likes, sample.viewers);
        taken.into_iter().map(of).collect()
    }

    #[test]
    fn only_rooms_with_something_to_say_are_sampled() {
        let samples = Samples::default();
        let quiet = now(1, 0, 0);
        let first = [quiet.clone(), now(2, 5, 0), now(3, 0, 7)];
        let expected = [("r2".to_owned(), 5, 0), ("r3".to_owned(), 0, 7)];
        assert_eq!(take(&samples, &first, 100_000, true), expected);
        assert_eq!(take(&samples, &first, 110_000, true), []);
        // Viewers who stay, and one who left.
        let later = [quiet, now(2, 9, 0), now(3, 0, 7)];
        let expected = [("r2".to_owned(), 4, 0), ("r3".to_owned(), 0, 7)];
        assert_eq!(take(&samples, &later, 160_000, true), expected);
        let left = take(&samples, &[now(3, 0, 0)], 170_000, true);
        assert_eq!(left, [("r3".to_owned(), 0, 0)]);
        assert_eq!(
            samples.known().len(),
            1,
            "rooms that are gone are forgotten"
        );
    }

    #[test]
    fn likes_of_a_sample_that_was_not_kept_are_in_the_next_one() {
        let samples = Samples::default();
        take(&samples, &[now(1, 5, 0)], 10_000, false);
        assert_eq!(samples.unsampled(RoomKey(1), 6), 6);
        let next = take(&samples, &[now(1, 6, 0)], 20_000, true);
        assert_eq!(next, [("r1".to_owned(), 6, 0)]);
        assert_eq!(samples.unsampled(RoomKey(1), 8), 2);
    }
}
