//! One thread of the swarm: a poll and the viewers it serves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use crate::audit::End;
use crate::clock::Moment;
use crate::swarm::dial::{Dialer, Receive};
use crate::swarm::link::Link;
use crate::swarm::pace::Pace;
use crate::swarm::plan::{Part, Seat};
use crate::swarm::progress::{Progress, Snapshot};
use crate::swarm::thread_state::ThreadState;
use crate::swarm::viewer::{State, Turn, Viewer};
use crate::swarm::{Habits, Reconnect, SwarmResult};
use danmaku_chat::Random;

/// Orders to the swarm, in this order, each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The stalling viewers stop reading.
    Stall,
    /// All viewers are disconnected and reconnect at once.
    Storm,
    /// Viewers begin to leave and join.
    Churn,
    /// The stalled viewers read again.
    Resume,
    /// Everything is posted: report when all viewers have it.
    Settle,
    /// Close the audit and the connections, and end.
    Leave,
}

/// How a thread connects.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) dialer: Dialer,
    pub(super) per_second: f64,
    pub(super) connecting_max: usize,
    pub(super) deadline: Duration,
    pub(super) habits: Habits,
}

/// The receive buffer all viewers of a thread share: one frame of a busy room fits.
const BUFFER_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 1024;
/// How long the server may take to close its side at the end.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);
/// Dials between two looks at what has arrived.
const DIALS_PER_TURN_MAX: usize = 256;
/// No more viewers are dialled in one moment than are due in this time, so that a pause does not become a burst.
const DIALS_AT_ONCE: Duration = Duration::from_millis(10);
/// How often, at least, viewers due to leave are looked for.
const CHURN_EVERY: Duration = Duration::from_millis(20);
/// Viewers that could not leave for this long leave late; beyond it they do not leave at all.
const CHURN_AT_ONCE: Duration = Duration::from_secs(1);
const SLOW_READS_PER_SECOND: u32 = 10;
/// While frames arrive, what is due by the clock is looked at this often.
const TEND_EVERY: Duration = Duration::from_millis(1);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The waker's token; the others are viewers' indexes.
const WAKE: Token = Token(usize::MAX);

pub(super) struct Worker {
    poll: Poll,
    viewers: Vec<Viewer>,
    thread: ThreadState,
    terms: Terms,
    pace: Pace,
    buffer: Vec<u8>,
    dialled: usize,
    /// Viewers to dial again, and when at the earliest.
    redials: BinaryHeap<Reverse<(Moment, usize)>>,
    random: Random,
    /// Reconnects of a storm are not paced.
    storming: bool,
    churn: Option<Pace>,
    /// The next viewer to leave.
    churned: usize,
    next_slow_read: Moment,
    /// Viewers whose turn ended before they had read everything, and whether their peer has closed.
    unfinished: Vec<(usize, bool)>,
    ended: u64,
    left: u64,
    /// The first viewer that may not have everything yet, while settling.
    settling: Option<usize>,
    leaving: Option<Moment>,
    next_sweep: Moment,
    next_deadline_check: Moment,
}

impl Worker {
    pub(super) fn new(
        seats: Vec<Seat>,
        thread: ThreadState,
        terms: Terms,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (now, first) = (thread.clock.now(), thread.first);
        let worker = Self {
            poll,
            viewers: seats.into_iter().map(Viewer::new).collect(),
            pace: Pace::new(terms.per_second, DIALS_AT_ONCE, now),
            thread,
            terms,
            buffer: vec![0; BUFFER_BYTES],
            dialled: 0,
            redials: BinaryHeap::new(),
            random: Random::new(first.into()),
            storming: false,
            churn: None,
            churned: 0,
            next_slow_read: now,
            unfinished: Vec::new(),
            ended: 0,
            left: 0,
            settling: None,
            leaving: None,
            next_sweep: now.after(SWEEP_EVERY),
            next_deadline_check: now,
        };
        Ok((worker, waker))
    }

    /// Runs until ordered to leave, or until the channel is closed.
    pub(super) fn run(
        mut self,
        orders: &Receiver<Order>,
        progress: &Arc<Progress>,
    ) -> io::Result<SwarmResult> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut tended = Moment::default();
        let mut has_untended = false;
        loop {
            let patience = if self.unfinished.is_empty() {
                self.patience()
            } else {
                Duration::ZERO
            };
            let wait = if has_untended {
                patience.min(TEND_EVERY)
            } else {
                patience
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let mut is_due = events.is_empty() || patience <= TEND_EVERY;
            for event in &events {
                if event.token() == WAKE {
                    is_due = true;
                } else {
                    self.ready(
                        event.token().0,
                        event.is_writable(),
                        event.is_read_closed() || event.is_error(),
                    );
                }
            }
            let mut unfinished = std::mem::take(&mut self.unfinished);
            // An event may already have given one of them a turn.
            unfinished.sort_unstable();
            unfinished.dedup_by_key(|(index, _)| *index);
            for (index, closed) in unfinished {
                self.ready(index, false, closed);
            }
            // The next frame has often arrived already, and costs less than checking what is due.
            let last_arrival = self.thread.last_arrival;
            has_untended = !is_due && last_arrival < tended.after(TEND_EVERY);
            if has_untended {
                continue;
            }
            loop {
                match orders.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.obey(Order::Leave);
                        break;
                    }
                }
            }
            let now = self.thread.clock.now();
            tended = now;
            self.dial(now);
            self.tend(now);
            progress.publish(self.snapshot());
            if self.has_left(now) {
                return Ok(self.thread.into_result());
            }
        }
    }

    fn ready(&mut self, index: usize, writable: bool, closed: bool) {
        let Some(viewer) = self.viewers.get_mut(index) else {
            return;
        };
        let (was_live, joined) = (viewer.state == State::Live, self.thread.incidents.joined);
        if viewer.state == State::Connecting && (writable || closed) {
            viewer.connected(index, &mut self.thread);
        } else if writable && let Some(link) = &mut viewer.link {
            link.send_rest();
        }
        if !matches!(viewer.state, State::Connecting | State::Stalled) {
            let turn = viewer.read(index, closed, &mut self.buffer, &mut self.thread);
            if turn == Turn::Unfinished {
                self.unfinished.push((index, closed));
            }
        }
        // One read may bring both `joined` and the close.
        let was_live = was_live || self.thread.incidents.joined > joined;
        if was_live && matches!(viewer.state, State::Ended(_)) {
            self.ended += 1;
        }
        self.come_back(index, was_live);
    }

    /// A viewer that lost its connection tries again, if it is configured to.
    fn come_back(&mut self, index: usize, was_live: bool) {
        let viewer = &mut self.viewers[index];
        if self.terms.habits.reconnects
            && self.leaving.is_none()
            && viewer.epoch.is_some()
            && viewer.seat.part != Part::Stalling
            && matches!(viewer.state, State::Ended(_))
        {
            viewer.cut();
            let now = self.thread.clock.now();
            if was_live {
                self.thread.lost_at.insert(index, now);
            }
            let attempt = self.thread.attempts.entry(index).or_default();
            *attempt += 1;
            let delay = self
                .terms
                .habits
                .reconnect
                .delay(*attempt, &mut self.random);
            self.redials.push(Reverse((now.after(delay), index)));
        }
    }

    /// Disconnects all reading viewers.
    fn storm(&mut self) {
        let now = self.thread.clock.now();
        self.storming = true;
        for (index, viewer) in self.viewers.iter_mut().enumerate() {
            if viewer.state == State::Live {
                viewer.cut();
                self.left += 1;
                self.thread.lost_at.insert(index, now);
                let reconnect = self.terms.habits.reconnect;
                let delay = reconnect.after_storm(&mut self.random);
                self.redials.push(Reverse((now.after(delay), index)));
            }
        }
    }

    /// Viewers leave in turn at the given pace and reconnect as new ones.
    fn churn(&mut self, now: Moment) {
        let Some(pace) = &mut self.churn else {
            return;
        };
        while pace.take(now) {
            let count = self.viewers.len();
            let Some(index) = (0..count)
                .map(|step| (self.churned + step) % count)
                .find(|index| {
                    let viewer = &self.viewers[*index];
                    viewer.state == State::Live && viewer.seat.part == Part::Counted
                })
            else {
                return;
            };
            self.churned = index + 1;
            let viewer = &mut self.viewers[index];
            viewer.finish(index, End::Left, &mut self.thread);
            viewer.depart();
            self.left += 1;
            self.thread.lost_at.insert(index, now);
            self.redials.push(Reverse((now, index)));
        }
    }

    /// Lets slow viewers read their share.
    fn read_slowly(&mut self, now: Moment) {
        let share = self.terms.habits.slow_bytes_per_second / SLOW_READS_PER_SECOND;
        if share == 0 || now < self.next_slow_read {
            return;
        }
        self.next_slow_read = now.after(Duration::from_secs(1) / SLOW_READS_PER_SECOND);
        let share = (share as usize).min(BUFFER_BYTES);
        for (index, viewer) in self.viewers.iter_mut().enumerate() {
            if viewer.state == State::Slow {
                viewer.read_some(index, &mut self.buffer[..share], &mut self.thread);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Stall => {
                for viewer in self
                    .viewers
                    .iter_mut()
                    .filter(|viewer| viewer.seat.part == Part::Stalling)
                {
                    viewer.stall();
                    if self.terms.habits.slow_bytes_per_second > 0 && viewer.state == State::Stalled
                    {
                        viewer.state = State::Slow;
                    }
                    if let (State::Stalled | State::Slow, Some(link)) =
                        (viewer.state, &mut viewer.link)
                    {
                        // Otherwise every frame it ignores would wake the thread.
                        let _ = self.poll.registry().deregister(link.socket());
                    }
                }
            }
            Order::Storm => self.storm(),
            Order::Churn => {
                let per_second = self.terms.habits.churn_per_second;
                let now = self.thread.clock.now();
                self.churn = Some(Pace::new(per_second, CHURN_AT_ONCE, now));
            }
            Order::Resume => {
                for (index, viewer) in self.viewers.iter_mut().enumerate() {
                    if let (State::Stalled | State::Slow, Some(link)) =
                        (viewer.state, &mut viewer.link)
                    {
                        let interest = Interest::READABLE | Interest::WRITABLE;
                        let registry = self.poll.registry();
                        let _ = registry.register(link.socket(), Token(index), interest);
                        viewer.state = State::Resumed;
                    }
                }
            }
            Order::Settle => {
                self.churn = None;
                self.settling = Some(0);
            }
            Order::Leave if self.leaving.is_none() => self.leave(),
            Order::Leave => {}
        }
    }

    /// Closes the audit before any connection, so that our own closes do not count as losses.
    fn leave(&mut self) {
        for (index, viewer) in self.viewers.iter_mut().enumerate() {
            let end = match viewer.state {
                // A viewer that never joined, or left and could not rejoin, has no position and so cannot have missed anything.
                _ if viewer.epoch.is_none() => None,
                State::Live => Some(End::Open),
                State::Stalled | State::Slow | State::Resumed => {
                    self.thread.incidents.stalled.open += 1;
                    None
                }
                State::Ended(_) if viewer.seat.part == Part::Stalling => None,
                State::Ended(end) => Some(end),
                // It had joined and is not back.
                _ => Some(End::Silent),
            };
            if let Some(end) = end {
                viewer.finish(index, end, &mut self.thread);
            }
            viewer.leave();
        }
        // By now everything is acknowledged that a new epoch had before its viewers were back.
        for (room, after) in self.thread.began_anew.drain(..) {
            let unreplayed = self.thread.auditor.acknowledged_in(room, 0, after);
            let incidents = &mut self.thread.incidents;
            incidents.unreplayed = incidents.unreplayed.saturating_add(unreplayed);
        }
        self.leaving = Some(self.thread.clock.now().after(LEAVE_DEADLINE));
    }

    fn dial(&mut self, now: Moment) {
        if self.leaving.is_some() {
            return;
        }
        for _ in 0..DIALS_PER_TURN_MAX {
            if !self.storming
                && (self.thread.connecting.len() >= self.terms.connecting_max
                    || !self.has_dials(now))
            {
                return;
            }
            if !self.storming && !self.pace.take(now) {
                return;
            }
            let Some(index) = self.next_dial(now) else {
                // With jitter, some of a storm come later.
                let more = self.terms.habits.reconnect == Reconnect::Jitter;
                self.storming = self.storming && more && !self.redials.is_empty();
                return;
            };
            let viewer = &mut self.viewers[index];
            let receive = if viewer.seat.part == Part::Stalling {
                Receive::Tiny
            } else {
                Receive::Normal
            };
            let number = self.thread.number(index);
            let dialled = self
                .terms
                .dialer
                .dial(number, receive)
                .and_then(|mut socket| {
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll
                        .registry()
                        .register(&mut socket, Token(index), interest)?;
                    Link::new(socket, self.thread.entrance.secure.as_ref())
                });
            match dialled {
                Ok(link) => {
                    viewer.link = Some(link);
                    viewer.state = State::Connecting;
                    self.thread.connecting.insert(index, now);
                }
                Err(error) => {
                    viewer.fail(index, &error.to_string(), &mut self.thread);
                    self.come_back(index, false);
                }
            }
        }
    }

    fn has_dials(&self, now: Moment) -> bool {
        self.dialled < self.viewers.len() || self.has_redials(now)
    }

    fn has_redials(&self, now: Moment) -> bool {
        let next = self.redials.peek();
        next.is_some_and(|Reverse((due, _))| *due <= now)
    }

    /// Returning viewers go first.
    fn next_dial(&mut self, now: Moment) -> Option<usize> {
        if self.has_redials(now) {
            return self.redials.pop().map(|Reverse((_, index))| index);
        }
        let index = self.dialled;
        (index < self.viewers.len()).then(|| {
            self.dialled += 1;
            index
        })
    }

    /// What is due by the clock: handshakes that take too long, frames whose latencies can be taken, viewers to catch up.
    fn tend(&mut self, now: Moment) {
        if now >= self.next_deadline_check {
            self.next_deadline_check = now.after(self.terms.deadline / 20);
            let late = |began: &Moment| began.after(self.terms.deadline) < now;
            let late: Vec<usize> = self
                .thread
                .connecting
                .iter()
                .filter(|(_, began)| late(began))
                .map(|(index, _)| *index)
                .collect();
            for index in late {
                let cause = format!("no `joined` within {} s", self.terms.deadline.as_secs());
                self.viewers[index].fail(index, &cause, &mut self.thread);
                self.come_back(index, false);
            }
        }
        self.churn(now);
        self.read_slowly(now);
        if now >= self.next_sweep {
            self.next_sweep = now.after(SWEEP_EVERY);
            self.thread.auditor.sweep(now);
        }
        if let Some(first) = self.settling {
            let lags = |(index, viewer): (usize, &Viewer)| {
                let reads = match viewer.state {
                    State::Live => true,
                    // It is coming back to its position: what it missed will be replayed.
                    State::Waiting | State::Connecting | State::Asked | State::Joining => {
                        viewer.epoch.is_some()
                    }
                    _ => false,
                };
                reads && !viewer.is_caught_up(index, &self.thread)
            };
            let mut rest = self.viewers.iter().enumerate().skip(first);
            let behind = rest.position(lags);
            self.settling = Some(behind.map_or(self.viewers.len(), |offset| first + offset));
        }
    }

    fn patience(&self) -> Duration {
        let dials = self.dialled < self.viewers.len() || !self.redials.is_empty();
        if dials && self.leaving.is_none() {
            Duration::from_millis(1)
        } else if self
            .settling
            .is_some_and(|first| first < self.viewers.len())
            || self.leaving.is_some()
        {
            Duration::from_millis(10)
        } else if self.churn.is_some() || self.terms.habits.slow_bytes_per_second > 0 {
            CHURN_EVERY
        } else {
            Duration::from_millis(250)
        }
    }

    fn snapshot(&self) -> Snapshot {
        let incidents = &self.thread.incidents;
        Snapshot {
            joined: incidents.joined,
            failed: incidents.failures.values().sum(),
            ended: self.ended,
            left: self.left,
            delivered: self.thread.delivered,
            rejoined: incidents.rejoined,
            caught_up: self.settling == Some(self.viewers.len()),
        }
    }

    fn has_left(&self, now: Moment) -> bool {
        self.leaving.is_some_and(|deadline| {
            now >= deadline
                || self
                    .viewers
                    .iter()
                    .all(|viewer| matches!(viewer.state, State::Ended(_)))
        })
    }
}
