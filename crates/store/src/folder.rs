//! The data folder, which one process uses at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{OpenError, StoreError};

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
        if path.exists() && !path.is_dir() {
            return Err(failed(io::Error::other("it is not a folder")));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let lock = private()
            .create(true)
            .truncate(true)
            .open(path.join(LOCK_NAME))
            .map_err(failed)?;
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

    /// The files as they are now.
    pub(crate) fn files(&self) -> Files {
        let known = [FILE_NAME, WAL_NAME, LOCK_NAME].into_iter();
        let known = known.filter_map(|name| {
            let file = self.path.join(name);
            let identity = identity(&file)?;
            Some((file, identity))
        });
        Files(known.collect())
    }
}

/// Which files a writer has open. SQLite goes on with a file that was deleted, as if nothing were lost.
#[derive(Debug)]
pub(crate) struct Files(Vec<(PathBuf, (u64, u64))>);

impl Files {
    /// Checks that they are still in their places. Costs a system call for each.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        for (file, known) in &self.0 {
            if identity(file) != Some(*known) {
                return Err(StoreError::Gone { file: file.clone() });
            }
        }
        Ok(())
    }
}

/// Its device and inode. By path: opening the file and closing it again would drop SQLite's locks.
fn identity(file: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Opens a file for writing which, if it is created, only its owner may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

const FILE_NAME: &str = "danmaku.db";

const WAL_NAME: &str = "danmaku.db-wal";

/// A file of its own: SQLite drops locks on the database when any of the process's descriptors of it is closed.
const LOCK_NAME: &str = "lock";
