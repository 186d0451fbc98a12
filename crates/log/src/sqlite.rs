//! A store in a SQLite file: one writer thread that commits appends in groups and feeds the rings, and a few connections
//! that read.

mod codec;
#[cfg(feature = "double")]
mod hook;
mod housekeeping;
mod import;
mod log_time;
mod meter;
mod readers;
mod room;
mod writer;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use danmaku_store::{Audit, Change, OpenError, Records, Retention, StoreError, Writer};
use danmaku_wire::{Epoch, RoomId, Seq};
use tokio::sync::{Semaphore, oneshot, watch};

use self::meter::Meter;
use self::readers::Readers;
use self::room::{Message, OpenRoom, QueuedChange};
use self::writer::WriterThread;
use crate::config::LogConfig;
use crate::entry::{AppendError, ChangeError, Unavailable};
use crate::feed::Feed;
use crate::in_force::InForce;
use crate::ring::Overflow;

pub(crate) use self::housekeeping::unix_ms;
pub use self::import::{ImportError, Importer};
pub use self::meter::{COMMIT_MS_BOUNDS, StoreStats};
pub(crate) use self::room::SqliteRoom;

/// Where the file is, and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteConfig {
    /// The data folder, which one process uses at a time.
    pub folder: PathBuf,
    /// How long entries are kept.
    pub age_max: Option<Duration>,
    /// Bytes of the file in use; beyond that the oldest entries go.
    pub bytes_max: Option<u64>,
    /// Entries kept per room; checked when the room gets its next one.
    pub room_entries_max: Option<u64>,
}

/// Whether the store takes appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ready,
    /// It refuses them and tries again by itself.
    Failing {
        /// What is wrong.
        reason: String,
    },
}

/// A store in a SQLite file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sqlite(Arc<Shared>);

/// What all handles share.
#[derive(Debug)]
struct Shared {
    queue: SyncSender<Message>,
    /// Bytes that appends in the queue may hold.
    queue_bytes: Arc<Semaphore>,
    table: Arc<Table>,
    /// Held while a room is opened, so that nobody opens it from an outdated read.
    opening: [tokio::sync::Mutex<()>; OPENING_SLICES],
    hasher: RandomState,
    readers: Arc<Readers>,
    file: PathBuf,
}

/// What the handles and the writer thread share.
#[derive(Debug)]
struct Table {
    rooms: Mutex<Rooms>,
    health: watch::Sender<Health>,
    /// The file is damaged: it stays failing.
    damaged: AtomicBool,
    #[cfg(feature = "double")]
    before_commit: hook::Hook,
    in_force: Arc<InForce>,
    meter: Meter,
}

#[derive(Debug, Default)]
struct Rooms {
    open: HashMap<RoomId, Weak<OpenRoom>>,
    /// How often the file has dropped entries.
    trims: u64,
}

impl Sqlite {
    /// Opens the file, after its integrity check, and starts the writer thread.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn start(config: &SqliteConfig) -> Result<Self, OpenError> {
        let writer = Writer::open(&config.folder)?;
        let file = writer.file().to_owned();
        let in_force = InForce::load(&writer.records()).map_err(|source| OpenError::Sqlite {
            file: file.clone(),
            source,
        })?;
        let (queue, queued) = sync_channel(QUEUE_LEN);
        let table = Arc::new(Table {
            rooms: Mutex::default(),
            health: watch::Sender::new(Health::Ready),
            damaged: AtomicBool::new(false),
            #[cfg(feature = "double")]
            before_commit: hook::Hook::default(),
            in_force: Arc::new(in_force),
            meter: Meter::default(),
        });
        let readers = Readers::open(&file, Arc::clone(&table)).map_err(|source: StoreError| {
            let file = file.clone();
            OpenError::Sqlite { file, source }
        })?;
        let retention = Retention {
            age_ms_max: config
                .age_max
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            bytes_max: config.bytes_max,
        };
        let thread = WriterThread::new(
            writer,
            queued,
            Arc::clone(&table),
            retention,
            config.room_entries_max,
        );
        std::thread::Builder::new()
            .name("danmaku-store".to_owned())
            .spawn(move || thread.run())
            .map_err(|source| OpenError::Folder {
                folder: config.folder.clone(),
                source,
            })?;
        Ok(Self(Arc::new(Shared {
            queue,
            queue_bytes: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            table,
            opening: Default::default(),
            hasher: RandomState::new(),
            readers: Arc::new(readers),
            file,
        })))
    }

    /// Whether the store takes appends.
    #[must_use]
    pub fn health_now(&self) -> Health {
        self.0.table.health.borrow().clone()
    }

    /// Follows whether the store takes appends.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.table.health.subscribe()
    }

    /// Calls `hook` on the writer's thread before each commit of a group: a disk as slow as a test needs.
    #[cfg(feature = "double")]
    pub fn before_commits(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.0.table.before_commit.set(hook);
    }

    /// What the store did so far. Looks at the sizes of its files.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let bytes = |file: &Path| std::fs::metadata(file).map_or(0, |file| file.len());
        let mut wal = self.0.file.clone().into_os_string();
        wal.push("-wal");
        StoreStats {
            up: self.health_now() == Health::Ready,
            file_bytes: bytes(&self.0.file),
            wal_bytes: bytes(Path::new(&wal)),
            ..self.0.table.meter.read()
        }
    }

    pub(crate) fn in_force(&self) -> &Arc<InForce> {
        &self.0.table.in_force
    }

    /// Makes a change of the records: see [`Records::change`](crate::Records::change).
    pub(crate) async fn change(
        &self,
        change: Change,
        audit: Option<Audit>,
    ) -> Result<u64, ChangeError> {
        if *self.0.table.health.borrow() != Health::Ready {
            return Err(AppendError::Unavailable.into());
        }
        let (answer, answered) = oneshot::channel();
        let queued = QueuedChange {
            change,
            audit,
            answer,
        };
        self.0.queue_message(Message::Change(Box::new(queued)))?;
        answered
            .await
            .unwrap_or(Err(AppendError::OutcomeUnknown.into()))
    }

    pub(crate) async fn read_records<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Records<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let readers = &self.0.readers;
        readers.read(move |reader| read(&reader.records())).await
    }

    /// Commits what is queued, then closes the file and unlocks the folder.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let mut message = Message::Stop(done);
        // The queue is bounded, and the thread empties it.
        while let Err(TrySendError::Full(refused)) = self.0.queue.try_send(message) {
            message = refused;
            tokio::time::sleep(STOP_POLL).await;
        }
        let _stopped_already = stopped.await;
    }

    /// Opens a room. One that the store has nothing of takes the epoch `fresh`, or is `None` without one.
    pub(crate) async fn open(
        &self,
        id: &RoomId,
        config: LogConfig,
        fresh: Option<Epoch>,
    ) -> Result<Option<(SqliteRoom, Arc<Feed>)>, Unavailable> {
        let slice =
            usize::try_from(self.0.hasher.hash_one(id) % OPENING_SLICES as u64).unwrap_or_default();
        let _alone = self.0.opening[slice].lock().await;
        if let Some(room) = self.0.table.find(id) {
            let feed = Arc::clone(room.feed());
            return Ok(Some((SqliteRoom::new(room), feed)));
        }
        loop {
            let trims = self.0.table.rooms().trims;
            let name = id.as_str().to_owned();
            let row = self
                .0
                .readers
                .read(move |reader| reader.room(&name))
                .await?;
            let epoch = match (row, fresh) {
                (Some(row), _) => Epoch::new(row.epoch),
                (None, Some(fresh)) => fresh,
                (None, None) => return Ok(None),
            };
            let head = Seq::new(row.map_or(0, |row| row.head));
            let feed = Arc::new(Feed::new(config, epoch, head, Overflow::KeepUntaken));
            let shared = Arc::clone(&self.0);
            let room = Arc::new(OpenRoom::new(id.clone(), row, Arc::clone(&feed), shared));
            let mut rooms = self.0.table.rooms();
            // What was read may be gone by now.
            if rooms.trims == trims {
                rooms.open.insert(id.clone(), Arc::downgrade(&room));
                return Ok(Some((SqliteRoom::new(room), feed)));
            }
            drop(rooms);
        }
    }

    /// Up to `limit` rooms that the file has entries of, in order of their names, after `after`.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn rooms_after(
        &self,
        after: Option<&RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomId>, Unavailable> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let after = after.map_or_else(String::new, |id| id.as_str().to_owned());
        let names = self
            .0
            .readers
            .read(move |reader| reader.rooms_after(&after, limit))
            .await?;
        Ok(names
            .iter()
            .filter_map(|name| RoomId::parse(name).ok())
            .collect())
    }
}

impl Shared {
    fn queue_message(&self, message: Message) -> Result<(), AppendError> {
        // Before it is sent: the thread may take it right away.
        self.table.meter.queued();
        self.queue.try_send(message).map_err(|refused| {
            self.table.meter.taken();
            match refused {
                TrySendError::Full(_) => QUEUE_FULL,
                TrySendError::Disconnected(_) => AppendError::Unavailable,
            }
        })
    }
}

impl Table {
    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an episode: appends are refused until the file can be written again, or until a backup is restored.
    fn fail(&self, error: &StoreError) {
        let reason = if error.is_damage() {
            self.damaged.store(true, Ordering::Relaxed);
            format!("{error}: restore a backup")
        } else {
            error.to_string()
        };
        let failing = Health::Failing { reason };
        self.health.send_if_modified(|health| {
            // An episode keeps its first reason, unless it turns out not to pass.
            let begins = *health == Health::Ready || error.is_damage();
            begins && std::mem::replace(health, failing.clone()) != failing
        });
    }

    fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    fn find(&self, id: &RoomId) -> Option<Arc<OpenRoom>> {
        self.rooms().open.get(id).and_then(Weak::upgrade)
    }
}

/// Appends and changes that wait for their commit.
const QUEUE_LEN: usize = 4_096;

const QUEUE_FULL: AppendError = AppendError::Overloaded {
    behind: QUEUE_LEN as u64,
};

/// Bytes of entries that wait for their commit.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Rooms that can be opened at the same time.
const OPENING_SLICES: usize = 16;

/// How often a stop looks for a place in a full queue.
const STOP_POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
