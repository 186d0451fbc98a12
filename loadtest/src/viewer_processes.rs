//! Spreads the viewers of a command over several processes, when one may not open enough sockets.
//!
//! The parent has the posts, the ledger, the samples, the disruptions and the report. Each child runs a share of the swarm with
//! its own ledger and judge. The parent's feeder sends acknowledgements and orders to all children; a reader per child merges
//! its messages into the parent's ledger, recorder and judge, so the rest of the harness does not know how many processes there
//! are.

mod child;
mod protocol;

use std::io::{BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock::Moment;
use crate::error::HarnessError;
use crate::process::Process;
use crate::swarm::{Bench, Lookout, Order, Progress, Seating, Share, SwarmConfig, SwarmResult};

pub use child::attend;
use protocol::{BATCH_MAX, FromChild, Plan, ToChild, line, read};

/// Viewer processes that wait for their plan, so that their own memory is known before the first viewer.
pub struct WaitingProcesses {
    stdins: Vec<Option<ChildStdin>>,
    bench: Bench,
    progress: Vec<Arc<Progress>>,
    news: Receiver<News>,
    broken: Arc<AtomicBool>,
    members: Members,
}

/// Running viewer processes. Dropping this ends them.
pub struct ViewerProcesses {
    bench: Bench,
    progress: Vec<Arc<Progress>>,
    news: Receiver<News>,
    broken: Arc<AtomicBool>,
    /// `None` once no more orders come. Declared before `members`, which waits for the feeder that receives from it.
    orders: Option<SyncSender<ToChild>>,
    members: Members,
}

/// What a reader reports about its child, each kind at most once.
enum News {
    Ready,
    Ended {
        member: usize,
        result: Result<Box<SwarmResult>, Loss>,
    },
}

/// Why there is no result.
enum Loss {
    /// The child gave a reason, or sent something invalid.
    Reported(String),
    /// The child is gone.
    Silent,
}

/// How long the children may take to start.
const MUSTER_DEADLINE: Duration = Duration::from_secs(30);
/// How long they may take to close their connections and hand over their results.
const HANDOVER_DEADLINE: Duration = Duration::from_secs(60);
/// How long a child that closed its output may take to exit.
const EXIT_DEADLINE: Duration = Duration::from_secs(1);
/// How long an acknowledgement may wait before it is sent to the children. An order does not wait.
const FEED_EVERY: Duration = Duration::from_millis(50);
/// Orders are given once each, so this many never wait.
const ORDERS_MAX: usize = 8;

impl WaitingProcesses {
    /// Starts so many processes. When one of them is lost later, `stop` is raised.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn spawn(
        processes: usize,
        bench: &Bench,
        stop: &Arc<AtomicBool>,
    ) -> Result<Self, HarnessError> {
        let program = std::env::current_exe().map_err(HarnessError::system("own path"))?;
        let broken = Arc::new(AtomicBool::new(false));
        let (sender, news) = sync_channel(2 * processes);
        let mut waiting = Self {
            stdins: Vec::with_capacity(processes),
            bench: bench.clone(),
            progress: Vec::with_capacity(processes),
            news,
            broken: Arc::clone(&broken),
            members: Members::default(),
        };
        for member in 0..processes {
            let mut child = Command::new(&program)
                .arg("viewer-process")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(HarnessError::system("viewer process"))?;
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            waiting.members.children.push(child);
            waiting.stdins.push(stdin);
            let Some(stdout) = stdout else {
                return Err(waiting.members.lost(member, Loss::Silent));
            };
            let progress = Arc::new(Progress::default());
            waiting.progress.push(Arc::clone(&progress));
            let reader = Reader {
                member,
                stdout: BufReader::new(stdout),
                progress,
                bench: bench.clone(),
                news: sender.clone(),
                broken: Arc::clone(&broken),
                stop: Arc::clone(stop),
            };
            waiting
                .members
                .run(format!("child-{member}"), move || reader.run())?;
        }
        waiting.wait_until_ready()?;
        Ok(waiting)
    }

    /// The children, as far as their figures can be read.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let pids = self.members.children.iter().map(Child::id);
        pids.filter_map(|pid| Process::open(pid).ok()).collect()
    }

    /// Gives each child its share; they begin to dial at once.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        mut self,
        config: &SwarmConfig,
        seating: &Seating,
    ) -> Result<ViewerProcesses, HarnessError> {
        let of = self.stdins.len();
        for (number, stdin) in self.stdins.iter_mut().enumerate() {
            let plan = Plan {
                config: config.clone(),
                seating: seating.clone(),
                share: Share { number, of },
                origin: self.bench.clock.origin(),
                late: self.bench.judge.late(),
            };
            tell(stdin, &encoded(&ToChild::Plan(Box::new(plan)))?);
        }
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let feeder = Feeder {
            stdins: self.stdins,
            bench: self.bench.clone(),
            orders: inbox,
        };
        self.members
            .run("feeder".to_owned(), move || feeder.run())?;
        Ok(ViewerProcesses {
            bench: self.bench,
            progress: self.progress,
            news: self.news,
            broken: self.broken,
            orders: Some(orders),
            members: self.members,
        })
    }

    fn wait_until_ready(&mut self) -> Result<(), HarnessError> {
        let deadline = Instant::now() + MUSTER_DEADLINE;
        for _ in 0..self.stdins.len() {
            match self.news.recv_timeout(left_until(deadline)) {
                Ok(News::Ready) => {}
                Ok(News::Ended { member, result }) => {
                    let loss = result.err().unwrap_or(Loss::Silent);
                    return Err(self.members.lost(member, loss));
                }
                Err(_) => {
                    let what = format!("not all started within {} s", MUSTER_DEADLINE.as_secs());
                    return Err(self.members.lost(0, Loss::Reported(what)));
                }
            }
        }
        Ok(())
    }
}

impl ViewerProcesses {
    /// Looks at the counters from elsewhere.
    #[must_use]
    pub fn lookout(&self) -> Lookout {
        Lookout::new(self.progress.clone())
    }

    /// Gives an order to every process. Everything in the ledger by now is sent before it.
    pub fn order(&self, order: Order) {
        self.send(ToChild::Order(order));
    }

    /// Comments scheduled from this moment on belong to the stage in which viewers stall.
    pub fn stall_from(&self, moment: Moment) {
        self.bench.judge.set_stall(moment);
        self.send(ToChild::StallFrom(moment));
    }

    /// Whether a process was lost. [`ViewerProcesses::finish`] says which.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Ends all processes and collects what they found.
    ///
    /// # Errors
    /// One of them failed, was lost, or did not end; then the others are ended too.
    pub fn finish(mut self) -> Result<SwarmResult, HarnessError> {
        // The feeder sends what is left and closes its pipes, which ends the children.
        self.orders = None;
        let deadline = Instant::now() + HANDOVER_DEADLINE;
        let mut result = SwarmResult::default();
        let mut waiting: Vec<usize> = (0..self.progress.len()).collect();
        while let Some(next) = waiting.first().copied() {
            match self.news.recv_timeout(left_until(deadline)) {
                Ok(News::Ready) => {}
                Ok(News::Ended {
                    member,
                    result: Ok(part),
                }) => {
                    result.add(&part);
                    waiting.retain(|waiting| *waiting != member);
                }
                Ok(News::Ended {
                    member,
                    result: Err(loss),
                }) => return Err(self.members.lost(member, loss)),
                Err(_) => {
                    let what = format!("no result within {} s", HANDOVER_DEADLINE.as_secs());
                    return Err(self.members.lost(next, Loss::Reported(what)));
                }
            }
        }
        Ok(result)
    }

    fn send(&self, message: ToChild) {
        if let Some(orders) = &self.orders {
            let _ = orders.try_send(message);
        }
    }
}

/// The child processes and the threads that talk to them. Dropping this ends them all.
#[derive(Default)]
struct Members {
    children: Vec<Child>,
    threads: Vec<JoinHandle<()>>,
}

impl Members {
    fn run(
        &mut self,
        name: String,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), HarnessError> {
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(work)
            .map_err(HarnessError::system("thread of the viewer processes"))?;
        self.threads.push(thread);
        Ok(())
    }

    fn lost(&mut self, member: usize, loss: Loss) -> HarnessError {
        let child = &mut self.children[member];
        let what = match loss {
            Loss::Reported(what) => what,
            Loss::Silent => match exit_of(child) {
                Some(status) => format!("ended early: {status}"),
                None => "stopped reporting".to_owned(),
            },
        };
        HarnessError::ViewerProcess {
            pid: child.id(),
            what,
        }
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has handed over its result has nothing left to do.
            let _ = child.kill();
            let _ = child.wait();
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends acknowledgements and orders to all children, from one thread, so that an order follows everything acknowledged before
/// it.
struct Feeder {
    stdins: Vec<Option<ChildStdin>>,
    bench: Bench,
    orders: Receiver<ToChild>,
}

impl Feeder {
    fn run(mut self) {
        loop {
            // The order is taken before the journal, so the journal has what was entered before the order was given.
            let order = self.orders.recv_timeout(FEED_EVERY);
            for entries in self.bench.ledger.take_journal().chunks(BATCH_MAX) {
                self.tell_all(&ToChild::Acknowledged(entries.to_vec()));
            }
            match order {
                Ok(order) => self.tell_all(&order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn tell_all(&mut self, message: &ToChild) {
        if let Ok(line) = line(message) {
            for stdin in &mut self.stdins {
                tell(stdin, &line);
            }
        }
    }
}

/// Handles the messages of one child.
struct Reader {
    member: usize,
    stdout: BufReader<ChildStdout>,
    progress: Arc<Progress>,
    bench: Bench,
    news: SyncSender<News>,
    broken: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(mut self) {
        let result = self.listen();
        if result.is_err() {
            self.broken.store(true, Ordering::Relaxed);
            // A run that has lost viewers is worthless: do not wait for its end.
            self.stop.store(true, Ordering::Relaxed);
        }
        let member = self.member;
        self.say(News::Ended { member, result });
    }

    fn listen(&mut self) -> Result<Box<SwarmResult>, Loss> {
        let mut line = String::new();
        loop {
            let message = read(&mut self.stdout, &mut line);
            match message.map_err(|error| Loss::Reported(error.to_string()))? {
                Some(FromChild::Ready) => self.say(News::Ready),
                Some(FromChild::Report(report)) => {
                    if report.window_ms > 0 {
                        // A window that changes is a fault in the child's own result.
                        let _ = self.bench.judge.set_window_ms(report.window_ms);
                    }
                    for (second, latencies) in &report.latencies {
                        let recorder = self.bench.judge.recorder();
                        recorder.add_latencies(*second, latencies);
                    }
                    self.progress.publish(&report.snapshot);
                }
                Some(FromChild::Arrivals(arrivals)) => {
                    for arrival in &arrivals {
                        self.bench.ledger.arrived(arrival);
                    }
                }
                Some(FromChild::Result(result)) => return Ok(result),
                Some(FromChild::Failed(what)) => return Err(Loss::Reported(what)),
                None => return Err(Loss::Silent),
            }
        }
    }

    fn say(&self, news: News) {
        // The channel has room for every message of all readers.
        let _ = self.news.try_send(news);
    }
}

fn encoded(message: &ToChild) -> Result<Vec<u8>, HarnessError> {
    line(message).map_err(HarnessError::system("plan of a viewer process"))
}

/// If a child no longer reads, it is gone; its reader thread will notice.
fn tell(stdin: &mut Option<ChildStdin>, line: &[u8]) {
    if let Some(pipe) = stdin
        && pipe.write_all(line).is_err()
    {
        *stdin = None;
    }
}

fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// The exit status of a child that closed its output; `None` if it does not exit in time.
fn exit_of(child: &mut Child) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + EXIT_DEADLINE;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            exited => return exited.ok().flatten(),
        }
    }
}
