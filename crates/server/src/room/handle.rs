//! Owns the handle to a room: post into it, join it, inspect it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use danmaku_engine::admission::{Rate, SharedBucket};
use danmaku_fanout::{Audience, ConnId, Link, RoomKey};
use danmaku_log::{Append, AppendKey, Appended, EntryBody, RoomLog};
use danmaku_wire::{Comment, Dialect, Epoch, FrameSet, Position, RoomId, Seq};
use tokio::sync::{Notify, mpsc, oneshot};

use super::mailbox::{Mailbox, RoomEnded};
use super::pulls::Pulls;
use crate::memory::{Holder, MemoryBudget};
use crate::refusal::{RateScope, Refusal};
use crate::replay::Lead;

/// A handle to a room.
#[derive(Debug)]
pub struct RoomHandle {
    id: RoomId,
    key: RoomKey,
    log: RoomLog,
    mailbox: Mailbox<RoomMsg>,
    audience: Arc<Audience>,
    posts: SharedBucket,
    /// Likes that the actor has not collected, and [`AWAKE`].
    likes: AtomicU64,
    likes_total: AtomicU64,
    sealed: AtomicU64,
    /// A message or likes came, the last viewer left, or memory must be freed.
    wake: Arc<Notify>,
    memory: Arc<MemoryBudget>,
    /// Bytes that the room is charged for.
    held: AtomicUsize,
    /// Bytes that the actor is asked to free.
    to_free: AtomicUsize,
    /// Monotonic time of the last frame or join, in milliseconds.
    active_ms: AtomicU64,
    pulls: Pulls,
}

/// A message to the room's actor.
#[derive(Debug)]
pub enum RoomMsg {
    /// A join request. Boxed, so that it does not set the size of all messages.
    Join(Box<Join>),
    /// Seal what is pending and end; dropping `done` tells the sender.
    Stop {
        /// Dropped once the shards have the last frame.
        done: mpsc::Sender<()>,
    },
}

/// A join request.
#[derive(Debug)]
pub struct Join {
    /// The viewer's connection.
    pub link: Arc<Link>,
    /// Its dialect.
    pub dialect: Dialect,
    /// The headers of the HTTP response, sent together with the viewer's first messages.
    pub opening: Bytes,
    /// Where its messages begin.
    pub from: JoinFrom,
    /// Gets the outcome. Nothing about the connection may reach its shard before
    /// [`JoinAnswer::Attached`].
    pub answer: oneshot::Sender<JoinAnswer>,
}

/// Where a viewer's messages begin.
#[derive(Debug)]
pub enum JoinFrom {
    /// At the last sealed position.
    Live,
    /// After this position, if the ring of sealed frames has everything since.
    Since(Position),
    /// With these frames, which end where a frame in the ring begins.
    Lead(Lead),
    /// After this position, with a gap up to where the ring continues.
    GapAfter(Seq),
}

/// The outcome of a join request.
#[derive(Debug)]
pub enum JoinAnswer {
    /// The viewer's shard was notified; the connection has this id.
    Attached(ConnId),
    /// The ring does not go back far enough: retry with a [`Lead`] that ends at `boundary`.
    NeedsLead {
        /// Where a frame in the ring begins, at or after the requested position.
        boundary: Seq,
        /// The ring's frames after it, whose forms may not exist yet.
        frames: Vec<Arc<FrameSet>>,
    },
    /// The position is above everything sealed.
    Ahead,
    /// The position belongs to another epoch.
    OtherEpoch,
}

/// A snapshot of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomView {
    /// The room's epoch.
    pub epoch: Epoch,
    /// The last position in its log.
    pub head: Seq,
    /// The last position whose window has ended.
    pub sealed: Seq,
    /// Current viewers.
    pub viewers: u32,
    /// Likes since the room was created.
    pub likes: u64,
}

impl RoomHandle {
    /// A room's handle.
    #[must_use]
    pub fn new(
        id: RoomId,
        key: RoomKey,
        log: RoomLog,
        shards: usize,
        memory: Arc<MemoryBudget>,
        segment_ms: u32,
    ) -> Arc<Self> {
        let wake = Arc::new(Notify::new());
        let left = Arc::clone(&wake);
        let audience = Audience::new(shards, Some(Box::new(move || left.notify_one())));
        Arc::new(Self {
            id,
            key,
            mailbox: Mailbox::new(MAILBOX_LEN),
            audience: Arc::new(audience),
            posts: SharedBucket::new(),
            likes: AtomicU64::new(0),
            likes_total: AtomicU64::new(0),
            sealed: AtomicU64::new(log.head().value()),
            wake,
            memory,
            held: AtomicUsize::new(0),
            to_free: AtomicUsize::new(0),
            active_ms: AtomicU64::new(0),
            pulls: Pulls::new(segment_ms),
            log,
        })
    }

    /// The room's name.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// The room's name for the shards.
    #[must_use]
    pub fn key(&self) -> RoomKey {
        self.key
    }

    /// The room's log.
    #[must_use]
    pub fn log(&self) -> &RoomLog {
        &self.log
    }

    /// The room's viewers with a connection.
    #[must_use]
    pub fn audience(&self) -> &Arc<Audience> {
        &self.audience
    }

    /// Viewers who pull segments.
    #[must_use]
    pub fn pulls(&self) -> &Pulls {
        &self.pulls
    }

    /// All viewers of the room on this server.
    #[must_use]
    pub fn viewers(&self, now: Duration) -> u32 {
        self.audience
            .viewers()
            .saturating_add(self.pulls.viewers(now))
    }

    /// Appends all of `comments` to the log, or none.
    ///
    /// # Errors
    /// [`Refusal`]; except for [`Refusal::OutcomeUnknown`], nothing was accepted.
    pub async fn post(
        &self,
        comments: &[Comment],
        key: Option<AppendKey>,
        rate: Rate,
        now: danmaku_engine::Now,
    ) -> Result<Appended, Refusal> {
        let count = u32::try_from(comments.len()).unwrap_or(u32::MAX);
        self.posts
            .try_take(rate, now.monotonic, count)
            .map_err(|refusal| Refusal::rate(RateScope::Room, refusal))?;
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

    /// Adds likes to the current window. Only the first ones wake the room, and only if no window is open.
    pub fn like(&self, count: u32) {
        let count = u64::from(count);
        self.likes_total.fetch_add(count, Ordering::Relaxed);
        if self.likes.fetch_add(count, Ordering::Relaxed) == 0 {
            self.wake.notify_one();
        }
    }

    /// Takes the likes since the last call. `next` says whether the room will check for more by itself.
    pub(super) fn collect_likes(&self, next: Likes) -> u64 {
        let awake = match next {
            Likes::Wait => AWAKE,
            Likes::Wake => 0,
        };
        self.likes.swap(awake, Ordering::Relaxed) & !AWAKE
    }

    /// Records what the room holds for returning viewers.
    pub(super) fn note_held(&self, bytes: usize) {
        let before = self.held.swap(bytes, Ordering::Relaxed);
        self.memory.recharge(before, bytes);
    }

    /// Records a frame or a join.
    pub(super) fn note_active(&self, now: Duration) {
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(now_ms, Ordering::Relaxed);
    }

    /// How much the room holds, and when it was last active.
    #[must_use]
    pub fn holder(self: Arc<Self>) -> Holder<Arc<Self>> {
        Holder {
            active_ms: self.active_ms.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
            who: self,
        }
    }

    /// Asks the room's actor to forget its oldest `bytes` bytes.
    pub fn ask_to_free(&self, bytes: usize) {
        self.to_free.store(bytes, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// What the actor was asked to free since the last call.
    pub(super) fn asked_to_free(&self) -> usize {
        self.to_free.swap(0, Ordering::Relaxed)
    }

    /// Sends the room's actor a message, when its mailbox has space.
    ///
    /// # Errors
    /// [`RoomEnded`]; the message is dropped.
    pub async fn send(&self, msg: RoomMsg) -> Result<(), RoomEnded> {
        self.mailbox.send(msg).await?;
        self.wake.notify_one();
        Ok(())
    }

    /// The oldest message to the actor.
    pub(super) fn next_msg(&self) -> Option<RoomMsg> {
        self.mailbox.next()
    }

    /// The actor has ended: drops its messages, and all that still come.
    pub(super) fn close_mailbox(&self) {
        self.mailbox.close();
    }

    /// Waits until the actor is needed for something other than entries.
    pub(super) async fn to_be_woken(&self) {
        self.wake.notified().await;
    }

    /// The last position whose window has ended.
    #[must_use]
    pub fn sealed(&self) -> Seq {
        Seq::new(self.sealed.load(Ordering::Relaxed))
    }

    pub(super) fn note_sealed(&self, seq: Seq) {
        self.sealed.store(seq.value(), Ordering::Relaxed);
    }

    /// Whether everything accepted is sealed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.log.head() == self.sealed()
    }

    /// A snapshot of the room.
    #[must_use]
    pub fn view(&self, now: Duration) -> RoomView {
        RoomView {
            epoch: self.log.epoch(),
            head: self.log.head(),
            sealed: self.sealed(),
            viewers: self.viewers(now),
            likes: self.likes_total.load(Ordering::Relaxed),
        }
    }
}

impl Drop for RoomHandle {
    fn drop(&mut self) {
        self.memory.recharge(*self.held.get_mut(), 0);
    }
}

/// What happens to the next likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likes {
    /// They wait for the end of the open window.
    Wait,
    /// They wake the room.
    Wake,
}

/// A bit set in the like count while a window is open: the count is not zero then, so nobody wakes the room. Like counts
/// stay far below it.
const AWAKE: u64 = 1 << 63;

/// Maximum joins waiting for a room's actor.
const MAILBOX_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use danmaku_log::{Log, LogConfig, Store};

    use super::*;

    async fn room(memory: &Arc<MemoryBudget>) -> Arc<RoomHandle> {
        let id = RoomId::parse("r").unwrap();
        let log = Log::new(LogConfig::default(), Store::None);
        let log = log.open(&id, Epoch::new(7)).await.unwrap();
        RoomHandle::new(id, RoomKey(1), log, 1, Arc::clone(memory), 2_000)
    }

    /// Whether the room was woken since it was last asked.
    async fn woken(room: &RoomHandle) -> bool {
        tokio::select! {
            biased;
            () = room.to_be_woken() => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn likes_wake_a_room_once_and_not_while_its_window_is_open() {
        let room = room(&Arc::new(MemoryBudget::new(1))).await;
        room.like(2);
        assert!(woken(&room).await);
        room.like(3);
        assert!(!woken(&room).await, "it is on its way");
        assert_eq!(room.collect_likes(Likes::Wait), 5);
        room.like(4);
        assert!(!woken(&room).await, "the window's end is soon enough");
        // Later likes are found when the window closes; after that the next like wakes the room again.
        assert_eq!(room.collect_likes(Likes::Wake), 4);
        room.like(1);
        assert!(woken(&room).await);
        assert_eq!(room.collect_likes(Likes::Wake), 1);
        assert_eq!(room.view(Duration::ZERO).likes, 10);
    }

    #[tokio::test]
    async fn a_rooms_memory_is_given_back_with_it() {
        let memory = Arc::new(MemoryBudget::new(1_000));
        let one = room(&memory).await;
        let two = room(&memory).await;
        one.note_held(300);
        two.note_held(500);
        one.note_held(200);
        assert_eq!(memory.held(), 700);
        one.ask_to_free(50);
        assert!(woken(&one).await);
        assert_eq!((one.asked_to_free(), one.asked_to_free()), (50, 0));
        drop(one);
        assert_eq!(memory.held(), 500);
    }
}
