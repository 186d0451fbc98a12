//! Owns who may connect and post: the engine's decisions behind short locks.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use danmaku_engine::admission::{
    AddressBook, AddressKey, AddressLimits, AddressRefusal, Rate, Refusal,
};

/// The limits that need no identity.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionConfig {
    /// Connections in all.
    pub connections_max: u32,
    /// Connections from one address.
    pub connections_per_address_max: u32,
    /// Comments and likes from one connection.
    pub per_connection: Rate,
    /// Messages of any kind from one connection, pings too; it is closed over that.
    pub flood: Rate,
    /// Posts from one address.
    pub per_address: Rate,
    /// Rooms that one address makes.
    pub rooms_per_address: Rate,
    /// Comments into one room.
    pub per_room: Rate,
}

/// Counts connections and posts against the limits.
#[derive(Debug)]
pub struct Admission {
    connections: AtomicU32,
    connections_max: u32,
    books: [Mutex<AddressBook>; BOOKS],
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionRefusal {
    /// The server has as many as it may.
    #[error("the server has as many connections as it may")]
    Total,
    /// The address has as many as it may.
    #[error("too many connections from this address")]
    Address,
}

/// The right to be connected; given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    admission: Arc<Admission>,
    address: AddressKey,
}

impl Admission {
    /// Nobody is connected, nobody has posted.
    #[must_use]
    pub fn new(config: AdmissionConfig) -> Self {
        let limits = AddressLimits {
            connections_max: config.connections_per_address_max,
            posts: config.per_address,
            rooms: config.rooms_per_address,
            addresses_max: ADDRESSES_MAX / BOOKS,
        };
        Self {
            connections: AtomicU32::new(0),
            connections_max: config.connections_max,
            books: std::array::from_fn(|_| Mutex::new(AddressBook::new(limits))),
        }
    }

    /// Counts a connection in.
    ///
    /// # Errors
    /// [`ConnectionRefusal`]; nothing was counted.
    pub fn connect(
        self: &Arc<Self>,
        address: IpAddr,
        now: Duration,
    ) -> Result<ConnectionPermit, ConnectionRefusal> {
        if self.connections.fetch_add(1, Ordering::Relaxed) >= self.connections_max {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectionRefusal::Total);
        }
        let address = AddressKey::of(address);
        if self.book(address).connect(address, now).is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectionRefusal::Address);
        }
        Ok(ConnectionPermit {
            admission: Arc::clone(self),
            address,
        })
    }

    /// Connections now.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    fn book(&self, address: AddressKey) -> MutexGuard<'_, AddressBook> {
        self.books[address.spread(BOOKS)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    /// Takes `count` posts from what this connection's address may post.
    ///
    /// # Errors
    /// [`Refusal`] says when to come again.
    pub fn try_post(&self, now: Duration, count: u32) -> Result<(), Refusal> {
        let mut book = self.admission.book(self.address);
        book.try_post(self.address, now, count).map_err(retry)
    }

    /// Takes one room from what this connection's address may make.
    ///
    /// # Errors
    /// [`Refusal`] says when to come again.
    pub fn try_make_room(&self, now: Duration) -> Result<(), Refusal> {
        let mut book = self.admission.book(self.address);
        book.try_make_room(self.address, now).map_err(retry)
    }

    /// Whose connection it is.
    #[must_use]
    pub fn address(&self) -> AddressKey {
        self.address
    }
}

fn retry(refusal: AddressRefusal) -> Refusal {
    match refusal {
        AddressRefusal::Posts(refusal) | AddressRefusal::Rooms(refusal) => refusal,
        // A permit keeps its address in the book.
        AddressRefusal::Connections { .. } | AddressRefusal::BookFull => {
            Refusal::RetryAfter(Duration::from_secs(1))
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.admission.book(self.address).disconnect(self.address);
        self.admission.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Books, so that accepting and posting rarely wait for each other.
const BOOKS: usize = 16;

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
            flood: rate,
            per_address: rate,
            rooms_per_address: rate,
            per_room: rate,
        }))
    }

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn a_dropped_permit_gives_its_place_back() {
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
    fn connections_of_one_address_share_its_posts() {
        let admission = admission(9, 9);
        let one = admission.connect(ip(1), NOW).unwrap();
        let two = admission.connect(ip(1), NOW).unwrap();
        let other = admission.connect(ip(2), NOW).unwrap();
        one.try_post(NOW, 1).unwrap();
        two.try_post(NOW, 1).unwrap();
        assert_eq!(
            one.try_post(NOW, 1),
            Err(Refusal::RetryAfter(Duration::from_secs(1)))
        );
        other.try_post(NOW, 2).unwrap();
    }
}
