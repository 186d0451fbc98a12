//! Owns slow mode: when posters last posted in rooms that ask them to wait between two comments.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use danmaku_engine::admission::AddressKey;
use danmaku_wire::RoomId;

/// Who posted when, in all rooms with slow mode. Bounded; when it is full, those who posted first need not wait any longer.
#[derive(Debug, Default)]
pub struct SlowMode {
    table: Mutex<Table>,
    hasher: RandomState,
}

/// Who a comment is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Poster<'a> {
    /// The user that the comment names.
    User(&'a str),
    /// The address of a comment that names none.
    Address(AddressKey),
}

/// A poster's turn in a room. Dropped without [`Turn::taken`], it does not count.
#[derive(Debug)]
pub struct Turn<'a> {
    slow_mode: &'a SlowMode,
    /// Who, and when.
    claims: Vec<(u64, Duration)>,
}

/// Why a post has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// A poster's last comment was too short a time ago.
    Wait(Duration),
    /// It has two comments of one poster.
    Twice,
}

#[derive(Debug, Default)]
struct Table {
    /// By room and poster.
    last: HashMap<u64, Duration>,
    /// The same, the oldest first.
    order: VecDeque<(u64, Duration)>,
}

impl SlowMode {
    /// Claims the turn of `posters` in `room`, of which each may post once per `interval`.
    ///
    /// # Errors
    /// [`NoTurn`]; then nobody's turn is claimed.
    pub fn claim<'p>(
        &self,
        room: &RoomId,
        posters: impl Iterator<Item = Poster<'p>>,
        interval: Duration,
        now: Duration,
    ) -> Result<Turn<'_>, NoTurn> {
        let mut turn = Turn {
            slow_mode: self,
            claims: Vec::new(),
        };
        for poster in posters {
            let who = self.hasher.hash_one((room, poster));
            if turn.claims.iter().any(|claim| claim.0 == who) {
                return Err(NoTurn::Twice);
            }
            self.table().claim(who, interval, now)?;
            turn.claims.push((who, now));
        }
        Ok(turn)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The post was accepted: the wait begins.
    pub fn taken(mut self) {
        self.claims.clear();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.claims.is_empty() {
            return;
        }
        let mut table = self.slow_mode.table();
        for claim in &self.claims {
            table.forget(*claim);
        }
    }
}

impl Table {
    fn claim(&mut self, who: u64, interval: Duration, now: Duration) -> Result<(), NoTurn> {
        if let Some(last) = self.last.get(&who)
            && *last + interval > now
        {
            return Err(NoTurn::Wait(*last + interval - now));
        }
        while let Some(oldest) = self.order.front()
            && (oldest.1 + INTERVAL_MAX <= now || self.order.len() >= POSTERS_MAX)
        {
            self.forget(*oldest);
            self.order.pop_front();
        }
        self.last.insert(who, now);
        self.order.push_back((who, now));
        Ok(())
    }

    fn forget(&mut self, (who, at): (u64, Duration)) {
        // They may have posted again.
        if self.last.get(&who) == Some(&at) {
            self.last.remove(&who);
        }
    }
}

/// The longest slow mode there is.
const INTERVAL_MAX: Duration = Duration::from_secs(danmaku_log::SLOW_MODE_S_MAX as u64);

/// Posters whose last comment is remembered: 800 a second with the longest slow mode.
const POSTERS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Whether the address `n` is let through, and else how long it has to wait; the post succeeds.
    fn post(slow_mode: &SlowMode, n: u32, now: Duration) -> Result<(), NoTurn> {
        claim(slow_mode, "r", &[n], now).map(Turn::taken)
    }

    fn claim<'a>(
        slow_mode: &'a SlowMode,
        room: &str,
        posters: &[u32],
        now: Duration,
    ) -> Result<Turn<'a>, NoTurn> {
        let room = RoomId::parse(room).unwrap();
        let address = |n: &u32| Poster::Address(AddressKey::of(Ipv4Addr::from(*n).into()));
        slow_mode.claim(&room, posters.iter().map(address), INTERVAL, now)
    }

    #[test]
    fn a_poster_waits_between_two_comments() {
        let slow_mode = SlowMode::default();
        assert_eq!(post(&slow_mode, 1, at(10)), Ok(()));
        assert_eq!(post(&slow_mode, 1, at(12)), Err(NoTurn::Wait(at(3))));
        assert_eq!(post(&slow_mode, 2, at(12)), Ok(()));
        assert_eq!(post(&slow_mode, 1, at(15)), Ok(()));
        assert!(claim(&slow_mode, "other", &[1], at(15)).is_ok());
    }

    #[test]
    fn a_refused_post_is_no_turn() {
        let slow_mode = SlowMode::default();
        drop(claim(&slow_mode, "r", &[1], at(10)));
        assert_eq!(post(&slow_mode, 1, at(10)), Ok(()));
        // An array with one who has to wait.
        assert!(claim(&slow_mode, "r", &[2, 1], at(11)).is_err());
        assert_eq!(post(&slow_mode, 2, at(11)), Ok(()));
        // And one with two comments of one poster.
        let twice = claim(&slow_mode, "r", &[3, 3], at(11)).unwrap_err();
        assert_eq!(twice, NoTurn::Twice);
        assert_eq!(post(&slow_mode, 3, at(11)), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let slow_mode = SlowMode::default();
        let posters = u32::try_from(POSTERS_MAX).unwrap();
        for n in 0..=posters {
            assert_eq!(post(&slow_mode, n, at(10)), Ok(()));
        }
        assert_eq!(slow_mode.table().last.len(), POSTERS_MAX);
        assert_eq!(post(&slow_mode, 0, at(10)), Ok(()), "its turn is forgotten");
        assert_eq!(post(&slow_mode, 5, at(10)), Err(NoTurn::Wait(at(5))));
        assert_eq!(post(&slow_mode, 5, at(200)), Ok(()));
        assert_eq!(slow_mode.table().order.len(), 1);
    }
}
