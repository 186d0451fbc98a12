//! Adds what was recorded elsewhere to a room, while no server uses the file.

use std::io;
use std::path::Path;

use danmaku_store::{
    Change, ChangeRefusal, CommitError, NewRoom, OpenError, RoomRow, StoreError, Stream, Writer,
};
use danmaku_wire::{Epoch, RoomId, Seq};

use super::codec;
use crate::entry::EntryBody;

/// A room of a data folder that no process uses. Blocks, and keeps servers from using the folder until it is dropped.
///
/// A running server cannot do this: log times would go back in front of its viewers, and a transaction as large as a
/// recording would keep all posts waiting.
#[derive(Debug)]
pub struct Importer {
    writer: Writer,
    room: RoomId,
    row: Option<RoomRow>,
    streams: Vec<Stream>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be written.
    #[error("cannot write the data file: {0}")]
    Commit(#[from] CommitError),
    /// The room has no place for another stream.
    #[error("cannot add a stream to the room: {0}")]
    Stream(#[from] ChangeRefusal),
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Commit(CommitError::Refused(error))
    }
}

impl Importer {
    /// Opens the folder, which exists: a new one would more likely be a typing error.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::InUse`] while a server uses it.
    pub fn open(folder: &Path, room: RoomId) -> Result<Self, OpenError> {
        if !folder.exists() {
            return Err(OpenError::Folder {
                folder: folder.to_owned(),
                source: io::Error::other("it does not exist"),
            });
        }
        let writer = Writer::open(folder)?;
        let failed = |source| OpenError::Sqlite {
            file: writer.file().to_owned(),
            source,
        };
        let row = writer.room(room.as_str()).map_err(failed)?;
        let streams = writer.records().streams(room.as_str()).map_err(failed)?;
        Ok(Self {
            writer,
            room,
            row,
            streams,
        })
    }

    /// The position that the first entry gets.
    #[must_use]
    pub fn first(&self) -> Seq {
        Seq::new(self.row.map_or(0, |row| row.head)).next()
    }

    /// Log time of the room's last entry: new ones must not be before it.
    #[must_use]
    pub fn last_ms(&self) -> u64 {
        self.row.map_or(0, |row| row.at_ms)
    }

    /// When the room's last stream began, Unix time in milliseconds.
    #[must_use]
    pub fn stream_start_ms(&self) -> Option<u64> {
        self.streams.last().map(|stream| stream.start_ms)
    }

    /// Adds all entries with their log times, which must not decrease, and a stream that began at `start_ms` unless the room
    /// has it; or nothing. A room that the file does not have takes the epoch `fresh`.
    ///
    /// # Errors
    /// [`ImportError`].
    ///
    /// # Panics
    /// The log times decrease.
    pub fn commit(
        mut self,
        fresh: Epoch,
        start_ms: Option<u64>,
        entries: impl IntoIterator<Item = (u64, EntryBody)>,
    ) -> Result<(), ImportError> {
        let (first, mut last_ms) = (self.first(), self.last_ms());
        let mut group = self.writer.begin()?;
        let key = match self.row {
            Some(row) => row.key,
            None => group.add_room(NewRoom {
                name: self.room.as_str(),
                epoch: fresh.value(),
                floor: 0,
            })?,
        };
        if let Some(start_ms) = start_ms
            && self
                .streams
                .iter()
                .all(|stream| stream.start_ms != start_ms)
        {
            let stream = Stream {
                id: 0,
                start_ms,
                end_ms: None,
                title: String::new(),
            };
            let room = self.room.as_str().to_owned();
            group.change(&Change::AddStream { room, stream }, None)??;
        }
        for (seq, (at_ms, body)) in (first.value()..).zip(entries) {
            assert!(last_ms <= at_ms, "log times decrease at {seq}");
            last_ms = at_ms;
            let kind = codec::kind(&body);
            codec::encode(&body, |bytes| group.insert(key, seq, at_ms, kind, bytes))?;
        }
        Ok(group.commit()?)
    }
}
