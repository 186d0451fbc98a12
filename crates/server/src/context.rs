//! Owns what every task of the server shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use danmaku_fanout::{ConnId, Fanout};
use danmaku_log::Log;
use danmaku_wire::{CommentLimits, RoomId};

use crate::admission::Admission;
use crate::clock::Clock;
use crate::config::Config;
use crate::http::Idempotency;
use crate::registry::{Rooms, TooManyRooms};
use crate::room::RoomHandle;
use crate::stats::Stats;
use crate::tasks;

/// What every task of the server shares. Built once, never changed.
#[derive(Debug)]
pub struct Context {
    /// The checked flags.
    pub config: Config,
    /// What a comment may be.
    pub comment_limits: CommentLimits,
    /// The clock.
    pub clock: Clock,
    /// The rooms.
    pub rooms: Rooms,
    /// Where comments are logged.
    pub log: Log,
    /// The shards.
    pub fanout: Fanout,
    /// Who may connect and post.
    pub admission: Arc<Admission>,
    /// Answers to posts that carried an `Idempotency-Key`.
    pub idempotency: Idempotency,
    /// Counters.
    pub stats: Stats,
    next_conn: AtomicU64,
    stopping: AtomicBool,
    posting: AtomicUsize,
}

/// A post under way.
#[derive(Debug)]
pub struct Posting(Arc<Context>);

impl Drop for Posting {
    fn drop(&mut self) {
        self.0.posting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How often a stop looks whether the last post is answered.
const POSTS_DONE_POLL: Duration = Duration::from_millis(2);

impl Context {
    /// A context around started shards.
    #[must_use]
    pub fn new(config: Config, fanout: Fanout, clock: Clock) -> Self {
        Self {
            comment_limits: CommentLimits::default(),
            clock,
            rooms: Rooms::new(config.rooms_max),
            log: Log::memory(config.log),
            fanout,
            admission: Arc::new(Admission::new(config.admission)),
            idempotency: Idempotency::default(),
            stats: Stats::default(),
            next_conn: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            posting: AtomicUsize::new(0),
            config,
        }
    }

    /// The room, made on first use.
    ///
    /// # Errors
    /// [`TooManyRooms`].
    pub fn open_room(self: &Arc<Self>, id: &RoomId) -> Result<Arc<RoomHandle>, TooManyRooms> {
        self.rooms.open(id, self.clock.now().unix_ms, |key, epoch| {
            let log = self.log.open(id, epoch);
            let (handle, actor) = RoomHandle::new(id.clone(), key, log, self);
            tasks::spawn_room(actor);
            handle
        })
    }

    /// A connection number that was never given before.
    pub fn next_conn(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    /// From here on nothing new is accepted.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Counts a post in; nothing when the server stops.
    #[must_use]
    pub fn begin_post(self: &Arc<Self>) -> Option<Posting> {
        let posting = Posting(Arc::clone(self));
        self.posting.fetch_add(1, Ordering::SeqCst);
        // Checked after the count: `posts_done` sees this post, or this post
        // sees the stop.
        (!self.is_stopping()).then_some(posting)
    }

    /// Waits until no post is under way.
    pub async fn posts_done(&self) {
        while self.posting.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(POSTS_DONE_POLL).await;
        }
    }

    /// Whether the server stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}
