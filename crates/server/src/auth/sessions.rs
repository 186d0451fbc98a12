//! Owns the table of connections that were made with a token: whose they are, and when they end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use danmaku_fanout::{ConnId, RoomKey};
use danmaku_wire::Dialect;

use super::Identity;

/// The connections of users. Guests' connections are not here and cost nothing.
#[derive(Debug, Default)]
pub struct Sessions {
    slices: [Mutex<Slice>; SLICES],
}

/// One user's connection to one room.
#[derive(Debug)]
pub struct Session {
    /// Who it is.
    pub identity: Identity,
    /// The connection.
    pub conn: ConnId,
    /// What it speaks.
    pub dialect: Dialect,
    room: RoomKey,
    /// When the end is announced, in Unix milliseconds.
    announce_at_ms: u64,
    /// The connection is being closed: what still arrives from it is no longer the user's.
    is_over: AtomicBool,
}

/// A session; its end is the end of this value.
#[derive(Debug)]
pub struct SessionGuard(Box<(Arc<Session>, Arc<Sessions>)>);

/// A session to be.
#[derive(Debug)]
pub struct NewSession {
    /// Who it is.
    pub identity: Identity,
    /// The connection.
    pub conn: ConnId,
    /// What it speaks.
    pub dialect: Dialect,
    /// The room.
    pub room: RoomKey,
}

/// What happens to one user's connections to one room beyond a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// Nothing.
    #[default]
    Unlimited,
    /// The oldest ones are closed.
    Replace {
        /// The number.
        max: usize,
    },
    /// The new one is refused.
    Refuse {
        /// The number.
        max: usize,
    },
}

/// The user has as many connections to the room as are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManySessions;

/// Something that is due.
#[derive(Debug)]
pub enum Due {
    /// A viewer is to be told that its connection ends soon.
    Announce {
        /// The session.
        session: Arc<Session>,
        /// How soon, in milliseconds.
        in_ms: u64,
    },
    /// A connection has to end.
    End(Arc<Session>),
}

impl Sessions {
    /// Takes in a session; those that it replaces are returned, and are no longer in the table.
    ///
    /// # Errors
    /// [`TooManySessions`].
    pub fn open(
        self: &Arc<Self>,
        new: NewSession,
        duplicates: Duplicates,
        now_ms: u64,
    ) -> Result<(SessionGuard, Vec<ConnId>), TooManySessions> {
        let NewSession {
            identity,
            conn,
            dialect,
            room,
        } = new;
        let ends_at_ms = identity.ends_at_s.map(|at_s| at_s.saturating_mul(1_000));
        let session = Arc::new(Session {
            announce_at_ms: ends_at_ms.map_or(u64::MAX, |end| announce_at_ms(now_ms, end)),
            identity,
            conn,
            dialect,
            room,
            is_over: AtomicBool::new(false),
        });
        let mut slice = self.slice(session.identity.key);
        let replaced = slice.make_room(&session, duplicates)?;
        slice.insert(&session);
        let replaced = replaced.iter().map(|it| it.conn).collect();
        let guard = SessionGuard(Box::new((Arc::clone(&session), Arc::clone(self))));
        Ok((guard, replaced))
    }

    /// Whether the user could not open one more connection to the room. Only a hint: [`Sessions::open`] decides.
    #[must_use]
    pub fn is_full(&self, identity: &Identity, room: RoomKey, duplicates: Duplicates) -> bool {
        match duplicates {
            Duplicates::Refuse { max } => {
                let slice = self.slice(identity.key);
                slice.of(identity, room).count() >= max
            }
            Duplicates::Unlimited | Duplicates::Replace { .. } => false,
        }
    }

    /// Sessions that are due, each once.
    #[must_use]
    pub fn due(&self, now_ms: u64) -> Vec<Due> {
        let mut due = Vec::new();
        for slice in &self.slices {
            lock(slice).take_due(now_ms, &mut due);
        }
        due
    }

    /// All sessions of which `is_meant` is true.
    pub fn find(&self, is_meant: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let mut found = Vec::new();
        for slice in &self.slices {
            let slice = lock(slice);
            found.extend(slice.sessions.values().filter(|it| is_meant(it)).cloned());
        }
        found
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slices.iter().map(|it| lock(it).sessions.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slice(&self, user: u64) -> MutexGuard<'_, Slice> {
        // In range, so nothing is lost.
        let index = usize::try_from(user % SLICES as u64).unwrap_or(0);
        lock(&self.slices[index])
    }
}

impl Deref for SessionGuard {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0.0
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let (session, sessions) = &*self.0;
        sessions.slice(session.identity.key).remove(session);
    }
}

/// Invariant: what is in `due` is in `sessions`.
#[derive(Debug, Default)]
struct Slice {
    /// By user and connection.
    sessions: BTreeMap<(u64, u64), Arc<Session>>,
    /// What is due next of each session that ends, by time in Unix milliseconds.
    due: BTreeSet<(u64, (u64, u64))>,
}

impl Slice {
    /// The user's sessions in a room.
    fn of(&self, identity: &Identity, room: RoomKey) -> impl Iterator<Item = &Arc<Session>> {
        let keys = (identity.key, 0)..=(identity.key, u64::MAX);
        let sessions = self.sessions.range(keys).map(|(_, session)| session);
        // Two ids may have one key.
        sessions.filter(move |it| it.room == room && it.identity.user == identity.user)
    }

    fn make_room(
        &mut self,
        new: &Session,
        duplicates: Duplicates,
    ) -> Result<Vec<Arc<Session>>, TooManySessions> {
        let others = |it: &&Arc<Session>| it.conn != new.conn;
        let count = self.of(&new.identity, new.room).filter(others).count();
        let excess = match duplicates {
            Duplicates::Unlimited => 0,
            Duplicates::Refuse { max } if count >= max => return Err(TooManySessions),
            Duplicates::Refuse { .. } => 0,
            Duplicates::Replace { max } => (count + 1).saturating_sub(max),
        };
        let mut replaced: Vec<_> = self
            .of(&new.identity, new.room)
            .filter(others)
            .cloned()
            .collect();
        replaced.sort_by_key(|it| it.conn.number());
        replaced.truncate(excess);
        for session in &replaced {
            session.end();
            self.remove(session);
        }
        Ok(replaced)
    }

    fn insert(&mut self, session: &Arc<Session>) {
        // A connection with a new token has a session under this key already.
        if let Some(old) = self.sessions.insert(key(session), Arc::clone(session)) {
            self.forget_due(&old);
        }
        if session.announce_at_ms != u64::MAX {
            self.due.insert((session.announce_at_ms, key(session)));
        }
    }

    fn remove(&mut self, session: &Session) {
        let is_held = |held: &Arc<Session>| std::ptr::eq(&**held, session);
        if self.sessions.get(&key(session)).is_some_and(is_held) {
            self.sessions.remove(&key(session));
            self.forget_due(session);
        }
    }

    fn forget_due(&mut self, session: &Session) {
        self.due.remove(&(session.announce_at_ms, key(session)));
        if let Some(end) = session.ends_at_ms() {
            self.due.remove(&(end, key(session)));
        }
    }

    fn take_due(&mut self, now_ms: u64, due: &mut Vec<Due>) {
        while let Some(&(at_ms, key)) = self.due.first()
            && at_ms <= now_ms
        {
            self.due.pop_first();
            let Some(session) = self.sessions.get(&key).map(Arc::clone) else {
                continue;
            };
            match session.ends_at_ms() {
                Some(end) if now_ms < end => {
                    self.due.insert((end, key));
                    let in_ms = end - now_ms;
                    due.push(Due::Announce { session, in_ms });
                }
                _ => due.push(Due::End(session)),
            }
        }
    }
}

impl Session {
    /// Takes effect before the connection is closed, which takes a moment.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether it was ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn ends_at_ms(&self) -> Option<u64> {
        let at_s = self.identity.ends_at_s?;
        Some(at_s.saturating_mul(1_000))
    }
}

fn key(session: &Session) -> (u64, u64) {
    (session.identity.key, session.conn.0)
}

/// A minute ahead, or in the middle of what is left.
fn announce_at_ms(now_ms: u64, end_ms: u64) -> u64 {
    let left_ms = end_ms.saturating_sub(now_ms);
    end_ms - (left_ms / 2).min(ANNOUNCE_AHEAD_MS)
}

fn lock(slice: &Mutex<Slice>) -> MutexGuard<'_, Slice> {
    slice.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Slices of the table, so that connections rarely wait for each other.
const SLICES: usize = 16;

/// How long ahead the end of a connection is announced.
const ANNOUNCE_AHEAD_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use danmaku_auth::{Algorithm, Claims, Key, KeySet, Rules, mint, verify};
    use danmaku_wire::RoomId;

    use super::*;

    const NOW_S: u64 = 1_764_000_000;
    const SECRET: &[u8] = b"an HS256 secret of 32 bytes or so";

    fn new(user: &str, conn: u64, ends_in_s: u64) -> NewSession {
        let claims = Claims {
            sub: user.to_owned(),
            exp: Some(NOW_S + ends_in_s),
            ..Claims::default()
        };
        let token = mint(Algorithm::Hs256, SECRET, None, &claims).unwrap();
        let keys = KeySet::new(vec![Key::new(Algorithm::Hs256, SECRET).unwrap()]);
        let user = verify(&token, &keys, &Rules::default(), NOW_S).unwrap();
        NewSession {
            identity: Identity::of(&user, &RoomId::parse("r").unwrap()).unwrap(),
            conn: ConnId(conn),
            dialect: Dialect::WsIdentity,
            room: RoomKey(1),
        }
    }

    fn open(table: &Arc<Sessions>, new: NewSession) -> SessionGuard {
        let opened = table.open(new, Duplicates::Unlimited, NOW_S * 1_000);
        opened.unwrap().0
    }

    /// What is due `after_s` seconds later: connections, and how soon they end.
    fn due(table: &Sessions, after_s: u64) -> Vec<(u64, Option<u64>)> {
        let due = table.due((NOW_S + after_s) * 1_000);
        due.iter()
            .map(|due| match due {
                Due::Announce { session, in_ms } => (session.conn.0, Some(*in_ms)),
                Due::End(session) => (session.conn.0, None),
            })
            .collect()
    }

    #[test]
    fn each_end_is_announced_once_and_comes_once() {
        let table = Arc::new(Sessions::default());
        let _long = open(&table, new("u1", 1, 600));
        let _short = open(&table, new("u2", 2, 20));
        let gone = open(&table, new("u3", 3, 20));
        drop(gone);
        assert_eq!(due(&table, 9), []);
        assert_eq!(due(&table, 10), [(2, Some(10_000))]);
        assert_eq!(due(&table, 19), []);
        assert_eq!(due(&table, 20), [(2, None)]);
        assert_eq!(due(&table, 541), [(1, Some(59_000))]);
        // Nobody looked in time to announce it.
        assert_eq!(due(&table, 700), [(1, None)]);
        assert_eq!(due(&table, 9_999), []);
    }

    #[test]
    fn a_new_token_replaces_the_time_of_the_old_one() {
        let table = Arc::new(Sessions::default());
        let mut held = [open(&table, new("u1", 1, 20))];
        assert_eq!(due(&table, 10), [(1, Some(10_000))]);
        held[0] = open(&table, new("u1", 1, 600));
        assert_eq!((due(&table, 20), table.len()), (Vec::new(), 1));
        held[0] = open(&table, new("u2", 1, 20));
        assert_eq!(table.len(), 1);
        drop(held);
        assert!(table.is_empty() && due(&table, 9_999).is_empty());
    }

    #[test]
    fn the_oldest_are_replaced_in_one_room_only() {
        let table = Arc::new(Sessions::default());
        let at = |conn, room| NewSession {
            room: RoomKey(room),
            ..new("u1", conn, 600)
        };
        let replace = |new| {
            let opened = table.open(new, Duplicates::Replace { max: 2 }, NOW_S * 1_000);
            let (guard, replaced) = opened.unwrap();
            (
                guard,
                replaced.iter().map(|conn| conn.0).collect::<Vec<_>>(),
            )
        };
        let kept: Vec<_> = [at(1, 1), at(2, 2), at(3, 1)].map(&replace).into();
        assert!(kept.iter().all(|(_, replaced)| replaced.is_empty()));
        let (_fourth, replaced) = replace(at(4, 1));
        assert_eq!(replaced, [1]);
        assert!(kept[0].0.is_over() && !kept[1].0.is_over());
        let refuse = Duplicates::Refuse { max: 2 };
        assert!(table.is_full(&kept[2].0.identity, RoomKey(1), refuse));
        assert!(table.open(at(5, 1), refuse, NOW_S * 1_000).is_err());
        assert!(table.open(at(6, 2), refuse, NOW_S * 1_000).is_ok());
    }

    /// Of the 1.1 KB that a viewer with a token may take, where a guest takes 0.82 KB.
    #[test]
    fn a_session_is_small() {
        let counts = 2 * size_of::<usize>();
        let guard = size_of::<(Arc<Session>, Arc<Sessions>)>();
        // B-trees are at least half full.
        let entries = size_of::<((u64, u64), Arc<Session>)>() + size_of::<(u64, (u64, u64))>();
        let bytes = size_of::<Session>() + counts + guard + 3 * entries / 2;
        assert!(bytes <= 300, "{bytes} bytes");
    }
}
