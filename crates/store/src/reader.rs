//! Reads of the file, beside the writer.

use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::StoreError;
use crate::records::Records;
use crate::row::{RoomKey, RoomRow, Row, int, uint};
use crate::schema;

/// A connection that reads what is committed.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// A reader of a file that a [`Writer`](crate::Writer) has opened before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            connection: schema::open_for_reading(file)?,
        })
    }

    /// What the file knows of a room; `None` when it has nothing of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn room(&self, name: &str) -> Result<Option<RoomRow>, StoreError> {
        room(&self.connection, name)
    }

    /// Up to `limit` rooms in order of their names, after the room `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rooms_after(&self, after: &str, limit: u32) -> Result<Vec<String>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT name FROM room WHERE name > ?1 ORDER BY name LIMIT ?2")?;
        let rooms = statement.query_map(params![after, limit], |row| row.get(0))?;
        Ok(rooms.collect::<Result<_, _>>()?)
    }

    /// What is kept beside rooms' entries.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records(&self.connection)
    }

    /// Calls `each` for the entries after `after`, in order, until it breaks. Erased ones are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_after(
        &self,
        room: RoomKey,
        after: u64,
        each: impl FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let query = "SELECT seq, at_ms, kind, body FROM entry \
             WHERE room = ?1 AND seq > ?2 ORDER BY seq";
        self.rows(query, room, after, each)
    }

    /// Calls `each` for the entries at or below `until`, the newest first, until it breaks. Erased ones are left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn rows_down_from(
        &self,
        room: RoomKey,
        until: u64,
        each: impl FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let query = "SELECT seq, at_ms, kind, body FROM entry \
             WHERE room = ?1 AND seq <= ?2 ORDER BY seq DESC";
        self.rows(query, room, until, each)
    }

    fn rows(
        &self,
        query: &str,
        room: RoomKey,
        from: u64,
        mut each: impl FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query(params![room.0, int(from)])?;
        while let Some(row) = rows.next()? {
            let row = Row {
                seq: uint(row.get(0)?),
                at_ms: uint(row.get(1)?),
                kind: row.get(2)?,
                body: row.get(3)?,
            };
            if !is_erased(&row.body) && each(row).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The kind of an entry, and whether it was erased; `None` if there is no such entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn kind(&self, room: RoomKey, seq: u64) -> Result<Option<(u8, bool)>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT kind, body FROM entry WHERE room = ?1 AND seq = ?2")?;
        let kind = statement
            .query_row(params![room.0, int(seq)], |row| {
                Ok((row.get(0)?, is_erased(row.get_ref(1)?.as_blob()?)))
            })
            .optional()?;
        Ok(kind)
    }

    /// How many entries in (`after`, `until`] have a kind above `kind_max`, which are few: they have an index.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn count_above(
        &self,
        room: RoomKey,
        after: u64,
        until: u64,
        kind_max: u8,
    ) -> Result<u64, StoreError> {
        // The first condition on kinds is that of the index.
        let mut statement = self.connection.prepare_cached(
            "SELECT count(*) FROM entry WHERE room = ?1 AND seq > ?2 AND seq <= ?3 AND kind > 2 AND kind > ?4",
        )?;
        let counted = statement
            .query_row(params![room.0, int(after), int(until), kind_max], |row| {
                row.get(0)
            })?;
        Ok(uint(counted))
    }

    /// The last position in (`floor`, `head`] before log time `at_ms`; the floor if there is none. Log times increase with
    /// positions: a binary search, so it takes 20 look-ups in a room of a million entries.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_before(
        &self,
        room: RoomKey,
        floor: u64,
        head: u64,
        at_ms: u64,
    ) -> Result<u64, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, at_ms FROM entry WHERE room = ?1 AND seq >= ?2 ORDER BY seq LIMIT 1",
        )?;
        // Everything up to `low` is before `at_ms`, and everything from `high` on is not.
        let (mut low, mut high) = (floor, head.saturating_add(1));
        while low.saturating_add(1) < high {
            let middle = low + (high - low) / 2;
            let found = statement
                .query_row(params![room.0, int(middle)], |row| {
                    Ok((uint(row.get(0)?), uint(row.get(1)?)))
                })
                .optional()?;
            match found {
                Some((seq, time)) if time < at_ms => low = seq,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// Whether a body was overwritten; no other is all zeros.
pub(crate) fn is_erased(body: &[u8]) -> bool {
    body.iter().all(|&byte| byte == 0)
}

pub(crate) fn room(connection: &Connection, name: &str) -> Result<Option<RoomRow>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT room.key, epoch, floor, seq, at_ms FROM room JOIN entry ON entry.room = room.key \
         WHERE name = ?1 ORDER BY seq DESC LIMIT 1",
    )?;
    let room = statement
        .query_row([name], |row| {
            Ok(RoomRow {
                key: RoomKey(row.get(0)?),
                epoch: uint(row.get(1)?),
                floor: uint(row.get(2)?),
                head: uint(row.get(3)?),
                at_ms: uint(row.get(4)?),
            })
        })
        .optional()?;
    Ok(room)
}
