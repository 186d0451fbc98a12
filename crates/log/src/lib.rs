//! Owns the log of a room: it orders and numbers its entries, and serves
//! reads of them. Beside it, the records: what else outlives a room's memory.
//!
//! An entry is *accepted* once [`RoomLog::append`] returns: the poster's ack
//! is sent after that, never before. A [`RoomLog`] is a ring of the newest
//! entries, fed after commit, and one [`Tail`] over a [`Store`]. The room
//! follows its log through the tail, so the log is also the room's bounded
//! mailbox: while the tail lags by more than [`LogConfig::tail_lag_max`],
//! appends are refused. Entries accepted by another node are never refused: a
//! full ring drops them, and the tail reads them from the store.
//!
//! ```text
//! { room_log, tail → store, records } → { sqlite, double } → { feed → ring → page → entry, in_force → settings, samples }
//! ```

mod config;
#[cfg(feature = "double")]
mod double;
mod entry;
mod feed;
#[cfg(test)]
mod fixture;
mod in_force;
mod page;
mod records;
mod ring;
mod room_log;
mod samples;
mod settings;
mod sqlite;
mod store;
mod tail;

use danmaku_wire::{Epoch, RoomId};

pub use config::LogConfig;
pub use danmaku_store::{
    Audit, AuditQuery, BackupError, Change, ChangeRefusal, CommitError, Held, OpenError, Pin,
    Revocation, Revoked, Sample, Sanction, SanctionKind, Stream, Subject, back_up,
};
#[cfg(feature = "double")]
pub use double::{Double, DoubleConfig};
pub use entry::{
    Append, AppendError, AppendKey, Appended, ChangeError, Entry, EntryBody, Unavailable,
};
pub use in_force::RoomRecords;
pub use page::{Interval, Lookup, Page, Recent};
pub use records::Records;
pub use room_log::RoomLog;
pub use samples::{SAMPLE_INTERVAL_MS, SAMPLE_SAME_MS, Sampled, Steps};
pub use settings::{OutOfRange, SLOW_MODE_S_MAX, Settings};
pub use sqlite::{
    COMMIT_MS_BOUNDS, Health, ImportError, Importer, Sqlite, SqliteConfig, StoreStats,
};
pub use store::Store;
pub use tail::{Tail, Tailed};

/// Opens the logs of rooms. Holds none of them, so a retired room's ring is
/// freed with its last handle.
#[derive(Clone, Debug)]
pub struct Log {
    config: LogConfig,
    store: Store,
    records: Records,
}

impl Log {
    /// A log over `store`; each room keeps in memory what `config` allows.
    #[must_use]
    pub fn new(config: LogConfig, store: Store) -> Self {
        let records = match &store {
            Store::Sqlite(file) => Records::in_file(file.clone()),
            _ => Records::in_memory(),
        };
        Self {
            config,
            store,
            records,
        }
    }

    /// What outlives rooms' memory beside their logs.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// One word for the start-up line.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.store {
            Store::None => "memory",
            Store::Sqlite(_) => "sqlite",
            #[cfg(feature = "double")]
            Store::Double(_) => "double",
        }
    }

    /// Opens the log of `room`. A new log takes the epoch `fresh`.
    ///
    /// # Errors
    /// [`Unavailable`] when the store does not answer.
    pub async fn open(&self, room: &RoomId, fresh: Epoch) -> Result<RoomLog, Unavailable> {
        let (store, feed) = self.store.open(room, self.config, fresh).await?;
        Ok(RoomLog::new(feed, store))
    }

    /// Opens the log of `room` if the store has something of it.
    ///
    /// # Errors
    /// [`Unavailable`] when the store does not answer.
    pub async fn find(&self, room: &RoomId) -> Result<Option<RoomLog>, Unavailable> {
        let found = self.store.find(room, self.config).await?;
        Ok(found.map(|(store, feed)| RoomLog::new(feed, store)))
    }

    /// The file that the log is kept in, if it is.
    #[must_use]
    pub fn file(&self) -> Option<&Sqlite> {
        match &self.store {
            Store::Sqlite(sqlite) => Some(sqlite),
            _ => None,
        }
    }
}
