//! What outlives a room's memory.

use std::sync::Arc;

use danmaku_wire::{Epoch, RoomId, Seq};

use crate::config::LogConfig;
#[cfg(feature = "double")]
use crate::double::{Double, DoubleRoom};
use crate::entry::Unavailable;
use crate::feed::Feed;
use crate::page::{Interval, Page, Recent};
use crate::ring::Overflow;

/// What outlives a room's memory.
#[derive(Clone, Debug)]
pub enum Store {
    /// None: accepted entries live in the ring, and a new ring is a new epoch.
    None,
    /// A store for tests.
    #[cfg(feature = "double")]
    Double(Double),
}

/// The part of a store that is one room's.
#[derive(Clone, Debug)]
pub(crate) enum RoomStore {
    None,
    #[cfg(feature = "double")]
    Double(DoubleRoom),
}

impl Store {
    /// Opens a room: its store, and the ring that the store feeds.
    #[cfg_attr(
        not(feature = "double"),
        expect(clippy::unused_async, reason = "a store is asked for the room")
    )]
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
            #[cfg(feature = "double")]
            Self::Double(double) => {
                let (room, feed) = double.open(room, config, fresh).await?;
                Ok((RoomStore::Double(room), feed))
            }
        }
    }
}

impl RoomStore {
    /// Up to `limit` entries after `since`. Without a store there is nothing
    /// beside the ring.
    pub(crate) async fn read_after(&self, since: Seq, limit: usize) -> Result<Page, Unavailable> {
        match self {
            Self::None => Err(Unavailable),
            #[cfg(feature = "double")]
            Self::Double(room) => room.read_after(since, limit).await,
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
            #[cfg(feature = "double")]
            Self::Double(room) => room.read_last(until, comments, bytes_max).await,
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
            #[cfg(feature = "double")]
            Self::Double(room) => room.read_between(from_ms, to_ms, bytes_max).await,
        }
    }

    /// The last position that the store dropped; `None` without a store.
    pub(crate) fn floor(&self) -> Option<Seq> {
        match self {
            Self::None => None,
            #[cfg(feature = "double")]
            Self::Double(room) => Some(room.floor()),
        }
    }
}
