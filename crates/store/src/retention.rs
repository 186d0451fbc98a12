//! What is kept and for how long. Old entries go a few at a time, so that no commit waits long.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::error::StoreError;
use crate::row::{RoomKey, int, uint};

/// Bounds of what the file keeps. The oldest goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Age of an entry in milliseconds.
    pub age_ms_max: Option<u64>,
    /// Bytes of the file in use.
    pub bytes_max: Option<u64>,
}

/// A part of a room that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// The room's name.
    pub room: String,
    /// The last position dropped.
    pub floor: u64,
    /// Whether nothing is left: the room is no longer in the file.
    pub emptied: bool,
}

pub(crate) fn trim(
    connection: &mut Connection,
    retention: &Retention,
    now_ms: u64,
) -> Result<Vec<Trimmed>, StoreError> {
    let over = match retention.bytes_max {
        Some(bytes_max) => bytes_used(connection)? > bytes_max,
        None => false,
    };
    let cutoff_ms = match retention.age_ms_max {
        _ if over => u64::MAX,
        Some(age) => now_ms.saturating_sub(age),
        None => return Ok(Vec::new()),
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let mut floors = BTreeMap::new();
    let mut last = None;
    {
        let mut oldest = transaction.prepare_cached(
            "SELECT serial, room, seq, at_ms FROM entry ORDER BY serial LIMIT ?1",
        )?;
        let mut oldest = oldest.query([STEP_ENTRIES])?;
        while let Some(row) = oldest.next()? {
            if uint(row.get(3)?) >= cutoff_ms {
                break;
            }
            last = Some(row.get::<_, i64>(0)?);
            floors.insert(row.get(1)?, row.get(2)?);
        }
    }
    let Some(last) = last else {
        return Ok(Vec::new());
    };
    transaction
        .prepare_cached("DELETE FROM entry WHERE serial <= ?1")?
        .execute([last])?;
    let trimmed = floors
        .into_iter()
        .map(|(room, floor)| set_floor(&transaction, RoomKey(room), floor))
        .collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(trimmed)
}

pub(crate) fn trim_room(
    connection: &mut Connection,
    room: RoomKey,
    through: u64,
) -> Result<Option<Trimmed>, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let last: Option<i64> = transaction
        .prepare_cached(
            "SELECT max(seq) FROM (SELECT seq FROM entry WHERE room = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)",
        )?
        .query_row(params![room.0, int(through), STEP_ENTRIES], |row| row.get(0))?;
    let Some(last) = last else {
        return Ok(None);
    };
    transaction
        .prepare_cached("DELETE FROM entry WHERE room = ?1 AND seq <= ?2")?
        .execute(params![room.0, last])?;
    let trimmed = set_floor(&transaction, room, last)?;
    transaction.commit()?;
    Ok(Some(trimmed))
}

/// Records that a room lost its entries up to `floor`.
fn set_floor(
    transaction: &Transaction<'_>,
    room: RoomKey,
    floor: i64,
) -> Result<Trimmed, StoreError> {
    let name = transaction
        .prepare_cached("SELECT name FROM room WHERE key = ?1")?
        .query_row([room.0], |row| row.get(0))?;
    let left = transaction
        .prepare_cached("SELECT 1 FROM entry WHERE room = ?1 LIMIT 1")?
        .exists([room.0])?;
    if left {
        transaction
            .prepare_cached("UPDATE room SET floor = ?2 WHERE key = ?1")?
            .execute([room.0, floor])?;
    } else {
        for statement in [
            "DELETE FROM room WHERE key = ?1",
            "DELETE FROM answer WHERE room = ?1",
        ] {
            transaction.prepare_cached(statement)?.execute([room.0])?;
        }
    }
    Ok(Trimmed {
        room: name,
        floor: uint(floor),
        emptied: !left,
    })
}

pub(crate) fn forget_answers(
    connection: &mut Connection,
    before_ms: u64,
) -> Result<(), StoreError> {
    // In the order they were given.
    connection
        .prepare_cached(
            "DELETE FROM answer WHERE serial IN \
             (SELECT serial FROM (SELECT serial, at_ms FROM answer ORDER BY serial LIMIT ?2) WHERE at_ms < ?1)",
        )?
        .execute(params![int(before_ms), STEP_ENTRIES])?;
    Ok(())
}

/// The time since which entries are kept, in Unix milliseconds; 0 without bounds on age and bytes.
pub(crate) fn kept_since(
    connection: &Connection,
    retention: &Retention,
    now_ms: u64,
) -> Result<u64, StoreError> {
    let by_age = retention
        .age_ms_max
        .map_or(0, |age| now_ms.saturating_sub(age));
    if retention.bytes_max.is_none() {
        return Ok(by_age);
    }
    let oldest = connection
        .prepare_cached("SELECT at_ms FROM entry ORDER BY serial LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(by_age.max(oldest.map_or(0, uint)))
}

/// Bytes of the file that hold something; freed ones are used again before the file grows.
fn bytes_used(connection: &Connection) -> Result<u64, StoreError> {
    let number = |pragma| {
        let number = connection.pragma_query_value(None, pragma, |row| row.get(0));
        number.map(uint)
    };
    Ok((number("page_count")? - number("freelist_count")?) * number("page_size")?)
}

/// Entries dropped in one step.
const STEP_ENTRIES: u32 = 1_000;
