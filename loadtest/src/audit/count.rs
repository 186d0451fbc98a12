//! Counts deliveries where a protocol has no positions: the harness numbers the posts of each room itself. Whoever was
//! subscribed when a post was due must get it once; order and late joins mean nothing there.

use std::collections::HashMap;
use std::sync::Arc;

use crate::audit::{End, Findings, Judge, Tally};
use crate::clock::Moment;
use crate::ledger::Ledger;
use crate::pusher::Carried;

/// Counts the deliveries to the viewers of one thread.
pub struct Counter {
    ledger: Arc<Ledger>,
    judge: Arc<Judge>,
    viewers: HashMap<usize, Seen>,
    arrivals: HashMap<(u32, u64), Arrival>,
    findings: Findings,
    unreplayed: u64,
}

/// What one viewer got.
#[derive(Default)]
struct Seen {
    /// A bit for each number.
    numbers: Vec<u64>,
    stays: Vec<Stay>,
}

/// One subscription of a viewer.
#[derive(Clone, Copy)]
struct Stay {
    from: Moment,
    /// The highest number it got.
    last: u64,
}

/// When viewers had a comment, and what it said.
struct Arrival {
    first: Moment,
    last: Moment,
    shape: u64,
}

/// Numbers before the last one that have to be there too before a viewer counts as caught up: posts overtake each other.
const OVERTAKING_MAX: u64 = 256;
/// A number beyond this was not ours.
const NUMBER_MAX: u64 = 10_000_000;

impl Counter {
    /// A counter for rooms of `ledger`.
    pub fn new(ledger: Arc<Ledger>, judge: Arc<Judge>) -> Self {
        let rooms = vec![Tally::default(); ledger.rooms() as usize];
        Self {
            ledger,
            judge,
            viewers: HashMap::new(),
            arrivals: HashMap::new(),
            findings: Findings {
                rooms,
                ..Findings::default()
            },
            unreplayed: 0,
        }
    }

    /// A viewer has subscribed, for the first time or again.
    pub fn joined(&mut self, viewer: usize, now: Moment) {
        let stay = Stay { from: now, last: 0 };
        self.viewers.entry(viewer).or_default().stays.push(stay);
    }

    /// A comment has arrived.
    pub fn arrived(&mut self, viewer: usize, room: u32, carried: &Carried, now: Moment) {
        let tally = &mut self.findings.rooms[room as usize];
        let Carried {
            run,
            number,
            due,
            shape,
        } = *carried;
        let Some(seen) = self.viewers.get_mut(&viewer) else {
            return;
        };
        if run != self.judge.clock.origin_unix_ms() || number > NUMBER_MAX {
            tally.foreign += 1;
            return;
        }
        if !seen.insert(number) {
            tally.duplicate += 1;
            return;
        }
        if let Some(stay) = seen.stays.last_mut() {
            stay.last = stay.last.max(number);
        }
        let arrival = self.arrivals.entry((room, number)).or_insert(Arrival {
            first: now,
            last: now,
            shape,
        });
        arrival.last = now;
        if arrival.shape == shape {
            tally.delivered += 1;
        } else {
            tally.corrupt += 1;
        }
        let micros = now.micros_since(due);
        tally.late += u64::from(micros > self.judge.late_micros());
        let stage = self.judge.stage(due) as usize;
        self.findings.stages[stage].each.record(micros, 1);
        self.judge.recorder().arrivals().record(now, micros, 1);
    }

    /// An event has arrived that is none of ours.
    pub fn foreign(&mut self, room: u32) {
        self.findings.rooms[room as usize].foreign += 1;
    }

    /// Whether a viewer has everything of its room that is acknowledged so far.
    pub fn is_caught_up(&self, viewer: usize, room: u32) -> bool {
        let Some(seen) = self.viewers.get(&viewer) else {
            return true;
        };
        let Some(stay) = seen.stays.last() else {
            return true;
        };
        let ledger = self.ledger.room(room);
        let last = ledger.last();
        ledger
            .positions_in(last.saturating_sub(OVERTAKING_MAX), last)
            .iter()
            .all(|number| {
                let due = ledger.at(*number).map(|entry| entry.scheduled);
                seen.has(*number) || due.is_none_or(|due| due < stay.from)
            })
    }

    /// Ends a viewer's count: what it did not get while it was subscribed is lost, what was posted while it was away was not
    /// replayed.
    pub fn finish(&mut self, viewer: usize, room: u32, end: End) {
        let Some(seen) = self.viewers.remove(&viewer) else {
            return;
        };
        let tally = &mut self.findings.rooms[room as usize];
        let ledger = self.ledger.room(room);
        for number in ledger.positions_in(0, u64::MAX) {
            if seen.has(*number) {
                continue;
            }
            let Some(due) = ledger.at(*number).map(|entry| entry.scheduled) else {
                continue;
            };
            let Some(at) = seen.stays.iter().rposition(|stay| stay.from <= due) else {
                continue;
            };
            let is_last = at + 1 == seen.stays.len();
            match end {
                _ if *number < seen.stays[at].last => tally.lost += 1,
                End::Open | End::Silent if is_last => tally.lost += 1,
                End::Told if is_last => tally.after_close += 1,
                End::Left if is_last => {}
                _ => self.unreplayed += 1,
            }
        }
    }

    /// All findings, and how many viewer-comments were posted while their viewers were away.
    pub fn into_findings(mut self) -> (Findings, u64) {
        for ((room, number), arrival) in &self.arrivals {
            let tally = &mut self.findings.rooms[*room as usize];
            let mut ledger = self.ledger.room(*room);
            match ledger.at(*number) {
                Some(entry) if entry.shape == arrival.shape => {
                    let scheduled = entry.scheduled;
                    ledger.arrived(*number, scheduled, arrival.first, arrival.last);
                }
                Some(_) => tally.corrupt += 1,
                // Delivered, but never acknowledged.
                None => tally.foreign += 1,
            }
        }
        for room in &self.findings.rooms {
            self.findings.tally.add(room);
        }
        (self.findings, self.unreplayed)
    }
}

impl Seen {
    fn has(&self, number: u64) -> bool {
        let word = self.numbers.get((number / 64) as usize);
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Whether it is new.
    fn insert(&mut self, number: u64) -> bool {
        let at = (number / 64) as usize;
        if self.numbers.len() <= at {
            self.numbers.resize(at + 1, 0);
        }
        let bit = 1 << (number % 64);
        let is_new = self.numbers[at] & bit == 0;
        self.numbers[at] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    fn at(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    /// Posts are due at 100, 200, …; a viewer stays from each of `stays` and gets these numbers meanwhile.
    fn count(posts: u64, stays: &[(u64, &[u64])], end: End) -> (Tally, u64) {
        let ledger = Arc::new(Ledger::new(1));
        let clock = Clock::start();
        let judge = Arc::new(Judge::new(clock, Duration::from_secs(1)));
        for number in 1..=posts {
            let entered = ledger.acknowledge(0, Some(1), number, at(number * 100), number);
            assert_eq!(entered, Ok(()));
        }
        let mut counter = Counter::new(ledger, judge);
        for (from, numbers) in stays {
            counter.joined(0, at(*from));
            for number in *numbers {
                let carried = Carried {
                    run: clock.origin_unix_ms(),
                    number: *number,
                    due: at(number * 100),
                    shape: *number,
                };
                counter.arrived(0, 0, &carried, at(number * 100 + 7));
            }
        }
        counter.finish(0, 0, end);
        let (findings, unreplayed) = counter.into_findings();
        (findings.tally, unreplayed)
    }

    #[test]
    fn everything_once_in_any_order_is_clean() {
        let (tally, unreplayed) = count(4, &[(0, &[2, 1, 4, 3])], End::Open);
        assert!(tally.is_clean(), "{tally:?}");
        assert_eq!((tally.delivered, unreplayed), (4, 0));
    }

    #[test]
    fn what_is_missing_or_too_much_counts() {
        let lost = |posts, stays: &[(u64, &[u64])], end| count(posts, stays, end).0.lost;
        assert_eq!(lost(4, &[(0, &[1, 3])], End::Open), 2);
        assert_eq!(
            lost(4, &[(0, &[1, 3])], End::Left),
            1,
            "4 may be on its way"
        );
        assert_eq!(lost(4, &[(250, &[3, 4])], End::Open), 0, "it came later");
        assert_eq!(count(2, &[(0, &[1])], End::Told).0.after_close, 1);
        assert_eq!(count(2, &[(0, &[1, 1, 2])], End::Open).0.duplicate, 1);
        assert_eq!(count(1, &[(0, &[1, 2])], End::Open).0.foreign, 1);
    }

    #[test]
    fn what_was_posted_while_a_viewer_was_away_is_not_replayed() {
        let (tally, unreplayed) = count(6, &[(0, &[1, 3]), (450, &[5, 6])], End::Open);
        assert_eq!((tally.lost, unreplayed), (1, 1), "2 and 4");
    }
}
