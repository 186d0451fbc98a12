//! Owns what others hold of a room: post into it, join it, look at it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use danmaku_engine::admission::{Rate, TokenBucket};
use danmaku_fanout::{Audience, ConnId, Link, RoomKey};
use danmaku_log::{Append, AppendError, Appended, EntryBody, Lookup, RoomLog};
use danmaku_wire::{
    Comment, Dialect, Epoch, Event, FrameSet, IdempotencyKey, Position, RoomId, Seq,
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::refusal::{RateScope, Refusal};
use crate::replay::Lead;

/// What others hold of a room.
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

/// The ends of a room's channels that its actor holds.
#[derive(Debug)]
pub struct RoomInbox {
    /// Joins, and the stop.
    pub messages: mpsc::Receiver<RoomMsg>,
    /// Likes came, or the last viewer left.
    pub wake: Arc<Notify>,
}

/// What the room's actor is asked.
#[derive(Debug)]
pub enum RoomMsg {
    /// A join request. Boxed: every room has a block of mailbox slots.
    Join(Box<Join>),
    /// Seal what is pending now and end; the sender learns of it by the drop of `done`.
    Stop {
        /// Dropped when the last frame is with the shards.
        done: mpsc::Sender<()>,
    },
}

/// A join request.
#[derive(Debug)]
pub struct Join {
    /// The viewer's connection.
    pub link: Arc<Link>,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where what it is sent begins.
    pub from: JoinFrom,
    /// Told what became of the request. Nothing about the connection may reach its shard before
    /// [`JoinAnswer::Attached`].
    pub answer: oneshot::Sender<JoinAnswer>,
}

/// Where what a viewer is sent begins.
#[derive(Debug)]
pub enum JoinFrom {
    /// At the last sealed position.
    Live,
    /// After this position, if the ring of sealed frames alone can tell what followed.
    Since(Position),
    /// With these frames, which end where a frame of the ring begins.
    Lead(Lead),
    /// After this position, with a gap up to where the ring can go on.
    GapAfter(Seq),
}

/// What became of a join request.
#[derive(Debug)]
pub enum JoinAnswer {
    /// The viewer's shard has been told, under this name.
    Attached(ConnId),
    /// What the ring cannot tell has to be brought along: come again with a [`Lead`] that ends at `boundary`.
    NeedsLead {
        /// Where a frame of the ring begins, at or after the asked position.
        boundary: Seq,
        /// The frames of the ring after it, whose forms may have to be made.
        frames: Vec<Arc<FrameSet>>,
    },
    /// The position is above everything sealed.
    Ahead,
    /// The position belongs to another epoch.
    OtherEpoch,
}

/// What a retraction found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retracted {
    /// The comment is retracted, now or before.
    Done,
    /// There never was a comment of this id.
    NoSuchComment,
}

/// A look at a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomView {
    /// The room's epoch.
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
    /// A room's handle, and what its actor must hold.
    #[must_use]
    pub fn new(id: RoomId, key: RoomKey, log: RoomLog, shards: usize) -> (Arc<Self>, RoomInbox) {
        let (mailbox, messages) = mpsc::channel(MAILBOX_LEN);
        let wake = Arc::new(Notify::new());
        let left = Arc::clone(&wake);
        let audience = Audience::new(shards, Some(Box::new(move || left.notify_one())));
        let handle = Arc::new(Self {
            id,
            key,
            mailbox,
            audience: Arc::new(audience),
            posts: Mutex::new(TokenBucket::new()),
            likes: AtomicU64::new(0),
            likes_total: AtomicU64::new(0),
            sealed: AtomicU64::new(log.head().value()),
            wake: Arc::clone(&wake),
            log,
        });
        (handle, RoomInbox { messages, wake })
    }

    /// The room's name.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// The room's name toward the shards.
    #[must_use]
    pub fn key(&self) -> RoomKey {
        self.key
    }

    /// The room's log.
    #[must_use]
    pub fn log(&self) -> &RoomLog {
        &self.log
    }

    /// Who watches the room.
    #[must_use]
    pub fn audience(&self) -> &Arc<Audience> {
        &self.audience
    }

    /// Takes all of `comments` into the log, or none.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was taken, but for [`Refusal::OutcomeUnknown`].
    pub async fn post(
        &self,
        comments: &[Comment],
        key: Option<IdempotencyKey>,
        rate: Rate,
        now: danmaku_engine::Now,
    ) -> Result<Appended, Refusal> {
        let count = u32::try_from(comments.len()).unwrap_or(u32::MAX);
        self.take_posts(rate, now.monotonic, count)?;
        let entries = comments
            .iter()
            .map(|comment| EntryBody::Comment {
                fragment: comment.fragment(),
                priority: comment.priority(),
            })
            .collect();
        let append = Append {
            entries,
            key,
            now_ms: now.unix_ms,
        };
        Ok(self.log.append(append).await?)
    }

    fn take_posts(&self, rate: Rate, now: Duration, count: u32) -> Result<(), Refusal> {
        self.posts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .try_take(rate, now, count)
            .map_err(|refusal| Refusal::rate(RateScope::Room, refusal))
    }

    /// Retracts the comment `id`: the log forgets it, and viewers are told. A comment that is no longer held may
    /// still be on their screens, so they are told of it too.
    ///
    /// # Errors
    /// [`Refusal`]: the log took no retraction.
    pub async fn retract(&self, id: Seq, now_ms: u64) -> Result<Retracted, Refusal> {
        match self.log.lookup(id) {
            Lookup::AboveHead | Lookup::Event => return Ok(Retracted::NoSuchComment),
            Lookup::Retracted => return Ok(Retracted::Done),
            Lookup::Comment | Lookup::NotHeld => {}
        }
        let retraction = EntryBody::Event(Event::Retract { ids: [id].into() });
        let append = Append {
            entries: vec![retraction],
            key: None,
            now_ms,
        };
        self.log
            .append(append)
            .await
            .map_err(|error: AppendError| Refusal::from(error))?;
        Ok(Retracted::Done)
    }

    /// Adds likes to the room's running window.
    pub fn like(&self, count: u32) {
        self.likes.fetch_add(u64::from(count), Ordering::Relaxed);
        self.likes_total
            .fetch_add(u64::from(count), Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Takes the likes since the last call.
    pub(super) fn collect_likes(&self) -> u64 {
        self.likes.swap(0, Ordering::Relaxed)
    }

    /// Asks the room's actor.
    ///
    /// # Errors
    /// The message back when the actor has ended.
    pub async fn send(&self, msg: RoomMsg) -> Result<(), mpsc::error::SendError<RoomMsg>> {
        self.mailbox.send(msg).await
    }

    /// The last position in a sealed frame.
    #[must_use]
    pub fn sealed(&self) -> Seq {
        Seq::new(self.sealed.load(Ordering::Relaxed))
    }

    pub(super) fn note_sealed(&self, seq: Seq) {
        self.sealed.store(seq.value(), Ordering::Relaxed);
    }

    /// Whether all that was accepted is sealed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.log.head() == self.sealed()
    }

    /// A look at the room.
    #[must_use]
    pub fn view(&self) -> RoomView {
        RoomView {
            epoch: self.log.epoch(),
            head: self.log.head(),
            sealed: self.sealed(),
            viewers: self.audience.viewers(),
            likes: self.likes_total.load(Ordering::Relaxed),
        }
    }
}

/// Joins waiting for a room's actor.
const MAILBOX_LEN: usize = 256;
