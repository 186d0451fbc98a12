//! What was posted and acknowledged: the reference the audit compares every delivery with.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::clock::Moment;

/// One acknowledged comment.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// When it was due to be posted, which may not be when it was.
    pub scheduled: Moment,
    /// Fingerprint of what was posted.
    pub shape: u64,
    /// When its batch was sealed, by the server's timestamp.
    pub sealed: Option<Moment>,
    /// When the first viewer had it.
    pub first_arrival: Option<Moment>,
    /// When the last viewer so far had it.
    pub last_arrival: Option<Moment>,
}

/// Why an acknowledgement contradicts earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum AckFault {
    /// The same position was given to two comments.
    PositionTwice,
    /// The room began a new epoch during the run.
    OtherEpoch,
}

/// The acknowledged comments of one room, by position.
#[derive(Debug, Default)]
pub struct RoomLedger {
    epoch: Option<u64>,
    acknowledged: HashMap<u64, Acknowledged>,
    /// The same positions in order, to count from one of them.
    positions: Vec<u64>,
}

impl RoomLedger {
    /// Enters an acknowledged comment.
    ///
    /// # Errors
    /// An acknowledgement that contradicts an earlier one; it is not entered.
    pub fn acknowledge(
        &mut self,
        epoch: Option<u64>,
        position: u64,
        scheduled: Moment,
        shape: u64,
    ) -> Result<(), AckFault> {
        if let Some(epoch) = epoch
            && *self.epoch.get_or_insert(epoch) != epoch
        {
            return Err(AckFault::OtherEpoch);
        }
        if self.acknowledged.contains_key(&position) {
            return Err(AckFault::PositionTwice);
        }
        let entry = Acknowledged {
            scheduled,
            shape,
            sealed: None,
            first_arrival: None,
            last_arrival: None,
        };
        self.acknowledged.insert(position, entry);
        // Acknowledgements overtake each other only slightly, so little has to move.
        let before = self.positions.partition_point(|known| *known < position);
        self.positions.insert(before, position);
        Ok(())
    }

    /// The room's epoch, once known.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Whether the room has this epoch. The first one reported is the room's.
    pub fn is_epoch(&mut self, epoch: u64) -> bool {
        *self.epoch.get_or_insert(epoch) == epoch
    }

    /// The comment at a position.
    #[must_use]
    pub fn at(&self, position: u64) -> Option<&Acknowledged> {
        self.acknowledged.get(&position)
    }

    /// Records when the comment at a position was sealed, and when the first and last viewer had it.
    pub fn arrived(&mut self, position: u64, sealed: Moment, first: Moment, last: Moment) {
        if let Some(entry) = self.acknowledged.get_mut(&position) {
            entry.sealed = Some(entry.sealed.map_or(sealed, |known| known.min(sealed)));
            entry.first_arrival = Some(entry.first_arrival.map_or(first, |known| known.min(first)));
            entry.last_arrival = Some(entry.last_arrival.map_or(last, |known| known.max(last)));
        }
    }

    /// The last acknowledged position; 0 when there is none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.positions.last().copied().unwrap_or_default()
    }

    /// How many acknowledged comments lie after a position.
    #[must_use]
    pub fn count_after(&self, position: u64) -> u64 {
        self.positions_in(position, u64::MAX).len() as u64
    }

    /// The acknowledged positions in (`after`, `seq`], in order.
    #[must_use]
    pub fn positions_in(&self, after: u64, seq: u64) -> &[u64] {
        let up_to = |position: u64| self.positions.partition_point(|known| *known <= position);
        let start = up_to(after);
        &self.positions[start..up_to(seq).max(start)]
    }

    /// The acknowledged positions around one, in order: about `distance` before and as many after it.
    #[must_use]
    pub fn neighbours(&self, position: u64, distance: usize) -> &[u64] {
        let here = self.positions.partition_point(|known| *known < position);
        let end = here.saturating_add(distance + 1).min(self.positions.len());
        &self.positions[here.saturating_sub(distance)..end]
    }

    /// All acknowledged comments, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Acknowledged> {
        self.acknowledged.values()
    }
}

/// The ledgers of all rooms, and of their new epochs if the server may restart. Locked by the publisher once per acknowledgement
/// and by the audit once per distinct frame.
#[derive(Debug)]
pub struct Ledger {
    rooms: Vec<Mutex<RoomLedger>>,
    named: u32,
}

impl Ledger {
    /// Empty ledgers for `rooms` rooms.
    #[must_use]
    pub fn new(rooms: u32) -> Self {
        Self {
            rooms: (0..rooms).map(|_| Mutex::default()).collect(),
            named: rooms,
        }
    }

    /// Ledgers for rooms that may begin a new epoch once: in it, room `r` is room `rooms + r`.
    #[must_use]
    pub fn with_renumbering(rooms: u32) -> Self {
        Self {
            named: rooms,
            ..Self::new(rooms * 2)
        }
    }

    /// The index of a room in its new epoch; `None` when that is not expected, or has happened already.
    #[must_use]
    pub fn renumbered(&self, room: u32) -> Option<u32> {
        let anew = self.named + room;
        (room < self.named && anew < self.rooms()).then_some(anew)
    }

    /// Enters an acknowledged comment into its room's ledger, or into that of its new epoch.
    ///
    /// # Errors
    /// As [`RoomLedger::acknowledge`].
    pub fn acknowledge(
        &self,
        room: u32,
        epoch: Option<u64>,
        position: u64,
        scheduled: Moment,
        shape: u64,
    ) -> Result<(), AckFault> {
        let enter = |room| {
            self.room(room)
                .acknowledge(epoch, position, scheduled, shape)
        };
        match (enter(room), self.renumbered(room)) {
            (Err(AckFault::OtherEpoch), Some(anew)) => enter(anew),
            (entered, _) => entered,
        }
    }

    /// The ledger of a room.
    ///
    /// # Panics
    /// When a thread that held the same ledger panicked.
    pub fn room(&self, room: u32) -> MutexGuard<'_, RoomLedger> {
        self.rooms[room as usize]
            .lock()
            .expect("invariant: no thread panics while it holds a ledger")
    }

    /// How many rooms there are.
    #[must_use]
    pub fn rooms(&self) -> u32 {
        u32::try_from(self.rooms.len()).unwrap_or(u32::MAX)
    }
}

/// The lowest position of all comments that were due after a moment. An index beside the ledger, rebuilt when that has grown.
#[derive(Debug, Default)]
pub struct PositionFloor {
    entries: usize,
    /// When a comment was due, and the lowest position of it and all later ones; in time order.
    lowest: Vec<(Moment, u64)>,
}

impl PositionFloor {
    /// The lowest position of the comments of `room` that were due after `moment`.
    pub fn lowest_after(&mut self, room: &RoomLedger, moment: Moment) -> Option<u64> {
        if self.entries != room.acknowledged.len() {
            self.entries = room.acknowledged.len();
            let entries = room.acknowledged.iter();
            self.lowest = entries
                .map(|(position, entry)| (entry.scheduled, *position))
                .collect();
            self.lowest.sort_unstable();
            let mut lowest = u64::MAX;
            for (_, position) in self.lowest.iter_mut().rev() {
                lowest = lowest.min(*position);
                *position = lowest;
            }
        }
        let later = self.lowest.partition_point(|(due, _)| *due <= moment);
        self.lowest.get(later).map(|(_, position)| *position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradicting_acknowledgements_are_refused() {
        let mut room = RoomLedger::default();
        let moment = Moment::from_micros(1);
        assert_eq!(room.acknowledge(Some(5), 1, moment, 10), Ok(()));
        assert_eq!(
            room.acknowledge(Some(5), 1, moment, 11),
            Err(AckFault::PositionTwice)
        );
        assert_eq!(
            room.acknowledge(Some(6), 2, moment, 12),
            Err(AckFault::OtherEpoch)
        );
        assert_eq!(room.acknowledge(None, 3, moment, 13), Ok(()));
        assert_eq!(
            (room.last(), room.count_after(1), room.count_after(3)),
            (3, 1, 0)
        );
        // Acknowledgements come in any order.
        for position in [9, 5, 7] {
            assert_eq!(room.acknowledge(None, position, moment, 1), Ok(()));
        }
        assert_eq!(
            (room.last(), room.count_after(5), room.count_after(0)),
            (9, 2, 5)
        );
        assert_eq!(room.positions_in(1, 7), [3, 5, 7]);
        assert_eq!(room.positions_in(7, 1), [0; 0]);
        assert_eq!(room.neighbours(5, 1), [3, 5, 7]);
        assert_eq!(room.neighbours(4, 1), [3, 5, 7]);
        assert_eq!(room.neighbours(9, 9), [1, 3, 5, 7, 9]);
    }

    #[test]
    fn the_floor_is_the_lowest_position_due_later() {
        let (mut room, mut floor) = (RoomLedger::default(), PositionFloor::default());
        let at = Moment::from_micros;
        for (due, position) in [(10, 1), (20, 3), (30, 2), (40, 4)] {
            assert_eq!(room.acknowledge(None, position, at(due), 0), Ok(()));
        }
        assert_eq!(floor.lowest_after(&room, at(5)), Some(1));
        assert_eq!(floor.lowest_after(&room, at(10)), Some(2));
        assert_eq!(floor.lowest_after(&room, at(30)), Some(4));
        assert_eq!(floor.lowest_after(&room, at(40)), None);
        assert_eq!(room.acknowledge(None, 5, at(50), 0), Ok(()));
        assert_eq!(floor.lowest_after(&room, at(40)), Some(5));
    }

    #[test]
    fn arrivals_only_widen_the_range() {
        let mut room = RoomLedger::default();
        let at = Moment::from_micros;
        assert_eq!(room.acknowledge(None, 1, at(0), 0), Ok(()));
        room.arrived(1, at(5), at(50), at(60));
        room.arrived(1, at(5), at(55), at(58));
        room.arrived(2, at(5), at(1), at(99));
        let entry = room.at(1).copied().unwrap();
        assert_eq!(
            (entry.first_arrival, entry.last_arrival),
            (Some(at(50)), Some(at(60)))
        );
    }
}
