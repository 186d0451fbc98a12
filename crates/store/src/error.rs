//! Why the file cannot be opened, read or written.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

/// Why a folder or its file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be created or locked.
    #[error("cannot use the data folder {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process has locked the folder.
    #[error("the data folder {} is in use by another process", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The file's schema is newer than this version.
    #[error(
        "{} was written by a newer version: its schema is {found}, this version knows up to {known}",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its schema version.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// It is the file of another application.
    #[error("{} is not a danmaku data file", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The file's integrity check failed.
    #[error("{} is damaged ({finding}): restore a backup", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The first finding.
        finding: String,
    },
    /// Anything else that SQLite says.
    #[error("cannot open {}: {source}", file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// SQLite's error.
        source: StoreError,
    },
}

/// A read or a write failed; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's error.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A file of the folder was deleted, moved or replaced.
    #[error("{} was deleted, moved or replaced", file.display())]
    Gone {
        /// The file.
        file: PathBuf,
    },
}

impl StoreError {
    /// Whether the file is damaged: no waiting helps.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            Self::Gone { .. } => false,
        }
    }
}

/// Why a group was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing was committed.
    #[error(transparent)]
    Refused(StoreError),
    /// The disk failed in the middle: after a crash, the group may be there or not.
    #[error(transparent)]
    Unknown(StoreError),
}

impl CommitError {
    /// What SQLite said.
    #[must_use]
    pub fn cause(&self) -> &StoreError {
        match self {
            Self::Refused(error) | Self::Unknown(error) => error,
        }
    }
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
            Self::Unknown(error.into())
        } else {
            Self::Refused(error.into())
        }
    }
}
