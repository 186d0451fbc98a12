//! Limits per network address: connections, posts, requests, new rooms, and bytes held for it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use thiserror::Error;

use super::{Rate, RateRefusal, TokenBucket};
use crate::random::{mix, scale};

/// The limits of an [`AddressBook`].
#[derive(Clone, Copy, Debug)]
pub struct AddressLimits {
    /// Connections open at once from one address.
    pub connections_max: u32,
    /// Comments from one address over all its connections and requests.
    pub posts: Rate,
    /// Rooms that one address makes.
    pub rooms: Rate,
    /// Requests from one address that read rather than post.
    pub requests: Rate,
    /// Bytes of bodies and answers held at once for one address.
    pub bytes_max: u32,
    /// Addresses remembered at once. An address is remembered while it has a connection, holds bytes, or has a bucket
    /// that is not full.
    pub addresses_max: usize,
}

/// Connections, posts and new rooms per address, bounded and without a timer: each new address pays for a search for
/// two that can be dropped.
#[derive(Debug)]
pub struct AddressBook {
    limits: AddressLimits,
    index: HashMap<AddressKey, usize>,
    entries: Vec<Entry>,
    /// Where the search for an entry to drop continues.
    hand: usize,
}

impl AddressBook {
    /// An empty book.
    pub fn new(limits: AddressLimits) -> Self {
        Self {
            limits,
            index: HashMap::new(),
            entries: Vec::new(),
            hand: 0,
        }
    }

    /// Counts one more connection of `address`. The caller owes a [`disconnect`](Self::disconnect) for each `Ok`.
    ///
    /// # Errors
    ///
    /// [`AddressRefusal::Connections`] when the address is at its limit, [`AddressRefusal::BookFull`].
    pub fn connect(&mut self, address: AddressKey, now: Duration) -> Result<(), AddressRefusal> {
        let max = self.limits.connections_max;
        let entry = self.entry(address, now)?;
        if entry.connections >= max {
            return Err(AddressRefusal::Connections { max });
        }
        entry.connections += 1;
        Ok(())
    }

    /// Takes back one [`connect`](Self::connect).
    pub fn disconnect(&mut self, address: AddressKey) {
        let at = self.index.get(&address).copied();
        debug_assert!(
            at.is_some_and(|at| self.entries[at].connections > 0),
            "{address:?} has no connection to close"
        );
        if let Some(at) = at {
            let entry = &mut self.entries[at];
            entry.connections = entry.connections.saturating_sub(1);
        }
    }

    /// Admits `n` comments from `address`, or none.
    ///
    /// # Errors
    ///
    /// [`AddressRefusal::Posts`] with the time to wait, [`AddressRefusal::BookFull`].
    pub fn try_post(
        &mut self,
        address: AddressKey,
        now: Duration,
        n: u32,
    ) -> Result<(), AddressRefusal> {
        let rate = self.limits.posts;
        self.entry(address, now)?
            .posts
            .try_take(rate, now, n)
            .map_err(AddressRefusal::Posts)
    }

    /// Lets `address` make one more room.
    ///
    /// # Errors
    ///
    /// [`AddressRefusal::Rooms`] with the time to wait, [`AddressRefusal::BookFull`].
    pub fn try_make_room(
        &mut self,
        address: AddressKey,
        now: Duration,
    ) -> Result<(), AddressRefusal> {
        let rate = self.limits.rooms;
        self.entry(address, now)?
            .rooms
            .try_take(rate, now, 1)
            .map_err(AddressRefusal::Rooms)
    }

    /// Admits one request from `address`.
    ///
    /// # Errors
    ///
    /// [`AddressRefusal::Requests`] with the time to wait, [`AddressRefusal::BookFull`].
    pub fn try_request(
        &mut self,
        address: AddressKey,
        now: Duration,
    ) -> Result<(), AddressRefusal> {
        let rate = self.limits.requests;
        self.entry(address, now)?
            .requests
            .try_take(rate, now, 1)
            .map_err(AddressRefusal::Requests)
    }

    /// Counts `bytes` more as held for `address`. The caller owes a [`release`](Self::release) of them.
    ///
    /// # Errors
    ///
    /// [`AddressRefusal::Bytes`] when they would exceed the limit, [`AddressRefusal::BookFull`].
    pub fn hold(
        &mut self,
        address: AddressKey,
        now: Duration,
        bytes: u32,
    ) -> Result<(), AddressRefusal> {
        let max = self.limits.bytes_max;
        let entry = self.entry(address, now)?;
        match entry.bytes.checked_add(bytes) {
            Some(held) if held <= max => {
                entry.bytes = held;
                Ok(())
            }
            _ => Err(AddressRefusal::Bytes { max }),
        }
    }

    /// Takes back what was [held](Self::hold).
    pub fn release(&mut self, address: AddressKey, bytes: u32) {
        let at = self.index.get(&address).copied();
        debug_assert!(
            at.is_some_and(|at| self.entries[at].bytes >= bytes),
            "{address:?} does not hold {bytes} bytes"
        );
        if let Some(at) = at {
            let entry = &mut self.entries[at];
            entry.bytes = entry.bytes.saturating_sub(bytes);
        }
    }

    /// Addresses remembered now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no address is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&mut self, address: AddressKey, now: Duration) -> Result<&mut Entry, AddressRefusal> {
        if let Some(&at) = self.index.get(&address) {
            return Ok(&mut self.entries[at]);
        }
        let looks = if self.entries.len() < self.limits.addresses_max {
            LOOKS_PER_INSERT
        } else {
            LOOKS_WHEN_FULL
        };
        self.forget_idle(now, looks);
        if self.entries.len() >= self.limits.addresses_max {
            return Err(AddressRefusal::BookFull);
        }
        let at = self.entries.len();
        self.entries.push(Entry {
            address,
            connections: 0,
            bytes: 0,
            posts: TokenBucket::new(),
            rooms: TokenBucket::new(),
            requests: TokenBucket::new(),
        });
        self.index.insert(address, at);
        Ok(&mut self.entries[at])
    }

    /// Checks `looks` entries from the hand on and drops those that are as good as new.
    fn forget_idle(&mut self, now: Duration, looks: usize) {
        for _ in 0..looks.min(self.entries.len()) {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            if self.entries[self.hand].is_idle(now) {
                self.forget(self.hand);
            } else {
                self.hand += 1;
            }
        }
    }

    fn forget(&mut self, at: usize) {
        let gone = self.entries.swap_remove(at);
        self.index.remove(&gone.address);
        if let Some(moved) = self.entries.get(at) {
            self.index.insert(moved.address, at);
        }
    }
}

/// Why an address was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[must_use]
pub enum AddressRefusal {
    /// The address is at its connection limit.
    #[error("more than {max} connections from one address")]
    Connections {
        /// The most that one address may have.
        max: u32,
    },
    /// The address posts too much.
    #[error("one address: {0}")]
    Posts(RateRefusal),
    /// The address makes too many rooms.
    #[error("one address: {0}")]
    Rooms(RateRefusal),
    /// The address sends too many requests.
    #[error("one address: {0}")]
    Requests(RateRefusal),
    /// The address is at its limit of held bytes.
    #[error("more than {max} bytes held for one address")]
    Bytes {
        /// The most that may be held for one address.
        max: u32,
    },
    /// The book is full, and every entry it checked is in use.
    #[error("too many addresses at once")]
    BookFull,
}

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address, which is what one household or one
/// rented machine has (RFC 6177), so that changing the lower half gains nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey(u64);

impl AddressKey {
    /// The upper half of an IPv6 address, or an IPv4 address where no IPv6 prefix can be.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            // 0000::/8 is not handed out (RFC 4291, 2.4), so a small number collides with no /64 but that of `::1`.
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits())),
            IpAddr::V6(v6) if v6 == Ipv6Addr::LOCALHOST => {
                Self(u64::from(Ipv4Addr::LOCALHOST.to_bits()))
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self(u64::from(a) << 48 | u64::from(b) << 32 | u64::from(c) << 16 | u64::from(d))
            }
        }
    }

    /// The number behind the key: the same one for the same address, on every machine.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The /48 around an IPv6 address's /64, which may be one site (RFC 6177). Keep it in a separate book: nothing
    /// tells it from a /64.
    pub fn site(self) -> Option<Self> {
        (self.0 > u64::from(u32::MAX)).then_some(Self(self.0 & !0xFFFF))
    }

    /// One of `slots` places, always the same and evenly spread: picks one of several books.
    pub fn spread(self, slots: usize) -> usize {
        usize::try_from(scale(mix(self.0), slots as u64)).unwrap_or(0)
    }
}

impl fmt::Display for AddressKey {
    /// The IPv4 address, or the /64.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.0) {
            Ok(bits) => Ipv4Addr::from_bits(bits).fmt(f),
            Err(_) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(self.0) << 64)),
        }
    }
}

#[derive(Debug)]
struct Entry {
    address: AddressKey,
    posts: TokenBucket,
    rooms: TokenBucket,
    requests: TokenBucket,
    connections: u32,
    bytes: u32,
}

impl Entry {
    fn is_idle(&self, now: Duration) -> bool {
        self.connections == 0
            && self.bytes == 0
            && self.posts.is_full(now)
            && self.rooms.is_full(now)
            && self.requests.is_full(now)
    }
}

/// More than one, so that the book shrinks faster than it grows.
const LOOKS_PER_INSERT: usize = 2;

/// A full book is worth a longer search, but not one that a flood of addresses can make expensive.
const LOOKS_WHEN_FULL: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> AddressKey {
        AddressKey::of(address.parse().unwrap())
    }

    fn v4(n: u32) -> AddressKey {
        AddressKey::of(IpAddr::V4(n.into()))
    }

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn book(connections_max: u32, addresses_max: usize) -> AddressBook {
        AddressBook::new(AddressLimits {
            connections_max,
            posts: Rate::new(1.0, 2).unwrap(),
            rooms: Rate::new(0.5, 1).unwrap(),
            requests: Rate::new(2.0, 3).unwrap(),
            bytes_max: 100,
            addresses_max,
        })
    }

    #[test]
    fn connections_are_counted_per_address() {
        let mut book = book(2, 10);
        let (a, b) = (key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(book.connect(a, secs(0)), Ok(()));
        assert_eq!(book.connect(a, secs(0)), Ok(()));
        assert_eq!(
            book.connect(a, secs(0)),
            Err(AddressRefusal::Connections { max: 2 })
        );
        assert_eq!(book.connect(b, secs(0)), Ok(()));
        book.disconnect(a);
        assert_eq!(book.connect(a, secs(0)), Ok(()));
    }

    #[test]
    fn posts_are_counted_per_address_over_its_connections() {
        let mut book = book(2, 10);
        let (a, b) = (key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(book.try_post(a, secs(0), 2), Ok(()));
        assert_eq!(
            book.try_post(a, secs(0), 1),
            Err(AddressRefusal::Posts(RateRefusal::RetryAfter(secs(1))))
        );
        assert_eq!(book.try_post(b, secs(0), 1), Ok(()));
        assert_eq!(
            book.try_post(b, secs(0), 3),
            Err(AddressRefusal::Posts(RateRefusal::OverBurst { burst: 2 }))
        );
    }

    #[test]
    fn requests_are_counted_apart_from_posts() {
        let mut book = book(2, 10);
        let a = key("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(book.try_request(a, secs(0)), Ok(()));
        }
        assert_eq!(
            book.try_request(a, secs(0)),
            Err(AddressRefusal::Requests(RateRefusal::RetryAfter(
                Duration::from_millis(500)
            )))
        );
        assert_eq!(book.try_post(a, secs(0), 2), Ok(()));
    }

    #[test]
    fn bytes_are_held_up_to_the_bound_and_keep_their_address() {
        let mut book = book(2, 1);
        let (a, b) = (key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(book.hold(a, secs(0), 60), Ok(()));
        let refused = Err(AddressRefusal::Bytes { max: 100 });
        assert_eq!(book.hold(a, secs(0), 41), refused);
        assert_eq!(book.hold(a, secs(0), u32::MAX), refused);
        assert_eq!(book.hold(a, secs(0), 40), Ok(()));
        assert_eq!(book.connect(b, secs(0)), Err(AddressRefusal::BookFull));
        book.release(a, 100);
        assert_eq!(book.connect(b, secs(0)), Ok(()));
    }

    #[test]
    fn an_address_that_comes_back_still_owes_its_posts() {
        let mut book = book(2, 10);
        let a = key("192.0.2.1");
        book.connect(a, secs(0)).unwrap();
        book.try_post(a, secs(0), 2).unwrap();
        book.disconnect(a);
        // Others come, and the search for idle entries passes over the one that still owes.
        for n in 1..=5 {
            book.connect(v4(n), secs(1)).unwrap();
        }
        assert_eq!(
            book.try_post(a, secs(1), 2),
            Err(AddressRefusal::Posts(RateRefusal::RetryAfter(secs(1))))
        );
    }

    #[test]
    fn rooms_are_counted_apart_from_posts_and_outlive_the_connection() {
        let mut book = book(2, 10);
        let (a, b) = (key("192.0.2.1"), key("192.0.2.2"));
        book.connect(a, secs(0)).unwrap();
        assert_eq!(book.try_make_room(a, secs(0)), Ok(()));
        assert_eq!(book.try_post(a, secs(0), 2), Ok(()));
        book.disconnect(a);
        for n in 1..=5 {
            book.connect(v4(n), secs(0)).unwrap();
        }
        assert_eq!(
            book.try_make_room(a, secs(0)),
            Err(AddressRefusal::Rooms(RateRefusal::RetryAfter(secs(2))))
        );
        assert_eq!(book.try_make_room(b, secs(0)), Ok(()));
        assert_eq!(book.try_make_room(a, secs(2)), Ok(()));
    }

    #[test]
    fn a_full_book_refuses_newcomers_and_serves_the_known() {
        let mut book = book(5, 3);
        for n in 1..=3 {
            book.connect(v4(n), secs(0)).unwrap();
        }
        assert_eq!(book.connect(v4(4), secs(0)), Err(AddressRefusal::BookFull));
        assert_eq!(
            book.try_post(v4(4), secs(0), 1),
            Err(AddressRefusal::BookFull)
        );
        assert_eq!(book.connect(v4(2), secs(0)), Ok(()));
        book.disconnect(v4(1));
        assert_eq!(book.connect(v4(4), secs(0)), Ok(()));
        assert_eq!(book.len(), 3);
    }

    #[test]
    fn a_stream_of_one_time_addresses_leaves_a_small_book() {
        let mut book = book(1, 1_000);
        for n in 0..100_000 {
            book.connect(v4(n), secs(0)).unwrap();
            book.disconnect(v4(n));
        }
        assert!(book.len() <= 2, "{}", book.len());
    }

    #[test]
    fn the_index_follows_every_forgotten_entry() {
        let mut book = book(1, 100);
        for n in 0..100 {
            book.connect(v4(n), secs(0)).unwrap();
        }
        for n in (0..100).step_by(3) {
            book.disconnect(v4(n));
        }
        for n in 1_000..1_034 {
            book.connect(v4(n), secs(0)).unwrap();
        }
        for n in (0..100).filter(|n| n % 3 != 0).chain(1_000..1_034) {
            assert_eq!(
                book.connect(v4(n), secs(0)),
                Err(AddressRefusal::Connections { max: 1 }),
                "{n}"
            );
        }
        assert_eq!(book.len(), book.index.len());
        for (at, entry) in book.entries.iter().enumerate() {
            assert_eq!(book.index[&entry.address], at);
        }
    }

    #[test]
    fn addresses_spread_over_slots() {
        let mut slots = [0u32; 16];
        for n in 0..16_000 {
            slots[v4(0x0A00_0000 + n).spread(16)] += 1;
        }
        assert!(slots.iter().all(|n| (850..1_150).contains(n)), "{slots:?}");
    }

    #[test]
    fn one_household_is_one_address() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.7"), key("192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        assert_eq!(key("::1"), key("127.0.0.1"));
    }

    #[test]
    fn one_site_has_many_addresses() {
        assert_eq!(key("2001:db8:1:2::1").site(), key("2001:db8:1:3::1").site());
        assert_ne!(key("2001:db8:1:2::1").site(), key("2001:db8:2:2::1").site());
        assert_eq!(key("192.0.2.7").site(), None);
        assert_eq!(key("::1").site(), None);
    }
}
