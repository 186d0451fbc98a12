//! Writes to the file: groups of appends, each committed whole.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::error::{CommitError, OpenError, StoreError};
use crate::folder::{Files, Folder};
use crate::reader;
use crate::record::{Audit, Change, Changed};
use crate::records::Records;
use crate::retention::{self, Retention, Trimmed};
use crate::row::{Answer, RoomKey, RoomRow, int, uint};
use crate::schema;

/// The one writer of a data folder.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    file: PathBuf,
    files: Files,
    /// Erased bytes may still be in the write-ahead log.
    unscrubbed: bool,
    /// Unlocked last.
    folder: Folder,
}

/// A room's first entry, or its first one after it lost all.
#[derive(Clone, Copy, Debug)]
pub struct NewRoom<'a> {
    /// Its name.
    pub name: &'a str,
    /// The numbering of its positions.
    pub epoch: u64,
    /// The last position assigned so far.
    pub floor: u64,
}

impl Writer {
    /// Locks the folder and opens its file; creates both if needed.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let folder = Folder::open(folder)?;
        let file = folder.own_file();
        let connection = schema::open_for_writing(&file)?;
        let mut writer = Self {
            connection,
            file,
            files: folder.files(),
            unscrubbed: true,
            folder,
        };
        // What the last process had erased may still be there. A full disk must not keep the server from its readers.
        let _later = writer.scrub();
        // With the write-ahead log, which is there by now.
        writer.files = writer.folder.files();
        Ok(writer)
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    #[cfg(test)]
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// What the file knows of a room; `None` when it has nothing of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn room(&self, name: &str) -> Result<Option<RoomRow>, StoreError> {
        reader::room(&self.connection, name)
    }

    /// Begins a group.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin(&mut self) -> Result<Group<'_>, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Group {
            transaction,
            files: &self.files,
            unscrubbed: &mut self.unscrubbed,
            erased: false,
        })
    }

    /// Whether erased bytes may still be in the write-ahead log.
    #[must_use]
    pub fn is_unscrubbed(&self) -> bool {
        self.unscrubbed
    }

    /// Empties the write-ahead log into the file, so that what was erased is in neither. A reader in the middle of a read
    /// can prevent it: then [`Writer::is_unscrubbed`] stays true.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn scrub(&mut self) -> Result<(), StoreError> {
        let busy: bool =
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        self.unscrubbed = busy;
        Ok(())
    }

    /// Drops a small part of what is over the bounds of `retention`: nothing when nothing is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn trim(&mut self, retention: &Retention, now_ms: u64) -> Result<Vec<Trimmed>, StoreError> {
        let trimmed = retention::trim(&mut self.connection, retention, now_ms)?;
        self.unscrubbed |= !trimmed.is_empty();
        Ok(trimmed)
    }

    /// Drops the oldest entries of a room over `entries_max`, a limited number at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn trim_room(
        &mut self,
        room: RoomKey,
        head: u64,
        entries_max: u64,
    ) -> Result<Option<Trimmed>, StoreError> {
        let trimmed =
            retention::trim_room(&mut self.connection, room, head.saturating_sub(entries_max))?;
        self.unscrubbed |= trimmed.is_some();
        Ok(trimmed)
    }

    /// Forgets answers given before `before_ms`, a limited number at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_answers(&self, before_ms: u64) -> Result<(), StoreError> {
        retention::forget_answers(&self.connection, before_ms)
    }

    /// What is kept beside rooms' entries.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records(&self.connection)
    }

    /// Forgets records that have ended, and a limited number of samples that are older than what `retention` keeps of the
    /// entries. Whether any record had ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn forget_records(
        &mut self,
        retention: &Retention,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Deferred)?;
        let before_ms = retention::kept_since(&transaction, retention, now_ms)?;
        let records = Records(&transaction);
        records.forget_samples(before_ms, None)?;
        let forgot = records.forget_ended(now_ms)?;
        transaction.commit()?;
        self.unscrubbed |= forgot;
        Ok(forgot)
    }

    /// Checks that the files are still in their places: nothing that is written after one was deleted is kept.
    ///
    /// # Errors
    /// [`StoreError::Gone`].
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.files.check()
    }

    /// Whether the disk takes as much as a group of appends: writes that much and removes it again.
    ///
    /// # Errors
    /// [`StoreError`] as an append would get it.
    pub fn probe(&mut self) -> Result<(), StoreError> {
        self.check_files()?;
        let inserted = self
            .connection
            .execute("INSERT INTO probe VALUES (zeroblob(?1))", [PROBE_BYTES]);
        let deleted = self.connection.execute("DELETE FROM probe", []);
        inserted?;
        deleted?;
        Ok(())
    }
}

/// Appends on their way into the file: all of them or none.
#[derive(Debug)]
pub struct Group<'a> {
    transaction: Transaction<'a>,
    files: &'a Files,
    unscrubbed: &'a mut bool,
    erased: bool,
}

impl Group<'_> {
    /// Adds a room.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add_room(&self, room: NewRoom<'_>) -> Result<RoomKey, StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("INSERT INTO room (name, epoch, floor) VALUES (?1, ?2, ?3)")?;
        let key = statement.insert(params![room.name, int(room.epoch), int(room.floor)])?;
        Ok(RoomKey(key))
    }

    /// Adds an entry at the next position.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn insert(
        &self,
        room: RoomKey,
        seq: u64,
        at_ms: u64,
        kind: u8,
        body: &[u8],
    ) -> Result<(), StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO entry (room, seq, at_ms, kind, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        statement.execute(params![room.0, int(seq), int(at_ms), kind, body])?;
        Ok(())
    }

    /// Erases the body of an entry if its kind is at most `kind_max`. Its position stays taken. The body is overwritten with
    /// zeros of the same length, so that the page is changed in its place and leaves no copy.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn erase(&mut self, room: RoomKey, seq: u64, kind_max: u8) -> Result<(), StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "UPDATE entry SET body = zeroblob(length(body)) WHERE room = ?1 AND seq = ?2 AND kind <= ?3",
        )?;
        self.erased |= statement.execute(params![room.0, int(seq), kind_max])? > 0;
        Ok(())
    }

    /// The body of an entry: `None` if there is no such entry, or it was erased.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn body(&self, room: RoomKey, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT body FROM entry WHERE room = ?1 AND seq = ?2")?;
        let body = statement
            .query_row(params![room.0, int(seq)], |row| row.get(0))
            .optional()?;
        Ok(body.filter(|body: &Vec<u8>| !reader::is_erased(body)))
    }

    /// The positions that an append of this poster with this key was given at or after `since_ms`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn answer(
        &self,
        room: RoomKey,
        poster: u64,
        key: &str,
        since_ms: u64,
    ) -> Result<Option<Answer>, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT first, count FROM answer WHERE room = ?1 AND poster = ?2 AND key = ?3 AND at_ms >= ?4",
        )?;
        let answer = statement
            .query_row(params![room.0, int(poster), key, int(since_ms)], |row| {
                Ok(Answer {
                    first: uint(row.get(0)?),
                    count: uint(row.get(1)?),
                })
            })
            .optional()?;
        Ok(answer)
    }

    /// Keeps the positions given to an append with a key; an answer that is too old is replaced.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remember(
        &self,
        room: RoomKey,
        poster: u64,
        key: &str,
        answer: Answer,
        at_ms: u64,
    ) -> Result<(), StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT OR REPLACE INTO answer (room, poster, key, first, count, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        statement.execute(params![
            room.0,
            int(poster),
            key,
            int(answer.first),
            int(answer.count),
            int(at_ms)
        ])?;
        Ok(())
    }

    /// Makes a change of the records, and adds to the audit trail if it was made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn change(
        &mut self,
        change: &Change,
        audit: Option<&Audit>,
    ) -> Result<Changed, StoreError> {
        // These have the text of a comment, or take it away.
        self.erased |= matches!(
            change,
            Change::Pin { .. } | Change::Unpin { .. } | Change::Hold(_) | Change::Decide { .. }
        );
        Records(&self.transaction).change(change, audit)
    }

    /// Commits: once this returns, the group is on disk.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(self) -> Result<(), CommitError> {
        self.files.check().map_err(CommitError::Refused)?;
        self.transaction.commit()?;
        *self.unscrubbed |= self.erased;
        Ok(())
    }
}

/// Bytes that [`Writer::probe`] writes.
const PROBE_BYTES: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::ControlFlow;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::reader::Reader;

    fn room(writer: &mut Writer, times: &[u64]) -> RoomRow {
        let group = writer.begin().unwrap();
        let new = NewRoom {
            name: "r",
            epoch: 7,
            floor: 0,
        };
        let key = group.add_room(new).unwrap();
        for (seq, &at_ms) in (1..).zip(times) {
            group.insert(key, seq, at_ms, 0, b"body").unwrap();
        }
        group.commit().unwrap();
        writer.room("r").unwrap().unwrap()
    }

    fn refusal(folder: &Path) -> String {
        let error = Writer::open(folder).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn a_folder_is_used_once_at_a_time() {
        let folder = TempDir::new().unwrap();
        let writer = Writer::open(folder.path()).unwrap();
        assert!(refusal(folder.path()).ends_with("is in use by another process"));
        drop(writer);
        Writer::open(folder.path()).unwrap();
    }

    #[test]
    fn a_newer_a_foreign_and_a_damaged_file_are_left_alone() {
        let folder = TempDir::new().unwrap();
        let mut writer = Writer::open(folder.path()).unwrap();
        room(&mut writer, &[1; 2_000]);
        let connection = &writer.connection;
        connection.pragma_update(None, "user_version", 99).unwrap();
        drop(writer);
        assert!(refusal(folder.path()).contains("newer version: its schema is 99"));

        let file = folder.path().join("danmaku.db");
        let connection = Connection::open(&file).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection.pragma_update(None, "application_id", 5).unwrap();
        drop(connection);
        assert!(refusal(folder.path()).ends_with("is not a danmaku data file"));

        let connection = Connection::open(&file).unwrap();
        connection
            .pragma_update(None, "application_id", 0x646E_6D6B)
            .unwrap();
        drop(connection);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xA5);
        fs::write(&file, &bytes).unwrap();
        assert!(refusal(folder.path()).contains("is damaged"));
        fs::write(&file, "no database, but longer than its header, which has a hundred bytes; so this text goes on and on")
            .unwrap();
        assert!(refusal(folder.path()).contains("is damaged"));
    }

    #[test]
    fn nothing_is_committed_to_a_file_that_is_gone() {
        for name in ["danmaku.db", "danmaku.db-wal", "lock"] {
            let folder = TempDir::new().unwrap();
            let mut writer = Writer::open(folder.path()).unwrap();
            room(&mut writer, &[1]);
            let (file, aside) = (folder.path().join(name), folder.path().join("aside"));
            fs::rename(&file, &aside).unwrap();
            let gone = writer.begin().unwrap().commit().unwrap_err().to_string();
            assert!(gone.contains(name), "{gone}");
            assert!(writer.probe().is_err());
            // Another file in its place is not it.
            fs::copy(&aside, &file).unwrap();
            assert!(writer.check_files().is_err());
            fs::rename(&aside, &file).unwrap();
            writer.probe().unwrap();
        }
    }

    #[test]
    fn a_file_too_short_for_a_header_is_damaged() {
        for bytes in [0, 1, 99] {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join("danmaku.db"), vec![b'S'; bytes]).unwrap();
            let refusal = refusal(folder.path());
            assert!(refusal.contains("is damaged"), "{refusal}");
        }
    }

    #[test]
    fn a_write_ahead_log_without_its_file_is_damage() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("danmaku.db-wal"), "log").unwrap();
        assert!(refusal(folder.path()).contains("it is missing"));
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_done_again() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("danmaku.db.new"), "half").unwrap();
        drop(Writer::open(folder.path()).unwrap());
        assert!(!folder.path().join("danmaku.db.new").exists());
        Writer::open(folder.path()).unwrap();
    }

    #[test]
    fn files_are_for_their_owner_only() {
        let parent = TempDir::new().unwrap();
        let folder = parent.path().join("data");
        let mut writer = Writer::open(&folder).unwrap();
        room(&mut writer, &[1]);
        let backup = parent.path().join("backup");
        crate::back_up(&folder, &backup).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&backup), 0o600);
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap().path();
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }

    #[test]
    fn a_file_is_not_a_folder() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(refusal(&file).ends_with("it is not a folder"));
    }

    #[test]
    fn a_backup_overwrites_nothing_and_leaves_nothing_half_done() {
        let folder = TempDir::new().unwrap();
        let to = folder.path().join("backup");
        crate::back_up(&folder.path().join("none"), &to).unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&to, "mine").unwrap();
        let data = TempDir::new().unwrap();
        drop(Writer::open(data.path()).unwrap());
        crate::back_up(data.path(), &to).unwrap_err();
        assert_eq!(fs::read(&to).unwrap(), b"mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_time_is_found_by_position() {
        let folder = TempDir::new().unwrap();
        let mut writer = Writer::open(folder.path()).unwrap();
        let row = room(&mut writer, &[10, 10, 20, 30, 30, 30, 40]);
        assert_eq!((row.epoch, row.head, row.at_ms), (7, 7, 40));
        let reader = Reader::open(writer.file()).unwrap();
        for (at_ms, expected) in [(0, 0), (10, 0), (11, 2), (20, 2), (30, 3), (31, 6), (41, 7)] {
            let found = reader
                .last_before(row.key, row.floor, row.head, at_ms)
                .unwrap();
            assert_eq!(found, expected, "{at_ms}");
        }
        let mut seqs = Vec::new();
        reader
            .rows_down_from(row.key, 5, |row| {
                seqs.push(row.seq);
                if row.seq == 3 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .unwrap();
        assert_eq!(seqs, [5, 4, 3]);
    }

    #[test]
    fn retention_drops_whole_rooms_and_parts_of_them() {
        let folder = TempDir::new().unwrap();
        let mut writer = Writer::open(folder.path()).unwrap();
        let row = room(&mut writer, &[10, 20, 30]);
        let retention = Retention {
            age_ms_max: Some(100),
            bytes_max: None,
        };
        assert_eq!(writer.trim(&retention, 110).unwrap(), []);
        let trimmed = &writer.trim(&retention, 130).unwrap()[0];
        assert_eq!(
            (&*trimmed.room, trimmed.floor, trimmed.emptied),
            ("r", 2, false)
        );
        assert_eq!(writer.room("r").unwrap().unwrap().floor, 2);
        assert_eq!(writer.trim_room(row.key, 3, 1).unwrap(), None);
        let trimmed = writer.trim_room(row.key, 3, 0).unwrap().unwrap();
        assert_eq!((trimmed.floor, trimmed.emptied), (3, true));
        assert_eq!(writer.room("r").unwrap(), None);
        assert_eq!(writer.trim(&retention, 1_000).unwrap(), []);
    }
}
