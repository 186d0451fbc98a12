//! The sets of viewers, one per room: dense, so that a pass is a walk through one array.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use danmaku_wire::FrameSet;
use slab::Slab;

use crate::message::RoomKey;
use crate::pass::Pass;

/// A viewer's place in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ViewerKey(u32);

impl ViewerKey {
    /// The place at `index`; `None` beyond any number of sockets a machine can have.
    pub(crate) fn new(index: usize) -> Option<Self> {
        u32::try_from(index).ok().map(Self)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A viewer's place in the set of its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    room: u32,
    place: u32,
}

/// All rooms with viewers in one shard.
#[derive(Debug, Default)]
pub(crate) struct RoomSets {
    by_key: HashMap<RoomKey, u32, IdHash>,
    sets: Slab<RoomSet>,
}

#[derive(Debug)]
struct RoomSet {
    key: RoomKey,
    members: Vec<ViewerKey>,
    /// When a frame was last delivered.
    delivered: Option<Duration>,
    /// Only while a frame is delivered slice by slice.
    pass: Option<Box<Pass>>,
}

impl RoomSets {
    /// Adds a viewer to a room; none when there is no number left for either.
    pub(crate) fn join(&mut self, room: RoomKey, viewer: ViewerKey) -> Option<Seat> {
        let index = if let Some(&index) = self.by_key.get(&room) {
            index
        } else {
            let index = u32::try_from(self.sets.vacant_key()).ok()?;
            self.sets.insert(RoomSet {
                key: room,
                members: Vec::new(),
                delivered: None,
                pass: None,
            });
            self.by_key.insert(room, index);
            index
        };
        let set = self.sets.get_mut(index as usize)?;
        let place = u32::try_from(set.members.len()).ok()?;
        set.members.push(viewer);
        if let Some(pass) = &mut set.pass {
            pass.join();
        }
        Some(Seat { room: index, place })
    }

    /// Removes the viewer of this seat. Returns the viewer that had to move there, if any.
    pub(crate) fn leave(&mut self, seat: Seat) -> Option<ViewerKey> {
        let index = seat.room as usize;
        let set = self.sets.get_mut(index)?;
        let place = seat.place as usize;
        set.members.swap_remove(place);
        let moved = set.members.get(place).copied();
        if let Some(pass) = &mut set.pass {
            pass.leave(place);
        }
        if set.members.is_empty() {
            let set = self.sets.remove(index);
            self.by_key.remove(&set.key);
        } else if set.members.len() * 4 < set.members.capacity() {
            // A room that was once crowded gives the memory back.
            set.members.shrink_to(set.members.len() * 2);
        }
        moved
    }

    /// The viewers of a room in this shard.
    pub(crate) fn members(&self, room: RoomKey) -> &[ViewerKey] {
        self.by_key
            .get(&room)
            .and_then(|&index| self.sets.get(index as usize))
            .map_or(&[], |set| &set.members)
    }

    /// The room's viewers and the pass over them, while there is one.
    pub(crate) fn pass(&mut self, room: RoomKey) -> Option<(&[ViewerKey], &mut Pass)> {
        let set = self.sets.get_mut(*self.by_key.get(&room)? as usize)?;
        Some((&set.members, set.pass.as_deref_mut()?))
    }

    /// Begins a pass over a room that has none, at place `start`.
    pub(crate) fn begin_pass(&mut self, room: RoomKey, frame: Arc<FrameSet>, start: usize) {
        if let Some(&index) = self.by_key.get(&room)
            && let Some(set) = self.sets.get_mut(index as usize)
        {
            debug_assert!(set.pass.is_none(), "frames of a room go out one by one");
            set.pass = Some(Box::new(Pass::new(frame, set.members.len(), start)));
        }
    }

    /// Forgets a pass that is over.
    pub(crate) fn end_pass(&mut self, room: RoomKey) {
        if let Some(&index) = self.by_key.get(&room)
            && let Some(set) = self.sets.get_mut(index as usize)
        {
            set.pass = None;
        }
    }

    /// The frames under way that are due to the viewer of this seat, which counts as served.
    pub(crate) fn catch_up(&mut self, seat: Seat) -> Vec<Arc<FrameSet>> {
        let set = self.sets.get_mut(seat.room as usize);
        set.and_then(|set| set.pass.as_deref_mut())
            .map_or_else(Vec::new, |pass| pass.catch_up(seat.place as usize))
    }

    /// Records a delivery to the room.
    pub(crate) fn note_delivery(&mut self, room: RoomKey, now: Duration) {
        if let Some(&index) = self.by_key.get(&room)
            && let Some(set) = self.sets.get_mut(index as usize)
        {
            set.delivered = Some(now);
        }
    }

    /// When a frame was last delivered to the room of this seat.
    pub(crate) fn delivered(&self, seat: Seat) -> Option<Duration> {
        self.sets.get(seat.room as usize)?.delivered
    }

    /// How many rooms have viewers here.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }
}

/// Hashes ids that the process itself assigned: nobody can choose them to collide.
pub(crate) type IdHash = BuildHasherDefault<IdHasher>;

/// Spreads a number over all bits of the hash, as the table uses both ends of it.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // 2^64 over the golden ratio; the high half is the well mixed one, and the low bits need it too.
        let mixed = (self.0 ^ id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Joins and leaves as a shard does them, with the seats kept by viewer.
    struct Fixture {
        sets: RoomSets,
        seats: Vec<Option<(RoomKey, Seat)>>,
    }

    impl Fixture {
        fn join(&mut self, room: u64, viewer: usize) {
            let key = ViewerKey::new(viewer).unwrap();
            self.seats.resize(self.seats.len().max(viewer + 1), None);
            let seat = self.sets.join(RoomKey(room), key).unwrap();
            self.seats[viewer] = Some((RoomKey(room), seat));
        }

        fn leave(&mut self, viewer: usize) {
            let (_, seat) = self.seats[viewer].take().unwrap();
            if let Some(moved) = self.sets.leave(seat) {
                self.seats[moved.index()].as_mut().unwrap().1 = seat;
            }
        }

        fn members(&self, room: u64) -> BTreeSet<usize> {
            let members = self.sets.members(RoomKey(room));
            let set: BTreeSet<_> = members.iter().map(|key| key.index()).collect();
            assert_eq!(set.len(), members.len(), "nobody twice");
            set
        }
    }

    #[test]
    fn leaving_keeps_everyone_else() {
        let mut it = Fixture {
            sets: RoomSets::default(),
            seats: Vec::new(),
        };
        for viewer in 0..100 {
            it.join(viewer as u64 % 3, viewer);
        }
        let mut left = BTreeSet::new();
        for step in 0..100 {
            let viewer = (step * 37) % 100;
            it.leave(viewer);
            left.insert(viewer);
            for room in 0..3 {
                let expected = (0..100)
                    .filter(|viewer| *viewer as u64 % 3 == room && !left.contains(viewer))
                    .collect();
                assert_eq!(it.members(room), expected);
            }
        }
        assert_eq!(it.sets.len(), 0);
        assert!(it.sets.by_key.is_empty());
    }

    #[test]
    fn ids_of_one_shard_differ_in_the_bits_a_table_uses() {
        // A shard of 64 gets every 64th id; a table of 1,024 buckets uses the low ten bits.
        let buckets: BTreeSet<_> = (0..1_024_u64)
            .map(|n| {
                let mut hasher = IdHasher::default();
                hasher.write_u64(n * 64);
                hasher.finish() & 1_023
            })
            .collect();
        assert!(
            buckets.len() > 500,
            "{} of 1,024 buckets used",
            buckets.len()
        );
    }
}
