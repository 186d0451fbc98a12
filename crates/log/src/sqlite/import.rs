//! Adds what was recorded elsewhere to a room, while no server uses the file.

use std::path::Path;

use danmaku_store::{CommitError, NewRoom, OpenError, RoomRow, Writer};
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
}

impl Importer {
    /// Opens the folder, which is created if needed.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::InUse`] while a server uses it.
    pub fn open(folder: &Path, room: RoomId) -> Result<Self, OpenError> {
        let writer = Writer::open(folder)?;
        let row = writer.room(room.as_str());
        let row = row.map_err(|source| OpenError::Sqlite {
            file: writer.file().to_owned(),
            source,
        })?;
        Ok(Self { writer, room, row })
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

    /// Adds all entries with their log times, which must not decrease, or none. A room that the file does not have takes the
    /// epoch `fresh`.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(
        mut self,
        fresh: Epoch,
        entries: impl IntoIterator<Item = (u64, EntryBody)>,
    ) -> Result<(), CommitError> {
        let (first, mut last_ms) = (self.first(), self.last_ms());
        let group = self.writer.begin().map_err(CommitError::Refused)?;
        let key = match self.row {
            Some(row) => row.key,
            None => group
                .add_room(NewRoom {
                    name: self.room.as_str(),
                    epoch: fresh.value(),
                    floor: 0,
                })
                .map_err(CommitError::Refused)?,
        };
        for (seq, (at_ms, body)) in (first.value()..).zip(entries) {
            assert!(last_ms <= at_ms, "log times decrease at {seq}");
            last_ms = at_ms;
            let kind = codec::kind(&body);
            codec::encode(&body, |bytes| group.insert(key, seq, at_ms, kind, bytes))
                .map_err(CommitError::Refused)?;
        }
        group.commit()
    }
}
