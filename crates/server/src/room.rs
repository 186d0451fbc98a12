//! Owns one room: the handle others hold, and the actor that merges the
//! room's comments and hands sealed frames to the shards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use danmaku_engine::admission::{Rate, Refusal, TokenBucket};
use danmaku_engine::{Now, Room, RoomConfig, phase};
use danmaku_fanout::{Attach, Audience, ConnId, Link, Outgoing, RoomKey, ShardMsg};
use danmaku_log::{AppendError, Appended, Entry, NewEntry, RoomLog, Tail};
use danmaku_wire::outbound::{Joined, Resumed, gap_json, text_frame};
use danmaku_wire::{Comment, DeflateViewers, Encoding, Epoch, FrameSet, Position, RoomId, Seq};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::context::Context;
use crate::replay::{Asked, Replay, Replayer};

/// What others hold of a room: post into it, join it, look at it.
#[derive(Debug)]
pub struct RoomHandle {
    id: RoomId,
    key: RoomKey,
    log: RoomLog,
    mailbox: mpsc::Sender<RoomMsg>,
    audience: Arc<Audience>,
    posts: Mutex<TokenBucket>,
    likes: AtomicU64,
    likes_total: AtomicU64,
    sealed: AtomicU64,
    wake: Arc<Notify>,
}

/// What the room's actor is asked.
#[derive(Debug)]
pub enum RoomMsg {
    /// A viewer comes. Boxed: every room has a block of mailbox slots.
    Join(Box<Join>),
    /// Seal what is pending now and end; the sender learns of it by the drop
    /// of `done`.
    Stop {
        /// Dropped when the last frame is with the shards.
        done: mpsc::Sender<()>,
    },
}

/// A viewer that comes.
#[derive(Debug)]
pub struct Join {
    /// The viewer's connection.
    pub conn: ConnId,
    /// Its socket.
    pub link: Arc<Link>,
    /// How it wants batches packed.
    pub encoding: Encoding,
    /// Where it wants to start.
    pub start: Start,
    /// Told when the viewer's shard has been told: nothing about a connection
    /// may reach the shard before that.
    pub attached: oneshot::Sender<()>,
}

/// Where a viewer wants to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The last position it has seen.
    pub since: Option<Position>,
    /// Comments it wants replayed when it does not resume.
    pub history: u32,
}

/// Why a post was refused. Nothing of it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The room takes no more for the moment.
    #[error("the room takes no more comments for the moment")]
    RoomRate(Refusal),
    /// The log takes no more for the moment.
    #[error(transparent)]
    Log(#[from] AppendError),
}

/// A look at a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomView {
    /// The room's numbering.
    pub epoch: Epoch,
    /// The last position in its log.
    pub head: Seq,
    /// The last position in a sealed frame.
    pub sealed: Seq,
    /// Viewers now.
    pub viewers: u32,
    /// Likes since the room was made.
    pub likes: u64,
}

impl RoomHandle {
    /// A room's handle, and the actor that somebody must run.
    #[must_use]
    pub fn new(
        id: RoomId,
        key: RoomKey,
        log: RoomLog,
        context: &Arc<Context>,
    ) -> (Arc<Self>, RoomActor) {
        let (mailbox, inbox) = mpsc::channel(MAILBOX_LEN);
        let wake = Arc::new(Notify::new());
        let left = Arc::clone(&wake);
        let audience = Audience::new(
            context.fanout.shards().len(),
            Some(Box::new(move || left.notify_one())),
        );
        let handle = Arc::new(Self {
            id,
            key,
            mailbox,
            audience: Arc::new(audience),
            posts: Mutex::new(TokenBucket::new()),
            likes: AtomicU64::new(0),
            likes_total: AtomicU64::new(0),
            sealed: AtomicU64::new(log.head().value()),
            wake,
            log,
        });
        let actor = RoomActor::new(Arc::clone(&handle), inbox, Arc::clone(context));
        (handle, actor)
    }

    /// The room's name.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// The room's log.
    #[must_use]
    pub fn log(&self) -> &RoomLog {
        &self.log
    }

    /// Takes all of `comments` into the log, or none.
    ///
    /// # Errors
    /// [`PostError`]; nothing was taken.
    pub async fn post(
        &self,
        comments: &[Comment],
        rate: Rate,
        now: Duration,
    ) -> Result<Appended, PostError> {
        let count = u32::try_from(comments.len()).unwrap_or(u32::MAX);
        self.posts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_take(rate, now, count)
            .map_err(PostError::RoomRate)?;
        let entries = comments
            .iter()
            .map(|comment| NewEntry {
                fragment: comment.fragment(),
                priority: comment.priority(),
            })
            .collect();
        Ok(self.log.append(entries).await?)
    }

    /// Adds likes to the room's running window.
    pub fn like(&self, count: u32) {
        self.likes.fetch_add(u64::from(count), Ordering::Relaxed);
        self.likes_total
            .fetch_add(u64::from(count), Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Lets a viewer in; its first messages come from the room's actor.
    ///
    /// # Errors
    /// The message back when the room's actor has ended: the server stops.
    pub async fn send(&self, msg: RoomMsg) -> Result<(), mpsc::error::SendError<RoomMsg>> {
        self.mailbox.send(msg).await
    }

    /// Whether all that was accepted is sealed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.log.head().value() == self.sealed.load(Ordering::Relaxed)
    }

    /// A look at the room.
    #[must_use]
    pub fn view(&self) -> RoomView {
        RoomView {
            epoch: self.log.epoch(),
            head: self.log.head(),
            sealed: Seq::new(self.sealed.load(Ordering::Relaxed)),
            viewers: self.audience.viewers(),
            likes: self.likes_total.load(Ordering::Relaxed),
        }
    }
}

/// The owner of a room's state.
#[derive(Debug)]
pub struct RoomActor {
    handle: Arc<RoomHandle>,
    room: Room,
    tail: Tail,
    inbox: mpsc::Receiver<RoomMsg>,
    replayer: Replayer,
    context: Arc<Context>,
    /// Monotonic time of the last sign of life.
    active: Duration,
}

impl RoomActor {
    fn new(handle: Arc<RoomHandle>, inbox: mpsc::Receiver<RoomMsg>, context: Arc<Context>) -> Self {
        let config = RoomConfig {
            phase: phase(&handle.id, context.config.room.window),
            seed: handle.key.0,
            ..context.config.room
        };
        let epoch = handle.log.epoch();
        let head = handle.log.head();
        Self {
            room: Room::new(config, epoch, head),
            tail: handle.log.tail(),
            replayer: Replayer::new(context.config.room.compression),
            active: context.clock.now().monotonic,
            handle,
            inbox,
            context,
        }
    }

    /// Runs until the room retires or the server stops.
    pub async fn run(mut self) {
        let mut entries = Vec::new();
        loop {
            let window = match self.room.deadline() {
                Some(_) => Window::Open,
                None => Window::Closed,
            };
            let wake_at = self
                .wake_at()
                .map(|at| tokio::time::Instant::from_std(self.context.clock.instant(at)));
            tokio::select! {
                biased;
                msg = self.inbox.recv() => match msg {
                    Some(RoomMsg::Join(join)) => self.join(*join).await,
                    Some(RoomMsg::Stop { done }) => {
                        self.stop(&mut entries).await;
                        drop(done);
                        return;
                    }
                    None => return,
                },
                () = follow(&mut self.tail, &mut entries, window) => self.take(&mut entries),
                () = self.handle.wake.notified() => self.woken(),
                () = sleep_until(wake_at), if wake_at.is_some() => {}
            }
            self.take_all(&mut entries);
            self.seal_when_due().await;
            if self.is_idle() {
                if self.context.rooms.retire(&self.handle) {
                    tracing::debug!(room = %self.handle.id, "room retired");
                    return;
                }
                // Somebody still holds the room: look again a while later.
                self.active = self.context.clock.now().monotonic;
            }
        }
    }

    /// When there is something to do without being asked: the window's end,
    /// or the end of an empty room. A quiet room with viewers has no timer.
    fn wake_at(&self) -> Option<Duration> {
        self.room.deadline().or_else(|| {
            (self.handle.audience.viewers() == 0)
                .then(|| self.active + self.context.config.room_idle)
        })
    }

    fn is_idle(&self) -> bool {
        self.room.deadline().is_none()
            && self.handle.audience.viewers() == 0
            && self.context.clock.now().monotonic >= self.active + self.context.config.room_idle
    }

    /// Takes up what is in the log, whatever woke the room: a storm of joins
    /// must not keep it from its comments.
    fn take_all(&mut self, entries: &mut Vec<Entry>) {
        for _ in 0..TAIL_READS_MAX {
            if !self.tail.take(entries, TAIL_READ_MAX) {
                return;
            }
            self.take(entries);
        }
    }

    fn take(&mut self, entries: &mut Vec<Entry>) {
        let now = self.context.clock.now();
        self.active = now.monotonic;
        for entry in entries.drain(..) {
            self.room
                .comment(now, entry.seq, entry.fragment, entry.priority);
        }
    }

    fn woken(&mut self) {
        let now = self.context.clock.now();
        // The last viewer's leaving wakes the room too: its idle time starts.
        self.active = now.monotonic;
        if self.handle.audience.viewers() == 0 {
            self.room.rest();
            self.replayer.rest();
        }
        let likes = self.handle.likes.swap(0, Ordering::Relaxed);
        if likes > 0 {
            self.room.likes(now, likes);
        }
    }

    async fn seal_when_due(&mut self) {
        let now = self.context.clock.now();
        if self.room.deadline().is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.seal(now, WindowEnd::Due).await;
    }

    async fn seal(&mut self, now: Now, end: WindowEnd) {
        let audience = danmaku_engine::Audience {
            viewers: self.handle.audience.viewers(),
            deflate: self.deflate_viewers(),
        };
        let sealed = match end {
            WindowEnd::Due => self.room.tick(now, audience),
            WindowEnd::Stop => self.room.flush(now, audience),
        };
        let Some(frame) = sealed else {
            return;
        };
        self.handle
            .sealed
            .store(self.room.sealed().seq.value(), Ordering::Relaxed);
        self.context.stats.rooms.add(&self.room.take_counters());
        self.deliver(&frame).await;
    }

    fn deflate_viewers(&self) -> DeflateViewers {
        if self.handle.audience.deflate_viewers() > 0 {
            DeflateViewers::Some
        } else {
            DeflateViewers::None
        }
    }

    /// Hands the frame to every shard with viewers of this room. A full inbox
    /// holds the room up, not the shards that have room: meanwhile comments
    /// gather in the log and the next window is the longer one.
    async fn deliver(&self, frame: &Arc<FrameSet>) {
        let mut full = Vec::new();
        for (index, shard) in self.context.fanout.shards().iter().enumerate() {
            if self.handle.audience.attached(index) > 0
                && let Err(refused) = shard.try_send(ShardMsg::Deliver {
                    room: self.handle.key,
                    frame: Arc::clone(frame),
                })
            {
                self.context.stats.rooms.held_up();
                full.push((shard, refused.0));
            }
        }
        for (shard, msg) in full {
            shard.send(msg).await;
        }
    }

    async fn join(&mut self, join: Join) {
        let now = self.context.clock.now();
        self.active = now.monotonic;
        if join.attached.is_closed() {
            // Whoever joined has given up waiting.
            return;
        }
        let viewers = self.handle.audience.viewers().saturating_add(1);
        let asked = Asked {
            start: join.start,
            encoding: join.encoding,
            bytes_max: self.context.config.fanout.outbox_bytes_max,
            viewers,
            unix_ms: now.unix_ms,
        };
        let replay = self
            .replayer
            .replay(&self.room, &self.handle.log, asked)
            .await;
        let sealed = self.room.sealed();
        let shard = self.context.fanout.shard_for(join.conn);
        let joined = Joined {
            room: &self.handle.id,
            epoch: sealed.epoch,
            seq: sealed.seq,
            window_ms: self.window_ms(),
            viewers,
            resumed: if replay.resumed {
                Resumed::Yes
            } else {
                Resumed::No
            },
        };
        let first = first_messages(&joined.to_json(), replay);
        // Counted before it is sent, so that a frame sealed right after this
        // goes to the shard too.
        self.handle.audience.join(shard.index(), join.encoding);
        shard
            .send(ShardMsg::Attach(Box::new(Attach {
                conn: join.conn,
                link: join.link,
                room: self.handle.key,
                audience: Arc::clone(&self.handle.audience),
                encoding: join.encoding,
                first,
            })))
            .await;
        if join.attached.send(()).is_err() {
            // Given up meanwhile: no reader will detach this viewer.
            shard.send(ShardMsg::Detach { conn: join.conn }).await;
        }
    }

    /// Seals all that was accepted, whatever the window says.
    async fn stop(&mut self, entries: &mut Vec<Entry>) {
        while self.tail.take(entries, TAIL_READ_MAX) {
            self.take(entries);
        }
        self.woken();
        self.seal(self.context.clock.now(), WindowEnd::Stop).await;
    }

    fn window_ms(&self) -> u64 {
        u64::try_from(self.context.config.room.window.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Whether something waits for the end of a window.
#[derive(Clone, Copy, Debug)]
enum Window {
    Open,
    Closed,
}

/// Waits for what a room must take up now. While its window is open, comments
/// wait in the log for the window's end: no wake-up for each of them.
async fn follow(tail: &mut Tail, entries: &mut Vec<Entry>, window: Window) {
    match window {
        Window::Open => tail.crowded().await,
        Window::Closed => tail.next(entries, TAIL_READ_MAX).await,
    }
}

/// Why a window ends.
#[derive(Clone, Copy, Debug)]
enum WindowEnd {
    Due,
    Stop,
}

fn first_messages(joined: &str, replay: Replay) -> Vec<Outgoing> {
    let mut first = Vec::with_capacity(2 + replay.frames.len());
    first.push(Outgoing::Control(text_frame(joined)));
    if let Some((from, to)) = replay.gap {
        first.push(Outgoing::Control(text_frame(&gap_json(from, to))));
    }
    first.extend(replay.frames.into_iter().map(Outgoing::Frame));
    first
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Joins waiting for a room's actor.
const MAILBOX_LEN: usize = 256;

/// Reads of the log between two looks at the clock: together more than the log
/// lets a room be behind.
const TAIL_READS_MAX: usize = 16;

/// Comments taken from the log at once.
const TAIL_READ_MAX: usize = 1_024;
