//! Owns the limits on connections, posts, requests and held bytes: the engine's decisions behind short locks.

mod held;
mod users;

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use held::{Held, HoldRefusal};

use users::UserBuckets;

use danmaku_engine::admission::{
    AddressBook, AddressKey, AddressLimits, AddressRefusal, Rate, RateRefusal,
};

/// The limits on connections, posts, requests and held bytes.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionConfig {
    /// Connections in total.
    pub connections_max: u32,
    /// Connections from one address.
    pub connections_per_address_max: u32,
    /// Comments and likes from one connection.
    pub per_connection: Rate,
    /// Comments and likes from one user.
    pub per_user: Rate,
    /// Messages of any kind from one connection, pings included; it is closed if it sends more.
    pub flood: Rate,
    /// Posts from one address.
    pub per_address: Rate,
    /// Rooms created by one address.
    pub rooms_per_address: Rate,
    /// Comments into one room.
    pub per_room: Rate,
    /// Requests other than posts from one address.
    pub requests: Rate,
    /// Total bytes of request bodies and responses held.
    pub http_bytes_max: u32,
}

/// Counts connections, posts, requests and held bytes against the limits.
#[derive(Debug)]
pub struct Admission {
    connections: AtomicU32,
    connections_max: u32,
    bytes: AtomicU64,
    bytes_max: u32,
    users: UserBuckets,
    books: [Mutex<AddressBook>; BOOKS],
    /// IPv6 /48s, whose limits are [`SITE_SHARE`] times those of one address.
    sites: [Mutex<AddressBook>; BOOKS],
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionRefusal {
    /// The server is at its limit.
    #[error("the server is at its connection limit")]
    Total,
    /// The address is at its limit.
    #[error("too many connections from this address")]
    Address,
}

/// A place among the server's connections; given back when dropped.
#[derive(Debug)]
pub struct Place(Option<Arc<Admission>>);

/// A place among the connections of one address; given back when dropped. The address's requests are charged to it.
#[derive(Debug)]
pub struct AddressPermit {
    admission: Arc<Admission>,
    address: AddressKey,
}

/// A place among the server's connections and one among its address's; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit(AddressPermit);

/// What a connection was accepted with.
#[derive(Debug)]
pub enum Admitted {
    /// A connection whose requests are its peer's own.
    Direct(ConnectionPermit),
    /// A trusted proxy's connection: each request gets its own permit, from the address of its client.
    Proxy(Place),
}

impl Admission {
    /// With no connections and no posts yet.
    #[must_use]
    pub fn new(config: AdmissionConfig) -> Self {
        let bytes_share = |share: u32| (config.http_bytes_max / share).max(ADDRESS_BYTES_MIN);
        let limits = AddressLimits {
            connections_max: config.connections_per_address_max,
            posts: config.per_address,
            rooms: config.rooms_per_address,
            requests: config.requests,
            bytes_max: bytes_share(ADDRESS_BYTES_SHARE),
            addresses_max: ADDRESSES_MAX / BOOKS,
        };
        let site_limits = AddressLimits {
            connections_max: limits.connections_max.saturating_mul(SITE_SHARE),
            posts: limits.posts.times(SITE_SHARE),
            rooms: limits.rooms.times(SITE_SHARE),
            requests: limits.requests.times(SITE_SHARE),
            bytes_max: bytes_share(SITE_BYTES_SHARE),
            ..limits
        };
        Self {
            connections: AtomicU32::new(0),
            connections_max: config.connections_max,
            bytes: AtomicU64::new(0),
            bytes_max: config.http_bytes_max,
            users: UserBuckets::new(config.per_user),
            books: std::array::from_fn(|_| Mutex::new(AddressBook::new(limits))),
            sites: std::array::from_fn(|_| Mutex::new(AddressBook::new(site_limits))),
        }
    }

    /// Admits a connection from a trusted proxy, whose address has no limit.
    ///
    /// # Errors
    /// [`ConnectionRefusal::Total`]; nothing was counted.
    pub fn place(self: &Arc<Self>) -> Result<Place, ConnectionRefusal> {
        // Created first: dropping it undoes the count.
        let place = Place(Some(Arc::clone(self)));
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            return Err(ConnectionRefusal::Total);
        }
        Ok(place)
    }

    /// Admits a connection, or a request that a proxy passed on, from one address.
    ///
    /// # Errors
    /// [`ConnectionRefusal::Address`]; nothing was counted.
    pub fn address(
        self: &Arc<Self>,
        address: IpAddr,
        now: Duration,
    ) -> Result<AddressPermit, ConnectionRefusal> {
        let address = AddressKey::of(address);
        let refused = |_| ConnectionRefusal::Address;
        book(&self.books, address)
            .connect(address, now)
            .map_err(refused)?;
        if let Some(site) = address.site() {
            let connected = book(&self.sites, site).connect(site, now);
            if connected.is_err() {
                book(&self.books, address).disconnect(address);
            }
            connected.map_err(refused)?;
        }
        Ok(AddressPermit {
            admission: Arc::clone(self),
            address,
        })
    }

    /// Admits a connection.
    ///
    /// # Errors
    /// [`ConnectionRefusal`]; nothing was counted.
    pub fn connect(
        self: &Arc<Self>,
        address: IpAddr,
        now: Duration,
    ) -> Result<ConnectionPermit, ConnectionRefusal> {
        let place = self.place()?;
        self.address(address, now).map(|permit| place.hold(permit))
    }

    /// Charges `count` posts to a user.
    ///
    /// # Errors
    /// [`RateRefusal`] says when to retry.
    pub fn try_post_as(&self, user: u64, now: Duration, count: u32) -> Result<(), RateRefusal> {
        self.users.try_post(user, now, count)
    }

    /// Current connections.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Place {
    /// Combines this place with `permit` into a connection's permit.
    #[must_use]
    pub fn hold(mut self, permit: AddressPermit) -> ConnectionPermit {
        self.0 = None;
        ConnectionPermit(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(admission) = &self.0 {
            admission.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Admitted {
    /// The permit for the viewer on this connection; `forwarded` is its client's, if it came through a proxy.
    #[must_use]
    pub fn into_permit(self, forwarded: Option<AddressPermit>) -> Option<ConnectionPermit> {
        match self {
            Self::Direct(permit) => Some(permit),
            Self::Proxy(place) => forwarded.map(|permit| place.hold(permit)),
        }
    }
}

impl AddressPermit {
    /// Charges `count` posts to the address.
    ///
    /// # Errors
    /// [`RateRefusal`] says when to retry.
    pub fn try_post(&self, now: Duration, count: u32) -> Result<(), RateRefusal> {
        let Admission { books, sites, .. } = &*self.admission;
        book(books, self.address)
            .try_post(self.address, now, count)
            .map_err(refusal)?;
        match self.address.site() {
            None => Ok(()),
            Some(site) => book(sites, site)
                .try_post(site, now, count)
                .map_err(refusal),
        }
    }

    /// Charges one new room to the address.
    ///
    /// # Errors
    /// [`RateRefusal`] says when to retry.
    pub fn try_make_room(&self, now: Duration) -> Result<(), RateRefusal> {
        let Admission { books, sites, .. } = &*self.admission;
        book(books, self.address)
            .try_make_room(self.address, now)
            .map_err(refusal)?;
        match self.address.site() {
            None => Ok(()),
            Some(site) => book(sites, site).try_make_room(site, now).map_err(refusal),
        }
    }

    /// The connection's address.
    #[must_use]
    pub fn address(&self) -> AddressKey {
        self.address
    }

    /// Charges one request to the address.
    ///
    /// # Errors
    /// [`RateRefusal`] says when to retry.
    pub fn try_request(&self, now: Duration) -> Result<(), RateRefusal> {
        let Admission { books, sites, .. } = &*self.admission;
        book(books, self.address)
            .try_request(self.address, now)
            .map_err(refusal)?;
        match self.address.site() {
            None => Ok(()),
            Some(site) => book(sites, site).try_request(site, now).map_err(refusal),
        }
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Admission { books, sites, .. } = &*self.admission;
        book(books, self.address).disconnect(self.address);
        if let Some(site) = self.address.site() {
            book(sites, site).disconnect(site);
        }
    }
}

impl Deref for ConnectionPermit {
    type Target = AddressPermit;

    fn deref(&self) -> &AddressPermit {
        &self.0
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn book(books: &[Mutex<AddressBook>; BOOKS], address: AddressKey) -> MutexGuard<'_, AddressBook> {
    books[address.spread(BOOKS)]
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn refusal(refusal: AddressRefusal) -> RateRefusal {
    match refusal {
        AddressRefusal::Posts(refusal)
        | AddressRefusal::Rooms(refusal)
        | AddressRefusal::Requests(refusal) => refusal,
        // A permit keeps its address in the table.
        AddressRefusal::Connections { .. }
        | AddressRefusal::Bytes { .. }
        | AddressRefusal::BookFull => RateRefusal::RetryAfter(Duration::from_secs(1)),
    }
}

/// Number of address tables, so that accepting and posting rarely wait for each other.
const BOOKS: usize = 16;

/// Limits of an IPv6 /48, as a multiple of those of one of its 65,536 /64s. A /48 may be one site (RFC 6177) or a
/// carrier's thousands of phones.
const SITE_SHARE: u32 = 16;

/// One address may hold this fraction of all held bytes, so it takes that many addresses to exhaust them.
const ADDRESS_BYTES_SHARE: u32 = 16;

/// One /48 may hold this fraction of all held bytes.
const SITE_BYTES_SHARE: u32 = 4;

/// A share has room for at least two of the largest body or page.
const ADDRESS_BYTES_MIN: u32 = 1 << 20;

/// Addresses remembered at a time.
const ADDRESSES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn admission(connections_max: u32, per_address: u32) -> Arc<Admission> {
        let rate = Rate::new(1.0, 2).unwrap();
        Arc::new(Admission::new(AdmissionConfig {
            connections_max,
            connections_per_address_max: per_address,
            per_connection: rate,
            per_user: rate,
            flood: rate,
            per_address: rate,
            rooms_per_address: rate,
            per_room: rate,
            requests: rate,
            http_bytes_max: 4 << 20,
        }))
    }

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn a_dropped_permit_frees_its_place() {
        let admission = admission(2, 1);
        let first = admission.connect(ip(1), NOW).unwrap();
        let second = admission.connect(ip(2), NOW).unwrap();
        assert_eq!(
            admission.connect(ip(3), NOW).unwrap_err(),
            ConnectionRefusal::Total
        );
        drop(second);
        assert_eq!(
            admission.connect(ip(1), NOW).unwrap_err(),
            ConnectionRefusal::Address
        );
        assert_eq!(admission.connections(), 1);
        drop(first);
        admission.connect(ip(1), NOW).unwrap();
        assert_eq!(admission.connections(), 0);
    }

    #[test]
    fn connections_of_one_address_share_its_post_limit() {
        let admission = admission(9, 9);
        let one = admission.connect(ip(1), NOW).unwrap();
        let two = admission.connect(ip(1), NOW).unwrap();
        let other = admission.connect(ip(2), NOW).unwrap();
        one.try_post(NOW, 1).unwrap();
        two.try_post(NOW, 1).unwrap();
        assert_eq!(
            one.try_post(NOW, 1),
            Err(RateRefusal::RetryAfter(Duration::from_secs(1)))
        );
        other.try_post(NOW, 2).unwrap();
    }

    #[test]
    fn held_bytes_are_bounded_per_address_and_in_total() {
        // Of 4 MiB, one address may hold 1 MiB.
        let admission = admission(9, 9);
        let permits: Vec<_> = (1..=5)
            .map(|last| admission.connect(ip(last), NOW).unwrap())
            .collect();
        let [first, rest @ ..] = &permits[..] else {
            panic!("five permits");
        };
        let mut held = first.hold(NOW, 1 << 19).unwrap();
        held.more(NOW, 1 << 19).unwrap();
        assert_eq!(held.more(NOW, 1).unwrap_err(), HoldRefusal::Address);
        assert_eq!(first.hold(NOW, 1).unwrap_err(), HoldRefusal::Address);
        let others: Vec<_> = rest[..3]
            .iter()
            .map(|permit| permit.hold(NOW, 1 << 20).unwrap())
            .collect();
        assert_eq!(admission.bytes_held(), 4 << 20);
        assert_eq!(rest[3].hold(NOW, 1).unwrap_err(), HoldRefusal::Total);
        drop((held, others));
        assert_eq!(admission.bytes_held(), 0);
        let last = rest[3].hold(NOW, 1 << 20).unwrap();
        // It may outlive the connection.
        drop(permits);
        drop(last);
        assert_eq!(admission.bytes_held(), 0);
    }
}
