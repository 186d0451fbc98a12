//! A copy of the file, taken while its writer goes on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::error::StoreError;
use crate::folder::{Folder, private};
use crate::schema;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The backup cannot be created; it must not exist yet.
    #[error("cannot create {}: {source}", file.display())]
    Create {
        /// The backup.
        file: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Reading the data file or writing the backup failed.
    #[error("cannot back up {}: {source}", file.display())]
    Copy {
        /// The data file.
        file: PathBuf,
        /// SQLite's error.
        source: StoreError,
    },
    /// The data file is damaged, and so is the copy.
    #[error("cannot back up {}: it is damaged ({finding})", file.display())]
    Damaged {
        /// The data file.
        file: PathBuf,
        /// The first finding.
        finding: String,
    },
}

/// Copies what is committed in `folder` now into the new file `to`, and checks the copy.
///
/// # Errors
/// [`BackupError`]; then there is no file `to`, unless it was there before.
pub fn back_up(folder: &Path, to: &Path) -> Result<(), BackupError> {
    let create = |file: &Path, source| BackupError::Create {
        file: file.to_owned(),
        source,
    };
    if to.exists() {
        return Err(create(to, io::ErrorKind::AlreadyExists.into()));
    }
    // Whatever ends this early, a file with the backup's name is a whole one.
    let partial = schema::beside(to, ".partial");
    private()
        .create_new(true)
        .open(&partial)
        .map_err(|source| create(&partial, source))?;
    let file = Folder::file(folder);
    let failed = match copy(&file, &partial) {
        Ok(None) => match publish(&partial, to) {
            Ok(()) => return Ok(()),
            Err(source) => create(to, source),
        },
        Ok(Some(finding)) => BackupError::Damaged { file, finding },
        Err(source) => BackupError::Copy { file, source },
    };
    // What is there is not a backup; that it failed is reported.
    let _ = fs::remove_file(&partial);
    Err(failed)
}

/// Gives the finished copy its name.
fn publish(partial: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(partial, to)?;
    to.parent().map_or(Ok(()), schema::sync_folder)
}

/// What is wrong with the copy, if anything is.
fn copy(file: &Path, to: &Path) -> Result<Option<String>, StoreError> {
    let from = schema::open_for_reading(file)?;
    let mut to = Connection::open(to)?;
    {
        let backup = Backup::new(&from, &mut to)?;
        // In one step, which sees one moment. The writer goes on beside it; its write-ahead log grows meanwhile.
        while backup.step(-1)? != StepResult::Done {
            std::thread::sleep(BUSY_PAUSE);
        }
    }
    // One file, not three.
    to.pragma_update(None, "journal_mode", "DELETE")?;
    schema::mark_backup(&to)?;
    schema::find_damage(&to)
}

/// Pause while another process holds a lock.
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
