//! The shard threads, and the handles through which others reach them.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use danmaku_wire::CloseReason;

use crate::audience::Audience;
use crate::config::FanoutConfig;
use crate::message::{ConnId, RoomKey, ShardMsg};
use crate::pace::Pace;
use crate::shard::{Drained, Shard};
use crate::stats::{ShardStats, StatsSnapshot};

/// The shards. Their threads are made in [`Fanout::start`] and end in [`Fanout::stop`].
///
/// When the fan-out and all handles are dropped without a stop, the threads reset their viewers and end.
#[derive(Debug)]
pub struct Fanout {
    shards: Vec<ShardHandle>,
    stats: Vec<Arc<ShardStats>>,
    threads: Mutex<Vec<JoinHandle<Drained>>>,
    conns: AtomicU64,
}

/// Sends to one shard. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    index: usize,
    inbox: Sender<ShardMsg>,
}

/// The inbox was full. Returns the message.
#[derive(Debug)]
pub struct Full(pub ShardMsg);

impl Fanout {
    /// Starts the shard threads. `origin` is the zero of all times given to a [`Link`](crate::Link).
    ///
    /// # Errors
    /// When the configuration does not fit together ([`io::ErrorKind::InvalidInput`], around a
    /// [`ConfigError`](crate::ConfigError)), or a thread cannot be made.
    pub fn start(config: &FanoutConfig, origin: Instant) -> io::Result<Self> {
        config
            .check()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut fanout = Self {
            shards: Vec::new(),
            stats: Vec::new(),
            threads: Mutex::default(),
            conns: AtomicU64::new(0),
        };
        for index in 0..config.shards.get() {
            let (inbox, messages) = bounded(config.inbox_len);
            let stats = Arc::new(ShardStats::default());
            let shard = Shard::new(index, config);
            let thread = ShardThread {
                shard,
                messages,
                stats: Arc::clone(&stats),
                origin,
                pace: Pace::default(),
            };
            // Should this fail, the threads made so far end with the handles that are dropped.
            let thread = thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(|| thread.run())?;
            fanout.shards.push(ShardHandle { index, inbox });
            fanout.stats.push(stats);
            fanout.threads().push(thread);
        }
        Ok(fanout)
    }

    /// All shards, in order of [`ShardHandle::index`].
    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }

    /// Assigns a new connection of a room its id and its shard.
    ///
    /// A room's first viewers share its home shard, so that a frame of a small room wakes one thread; later ones are
    /// spread over all. The caller counts the viewer into `audience` right after this, so that two joins at once cannot
    /// both take the last place at home.
    #[must_use]
    pub fn place(&self, room: RoomKey, audience: &Audience) -> ConnId {
        let number = self.conns.fetch_add(1, Ordering::Relaxed) + 1;
        let home = spread(room.0, self.shards.len());
        let shard = if audience.attached(home) < HOME_VIEWERS_MAX {
            home
        } else {
            spread(number, self.shards.len())
        };
        ConnId::new(number, shard)
    }

    /// The shard that owns this connection.
    #[must_use]
    pub fn shard_for(&self, conn: ConnId) -> &ShardHandle {
        &self.shards[conn.shard()]
    }

    /// What all shards have counted.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        let mut sum = StatsSnapshot::default();
        for stats in &self.stats {
            sum += stats.snapshot();
        }
        sum
    }

    /// Closes every viewer with `reason` once its outbox is empty, and returns when all are gone or were reset at the
    /// `deadline`. Earlier messages to the shards are handled first.
    ///
    /// This blocks, so it must not be called from an asynchronous task. A viewer is gone when its reader sees the
    /// peer's end and detaches it, so the readers must be able to run meanwhile.
    pub fn stop(&self, reason: CloseReason, deadline: Duration) -> Drained {
        for shard in &self.shards {
            // A shard that has ended has no viewers to close.
            let _ = shard.inbox.send(ShardMsg::Stop { reason, deadline });
        }
        let threads = std::mem::take(&mut *self.threads());
        let mut drained = Drained::Flushed;
        for thread in threads {
            if !matches!(thread.join(), Ok(Drained::Flushed)) {
                drained = Drained::Deadline;
            }
        }
        drained
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<Drained>>> {
        // A panic cannot leave a list of handles half-updated.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShardHandle {
    /// Which shard this is: its index in an [`Audience`](crate::Audience).
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Puts a message into the shard's inbox.
    ///
    /// A shard that has ended drops every message, and decrements the counts for an attached viewer.
    ///
    /// # Errors
    /// [`Full`] holds the message: try again later, or use [`ShardHandle::send`].
    pub fn try_send(&self, msg: ShardMsg) -> Result<(), Full> {
        match self.inbox.try_send(msg) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(msg)) => Err(Full(msg)),
            Err(TrySendError::Disconnected(msg)) => {
                discard(msg, self.index);
                Ok(())
            }
        }
    }

    /// Puts a message into the shard's inbox, when there is room.
    ///
    /// It must run in a Tokio runtime with time enabled.
    pub async fn send(&self, msg: ShardMsg) {
        let mut waiting = msg;
        let mut pause = SEND_PAUSE_MIN;
        while let Err(Full(msg)) = self.try_send(waiting) {
            waiting = msg;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SEND_PAUSE_MAX);
        }
    }
}

/// One of `len` shards. Ids are given in sequence, so the remainder spreads them evenly.
fn spread(id: u64, len: usize) -> usize {
    // It is below the number of shards.
    #[expect(clippy::cast_possible_truncation)]
    let index = (id % len as u64) as usize;
    index
}

/// Viewers of a room that share its home shard before others are spread. Writing to this many takes half a
/// millisecond; waking another thread would not make it faster.
const HOME_VIEWERS_MAX: u32 = 64;

/// Pauses between tries at a full inbox. A shard handles thousands of messages in the longer one.
const SEND_PAUSE_MIN: Duration = Duration::from_millis(1);
const SEND_PAUSE_MAX: Duration = Duration::from_millis(16);

/// What one shard's thread owns.
struct ShardThread {
    shard: Shard,
    messages: Receiver<ShardMsg>,
    stats: Arc<ShardStats>,
    origin: Instant,
    pace: Pace,
}

impl ShardThread {
    fn run(mut self) -> Drained {
        loop {
            let wake_at = self.shard.turn(self.now());
            self.stats.publish(self.shard.counts());
            if let Some(drained) = self.shard.drained() {
                for msg in self.messages.try_iter() {
                    discard(msg, self.shard.index());
                }
                return drained;
            }
            if let Some(msg) = self.next(wake_at) {
                self.handle(msg);
            }
        }
    }

    /// Handles a message and those queued behind it, within a time limit: due work must not wait for an inbox that
    /// never empties.
    fn handle(&mut self, msg: ShardMsg) {
        let begin = self.now();
        self.shard.handle(msg, begin);
        loop {
            let now = self.now();
            if now.saturating_sub(begin) >= MESSAGES_TIME_MAX {
                break;
            }
            match self.messages.try_recv() {
                Ok(msg) => self.shard.handle(msg, now),
                Err(_) => break,
            }
        }
    }

    /// The next message; `None` when something is due first.
    fn next(&mut self, wake_at: Option<Duration>) -> Option<ShardMsg> {
        // The wait below notices when the senders are gone.
        if let Ok(msg) = self.messages.try_recv() {
            return Some(msg);
        }
        let left = wake_at.map(|at| at.saturating_sub(self.now()));
        if left == Some(Duration::ZERO) {
            return None;
        }
        let Some(pause) = self.pace.pause() else {
            let msg = self.wait(wake_at)?;
            self.pace.woken(self.now());
            return Some(msg);
        };
        thread::sleep(left.map_or(pause, |left| left.min(pause)));
        let msg = self.messages.try_recv().ok();
        match msg {
            Some(_) => self.pace.woken(self.now()),
            None => self.pace.calm(),
        }
        msg
    }

    /// Sleeps until there is a message, or something is due.
    fn wait(&self, wake_at: Option<Duration>) -> Option<ShardMsg> {
        let received = match wake_at.and_then(|at| self.origin.checked_add(at)) {
            Some(at) => self.messages.recv_deadline(at),
            None => self
                .messages
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(msg) => Some(msg),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(ShardMsg::Stop {
                reason: CloseReason::GoingAway,
                deadline: Duration::ZERO,
            }),
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// How long messages are handled before due work is checked; one pass over a large room may take longer.
const MESSAGES_TIME_MAX: Duration = Duration::from_millis(5);

/// A message that nobody will handle: the sender's count of viewers must still come out right.
fn discard(msg: ShardMsg, shard: usize) {
    if let ShardMsg::Attach(attach) = msg {
        attach.audience.leave(shard, attach.dialect);
        attach.link.end();
    }
}
