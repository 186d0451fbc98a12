//! Who may connect and how often they may post.
//!
//! A token bucket and a table of addresses: pure arithmetic on a time that the caller passes. The server decides what
//! is counted per connection, address or room, and what a refused poster gets.

mod address;
mod bucket;

pub use address::{AddressBook, AddressKey, AddressLimits, AddressRefusal};
pub use bucket::{Rate, RateError, RateRefusal, SharedBucket, TokenBucket};
