//! What the writer thread does between its commits, one small step at a time: retention, scrubbing erased bytes, and
//! waiting for a disk that failed.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use danmaku_store::{Retention, StoreError, Trimmed, Writer};
use danmaku_wire::{RoomId, Seq};

use super::room::{Numbering, OpenRoom};
use super::{Health, Table};

/// What is due, and when.
pub(super) struct Housekeeping {
    retention: Retention,
    room_entries_max: Option<u64>,
    /// Rooms over `room_entries_max`.
    crowded: VecDeque<Weak<OpenRoom>>,
    due: Instant,
    scrub_due: Instant,
    forget_due: Instant,
}

/// Whether there is more to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    More,
    Done,
}

impl Housekeeping {
    pub(super) fn new(retention: Retention, room_entries_max: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            retention,
            room_entries_max,
            crowded: VecDeque::new(),
            due: now,
            scrub_due: now,
            forget_due: now,
        }
    }

    /// How long nothing is due.
    pub(super) fn due_in(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// Records that a room has new entries.
    pub(super) fn grown(&mut self, room: &Arc<OpenRoom>, numbering: &Numbering) {
        let Some(max) = self.room_entries_max else {
            return;
        };
        let held = numbering.head.value() - numbering.floor.value();
        let room = Arc::downgrade(room);
        // A room that finds no place gets one with a later entry.
        if held > max
            && self.crowded.len() < CROWDED_MAX
            && !self.crowded.iter().any(|known| known.ptr_eq(&room))
        {
            self.crowded.push_back(room);
        }
    }

    /// Begins an episode: appends are refused until a probe succeeds.
    pub(super) fn fail(&mut self, table: &Table, error: &StoreError, now: Instant) {
        table.meter.failed();
        table.fail(error);
        self.due = now + PROBE_INTERVAL;
    }

    /// Does a step of what is due.
    pub(super) fn run(&mut self, writer: &mut Writer, table: &Table, now: Instant) {
        if now < self.due {
            return;
        }
        let failing = *table.health.borrow() != Health::Ready;
        if failing {
            if !table.is_damaged() && writer.probe().is_ok() {
                table.health.send_replace(Health::Ready);
            }
            self.due = now + PROBE_INTERVAL;
            return;
        }
        match self.step(writer, table, now) {
            Ok(Step::More) => self.due = now + STEP_PAUSE,
            Ok(Step::Done) => self.due = now + IDLE_INTERVAL,
            Err(error) => self.fail(table, &error, now),
        }
    }

    fn step(
        &mut self,
        writer: &mut Writer,
        table: &Table,
        now: Instant,
    ) -> Result<Step, StoreError> {
        writer.check_files()?;
        if writer.is_unscrubbed() && now >= self.scrub_due {
            self.scrub_due = now + SCRUB_INTERVAL;
            writer.scrub()?;
        }
        let now_ms = unix_ms();
        if now >= self.forget_due {
            self.forget_due = now + FORGET_INTERVAL;
            writer.forget_answers(now_ms.saturating_sub(KEY_AGE_MS_MAX))?;
            if writer.forget_records(&self.retention, now_ms)? {
                table.in_force.forget_ended(now_ms);
            }
        }
        if let Some(room) = self.crowded.pop_front().and_then(|room| room.upgrade()) {
            let numbering = *room.numbering();
            if let (Some(key), Some(max)) = (numbering.key, self.room_entries_max)
                && let Some(trimmed) = writer.trim_room(key, numbering.head.value(), max)?
            {
                table.trimmed(&trimmed);
                let numbering = *room.numbering();
                self.grown(&room, &numbering);
            }
            return Ok(Step::More);
        }
        let trimmed = writer.trim(&self.retention, now_ms)?;
        for trimmed in &trimmed {
            table.trimmed(trimmed);
        }
        Ok(if trimmed.is_empty() {
            Step::Done
        } else {
            Step::More
        })
    }
}

impl Table {
    /// Records what the file dropped with whoever has the room open, or is opening it.
    fn trimmed(&self, trimmed: &Trimmed) {
        let Ok(id) = RoomId::parse(&trimmed.room) else {
            return;
        };
        let open = {
            let mut rooms = self.rooms();
            rooms.trims += 1;
            rooms.open.get(&id).and_then(Weak::upgrade)
        };
        if let Some(room) = open {
            let floor = Seq::new(trimmed.floor);
            let mut numbering = room.numbering();
            numbering.floor = floor;
            if trimmed.emptied {
                numbering.key = None;
            }
            drop(numbering);
            room.feed().ring().forget_through(floor);
        }
    }
}

pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// How long idempotency keys are kept, in milliseconds.
pub(super) const KEY_AGE_MS_MAX: u64 = 600_000;

/// Rooms that wait to be trimmed.
const CROWDED_MAX: usize = 256;

/// How often a failed disk is tried again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the thread looks for work when there was none.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// Time for commits between two steps.
const STEP_PAUSE: Duration = Duration::from_millis(10);

/// How often erased bytes are scrubbed, at most.
const SCRUB_INTERVAL: Duration = Duration::from_secs(1);

/// How often old idempotency keys and records are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);
