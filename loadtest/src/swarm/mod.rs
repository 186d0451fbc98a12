//! The swarm: many viewers from few threads. Each thread has one poll, one receive buffer and its own audit; viewers are
//! about a hundred bytes each and share nothing between threads but the ledger of what was posted.

mod backoff;
mod dial;
pub(crate) mod handshake;
mod link;
mod mix;
mod pace;
mod plan;
mod progress;
pub(crate) mod server_frame;
mod thread_state;
mod via;
mod viewer;
mod worker;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;

use crate::audit::{Auditor, Counter, Findings, Judge};
use crate::clock::{Clock, Moment};
use crate::entrance::Entrance;
use crate::error::HarnessError;
use crate::ledger::Ledger;

pub use backoff::Reconnect;
use dial::Dialer;
pub use link::Secure;
pub use mix::EncodingMix;
pub use plan::{Seat, Seating};
use progress::Progress;
pub use progress::{Delivered, Snapshot};
pub use via::WatchVia;

use thread_state::ThreadState;
pub use thread_state::{Incidents, StalledEnds};
pub use worker::Order;
use worker::{Terms, Worker};

/// How the names of a swarm's threads start.
pub const THREAD_NAME_START: &str = "swarm-";

/// Where and how a swarm connects.
#[derive(Clone)]
pub struct SwarmConfig {
    /// The server.
    pub server: SocketAddr,
    /// How viewers get in.
    pub entrance: Arc<Entrance>,
    /// Addresses of this machine to connect from.
    pub sources: Vec<IpAddr>,
    /// The rooms' names; seats name them by index.
    pub rooms: Vec<String>,
    /// Connects a second, over all threads.
    pub connects_per_second: f64,
    /// Handshakes in progress at once, over all threads.
    pub connecting_max: usize,
    /// How long one handshake may take.
    pub connect_deadline: Duration,
    /// Threads.
    pub threads: usize,
    /// What viewers do besides watching.
    pub habits: Habits,
}

/// What viewers do besides watching.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// Come back, to where they were, when the connection is lost.
    pub reconnects: bool,
    /// How they come back.
    pub reconnect: Reconnect,
    /// Comments asked for at the first join, and the percentage of the viewers that do so.
    pub history: Option<(u32, f64)>,
    /// Leave and join as a new viewer, this many a second over all threads, once ordered.
    pub churn_per_second: f64,
    /// How fast stalling viewers read; 0 means they stop.
    pub slow_bytes_per_second: u32,
}

impl Habits {
    /// An empty ledger for viewers like these: only returning viewers can find a room in a new epoch.
    #[must_use]
    pub fn ledger(&self, rooms: u32) -> Ledger {
        if self.reconnects {
            Ledger::with_renumbering(rooms)
        } else {
            Ledger::new(rooms)
        }
    }
}

/// What everything that judges deliveries shares.
#[derive(Clone)]
pub struct Bench {
    /// The clock of the run.
    pub clock: Clock,
    /// What was posted.
    pub ledger: Arc<Ledger>,
    /// What counts as late, and when stages change.
    pub judge: Arc<Judge>,
}

/// A running swarm.
pub struct Swarm {
    threads: Vec<SwarmThread>,
}

struct SwarmThread {
    orders: SyncSender<Order>,
    waker: Waker,
    progress: Arc<Progress>,
    handle: JoinHandle<io::Result<SwarmResult>>,
}

/// A look at a swarm from another thread, also when the swarm has ended.
#[derive(Clone, Debug, Default)]
pub struct Lookout(Vec<Arc<Progress>>);

impl Lookout {
    /// The present counters.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut total = Snapshot {
            caught_up: true,
            ..Snapshot::default()
        };
        for progress in &self.0 {
            total.add(&progress.snapshot());
        }
        total
    }
}

/// The results of a swarm.
#[derive(Clone, Debug, Default)]
pub struct SwarmResult {
    /// The audit.
    pub findings: Findings,
    /// Everything that happened besides deliveries.
    pub incidents: Incidents,
}

impl SwarmResult {
    /// Adds that of another thread.
    fn add(&mut self, other: &Self) {
        self.findings.add(&other.findings);
        self.incidents.add(&other.incidents);
    }
}

/// Orders are given once each, so this many never wait.
const ORDERS_MAX: usize = 8;

impl Swarm {
    /// Starts the threads; they begin to dial at once.
    ///
    /// # Errors
    /// The operating system has no poll or thread to give.
    pub fn start(
        config: &SwarmConfig,
        seating: &Seating,
        bench: &Bench,
    ) -> Result<Self, HarnessError> {
        let threads = config.threads.max(1);
        let divisor = f64::from(u32::try_from(threads).unwrap_or(u32::MAX));
        // A room in a new epoch has an index of its own.
        let rooms: Arc<[String]> = config.rooms.iter().chain(&config.rooms).cloned().collect();
        let mut first = 0;
        let mut started = Vec::with_capacity(threads);
        for (number, seats) in seating.seats(threads).into_iter().enumerate() {
            let terms = Terms {
                dialer: Dialer::new(config.server, seating.viewers, &config.sources),
                per_second: config.connects_per_second / divisor,
                connecting_max: config.connecting_max.div_ceil(threads),
                deadline: config.connect_deadline,
                habits: Habits {
                    churn_per_second: config.habits.churn_per_second / divisor,
                    ..config.habits
                },
            };
            let thread = ThreadState {
                first,
                clock: bench.clock,
                auditor: Auditor::new(Arc::clone(&bench.ledger), Arc::clone(&bench.judge)),
                judge: Arc::clone(&bench.judge),
                entrance: Arc::clone(&config.entrance),
                history: config.habits.history,
                counter: config
                    .entrance
                    .pusher
                    .is_some()
                    .then(|| Counter::new(Arc::clone(&bench.ledger), Arc::clone(&bench.judge))),
                rooms: Arc::clone(&rooms),
                delivered: Default::default(),
                incidents: Incidents::default(),
                connecting: HashMap::new(),
                lost_at: HashMap::new(),
                attempts: HashMap::new(),
                began_anew: Vec::new(),
                request: Vec::new(),
                last_arrival: Moment::default(),
            };
            first += u32::try_from(seats.len()).unwrap_or(u32::MAX);
            started.push(SwarmThread::spawn(number, seats, thread, terms)?);
        }
        Ok(Self { threads: started })
    }

    /// The present counters.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lookout().snapshot()
    }

    /// Looks at the counters from elsewhere.
    #[must_use]
    pub fn lookout(&self) -> Lookout {
        let progress = |thread: &SwarmThread| Arc::clone(&thread.progress);
        Lookout(self.threads.iter().map(progress).collect())
    }

    /// Whether a thread has ended by itself. [`Swarm::finish`] says why.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.threads
            .iter()
            .any(|thread| thread.handle.is_finished())
    }

    /// Gives an order to every thread. A thread that has died is noticed at [`Swarm::finish`].
    pub fn order(&self, order: Order) {
        for thread in &self.threads {
            let _ = thread.orders.try_send(order);
            let _ = thread.waker.wake();
        }
    }

    /// Ends the swarm and collects what it found.
    ///
    /// # Errors
    /// A thread that ended by itself.
    pub fn finish(self) -> Result<SwarmResult, HarnessError> {
        self.order(Order::Leave);
        let mut result = SwarmResult::default();
        for thread in self.threads {
            let part = thread
                .handle
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread of the swarm panicked")))
                .map_err(HarnessError::system("swarm"))?;
            result.add(&part);
        }
        Ok(result)
    }
}

impl SwarmThread {
    fn spawn(
        number: usize,
        seats: Vec<Seat>,
        thread: ThreadState,
        terms: Terms,
    ) -> Result<Self, HarnessError> {
        let (worker, waker) =
            Worker::new(seats, thread, terms).map_err(HarnessError::system("poll of the swarm"))?;
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let handle = std::thread::Builder::new()
            .name(format!("{THREAD_NAME_START}{number}"))
            .spawn(move || worker.run(&inbox, &shared))
            .map_err(HarnessError::system("thread of the swarm"))?;
        Ok(Self {
            orders,
            waker,
            progress,
            handle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a thread that died while viewers connected was awaited forever.
    #[test]
    fn a_thread_that_ends_by_itself_is_noticed() {
        let poll = mio::Poll::new().unwrap();
        let (orders, _inbox) = sync_channel(ORDERS_MAX);
        let swarm = Swarm {
            threads: vec![SwarmThread {
                orders,
                waker: Waker::new(poll.registry(), mio::Token(0)).unwrap(),
                progress: Arc::default(),
                handle: std::thread::spawn(|| Err(io::Error::other("no more"))),
            }],
        };
        while !swarm.is_broken() {
            std::thread::yield_now();
        }
        let error = swarm.finish().unwrap_err().to_string();
        assert_eq!(error, "swarm: no more");
    }
}
