//! What the viewers of one thread share: the audit, the counters and the scratch buffers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use danmaku_wire::Encoding;
use serde::Serialize;

use crate::audit::{Auditor, Counter, Judge};
use crate::causes;
use crate::clock::{Clock, Moment};
use crate::entrance::Entrance;
use crate::latency::Distribution;
use crate::swarm::SwarmResult;
use crate::swarm::handshake::From;
use crate::swarm::progress::Delivered;

/// Shared by the viewers of one thread only.
pub(super) struct ThreadState {
    pub(super) clock: Clock,
    pub(super) auditor: Auditor,
    pub(super) judge: Arc<Judge>,
    /// The number of the thread's first viewer among all, so that tokens and source addresses rotate over the whole swarm.
    pub(super) first: u32,
    pub(super) entrance: Arc<Entrance>,
    pub(super) history: Option<(u32, f64)>,
    /// Counts deliveries in place of the audit, where the protocol has no positions.
    pub(super) counter: Option<Counter>,
    pub(super) rooms: Arc<[String]>,
    pub(super) delivered: [Delivered; 3],
    pub(super) incidents: Incidents,
    /// Viewers whose handshake is under way, with the moment it began.
    pub(super) connecting: HashMap<usize, Moment>,
    /// Viewers that lost their connection and are to come back, with the moment they lost it.
    pub(super) lost_at: HashMap<usize, Moment>,
    /// Attempts of viewers on their way back so far.
    pub(super) attempts: HashMap<usize, u32>,
    /// Where viewers that came back into a new epoch began in it, by room.
    pub(super) began_anew: Vec<(u32, u64)>,
    pub(super) request: Vec<u8>,
    /// When a viewer last read something.
    pub(super) last_arrival: Moment,
}

/// What happened to the viewers of a thread, other than deliveries.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    /// Viewers that joined.
    pub joined: u64,
    /// Viewers that came back.
    pub rejoined: u64,
    /// Of those, how many resumed from their position.
    pub resumed: u64,
    /// Of those, how many found their room in a new epoch.
    pub renumbered: u64,
    /// Acknowledged viewer-comments that could not be replayed because of that.
    pub unreplayed: u64,
    /// Failed connection attempts of viewers on their way back.
    pub retries: u64,
    /// From losing the connection to being back.
    pub rejoins: Distribution,
    /// Viewers that could not join, or not again after they had left, by cause.
    pub failures: BTreeMap<String, u64>,
    /// Reading viewers that the server closed, by close code.
    pub closes: BTreeMap<u16, u64>,
    /// Connections of reading viewers that broke without a close frame.
    pub silent_ends: u64,
    /// Frames a server must not send.
    pub faults: BTreeMap<String, u64>,
    /// State of the stalled viewers.
    pub stalled: StalledEnds,
    /// From connecting to `joined`, of those that came for the first time.
    pub connects: Distribution,
}

/// How viewers that had stopped reading were found when they read again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, schemars::JsonSchema)]
pub struct StalledEnds {
    /// Still connected, without a close frame.
    pub open: u64,
    /// Close frames by code.
    pub closes: BTreeMap<u16, u64>,
    /// The connection was broken.
    pub silent: u64,
    /// `gap` messages found.
    pub gaps: u64,
    /// Acknowledged comments at the positions those messages named.
    pub skipped: u64,
    /// Frames found.
    pub frames: u64,
}

impl ThreadState {
    /// The number of a viewer among all.
    pub(super) fn number(&self, index: usize) -> u32 {
        self.first + u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// Where the stream of a new viewer begins: the share that asks for history is spread evenly.
    pub(super) fn beginning(&self, index: usize) -> From {
        let Some((comments, percent)) = self.history else {
            return From::Now;
        };
        let share = |count: u32| (f64::from(count) * percent / 100.0).floor();
        let number = self.number(index);
        if share(number + 1) > share(number) {
            From::History(comments)
        } else {
            From::Now
        }
    }

    /// Everything that was found.
    pub(super) fn into_result(mut self) -> SwarmResult {
        let findings = match self.counter.take() {
            Some(counter) => {
                let (findings, unreplayed) = counter.into_findings();
                self.incidents.unreplayed = unreplayed;
                findings
            }
            None => self.auditor.into_findings(),
        };
        SwarmResult {
            findings,
            incidents: self.incidents,
        }
    }

    pub(super) fn fail(&mut self, index: usize, cause: &str) {
        self.connecting.remove(&index);
        causes::count(&mut self.incidents.failures, cause, 1);
    }

    /// A returning viewer was refused; it tries again.
    pub(super) fn retry(&mut self, index: usize) {
        self.connecting.remove(&index);
        self.incidents.retries += 1;
    }

    pub(super) fn fault(&mut self, what: &str) {
        causes::count(&mut self.incidents.faults, what, 1);
    }

    pub(super) fn joined(&mut self, index: usize, window_ms: u64, now: Moment) {
        let began = self.connecting.remove(&index);
        self.attempts.remove(&index);
        self.incidents.joined += 1;
        if let Some(lost_at) = self.lost_at.remove(&index) {
            self.incidents.rejoined += 1;
            self.incidents.rejoins.record(now.micros_since(lost_at), 1);
        } else if let Some(began) = began {
            self.incidents.connects.record(now.micros_since(began), 1);
        }
        if !self.judge.set_window_ms(window_ms) {
            self.fault("a different window than before");
        }
    }

    #[inline]
    pub(super) fn delivered(&mut self, encoding: Encoding, bytes: usize, comments: u64) {
        let delivered = &mut self.delivered[encoding as usize];
        delivered.frames += 1;
        delivered.bytes += bytes as u64;
        delivered.comments += comments;
    }
}

impl Incidents {
    /// Adds those of another thread or process.
    pub(super) fn add(&mut self, other: &Self) {
        self.joined += other.joined;
        self.rejoined += other.rejoined;
        self.resumed += other.resumed;
        self.renumbered += other.renumbered;
        self.unreplayed = self.unreplayed.saturating_add(other.unreplayed);
        self.retries += other.retries;
        self.rejoins.merge(&other.rejoins);
        self.silent_ends += other.silent_ends;
        causes::add(&mut self.failures, &other.failures);
        causes::add(&mut self.faults, &other.faults);
        add_all(&mut self.closes, &other.closes);
        add_all(&mut self.stalled.closes, &other.stalled.closes);
        self.stalled.open += other.stalled.open;
        self.stalled.silent += other.stalled.silent;
        self.stalled.gaps += other.stalled.gaps;
        self.stalled.skipped += other.stalled.skipped;
        self.stalled.frames += other.stalled.frames;
        self.connects.merge(&other.connects);
    }
}

fn add_all(into: &mut BTreeMap<u16, u64>, from: &BTreeMap<u16, u64>) {
    for (code, count) in from {
        *into.entry(*code).or_default() += count;
    }
}
