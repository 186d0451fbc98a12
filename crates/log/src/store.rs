//! What outlives a room's memory.

use std::sync::Arc;

use danmaku_wire::{Epoch, RoomId, Seq};

use crate::config::LogConfig;
#[cfg(feature = "double")]
use crate::double::{Double, DoubleRoom};
use crate::entry::Unavailable;
use crate::feed::Feed;
use crate::page::{Interval, Lookup, Page, Recent};
use crate::ring::Overflow;
use crate::samples::Steps;
use crate::sqlite::{Sqlite, SqliteRoom};

/// What outlives a room's memory.
#[derive(Clone, Debug)]
pub enum Store {
    /// None: accepted entries live in the ring, and a new ring is a new epoch.
    None,
    /// A SQLite file.
    Sqlite(Sqlite),
    /// A store for tests.
    #[cfg(feature = "double")]
    Double(Double),
}

/// The part of a store that is one room's.
#[derive(Clone, Debug)]
pub(crate) enum RoomStore {
    None,
    Sqlite(SqliteRoom),
    #[cfg(feature = "double")]
    Double(DoubleRoom),
}

impl Store {
    /// Opens a room: its store, and the ring that the store feeds.
    pub(crate) async fn open(
        &self,
        room: &RoomId,
        config: LogConfig,
        fresh: Epoch,
    ) -> Result<(RoomStore, Arc<Feed>), Unavailable> {
        match self {
            Self::None => {
                let feed = Feed::new(config, fresh, Seq::ZERO, Overflow::Keep);
                Ok((RoomStore::None, Arc::new(feed)))
            }
            Self::Sqlite(sqlite) => {
                let opened = sqlite.open(room, config, Some(fresh)).await?;
                let (room, feed) = opened.ok_or(Unavailable)?;
                Ok((RoomStore::Sqlite(room), feed))
            }
            #[cfg(feature = "double")]
            Self::Double(double) => {
                let (room, feed) = double.open(room, config, fresh).await?;
                Ok((RoomStore::Double(room), feed))
            }
        }
    }
}

impl Store {
    /// Opens a room that the store has something of; `None` if it has nothing.
    pub(crate) async fn find(
        &self,
        room: &RoomId,
        config: LogConfig,
    ) -> Result<Option<(RoomStore, Arc<Feed>)>, Unavailable> {
        match self {
            Self::None => Ok(None),
            Self::Sqlite(sqlite) => {
                let found = sqlite.open(room, config, None).await?;
                Ok(found.map(|(room, feed)| (RoomStore::Sqlite(room), feed)))
            }
            #[cfg(feature = "double")]
            Self::Double(_) => Ok(None),
        }
    }
}

impl RoomStore {
    /// See [`RoomLog::reach`](crate::RoomLog::reach); `None` if the ring decides.
    pub(crate) fn reach(&self, at_ms: u64) -> Option<u64> {
        match self {
            Self::Sqlite(room) => Some(room.reach(at_ms)),
            Self::None => None,
            #[cfg(feature = "double")]
            Self::Double(_) => None,
        }
    }

    /// Up to `limit` entries after `since`. Without a store there is nothing
    /// beside the ring.
    pub(crate) async fn read_after(&self, since: Seq, limit: usize) -> Result<Page, Unavailable> {
        match self {
            Self::None => Err(Unavailable),
            Self::Sqlite(room) => room.read_after(since, limit).await,
            #[cfg(feature = "double")]
            Self::Double(room) => room.read_after(since, limit).await,
        }
    }

    /// Up to `limit` entries in (`after`, `until`], the newest first.
    pub(crate) async fn read_down(
        &self,
        until: Seq,
        after: Seq,
        limit: usize,
    ) -> Result<Page, Unavailable> {
        match self {
            Self::None => Err(Unavailable),
            Self::Sqlite(room) => room.read_down(until, after, limit).await,
            #[cfg(feature = "double")]
            Self::Double(room) => room.read_down(until, after, limit).await,
        }
    }

    /// The last position before log time `at_ms`; the floor if there is none.
    pub(crate) async fn last_before(&self, at_ms: u64) -> Result<Seq, Unavailable> {
        match self {
            Self::None => Err(Unavailable),
            Self::Sqlite(room) => room.last_before(at_ms).await,
            #[cfg(feature = "double")]
            Self::Double(room) => room.last_before(at_ms).await,
        }
    }

    /// The comments of each of `steps`, retracted ones included.
    pub(crate) async fn count_comments(&self, steps: Steps) -> Result<Vec<u64>, Unavailable> {
        match self {
            Self::None => Err(Unavailable),
            Self::Sqlite(room) => room.count_comments(steps).await,
            #[cfg(feature = "double")]
            Self::Double(_) => Err(Unavailable),
        }
    }

    /// See [`Recent`].
    pub(crate) async fn read_last(
        &self,
        until: Seq,
        comments: usize,
        bytes_max: usize,
    ) -> Result<Recent, Unavailable> {
        match self {
            Self::None => Err(Unavailable),
            Self::Sqlite(room) => room.read_last(until, comments, bytes_max).await,
            #[cfg(feature = "double")]
            Self::Double(room) => room.read_last(until, comments, bytes_max).await,
        }
    }

    /// What is known of a position that is not in memory.
    pub(crate) async fn lookup(&self, id: Seq) -> Result<Lookup, Unavailable> {
        match self {
            Self::None => Ok(Lookup::NotHeld),
            Self::Sqlite(room) => room.lookup(id).await,
            #[cfg(feature = "double")]
            Self::Double(_) => Ok(Lookup::NotHeld),
        }
    }

    /// See [`Interval`].
    pub(crate) async fn read_between(
        &self,
        from_ms: u64,
        to_ms: u64,
        bytes_max: usize,
    ) -> Result<Interval, Unavailable> {
        match self {
            Self::None => Err(Unavailable),
            Self::Sqlite(room) => room.read_between(from_ms, to_ms, bytes_max).await,
            #[cfg(feature = "double")]
            Self::Double(room) => room.read_between(from_ms, to_ms, bytes_max).await,
        }
    }

    /// The last position that the store dropped; `None` without a store.
    pub(crate) fn floor(&self) -> Option<Seq> {
        match self {
            Self::None => None,
            Self::Sqlite(room) => Some(room.floor()),
            #[cfg(feature = "double")]
            Self::Double(room) => Some(room.floor()),
        }
    }
}
