//! The data folder, which one process uses at a time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// A data folder, locked until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Creates the folder if needed, and locks it.
    ///
    /// # Errors
    /// [`OpenError::Folder`], [`OpenError::InUse`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Folder {
            folder: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join(LOCK_NAME)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
                folder: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The file in a data folder.
    #[must_use]
    pub fn file(path: &Path) -> PathBuf {
        path.join(FILE_NAME)
    }

    pub(crate) fn own_file(&self) -> PathBuf {
        Self::file(&self.path)
    }
}

const FILE_NAME: &str = "danmaku.db";

/// A file of its own: SQLite drops locks on the database when any of the process's descriptors of it is closed.
const LOCK_NAME: &str = "lock";
