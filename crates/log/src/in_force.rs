//! The records that posts and joins are checked against, of all rooms, in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use danmaku_store::{Change, Held, Pin, Records, Revocation, Sanction, StoreError, Subject};

use crate::settings::Settings;

/// What holds in one room, or everywhere.
#[derive(Clone, Debug, Default)]
pub struct RoomRecords {
    settings: Settings,
    pin: Option<Pin>,
    sanctions: HashMap<Subject, Vec<Sanction>>,
}

impl RoomRecords {
    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The comment that is pinned at `now_ms`.
    #[must_use]
    pub fn pin(&self, now_ms: u64) -> Option<&Pin> {
        self.pin.as_ref().filter(|pin| lasts(pin.until_ms, now_ms))
    }

    /// The sanctions against `subject` that hold at `now_ms`.
    pub fn sanctions(&self, subject: &Subject, now_ms: u64) -> impl Iterator<Item = &Sanction> {
        let known = self.sanctions.get(subject).into_iter().flatten();
        known.filter(move |sanction| lasts(sanction.until_ms, now_ms))
    }

    /// Whether there are any sanctions.
    #[must_use]
    pub fn has_sanctions(&self) -> bool {
        !self.sanctions.is_empty()
    }

    /// All sanctions that hold at `now_ms`, in no particular order.
    pub fn all_sanctions(&self, now_ms: u64) -> impl Iterator<Item = &Sanction> {
        let known = self.sanctions.values().flatten();
        known.filter(move |sanction| lasts(sanction.until_ms, now_ms))
    }

    fn is_empty(&self) -> bool {
        self.settings == Settings::default() && self.pin.is_none() && self.sanctions.is_empty()
    }

    fn lift(&mut self, is_lifted: impl Fn(&Sanction) -> bool) {
        self.sanctions.retain(|_, known| {
            known.retain(|sanction| !is_lifted(sanction));
            !known.is_empty()
        });
    }
}

/// What is in force. The store bounds how much there can be.
#[derive(Debug, Default)]
pub(crate) struct InForce(RwLock<Tables>);

#[derive(Debug, Default)]
struct Tables {
    /// Those of everywhere are under an empty name.
    rooms: HashMap<String, Arc<RoomRecords>>,
    revocations: Arc<Vec<Revocation>>,
    /// By room, with an empty name for everywhere.
    terms: HashMap<String, Arc<str>>,
    held: BTreeMap<u64, Arc<Held>>,
}

impl InForce {
    pub(crate) fn load(records: &Records<'_>) -> Result<Self, StoreError> {
        let mut tables = Tables::default();
        for row in records.settings()? {
            tables.of(row.room.as_deref()).settings = Settings::from_text(&row.body);
        }
        for sanction in records.sanctions()? {
            let room = tables.of(sanction.room.as_deref());
            let known = room.sanctions.entry(sanction.subject.clone());
            known.or_default().push(sanction);
        }
        for (room, pin) in records.pins()? {
            tables.of(Some(&room)).pin = Some(pin);
        }
        // Settings that were unset again.
        tables.rooms.retain(|_, room| !room.is_empty());
        tables.revocations = Arc::new(records.revocations()?);
        for (room, body) in records.terms()? {
            tables.terms.insert(room.unwrap_or_default(), body.into());
        }
        for held in records.held()? {
            tables.held.insert(held.id, Arc::new(held));
        }
        Ok(Self(RwLock::new(tables)))
    }

    /// What holds in `room` beside what holds everywhere; what holds everywhere without a room. `None` if nothing does.
    pub(crate) fn room(&self, room: Option<&str>) -> Option<Arc<RoomRecords>> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tables.rooms.get(room.unwrap_or_default()).cloned()
    }

    pub(crate) fn revocations(&self) -> Arc<Vec<Revocation>> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&tables.revocations)
    }

    /// The blocked terms of `room`, or of all rooms.
    pub(crate) fn terms(&self, room: Option<&str>) -> Option<Arc<str>> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tables.terms.get(room.unwrap_or_default()).cloned()
    }

    /// The rooms with blocked terms; `None` for the list of all rooms.
    pub(crate) fn rooms_with_terms(&self) -> Vec<Option<String>> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let rooms = tables.terms.keys();
        rooms
            .map(|room| (!room.is_empty()).then(|| room.clone()))
            .collect()
    }

    /// The comments of `room` that wait for a moderator at `now_ms`, the oldest first.
    pub(crate) fn held(&self, room: &str, now_ms: u64) -> Vec<Arc<Held>> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = tables.held.values();
        held.filter(|held| held.room == room && held.until_ms > now_ms)
            .cloned()
            .collect()
    }

    /// The names of a user's comments that wait for a moderator, and their rooms.
    pub(crate) fn held_by(&self, user: &str) -> Vec<(String, u64)> {
        let tables = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = tables.held.values().filter(|held| held.user == user);
        held.map(|held| (held.room.clone(), held.id)).collect()
    }

    /// Makes a change that was committed; `id` names what was added.
    pub(crate) fn apply(&self, change: Change, id: u64) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::SetSettings(row) => {
                let room = row.room.as_deref();
                tables.of(room).settings = Settings::from_text(&row.body);
                tables.forget_empty(room);
            }
            Change::Sanction(mut sanction) => {
                sanction.id = id;
                let room = tables.of(sanction.room.as_deref());
                let known = room.sanctions.entry(sanction.subject.clone()).or_default();
                known.retain(|other| other.kind != sanction.kind);
                known.push(sanction);
            }
            Change::LiftSanction { room, id } => {
                tables
                    .of(room.as_deref())
                    .lift(|sanction| sanction.id == id);
                tables.forget_empty(room.as_deref());
            }
            Change::Revoke(mut revocation) => {
                revocation.id = id;
                Arc::make_mut(&mut tables.revocations).push(revocation);
            }
            Change::LiftRevocation { id } => {
                Arc::make_mut(&mut tables.revocations).retain(|known| known.id != id);
            }
            Change::Pin { room, pin } => tables.of(Some(&room)).pin = Some(pin),
            Change::Unpin { room } => {
                tables.of(Some(&room)).pin = None;
                tables.forget_empty(Some(&room));
            }
            Change::SetTerms { room, body } => {
                let room = room.unwrap_or_default();
                if body.is_empty() {
                    tables.terms.remove(&room);
                } else {
                    tables.terms.insert(room, body.into());
                }
            }
            Change::Hold(mut held) => {
                held.id = id;
                while let Some(first) = tables.held.first_entry()
                    && first.get().until_ms <= held.at_ms
                {
                    first.remove();
                }
                tables.held.insert(id, Arc::new(held));
            }
            Change::Decide { id, .. } => {
                tables.held.remove(&id);
            }
            Change::AddStream { .. }
            | Change::UpdateStream { .. }
            | Change::AddSamples(_)
            | Change::Nothing => {}
        }
    }

    /// Forgets what has ended by `now_ms`.
    pub(crate) fn forget_ended(&self, now_ms: u64) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for room in tables.rooms.values_mut() {
            let room = Arc::make_mut(room);
            room.pin.take_if(|pin| !lasts(pin.until_ms, now_ms));
            room.lift(|sanction| !lasts(sanction.until_ms, now_ms));
        }
        tables.rooms.retain(|_, room| !room.is_empty());
        let revocations = Arc::make_mut(&mut tables.revocations);
        revocations.retain(|known| lasts(known.until_ms, now_ms));
        tables.held.retain(|_, held| held.until_ms > now_ms);
    }
}

impl Tables {
    fn of(&mut self, room: Option<&str>) -> &mut RoomRecords {
        let name = room.unwrap_or_default();
        Arc::make_mut(self.rooms.entry(name.to_owned()).or_default())
    }

    fn forget_empty(&mut self, room: Option<&str>) {
        let name = room.unwrap_or_default();
        if self.rooms.get(name).is_some_and(|room| room.is_empty()) {
            self.rooms.remove(name);
        }
    }
}

fn lasts(until_ms: Option<u64>, now_ms: u64) -> bool {
    until_ms.is_none_or(|until| until > now_ms)
}
