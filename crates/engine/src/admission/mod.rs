//! Who may connect and how often they may post.
//!
//! Everything here is arithmetic on a time that the caller passes: a bucket and a table of addresses. What is counted
//! per connection, per address and per room, and what a refused poster is told, the server decides.

mod address;
mod bucket;

pub use address::{AddressBook, AddressKey, AddressLimits, AddressRefusal};
pub use bucket::{Rate, RateError, Refusal, SharedBucket, TokenBucket};
