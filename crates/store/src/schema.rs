//! The schema, its versions, and how a connection is set up.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{OpenError, StoreError};
use crate::folder::private;

/// Opens the file for writing: checks its integrity and brings its schema up to date.
pub(crate) fn open_for_writing(file: &Path) -> Result<Connection, OpenError> {
    let failed = |source: StoreError| {
        if source.is_damage() {
            damaged(file, &source.to_string())
        } else {
            OpenError::Sqlite {
                file: file.to_owned(),
                source,
            }
        }
    };
    match fs::metadata(file) {
        Ok(found) if found.is_file() && found.len() < HEADER_BYTES => {
            return Err(damaged(file, &format!("it has {} bytes", found.len())));
        }
        Ok(_) => {}
        // A link to nowhere is not a new file: perhaps its disk is missing.
        Err(_) if file.is_symlink() => {}
        Err(_) if beside(file, "-wal").exists() => {
            return Err(damaged(file, "it is missing, its write-ahead log is there"));
        }
        Err(_) => create(file)?,
    }
    let mut connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    check_owner(file, &connection, &failed)?;
    check_integrity(file, &connection, &failed)?;
    set_up(&connection).map_err(failed)?;
    migrate(&mut connection).map_err(failed)?;
    begin_epochs(&mut connection).map_err(failed)?;
    Ok(connection)
}

/// Creates the file, complete, so that a file without a header is never a new one.
fn create(file: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Sqlite {
        file: file.to_owned(),
        source,
    };
    let denied = |source| OpenError::Folder {
        folder: file.parent().unwrap_or(file).to_owned(),
        source,
    };
    let new = beside(file, ".new");
    // A first start that was cut short may have left these.
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(beside(&new, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(denied(error)),
            _ => {}
        }
    }
    private().create_new(true).open(&new).map_err(denied)?;
    let mut connection = connect(&new, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(|error| failed(error.into()))?;
    migrate(&mut connection).map_err(failed)?;
    drop(connection);
    fs::rename(&new, file).map_err(denied)?;
    let folder = file.parent().map_or(Ok(()), sync_folder);
    folder.map_err(denied)
}

/// Puts the names in a folder on disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // A bare file name has an empty parent.
    let here = Path::new(".");
    let is_here = folder.as_os_str().is_empty();
    File::open(if is_here { here } else { folder })?.sync_all()
}

/// The file with this after its name.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens what is kept for the life of the process only.
pub(crate) fn open_in_memory() -> Result<Connection, StoreError> {
    let mut connection = Connection::open_in_memory()?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "max_page_count", MEMORY_PAGES_MAX)?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens the file for reading only. It exists, with the schema of this version.
pub(crate) fn open_for_reading(file: &Path) -> Result<Connection, StoreError> {
    connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(file: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_WAIT_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// Nothing is changed before this: the file may belong to a newer version, or to another application.
fn check_owner(
    file: &Path,
    connection: &Connection,
    failed: &impl Fn(StoreError) -> OpenError,
) -> Result<(), OpenError> {
    let number = |pragma| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, u32>(0))
            .map_err(|error| failed(error.into()))
    };
    let tables: u32 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| failed(error.into()))?;
    let found = number("user_version")?;
    if tables > 0 && (number("application_id")? != APPLICATION_ID || found == 0) {
        return Err(OpenError::Foreign {
            file: file.to_owned(),
        });
    }
    if found > SCHEMA_VERSION {
        return Err(OpenError::Newer {
            file: file.to_owned(),
            found,
            known: SCHEMA_VERSION,
        });
    }
    Ok(())
}

fn check_integrity(
    file: &Path,
    connection: &Connection,
    failed: &impl Fn(StoreError) -> OpenError,
) -> Result<(), OpenError> {
    match find_damage(connection).map_err(failed)? {
        None => Ok(()),
        Some(finding) => Err(damaged(file, &finding)),
    }
}

/// The first thing that is wrong with the file.
pub(crate) fn find_damage(connection: &Connection) -> Result<Option<String>, StoreError> {
    let finding: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    // A finding has a heading line.
    let last = finding.lines().last().unwrap_or_default();
    Ok((finding != "ok").then(|| last.to_owned()))
}

fn damaged(file: &Path, finding: &str) -> OpenError {
    OpenError::Damaged {
        file: file.to_owned(),
        finding: finding.to_owned(),
    }
}

fn set_up(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit is on disk when it returns.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What is deleted is overwritten in the file.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (version, step) in (1..).zip(MIGRATIONS) {
        if version > found {
            let transaction = connection.transaction()?;
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()?;
        }
    }
    Ok(())
}

/// Marks the file as a backup.
pub(crate) fn mark_backup(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS backup (unused INTEGER) STRICT")?;
    Ok(())
}

/// Begins a new epoch in every room of a backup that is restored: what was posted after it is not in it, so its positions are
/// given to other entries.
fn begin_epochs(connection: &mut Connection) -> Result<(), StoreError> {
    if connection.table_exists(None, "backup")? {
        let transaction = connection.transaction()?;
        transaction.execute_batch(
            "UPDATE room SET epoch = max(epoch + 1, CAST(unixepoch('subsec') * 1000 AS INTEGER)); \
             DROP TABLE backup;",
        )?;
        transaction.commit()?;
    }
    Ok(())
}

/// The steps from an empty file to this version. A step that was released never changes.
const MIGRATIONS: [&str; SCHEMA_VERSION as usize] = [
    // Entries are appended in the order of their commits and only their oldest are deleted. SQLite's pages of `entry` are
    // then never split, which would leave copies of bodies behind that nothing erases. Log times increase with positions, so a
    // time is searched for by position. A room's head is that of its last entry, so an append changes no row of `room`.
    "
    CREATE TABLE room (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        epoch INTEGER NOT NULL,
        floor INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE entry (
        serial INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX entry_by_place ON entry (room, seq);
    CREATE TABLE answer (
        serial INTEGER PRIMARY KEY,
        room INTEGER NOT NULL,
        poster INTEGER NOT NULL,
        key TEXT NOT NULL,
        first INTEGER NOT NULL,
        count INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        UNIQUE (room, poster, key)
    ) STRICT;
    CREATE TABLE probe (filler BLOB NOT NULL) STRICT;
    ",
    // Records outlive a room's entries, so they name it. An empty name stands for all rooms.
    "
    CREATE TABLE settings (room TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE sanction (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL,
        subject_kind INTEGER NOT NULL,
        subject TEXT NOT NULL,
        kind INTEGER NOT NULL,
        until_ms INTEGER,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sanction_by_room ON sanction (room);
    CREATE TABLE revocation (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind INTEGER NOT NULL,
        subject TEXT NOT NULL,
        issued_before_ms INTEGER,
        until_ms INTEGER,
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;
    -- Appended, like entries: it has the text of a comment.
    CREATE TABLE pin (
        serial INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL UNIQUE,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        body BLOB NOT NULL,
        until_ms INTEGER,
        who TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE stream (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL,
        start_ms INTEGER NOT NULL,
        end_ms INTEGER,
        title TEXT NOT NULL
    ) STRICT;
    CREATE INDEX stream_by_start ON stream (room, start_ms);
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        who TEXT NOT NULL,
        what TEXT NOT NULL,
        room TEXT NOT NULL,
        target TEXT NOT NULL,
        why TEXT NOT NULL
    ) STRICT;
    CREATE TABLE sample (
        serial INTEGER PRIMARY KEY,
        room TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        likes INTEGER NOT NULL,
        viewers INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX sample_by_time ON sample (room, at_ms);
    -- The few entries that are not comments, so that comments can be counted by position.
    CREATE INDEX event_by_place ON entry (room, seq) WHERE kind > 2;
    ",
    "
    CREATE TABLE terms (room TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;
    CREATE TABLE held (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        room TEXT NOT NULL,
        body BLOB NOT NULL,
        priority INTEGER NOT NULL,
        user TEXT NOT NULL,
        reported INTEGER,
        why TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        until_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX held_by_room ON held (room);
    CREATE INDEX held_by_end ON held (until_ms);
    ",
];

const SCHEMA_VERSION: u32 = 3;

/// Bytes of the header of every SQLite file.
const HEADER_BYTES: u64 = 100;

/// `dnmk`: tells the file from those of other applications.
const APPLICATION_ID: u32 = 0x646E_6D6B;

/// How long a connection waits for a lock, which only a foreign process can hold for long.
const BUSY_WAIT_MAX: Duration = Duration::from_millis(250);

/// Prepared statements that a connection keeps: more than there are.
const STATEMENTS_MAX: usize = 64;

/// Pages of 4 KiB that are kept without a file: 64 MiB.
const MEMORY_PAGES_MAX: u32 = 16_384;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::record::{Change, Held, Stream};
    use crate::writer::Writer;

    #[test]
    fn files_of_earlier_versions_are_migrated() {
        for version in 1..SCHEMA_VERSION {
            check(version);
        }
    }

    /// A file of an earlier version keeps what it has, and takes what is new.
    #[track_caller]
    fn check(version: u32) {
        let folder = TempDir::new().unwrap();
        let old = Connection::open(folder.path().join("danmaku.db")).unwrap();
        for step in &MIGRATIONS[..version as usize] {
            old.execute_batch(step).unwrap();
        }
        old.execute_batch(
            "INSERT INTO room VALUES (3, 'r', 7, 0);
             INSERT INTO entry VALUES (1, 3, 1, 10, 0, x'62'), (2, 3, 2, 20, 16, x'01');",
        )
        .unwrap();
        let mut expected = Vec::new();
        if version >= 2 {
            old.execute_batch("INSERT INTO stream VALUES (4, 'r', 1, 2, 'rehearsal')")
                .unwrap();
            expected.push(stream(4, 1, Some(2), "rehearsal"));
        }
        old.pragma_update(None, "application_id", APPLICATION_ID)
            .unwrap();
        old.pragma_update(None, "user_version", version).unwrap();
        drop(old);

        let mut writer = Writer::open(folder.path()).unwrap();
        let room = writer.room("r").unwrap().unwrap();
        assert_eq!((room.epoch, room.head, room.at_ms), (7, 2, 20));
        let change = Change::AddStream {
            room: "r".to_owned(),
            stream: stream(0, 5, None, "opening"),
        };
        let mut held = Held {
            id: 0,
            room: "r".to_owned(),
            body: b"body".to_vec(),
            priority: 0,
            user: "u".to_owned(),
            reported: None,
            why: String::new(),
            at_ms: 1,
            until_ms: u64::MAX >> 1,
        };
        let mut group = writer.begin().unwrap();
        let id = group.change(&change, None).unwrap().unwrap();
        expected.push(stream(id, 5, None, "opening"));
        let change = Change::Hold(held.clone());
        held.id = group.change(&change, None).unwrap().unwrap();
        group.commit().unwrap();
        drop(writer);

        let writer = Writer::open(folder.path()).unwrap();
        assert_eq!(writer.records().streams("r").unwrap(), expected);
        assert_eq!(writer.records().held().unwrap(), [held]);
    }

    fn stream(id: u64, start_ms: u64, end_ms: Option<u64>, title: &str) -> Stream {
        Stream {
            id,
            start_ms,
            end_ms,
            title: title.to_owned(),
        }
    }
}
