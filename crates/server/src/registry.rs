//! Owns the table of rooms: created on first use, forgotten when idle.

use std::cmp::Reverse;
use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::hash_map::RandomState;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use danmaku_fanout::RoomKey;
use danmaku_wire::{Epoch, RoomId};

use crate::refusal::Refusal;
use crate::room::handle::RoomHandle;

/// All rooms. Its locks are held for one table operation at a time, and only for joins, posts and requests, never while a
/// frame is delivered.
#[derive(Debug)]
pub struct Registry {
    slices: Box<[Mutex<Slice>]>,
    hasher: RandomState,
    count: AtomicUsize,
    rooms_max: usize,
    next_key: AtomicU64,
    last_epoch: AtomicU64,
}

impl Registry {
    /// An empty table for at most `rooms_max` rooms.
    #[must_use]
    pub fn new(rooms_max: usize) -> Self {
        Self {
            slices: (0..SLICES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            rooms_max,
            next_key: AtomicU64::new(1),
            last_epoch: AtomicU64::new(0),
        }
    }

    /// The room, if it exists.
    #[must_use]
    pub fn find(&self, id: &RoomId) -> Option<Arc<RoomHandle>> {
        self.slice(id).get(id).cloned()
    }

    /// The room; `make` creates it if it is not in the table.
    ///
    /// # Errors
    /// [`Refusal::TooManyRooms`].
    pub fn insert(
        &self,
        id: &RoomId,
        make: impl FnOnce(RoomKey) -> Arc<RoomHandle>,
    ) -> Result<Arc<RoomHandle>, Refusal> {
        let mut slice = self.slice(id);
        match slice.entry(id.clone()) {
            Entry::Occupied(room) => Ok(Arc::clone(room.get())),
            Entry::Vacant(vacant) => {
                let before = self.count.fetch_add(1, Ordering::Relaxed);
                if before >= self.rooms_max {
                    self.count.fetch_sub(1, Ordering::Relaxed);
                    return Err(Refusal::TooManyRooms {
                        rooms_max: self.rooms_max,
                    });
                }
                let key = RoomKey(self.next_key.fetch_add(1, Ordering::Relaxed));
                Ok(Arc::clone(vacant.insert(make(key))))
            }
        }
    }

    /// Forgets `room` even if someone holds it: its epoch has ended.
    pub fn remove(&self, room: &Arc<RoomHandle>) {
        let mut slice = self.slice(room.id());
        // It may have been created anew by now.
        if slice
            .get(room.id())
            .is_some_and(|held| Arc::ptr_eq(held, room))
        {
            slice.remove(room.id());
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets `room` if only its actor and this table hold it and everything accepted is sealed.
    ///
    /// Handles are cloned under the table's lock or from an existing clone, so a count of two under the lock cannot
    /// grow again.
    #[must_use]
    pub fn retire(&self, room: &Arc<RoomHandle>) -> bool {
        let mut slice = self.slice(room.id());
        let alone = Arc::strong_count(room) == 2;
        // Pairs with the drop of the last poster's clone, so that its appends are visible below.
        fence(Ordering::Acquire);
        let alone = alone && room.is_settled();
        if alone && slice.remove(room.id()).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        alone
    }

    /// The number of rooms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are no rooms.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most `limit` rooms ordered by id, after `after`.
    ///
    /// Each slice is sorted, so the next room overall is the first of the slices' next ones. Slices are read in short runs,
    /// as long as the page needs more.
    #[must_use]
    pub fn list(&self, after: Option<&RoomId>, limit: usize) -> Vec<Arc<RoomHandle>> {
        let run = limit.div_ceil(self.slices.len()).max(RUN_MIN);
        let mut runs: Vec<VecDeque<_>> = (self.slices.iter())
            .map(|slice| next_run(slice, after, run))
            .collect();
        let mut next: BinaryHeap<_> = (runs.iter().enumerate())
            .filter_map(|(slice, rooms)| Some(Reverse((rooms.front()?.id().clone(), slice))))
            .collect();
        let mut page = Vec::new();
        while page.len() < limit
            && let Some(Reverse((_, slice))) = next.pop()
        {
            let Some(room) = runs[slice].pop_front() else {
                break;
            };
            if runs[slice].is_empty() {
                runs[slice] = next_run(&self.slices[slice], Some(room.id()), run);
            }
            if let Some(follows) = runs[slice].front() {
                next.push(Reverse((follows.id().clone(), slice)));
            }
            page.push(room);
        }
        page
    }

    /// All rooms, in no particular order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<RoomHandle>> {
        let mut rooms = Vec::with_capacity(self.len());
        for slice in &self.slices {
            rooms.extend(lock(slice).values().cloned());
        }
        rooms
    }

    /// An epoch that no room of this process has had: the wall clock in milliseconds, increased if two rooms would share
    /// one.
    pub fn fresh_epoch(&self, unix_ms: u64) -> Epoch {
        let next = |last: u64| unix_ms.max(last + 1);
        let (Ok(last) | Err(last)) =
            self.last_epoch
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                    Some(next(last))
                });
        Epoch::new(next(last))
    }

    fn slice(&self, id: &RoomId) -> MutexGuard<'_, Slice> {
        // The slice count is a power of two far below 2^32.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only the low bits are used"
        )]
        let index = self.hasher.hash_one(id) as usize % SLICES;
        lock(&self.slices[index])
    }
}

fn next_run(slice: &Mutex<Slice>, after: Option<&RoomId>, len: usize) -> VecDeque<Arc<RoomHandle>> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let slice = lock(slice);
    let rooms = slice.range((from, Bound::Unbounded));
    rooms.take(len).map(|(_, room)| Arc::clone(room)).collect()
}

/// In the order of ids, so that a page of rooms is read and not searched for.
type Slice = BTreeMap<RoomId, Arc<RoomHandle>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Slices of the table, so that joins of different rooms rarely meet.
const SLICES: usize = 64;

/// Rooms read from a slice at once, at least.
const RUN_MIN: usize = 4;
