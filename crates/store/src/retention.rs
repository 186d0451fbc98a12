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
    let over_bytes = match retention.bytes_max {
        Some(bytes_max) => bytes_used(connection)?.saturating_sub(bytes_max),
        None => 0,
    };
    let cutoff_ms = (retention.age_ms_max).map_or(0, |age| now_ms.saturating_sub(age));
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let Some(step) = Step::find(&transaction, over_bytes, cutoff_ms)? else {
        return Ok(Vec::new());
    };
    transaction
        .prepare_cached("DELETE FROM entry WHERE serial <= ?1")?
        .execute([step.last])?;
    // Keys go with the posts of their time. Otherwise many keys would leave no space for comments.
    forget_answers(&transaction, step.last_at_ms)?;
    let trimmed = (step.floors)
        .into_iter()
        .map(|(room, floor)| set_floor(&transaction, RoomKey(room), floor))
        .collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(trimmed)
}

/// The entries that go in one step: the oldest of the file.
#[derive(Default)]
struct Step {
    /// The serial number of the last one.
    last: i64,
    /// Its log time.
    last_at_ms: u64,
    /// The last one of each room.
    floors: BTreeMap<i64, i64>,
}

impl Step {
    /// As many as are older than `cutoff_ms` or hold `over_bytes`, up to a bound; `None` for none.
    fn find(
        transaction: &Transaction<'_>,
        over_bytes: u64,
        cutoff_ms: u64,
    ) -> Result<Option<Self>, StoreError> {
        let mut step: Option<Self> = None;
        let mut freed_bytes = 0;
        let mut oldest = transaction.prepare_cached(
            "SELECT serial, room, seq, at_ms, length(body) FROM entry ORDER BY serial LIMIT ?1",
        )?;
        let mut oldest = oldest.query([STEP_ENTRIES])?;
        while let Some(row) = oldest.next()? {
            let at_ms = uint(row.get(3)?);
            if at_ms >= cutoff_ms && freed_bytes >= over_bytes {
                break;
            }
            freed_bytes += uint(row.get(4)?) + ROW_BYTES;
            let step = step.get_or_insert_default();
            step.last = row.get(0)?;
            step.last_at_ms = at_ms;
            step.floors.insert(row.get(1)?, row.get(2)?);
        }
        Ok(step)
    }
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

pub(crate) fn forget_answers(connection: &Connection, before_ms: u64) -> Result<(), StoreError> {
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

/// Entries dropped in one step, at most.
const STEP_ENTRIES: u32 = 1_000;

/// Bytes of an entry and its place in the index beside its body. An estimate: what it leaves over the bound goes in the next
/// step.
const ROW_BYTES: u64 = 48;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::writer::{NewRoom, Writer};

    /// Fills a file with 20,000 entries of two rooms, and a key for every fourth one.
    fn full(writer: &mut Writer) {
        let group = writer.begin().unwrap();
        for name in ["a", "b"] {
            let new = NewRoom {
                name,
                epoch: 7,
                floor: 0,
            };
            let room = group.add_room(new).unwrap();
            for seq in 1..=10_000 {
                group.insert(room, seq, seq, 0, &[b'x'; 90]).unwrap();
                if seq % 4 == 0 {
                    let answer = crate::row::Answer {
                        first: seq,
                        count: 1,
                    };
                    let key = format!("key-{seq}");
                    group.remember(room, 1, &key, answer, seq).unwrap();
                }
            }
        }
        group.commit().unwrap();
    }

    /// Trims until nothing is over `bytes_max`; the bytes used then.
    fn trim_to(connection: &mut Connection, bytes_max: u64) -> u64 {
        let retention = Retention {
            age_ms_max: None,
            bytes_max: Some(bytes_max),
        };
        for _ in 0..1_000 {
            if trim(connection, &retention, 0).unwrap().is_empty() {
                return bytes_used(connection).unwrap();
            }
        }
        panic!("does not end");
    }

    #[test]
    fn only_what_is_over_the_bytes_goes() {
        let folder = TempDir::new().unwrap();
        let mut writer = Writer::open(folder.path()).unwrap();
        let empty = bytes_used(writer.connection()).unwrap();
        full(&mut writer);
        let connection = writer.connection();
        let mut used = bytes_used(connection).unwrap();
        // Pages are freed whole, those of the indexes some time after their entries.
        let slack = 16 << 10;
        for over in [0, 1, 4_096, 10_000, 100_000, 1_000_000] {
            let bytes_max = used - over;
            used = trim_to(connection, bytes_max);
            assert!(used <= bytes_max, "{over}: {used} of {bytes_max}");
            assert!(used + slack >= bytes_max, "{over}: {used} of {bytes_max}");
        }
        // Keys take none of the space that comments may have.
        let count = |table| {
            let query = format!("SELECT count(*) FROM {table}");
            connection
                .query_row(&query, [], |row| row.get::<_, i64>(0))
                .unwrap()
        };
        let (entries, answers) = (count("entry"), count("answer"));
        assert!(
            entries > 5_000 && answers < entries / 3,
            "{entries} {answers}"
        );
        assert_eq!(trim_to(writer.connection(), 0), empty);
    }
}
