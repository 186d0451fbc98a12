//! What one distinct frame carries, decoded once, and when viewers got it.

use std::collections::HashSet;

use danmaku_client::{Batch, RoomEvent, RoomEventKind};

use crate::audit::Judge;
use crate::audit::history::Mark;
use crate::audit::tally::Tally;
use crate::clock::Moment;
use crate::fingerprint::CommentShape;
use crate::latency::Latencies;
use crate::ledger::RoomLedger;

/// One decoded frame and its arrivals.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) room: u32,
    /// Where the previous frame ended.
    pub(super) after: u64,
    /// Where it ends.
    pub(super) seq: u64,
    pub(super) mark: Mark,
    /// No viewer has received it live yet, so no live frame refers to it.
    pub(super) only_replayed: bool,
    /// Fingerprint of the plain text.
    pub(super) plain: u64,
    pub(super) created: Moment,
    /// The fingerprints under which the frame is known, one per form.
    pub(super) forms: Vec<u64>,
    sealed: Moment,
    shed: u32,
    comments: Vec<Delivered>,
    faults: IdFaults,
    arrivals: Vec<Arrivals>,
    /// Viewers that received it in a replay.
    replays: u64,
    /// Viewers whose arrivals were judged.
    viewers: u64,
}

/// A comment as it arrived.
#[derive(Clone, Copy, Debug)]
struct Delivered {
    position: u64,
    shape: u64,
}

/// Viewers that received the frame at about the same time.
#[derive(Clone, Copy, Debug)]
struct Arrivals {
    at: Moment,
    viewers: u32,
}

/// Arrivals this close together count as one.
const ARRIVALS_MERGED_MICROS: u64 = 20;
/// Above this many, arrivals are merged to the millisecond before the comments are multiplied by them.
const ARRIVALS_EXACT_MAX: usize = 512;
const ARRIVALS_COARSE_MICROS: u64 = 1000;
/// How many acknowledged comments before and after it a comment with the wrong shape is looked for among, to tell a swap from a
/// corruption.
const SWAP_DISTANCE_MAX: usize = 64;

impl Content {
    pub(super) fn new(
        room: u32,
        batch: &Batch,
        plain: u64,
        mark: Mark,
        created: Moment,
        sealed: Moment,
    ) -> Self {
        let comments = batch.comments.iter().map(|comment| Delivered {
            position: comment.id.value(),
            shape: CommentShape {
                user: comment.user.as_deref(),
                text: &comment.text,
                mode: comment.mode.as_str(),
                color: comment.color,
                size: comment.size,
            }
            .fingerprint(),
        });
        let comments: Vec<Delivered> = comments.collect();
        Self {
            room,
            after: batch.after.value(),
            seq: batch.seq.value(),
            mark,
            only_replayed: false,
            plain,
            created,
            forms: Vec::with_capacity(4),
            sealed,
            shed: batch.shed,
            faults: IdFaults::of(batch, &comments),
            comments,
            arrivals: Vec::new(),
            replays: 0,
            viewers: 0,
        }
    }

    pub(super) fn comments(&self) -> u64 {
        self.comments.len() as u64
    }

    /// The positions of its comments.
    pub(super) fn positions(&self) -> impl Iterator<Item = u64> {
        self.comments.iter().map(|comment| comment.position)
    }

    /// Records that one more viewer has it. `now` never goes back within one thread.
    #[inline]
    pub(super) fn arrived(&mut self, now: Moment) {
        match self.arrivals.last_mut() {
            Some(last) if now.micros_since(last.at) < ARRIVALS_MERGED_MICROS => last.viewers += 1,
            _ => self.arrivals.push(Arrivals {
                at: now,
                viewers: 1,
            }),
        }
    }

    /// Records that one more viewer has it, in a replay: its lateness depends on when the viewer came back, not on the server.
    pub(super) fn replayed(&mut self) {
        self.replays += 1;
    }

    /// Whether everything it carries is acknowledged.
    pub(super) fn is_acknowledged(&self, ledger: &RoomLedger) -> bool {
        self.comments
            .iter()
            .all(|comment| ledger.at(comment.position).is_some())
    }

    pub(super) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty() || self.replays > 0
    }

    pub(super) fn last_arrival(&self) -> Moment {
        self.arrivals
            .last()
            .map_or(self.created, |arrivals| arrivals.at)
    }

    /// Judges the arrivals since the last call against what was acknowledged, and forgets them.
    pub(super) fn fold(
        &mut self,
        ledger: &mut RoomLedger,
        judge: &Judge,
        tally: &mut Tally,
        stages: &mut [Latencies; 2],
    ) {
        let arrivals = coarse(std::mem::take(&mut self.arrivals));
        let replays = std::mem::take(&mut self.replays);
        let live: u64 = arrivals
            .iter()
            .map(|arrivals| u64::from(arrivals.viewers))
            .sum();
        let viewers = live + replays;
        if viewers == 0 {
            return;
        }
        self.viewers += viewers;
        // A server may claim any number, so the sum must not wrap to zero.
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more * viewers);
        add(&mut tally.shed, self.shed.into());
        add(&mut tally.duplicate, self.faults.duplicate);
        add(&mut tally.reordered, self.faults.reordered);
        add(&mut tally.contradicted, self.faults.contradicted);
        for arrivals in &arrivals {
            let stage = judge.stage(self.sealed);
            stages[stage as usize].seal.record(
                arrivals.at.micros_since(self.sealed),
                u64::from(arrivals.viewers),
            );
        }
        let mut seconds = judge.recorder().arrivals();
        for comment in &self.comments {
            let Some(entry) = ledger.at(comment.position).copied() else {
                tally.foreign += viewers;
                continue;
            };
            if let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) {
                ledger.arrived(comment.position, self.sealed, first.at, last.at);
            }
            if entry.shape != comment.shape {
                self.misplaced(*comment, ledger).count(tally, viewers);
                continue;
            }
            tally.delivered += viewers;
            tally.replayed += replays;
            let latencies = &mut stages[judge.stage(entry.scheduled) as usize];
            for arrivals in &arrivals {
                let micros = arrivals.at.micros_since(entry.scheduled);
                let beyond = micros.saturating_sub(judge.window_micros());
                seconds.record(arrivals.at, micros, u64::from(arrivals.viewers));
                latencies.each.record(micros, u64::from(arrivals.viewers));
                if beyond > judge.late_micros() {
                    tally.late += u64::from(arrivals.viewers);
                }
            }
        }
    }

    /// Judges what it does not carry: of the acknowledged comments in its range those that were retracted, as many as it
    /// counts as shed, and the rest, which is lost. Once, when all that it stands for is acknowledged.
    pub(super) fn settle(&self, ledger: &RoomLedger, retracted: &HashSet<u64>, tally: &mut Tally) {
        let acknowledged = ledger.positions_in(self.after, self.seq);
        let carried: HashSet<u64> = self.positions().collect();
        let (mut absent, mut taken_back) = (0, 0);
        for position in acknowledged {
            if carried.contains(position) {
                continue;
            }
            if retracted.contains(position) {
                taken_back += 1;
            } else {
                absent += 1;
            }
        }
        let lost = u64::saturating_sub(absent, self.shed.into());
        tally.retracted = tally.retracted.saturating_add(taken_back * self.viewers);
        tally.lost = tally.lost.saturating_add(lost * self.viewers);
    }

    /// Judges a comment at a position where another one was acknowledged.
    fn misplaced(&self, comment: Delivered, ledger: &RoomLedger) -> Misplaced {
        let home = ledger
            .neighbours(comment.position, SWAP_DISTANCE_MAX)
            .iter()
            .copied()
            .filter(|position| {
                ledger
                    .at(*position)
                    .is_some_and(|entry| entry.shape == comment.shape)
            })
            .min_by_key(|position| position.abs_diff(comment.position));
        let Some(home) = home else {
            return Misplaced::Corrupt;
        };
        let home_is_right = self
            .comments
            .iter()
            .any(|other| other.position == home && other.shape == comment.shape);
        if home_is_right {
            Misplaced::Repeated
        } else {
            Misplaced::Swapped
        }
    }
}

/// The meaning of a comment in another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misplaced {
    /// Swapped with one that is elsewhere.
    Swapped,
    /// It is also in its own place; the one whose place it took is lost.
    Repeated,
    /// It was never posted in this form.
    Corrupt,
}

impl Misplaced {
    fn count(self, tally: &mut Tally, viewers: u64) {
        match self {
            Self::Swapped => tally.reordered = tally.reordered.saturating_add(viewers),
            Self::Repeated => {
                tally.duplicate = tally.duplicate.saturating_add(viewers);
                tally.lost = tally.lost.saturating_add(viewers);
            }
            Self::Corrupt => tally.corrupt += viewers,
        }
    }
}

/// What is wrong with the positions inside one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct IdFaults {
    duplicate: u64,
    reordered: u64,
    /// Events at impossible positions, or that name one.
    contradicted: u64,
}

impl IdFaults {
    fn of(batch: &Batch, comments: &[Delivered]) -> Self {
        let (after, seq) = (batch.after.value(), batch.seq.value());
        let ascending = comments
            .windows(2)
            .all(|pair| pair[0].position < pair[1].position);
        let inside = |comment: &Delivered| after < comment.position && comment.position <= seq;
        let mut faults = Self {
            contradicted: event_faults(after, seq, &batch.events),
            ..Self::default()
        };
        if ascending && comments.iter().all(inside) {
            return faults;
        }
        let mut seen = HashSet::new();
        let mut highest = 0;
        for comment in comments {
            let position = comment.position;
            if position <= after || !seen.insert(position) {
                faults.duplicate += 1;
            } else if position > seq || position < highest {
                faults.reordered += 1;
            }
            highest = highest.max(position);
        }
        faults
    }
}

/// How many events are not in (`after`, `seq`] and behind the one before, or retract a comment that is not before them.
pub(super) fn event_faults(after: u64, seq: u64, events: &[RoomEvent]) -> u64 {
    let mut before = after;
    let mut faults = 0;
    for event in events {
        let id = event.id.value();
        let names_later = match &event.kind {
            RoomEventKind::Retract { ids } => ids.iter().any(|named| *named >= event.id),
            RoomEventKind::Other(_) => false,
        };
        faults += u64::from(id <= before || id > seq || names_later);
        before = before.max(id);
    }
    faults
}

fn coarse(arrivals: Vec<Arrivals>) -> Vec<Arrivals> {
    if arrivals.len() <= ARRIVALS_EXACT_MAX {
        return arrivals;
    }
    let mut merged: Vec<Arrivals> = Vec::new();
    for arrivals in arrivals {
        match merged.last_mut() {
            Some(last) if arrivals.at.micros_since(last.at) < ARRIVALS_COARSE_MICROS => {
                last.viewers += arrivals.viewers;
            }
            _ => merged.push(arrivals),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use danmaku_wire::Seq;

    use super::*;

    fn faults(after: u64, seq: u64, positions: &[u64], events: &[(u64, u64)]) -> (u64, u64, u64) {
        let comments: Vec<Delivered> = positions
            .iter()
            .map(|position| Delivered {
                position: *position,
                shape: 0,
            })
            .collect();
        let retraction = |(id, of): &(u64, u64)| RoomEvent {
            id: Seq::new(*id),
            at_ms: None,
            kind: RoomEventKind::Retract {
                ids: vec![Seq::new(*of)],
            },
        };
        let batch = Batch {
            after: Seq::new(after),
            seq: Seq::new(seq),
            ts_ms: 0,
            viewers: 0,
            likes: 0,
            shed: 0,
            comments: Vec::new(),
            events: events.iter().map(retraction).collect(),
        };
        let faults = IdFaults::of(&batch, &comments);
        (faults.duplicate, faults.reordered, faults.contradicted)
    }

    #[test]
    fn positions_inside_a_frame_are_checked() {
        let of = |after, seq, positions: &[u64]| faults(after, seq, positions, &[]);
        assert_eq!(of(9, 12, &[10, 11, 12]), (0, 0, 0));
        assert_eq!(of(9, 900, &[10, 13, 874]), (0, 0, 0), "with holes");
        assert_eq!(of(9, 9, &[]), (0, 0, 0));
        assert_eq!(of(9, 12, &[10, 10, 12]), (1, 0, 0));
        assert_eq!(of(9, 12, &[10, 12, 11]), (0, 1, 0));
        assert_eq!(of(9, 12, &[9, 10]), (1, 0, 0), "9 was delivered before");
        assert_eq!(of(9, 12, &[10, 13]), (0, 1, 0), "13 is early");
    }

    #[test]
    fn events_inside_a_frame_are_checked() {
        let of = |events: &[(u64, u64)]| faults(9, 20, &[10], events).2;
        assert_eq!(of(&[(11, 10), (20, 3)]), 0);
        assert_eq!(of(&[(9, 3)]), 1, "it was told before");
        assert_eq!(of(&[(21, 3)]), 1, "it is early");
        assert_eq!(of(&[(12, 3), (11, 3)]), 1);
        assert_eq!(of(&[(12, 12)]), 1, "it takes back itself");
    }

    #[test]
    fn many_arrivals_are_merged_without_losing_any() {
        let arrivals = (0..2000)
            .map(|index| Arrivals {
                at: Moment::from_micros(index * 100),
                viewers: 2,
            })
            .collect();
        let merged = coarse(arrivals);
        assert_eq!(merged.len(), 200);
        assert_eq!(
            merged.iter().map(|arrivals| arrivals.viewers).sum::<u32>(),
            4000
        );
    }
}
