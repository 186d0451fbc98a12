//! The newest entries of a room, in memory.

use std::collections::VecDeque;

use danmaku_wire::{Event, Seq};

use crate::config::LogConfig;
use crate::entry::{Entry, EntryBody};
use crate::page::{Interval, Lookup, Page, Recent};
use crate::samples::Steps;

/// A run of the log: every entry in (`after`, `head`] is here.
///
/// It is fed in order of position. Entries that would leave a hole are refused,
/// and the tail reads the missing ones from the store.
#[derive(Debug)]
pub(crate) struct Ring {
    slots: VecDeque<Slot>,
    bytes: usize,
    after: Seq,
    head: Seq,
    /// The highest position known to be committed: above `head` while the feed
    /// is behind the store.
    known: Seq,
    /// Where the tail stands.
    taken: Seq,
    /// Log time that has been reached: no later entry has less.
    at_ms: u64,
    /// From this log time on, everything accepted is here, retracted or not; or
    /// [`UNKNOWN_MS`].
    whole_from_ms: u64,
    /// Retractions fed so far.
    retractions: u64,
    overflow: Overflow,
    /// Whether an entry came whose predecessor did not.
    skipped: bool,
}

/// What happens to entries over the bounds that the tail has not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// They stay: they are nowhere else.
    Keep,
    /// They stay until the tail has taken them, so that it never waits for the
    /// store. What was dropped is in the store.
    KeepUntaken,
    /// They go: the tail reads them from the store.
    Drop,
}

/// What [`Ring::drain`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Entries.
    Entries,
    /// All is taken.
    Nothing,
    /// What comes next is no longer in the ring.
    Behind,
    /// The feed skipped what comes next.
    Skipped,
    /// What comes next is committed, and may still come.
    Late {
        /// Where the ring ends.
        head: Seq,
    },
}

#[derive(Debug)]
struct Slot {
    seq: Seq,
    at_ms: u64,
    /// `None` when the comment was retracted: its id stays taken.
    body: Option<EntryBody>,
}

impl Ring {
    /// An empty ring that continues after `after`.
    pub(crate) fn new(after: Seq, overflow: Overflow) -> Self {
        Self {
            slots: VecDeque::new(),
            bytes: 0,
            after,
            head: after,
            known: after,
            taken: after,
            at_ms: 0,
            whole_from_ms: match overflow {
                Overflow::Keep => 0,
                // The store may hold earlier entries.
                Overflow::KeepUntaken | Overflow::Drop => UNKNOWN_MS,
            },
            retractions: 0,
            overflow,
            skipped: false,
        }
    }

    /// Where the ring begins: the last position it dropped.
    pub(crate) fn after(&self) -> Seq {
        self.after
    }

    /// The highest position known to be committed.
    pub(crate) fn known(&self) -> Seq {
        self.known
    }

    /// Where the tail stands.
    pub(crate) fn taken(&self) -> Seq {
        self.taken
    }

    /// Retractions fed so far.
    pub(crate) fn retractions(&self) -> u64 {
        self.retractions
    }

    /// Entries in the ring that the tail has not taken.
    pub(crate) fn untaken(&self) -> usize {
        self.slots.len() - self.index_after(self.taken)
    }

    /// Numbers and adds entries when there is no store.
    pub(crate) fn append(&mut self, bodies: Vec<EntryBody>, now_ms: u64) -> Vec<Seq> {
        let mut seqs = Vec::with_capacity(bodies.len());
        for body in bodies {
            let seq = self.head.next();
            self.push(Entry {
                seq,
                at_ms: now_ms,
                body,
            });
            seqs.push(seq);
        }
        self.known = self.head;
        seqs
    }

    /// Adds committed entries; `previous` is the position of the entry before
    /// the first of them. Repeated ones are ignored.
    pub(crate) fn feed(&mut self, previous: Seq, entries: impl IntoIterator<Item = Entry>) {
        self.skipped |= previous > self.head;
        self.known = self.known.max(previous);
        for entry in entries {
            self.known = self.known.max(entry.seq);
            if !self.skipped && entry.seq > self.head {
                self.push(entry);
            }
        }
    }

    /// Adds what the tail read from the store, as far as it continues the ring,
    /// and moves the tail to its end.
    pub(crate) fn fill(&mut self, page: &Page) {
        let before = self.head;
        if page.after > self.head {
            self.restart(page.after);
        }
        for entry in &page.entries {
            if entry.seq > self.head {
                self.push(entry.clone());
            }
        }
        if page.seq > before {
            // A page doesn't have the positions of retracted comments.
            self.whole_from_ms = UNKNOWN_MS;
        }
        self.head = self.head.max(page.seq);
        self.known = self.known.max(self.head);
        self.skipped &= self.head < self.known;
        self.taken = page.seq;
    }

    /// Moves the tail.
    pub(crate) fn set_taken(&mut self, taken: Seq) {
        self.taken = taken;
    }

    /// Records that `seq` is committed, whether or not it has arrived here.
    #[cfg(feature = "double")]
    pub(crate) fn announce(&mut self, seq: Seq) {
        self.known = self.known.max(seq);
    }

    /// Appends up to `max` entries after the tail to `out`.
    pub(crate) fn drain(&mut self, out: &mut Vec<Entry>, max: usize) -> Taken {
        if self.taken < self.after {
            return Taken::Behind;
        }
        let before = out.len();
        let mut taken = self.taken.max(self.head);
        let mut last = self.taken;
        for slot in self.slots.range(self.index_after(self.taken)..) {
            if out.len() - before == max {
                taken = last;
                break;
            }
            last = slot.seq;
            out.extend(slot.entry());
        }
        self.taken = taken;
        if out.len() > before {
            Taken::Entries
        } else if self.known <= self.head {
            Taken::Nothing
        } else if self.skipped {
            Taken::Skipped
        } else {
            Taken::Late { head: self.head }
        }
    }

    /// Drops the oldest entries over the bounds.
    pub(crate) fn trim(&mut self, config: &LogConfig) {
        while self.slots.len() > config.entries_max || self.bytes > config.bytes_max {
            let Some(oldest) = self.slots.front() else {
                return;
            };
            if self.overflow != Overflow::Drop && oldest.seq > self.taken {
                return;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.slots.pop_front() {
            self.after = oldest.seq;
            self.whole_from_ms = self.whole_from_ms.max(oldest.at_ms.saturating_add(1));
            self.bytes -= oldest.bytes();
        }
    }

    /// Memory that the entries hold.
    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes + self.slots.len() * size_of::<Slot>()
    }

    /// Drops the oldest entries that the tail has taken, at least `bytes` bytes of memory or all.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let wanted = self.bytes_held().saturating_sub(bytes);
        while self.bytes_held() > wanted
            && let Some(oldest) = self.slots.front()
            && oldest.seq <= self.taken
        {
            self.drop_oldest();
        }
        self.slots.shrink_to_fit();
    }

    /// Drops entries up to `floor` that the tail has taken: the store no longer has them.
    pub(crate) fn forget_through(&mut self, floor: Seq) {
        while let Some(oldest) = self.slots.front()
            && oldest.seq <= floor.min(self.taken)
        {
            self.drop_oldest();
        }
    }

    /// Up to `limit` entries after `since`. `None` when only a store can tell:
    /// the ring begins later, or ends before the store does.
    pub(crate) fn read_after(&self, since: Seq, limit: usize) -> Option<Page> {
        if since < self.after && self.overflow != Overflow::Keep {
            return None;
        }
        let after = since.max(self.after);
        let mut live = self
            .slots
            .range(self.index_after(after)..)
            .filter_map(Slot::entry);
        let entries: Vec<_> = live.by_ref().take(limit).collect();
        let more = live.next().is_some();
        if !more && after < self.known && self.head < self.known {
            return None;
        }
        let seq = if more {
            entries.last().map_or(after, |last| last.seq)
        } else {
            after.max(self.head)
        };
        Some(Page {
            after,
            seq,
            entries,
            more,
        })
    }

    /// Up to `limit` entries in (`after`, `until`], the newest first. `None` when only a store can tell.
    pub(crate) fn read_down(&self, until: Seq, after: Seq, limit: usize) -> Option<Page> {
        let until = until.min(self.known);
        let whole = self.overflow == Overflow::Keep;
        if until > self.head && !whole {
            return None;
        }
        let from = after.max(self.after);
        let mut live = self
            .slots
            .range(self.index_after(from)..self.index_after(until).max(self.index_after(from)))
            .rev()
            .filter_map(Slot::entry);
        let entries: Vec<_> = live.by_ref().take(limit).collect();
        let more = live.next().is_some();
        if !more && after < self.after && !whole {
            return None;
        }
        let after = match entries.last() {
            Some(last) if more => last.seq.previous(),
            _ => from,
        };
        Some(Page {
            after,
            seq: until,
            entries,
            more,
        })
    }

    /// The last position before `at_ms`. `None` when only a store can tell.
    pub(crate) fn last_before(&self, at_ms: u64) -> Option<Seq> {
        let before = self.slots.partition_point(|slot| slot.at_ms < at_ms);
        match before.checked_sub(1) {
            // What follows the last slot may not have arrived.
            Some(last) if before < self.slots.len() || self.known <= self.head => {
                Some(self.slots[last].seq)
            }
            None if self.overflow == Overflow::Keep => Some(self.after),
            _ => None,
        }
    }

    /// The comments of each of `steps`, retracted ones included.
    pub(crate) fn count_comments(&self, steps: Steps) -> Vec<u64> {
        let boundaries = steps.boundaries();
        let places: Vec<_> = boundaries
            .map(|ms| self.slots.partition_point(|slot| slot.at_ms < ms))
            .collect();
        let is_comment = |slot: &&Slot| !matches!(slot.body, Some(EntryBody::Event(_)));
        let count = |step: &[usize]| {
            let slots = self.slots.range(step[0]..step[1].max(step[0]));
            slots.filter(is_comment).count() as u64
        };
        places.windows(2).map(count).collect()
    }

    /// See [`Interval`]: the entries in [`from_ms`, `to_ms`). `None` when only a
    /// store can tell.
    pub(crate) fn read_between(
        &self,
        from_ms: u64,
        to_ms: u64,
        bytes_max: usize,
    ) -> Option<Interval> {
        let dropped = from_ms < self.whole_from_ms;
        let behind = dropped || self.head < self.known;
        if behind && self.overflow != Overflow::Keep {
            return None;
        }
        let start = self.slots.partition_point(|slot| slot.at_ms < from_ms);
        let end = self.slots.partition_point(|slot| slot.at_ms < to_ms);
        let before = start.checked_sub(1).and_then(|last| self.slots.get(last));
        let mut interval = Interval::new(before.map_or(self.after, |slot| slot.seq));
        let slots = self.slots.range(start..end.max(start));
        interval.collect(
            slots.map(|slot| (slot.seq, slot.at_ms, slot.body.as_ref())),
            bytes_max,
        );
        interval.dropped = dropped;
        Some(interval)
    }

    /// Log time that has been reached; 0 if only a store can tell.
    pub(crate) fn at_ms(&self) -> u64 {
        self.at_ms
    }

    /// Moves log time on, unless a store decides it.
    pub(crate) fn reach(&mut self, at_ms: u64) {
        if self.overflow == Overflow::Keep {
            self.at_ms = self.at_ms.max(at_ms);
        }
    }

    /// See [`Recent`]. `None` when only a store can tell.
    pub(crate) fn read_last(
        &self,
        until: Seq,
        comments: usize,
        bytes_max: usize,
    ) -> Option<Recent> {
        let until = until.min(self.known);
        let whole = self.overflow == Overflow::Keep;
        if until > self.head && !whole {
            return None;
        }
        let newest_first = self
            .slots
            .range(..self.index_after(until))
            .rev()
            .filter_map(|slot| Some((slot.seq, slot.at_ms, slot.body.as_ref()?)));
        let (recent, found) = Recent::collect(until, newest_first, comments, bytes_max);
        (whole || found == comments).then_some(recent)
    }

    /// What is known of a position.
    pub(crate) fn lookup(&self, id: Seq) -> Lookup {
        if id > self.known {
            return Lookup::AboveHead;
        }
        match self.index_of(id).map(|index| &self.slots[index].body) {
            None if self.is_named(id) => Lookup::Retracted,
            None => Lookup::NotHeld,
            Some(None) => Lookup::Retracted,
            Some(Some(EntryBody::Comment { .. })) => Lookup::Comment,
            Some(Some(EntryBody::Event(_))) => Lookup::Event,
        }
    }

    /// Whether a retraction that is held names `id`, which is not held any more.
    fn is_named(&self, id: Seq) -> bool {
        self.slots.iter().any(|slot| {
            matches!(&slot.body, Some(EntryBody::Event(Event::Retract { ids })) if ids.contains(&id))
        })
    }

    /// The ids retracted since `retractions` were counted; `None` when the ring
    /// no longer knows.
    pub(crate) fn retracted_since(&self, retractions: u64) -> Option<Vec<Seq>> {
        let mut missing = self.retractions - retractions;
        let mut retracted = Vec::new();
        for slot in self.slots.iter().rev() {
            if missing == 0 {
                break;
            }
            if let Some(EntryBody::Event(Event::Retract { ids })) = &slot.body {
                retracted.extend_from_slice(ids);
                missing -= 1;
            }
        }
        (missing == 0).then_some(retracted)
    }

    fn push(&mut self, entry: Entry) {
        let Entry { seq, at_ms, body } = entry;
        assert!(
            seq > self.head,
            "{seq} comes after {}: positions increase",
            self.head
        );
        if let EntryBody::Event(Event::Retract { ids }) = &body {
            self.retractions += 1;
            for &id in &**ids {
                self.erase(id);
            }
        }
        self.head = seq;
        self.at_ms = self.at_ms.max(at_ms);
        if self.whole_from_ms == UNKNOWN_MS {
            // An entry that is not here may have the same log time.
            self.whole_from_ms = self.at_ms.saturating_add(1);
        }
        self.bytes += body.bytes();
        if self.slots.capacity() == 0 {
            // Many rooms hold a single comment.
            self.slots.reserve_exact(1);
        }
        self.slots.push_back(Slot {
            seq,
            at_ms: self.at_ms,
            body: Some(body),
        });
    }

    fn erase(&mut self, id: Seq) {
        let Some(index) = self.index_of(id) else {
            return;
        };
        let slot = &mut self.slots[index];
        if matches!(slot.body, Some(EntryBody::Comment { .. })) {
            self.bytes -= slot.bytes();
            slot.body = None;
        }
    }

    /// Drops everything and continues after `after`.
    fn restart(&mut self, after: Seq) {
        self.slots.clear();
        self.bytes = 0;
        self.after = after;
        self.head = after;
        self.whole_from_ms = UNKNOWN_MS;
    }

    fn index_of(&self, id: Seq) -> Option<usize> {
        self.slots.binary_search_by_key(&id, |slot| slot.seq).ok()
    }

    fn index_after(&self, since: Seq) -> usize {
        self.slots.partition_point(|slot| slot.seq <= since)
    }
}

/// Nobody knows from which log time on everything is in the ring: the next entry tells.
const UNKNOWN_MS: u64 = u64::MAX;

impl Slot {
    fn entry(&self) -> Option<Entry> {
        self.body.as_ref().map(|body| Entry {
            seq: self.seq,
            at_ms: self.at_ms,
            body: body.clone(),
        })
    }

    fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, EntryBody::bytes)
    }
}

#[cfg(test)]
mod tests;
