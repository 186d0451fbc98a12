//! Owns the budget for bytes that HTTP holds: bodies until they are posted, and responses until they are written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use danmaku_engine::admission::AddressKey;

use super::{AddressPermit, Admission, book};

/// Bytes held for an address; given back when dropped.
#[derive(Debug)]
pub struct Held {
    admission: Arc<Admission>,
    address: AddressKey,
    bytes: u32,
}

/// Why no more bytes may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldRefusal {
    /// The server is at its limit.
    Total,
    /// The address is over its share.
    Address,
}

impl AddressPermit {
    /// Reserves `bytes` for this address.
    ///
    /// # Errors
    /// [`HoldRefusal`]; nothing was counted.
    pub fn hold(&self, now: Duration, bytes: usize) -> Result<Held, HoldRefusal> {
        let mut held = Held {
            admission: Arc::clone(&self.admission),
            address: self.address,
            bytes: 0,
        };
        held.more(now, bytes)?;
        Ok(held)
    }
}

impl Held {
    /// Counts `bytes` more.
    ///
    /// # Errors
    /// [`HoldRefusal`]; no more was counted.
    pub fn more(&mut self, now: Duration, bytes: usize) -> Result<(), HoldRefusal> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.admission.hold(self.address, now, bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.admission.release(self.address, self.bytes);
        }
    }
}

impl Admission {
    /// Bytes of bodies and responses held now.
    #[must_use]
    pub fn bytes_held(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn hold(&self, address: AddressKey, now: Duration, bytes: u32) -> Result<(), HoldRefusal> {
        let before = self.bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
        let counted = if before + u64::from(bytes) > u64::from(self.bytes_max) {
            Err(HoldRefusal::Total)
        } else {
            self.hold_for(address, now, bytes)
        };
        if counted.is_err() {
            self.bytes.fetch_sub(u64::from(bytes), Ordering::Relaxed);
        }
        counted
    }

    fn hold_for(&self, address: AddressKey, now: Duration, bytes: u32) -> Result<(), HoldRefusal> {
        let refused = |_| HoldRefusal::Address;
        book(&self.books, address)
            .hold(address, now, bytes)
            .map_err(refused)?;
        let Some(site) = address.site() else {
            return Ok(());
        };
        let counted = book(&self.sites, site).hold(site, now, bytes);
        if counted.is_err() {
            book(&self.books, address).release(address, bytes);
        }
        counted.map_err(refused)
    }

    fn release(&self, address: AddressKey, bytes: u32) {
        book(&self.books, address).release(address, bytes);
        if let Some(site) = address.site() {
            book(&self.sites, site).release(site, bytes);
        }
        self.bytes.fetch_sub(u64::from(bytes), Ordering::Relaxed);
    }
}
