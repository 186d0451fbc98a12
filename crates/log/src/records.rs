//! What outlives a room's memory beside its log: settings, sanctions, pins, streams, samples, revocations and the audit
//! trail.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use danmaku_store::{
    Audit, AuditQuery, Change, ChangeRefusal, Held, Memory, Revocation, SettingsRow, StoreError,
    Stream,
};
use danmaku_wire::RoomId;

use crate::entry::{AppendError, ChangeError, Unavailable};
use crate::in_force::{InForce, RoomRecords};
use crate::samples::{Sampled, Steps, Summary};
use crate::settings::Settings;
use crate::sqlite::{Sqlite, unix_ms};

/// The records: in the data file if there is one, and else for the life of the process. Cheap to clone.
///
/// What posts and joins are checked against is in memory, for all rooms; the rest is read when it is asked for.
#[derive(Clone, Debug)]
pub struct Records(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    kept: Kept,
    in_force: Arc<InForce>,
    /// Held while settings are read, changed and written.
    updating: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
enum Kept {
    InFile(Sqlite),
    InMemory(Mutex<Memory>),
}

impl Records {
    pub(crate) fn in_file(file: Sqlite) -> Self {
        let in_force = Arc::clone(file.in_force());
        Self::new(Kept::InFile(file), in_force)
    }

    pub(crate) fn in_memory() -> Self {
        let memory = Memory::new().expect("invariant: there is memory for a few empty tables");
        Self::new(Kept::InMemory(Mutex::new(memory)), Arc::default())
    }

    fn new(kept: Kept, in_force: Arc<InForce>) -> Self {
        Self(Arc::new(Shared {
            kept,
            in_force,
            updating: tokio::sync::Mutex::default(),
        }))
    }

    /// What holds in `room` beside what holds everywhere; `None` if nothing does.
    #[must_use]
    pub fn of_room(&self, room: &RoomId) -> Option<Arc<RoomRecords>> {
        self.0.in_force.room(Some(room.as_str()))
    }

    /// What holds in every room; `None` if nothing does.
    #[must_use]
    pub fn of_all_rooms(&self) -> Option<Arc<RoomRecords>> {
        self.0.in_force.room(None)
    }

    /// What was set for `room`, or as the default of all rooms.
    #[must_use]
    pub fn own_settings(&self, room: Option<&RoomId>) -> Settings {
        let found = self.0.in_force.room(room.map(RoomId::as_str));
        found.map_or_else(Settings::default, |found| *found.settings())
    }

    /// The settings that hold in `room`.
    #[must_use]
    pub fn settings(&self, room: &RoomId) -> Settings {
        self.own_settings(Some(room)).or(&self.own_settings(None))
    }

    /// The blocked terms that were set for `room`, or for all rooms, as they were set.
    #[must_use]
    pub fn terms(&self, room: Option<&RoomId>) -> Option<Arc<str>> {
        self.0.in_force.terms(room.map(RoomId::as_str))
    }

    /// The rooms that blocked terms were set for; `None` among them for all rooms.
    #[must_use]
    pub fn rooms_with_terms(&self) -> Vec<Option<RoomId>> {
        let rooms = self.0.in_force.rooms_with_terms();
        let rooms = rooms.into_iter().map(|room| match room {
            Some(room) => RoomId::parse(&room).ok().map(Some),
            None => Some(None),
        });
        rooms.flatten().collect()
    }

    /// The comments of `room` that wait for a moderator at `now_ms`, the oldest first.
    #[must_use]
    pub fn held(&self, room: &RoomId, now_ms: u64) -> Vec<Arc<Held>> {
        self.0.in_force.held(room.as_str(), now_ms)
    }

    /// Drops a user's comments that wait for a moderator.
    ///
    /// # Errors
    /// As [`Records::change`].
    pub async fn drop_held(&self, user: &str) -> Result<(), ChangeError> {
        for (room, id) in self.0.in_force.held_by(user) {
            match self.change(Change::Decide { room, id }, None).await {
                // Somebody has decided meanwhile.
                Err(ChangeError::Refused(ChangeRefusal::NotFound)) => {}
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    /// All revocations; whether one has ended is up to the caller.
    #[must_use]
    pub fn revocations(&self) -> Arc<Vec<Revocation>> {
        self.0.in_force.revocations()
    }

    /// Makes a change, and adds `audit` to the audit trail if it was made. Returns the name of what was added, or else 0. The
    /// change holds when this returns.
    ///
    /// Dropping the future does not undo a change that has reached the store.
    ///
    /// # Errors
    /// [`ChangeError`]; except for [`AppendError::OutcomeUnknown`], nothing was changed.
    pub async fn change(&self, change: Change, audit: Option<Audit>) -> Result<u64, ChangeError> {
        match &self.0.kept {
            Kept::InFile(file) => file.change(change, audit).await,
            Kept::InMemory(memory) => {
                let mut memory = lock(memory);
                if !matches!(change, Change::AddSamples(_)) {
                    let now_ms = unix_ms();
                    let forgot = memory.forget_ended(now_ms);
                    if forgot.map_err(|_| AppendError::Unavailable)? {
                        self.0.in_force.forget_ended(now_ms);
                    }
                }
                let changed = memory.change(&change, audit.as_ref());
                let id = changed.map_err(|_| AppendError::Unavailable)??;
                // Under the lock, so that changes are made in their order.
                self.0.in_force.apply(change, id);
                Ok(id)
            }
        }
    }

    /// Changes settings of `room`, or the defaults of all rooms: `update` gets those that were set and returns those to set.
    ///
    /// # Errors
    /// As [`Records::change`].
    pub async fn update_settings(
        &self,
        room: Option<&RoomId>,
        update: impl FnOnce(Settings) -> Settings + Send,
        audit: Option<Audit>,
    ) -> Result<Settings, ChangeError> {
        let _alone = self.0.updating.lock().await;
        let settings = update(self.own_settings(room));
        let row = SettingsRow {
            room: room.map(|room| room.as_str().to_owned()),
            body: settings.to_text(),
        };
        self.change(Change::SetSettings(row), audit).await?;
        Ok(settings)
    }

    /// The streams of a room, in the order in which they began.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn streams(&self, room: &RoomId) -> Result<Vec<Stream>, Unavailable> {
        let room = room.as_str().to_owned();
        self.read(move |records| records.streams(&room)).await
    }

    /// What was sampled in `room` in each of `steps`; `None` if nothing was.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn samples(
        &self,
        room: &RoomId,
        steps: Steps,
    ) -> Result<Option<Vec<Sampled>>, Unavailable> {
        let room = room.as_str().to_owned();
        self.read(move |records| {
            let mut found = false;
            let mut summary = Summary::new(steps);
            records.samples(&room, steps.samples_from_ms(), steps.to_ms, |sample| {
                found = true;
                summary.add(&sample);
            })?;
            Ok(found.then(|| summary.finish()))
        })
        .await
    }

    /// A part of the audit trail, newest first.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<Audit>, Unavailable> {
        self.read(move |records| records.audit(&query)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&danmaku_store::Records<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Unavailable> {
        match &self.0.kept {
            Kept::InFile(file) => file.read_records(read).await,
            Kept::InMemory(memory) => read(&lock(memory).records()).map_err(|_| Unavailable),
        }
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    // Its transactions are whole or undone.
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
