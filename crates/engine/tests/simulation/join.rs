//! A join in two steps: the viewer's own task reads what lies before the ring, then the room attaches it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use danmaku_log::{Entry, EntryBody, Page, RoomLog, Unavailable};
use danmaku_wire::{Batch, BatchComment, BatchEvent, FrameSet, Position, Seq};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::node::{Attach, Attached, Handle, NodeMsg, Place, gap};
use crate::viewer::Viewer;
use crate::world::World;

/// Where a viewer wants to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) since: Option<Position>,
    pub(crate) history: usize,
}

/// One join on the way.
struct Join<'a> {
    world: &'a Arc<World>,
    handle: Handle,
    prefix: Vec<FrameSet>,
    /// Where the prefix ends.
    at: Position,
}

/// Joins; nothing when the node is gone meanwhile.
pub(crate) async fn join(
    world: &Arc<World>,
    handle: Handle,
    want: Want,
) -> Option<Arc<Mutex<Viewer>>> {
    let mut join = Join {
        world,
        at: Position {
            epoch: handle.log.epoch(),
            seq: Seq::ZERO,
        },
        handle,
        prefix: Vec::new(),
    };
    let start = match join.place(want.since).await? {
        Place::Fresh(sealed) => join.fresh(sealed, want.history).await,
        Place::At(boundary) => {
            let since = want.since.unwrap();
            join.at = since;
            if boundary == since.seq {
                world.coverage().resumed_in_ring += 1;
            } else {
                world.coverage().resumed_with_prefix += 1;
            }
            join.replay_to(boundary).await;
            since.seq
        }
        Place::Ahead => unreachable!("waited for"),
    };
    join.attach(start).await
}

impl Join<'_> {
    /// Asks the room, and waits a while for a position that is not sealed yet.
    async fn place(&self, since: Option<Position>) -> Option<Place> {
        let mut since = since;
        for attempt in 0.. {
            if attempt == AHEAD_TRIES {
                since = None;
            }
            let (answer, answered) = oneshot::channel();
            let msg = NodeMsg::Place { since, answer };
            self.handle.mailbox.send(msg).await.ok()?;
            match answered.await.ok()? {
                Place::Ahead => {
                    self.world.coverage().ahead += 1;
                    sleep(Duration::from_millis(100)).await;
                }
                place => return Some(place),
            }
        }
        None
    }

    /// Begins at the end, or with the last comments before it. Answers where everything that follows begins.
    async fn fresh(&mut self, sealed: Position, history: usize) -> Seq {
        self.at = sealed;
        if history == 0 {
            return sealed.seq;
        }
        let bytes_max = self.world.plan.history_bytes_max;
        let read = self.handle.log.read_last(sealed.seq, history, bytes_max);
        let Ok(recent) = read.await else {
            self.world.coverage().reads_failed += 1;
            return sealed.seq;
        };
        self.world.coverage().histories += 1;
        assert_eq!(recent.seq, sealed.seq);
        assert!(recent.asked_after <= recent.after && recent.after <= recent.seq);
        self.at.seq = recent.asked_after;
        if recent.asked_after < recent.after {
            self.world.coverage().histories_cut += 1;
            let frame = gap(self.at, recent.after, self.world);
            self.push(frame);
        }
        let comments = recent.entries.iter().filter(|entry| entry.is_comment());
        assert!(comments.count() <= history);
        self.push_entries(recent.seq, recent.entries);
        recent.asked_after
    }

    /// Reads on up to `to`.
    async fn replay_to(&mut self, to: Seq) {
        while self.at.seq < to {
            let Ok(page) = read_page(self.world, &self.handle.log, self.at.seq).await else {
                let frame = gap(self.at, to, self.world);
                self.push(frame);
                return;
            };
            if page.after > self.at.seq {
                assert!(
                    self.world.plan.forgets(),
                    "{} was never dropped",
                    page.after
                );
                let frame = gap(self.at, page.after.min(to), self.world);
                self.push(frame);
            }
            let mut entries = page.entries;
            entries.retain(|entry| entry.seq <= to);
            assert!(page.seq > page.after || page.after >= to, "no progress");
            self.push_entries(page.seq.min(to), entries);
        }
    }

    async fn attach(self, start: Seq) -> Option<Arc<Mutex<Viewer>>> {
        let Self {
            world,
            handle,
            prefix,
            at,
        } = self;
        let (answer, mut answered) = oneshot::channel();
        let mut attach = Box::new(Attach {
            viewer: Viewer::new(at.epoch, start),
            prefix,
            boundary: at.seq,
            last_try: false,
            answer,
        });
        for attempt in 1..=ATTACH_TRIES {
            attach.last_try = attempt == ATTACH_TRIES;
            handle.mailbox.send(NodeMsg::Attach(attach)).await.ok()?;
            match answered.await.ok()? {
                Attached::Yes(viewer) => return Some(viewer),
                Attached::Gone(back, boundary) => {
                    attach = back;
                    let mut join = Join {
                        world,
                        handle: handle.clone(),
                        prefix: std::mem::take(&mut attach.prefix),
                        at: Position {
                            seq: attach.boundary,
                            ..at
                        },
                    };
                    join.replay_to(boundary).await;
                    attach.prefix = join.prefix;
                    attach.boundary = join.at.seq;
                    (attach.answer, answered) = oneshot::channel();
                }
            }
        }
        None
    }

    fn push(&mut self, frame: FrameSet) {
        self.at.seq = frame.seq();
        self.prefix.push(frame);
    }

    fn push_entries(&mut self, seq: Seq, entries: Vec<Entry>) {
        if seq <= self.at.seq {
            return;
        }
        // However long the read took, what the room was told to retract meanwhile is not in it.
        let retracted = self.handle.retracted.lock().unwrap();
        let (mut comments, mut events) = (Vec::new(), Vec::new());
        for Entry { seq, at_ms, body } in entries {
            match body {
                EntryBody::Comment { fragment, .. } => {
                    assert!(
                        !retracted.contains(&seq),
                        "{seq} is read after its retraction"
                    );
                    comments.push(BatchComment {
                        seq,
                        at_ms,
                        fragment,
                    });
                }
                EntryBody::Event(event) => events.push(BatchEvent { seq, event }),
            }
        }
        drop(retracted);
        let batch = Batch {
            epoch: self.at.epoch,
            after: self.at.seq,
            seq,
            ts_ms: comments.last().map_or(0, |comment| comment.at_ms),
            viewers: 1,
            likes: 0,
            shed: 0,
            comments,
            events,
        };
        self.push(FrameSet::replay(batch, self.world.plan.room.compression));
    }
}

/// Reads a page, and again when the store does not answer.
pub(crate) async fn read_page(
    world: &World,
    log: &RoomLog,
    since: Seq,
) -> Result<Page, Unavailable> {
    for _ in 0..READ_TRIES {
        match log.read_after(since, PAGE_LEN).await {
            Ok(page) => {
                world.coverage().pages += 1;
                world.ledger().page(log.epoch(), page.clone());
                return Ok(page);
            }
            Err(Unavailable) => {
                world.coverage().reads_failed += 1;
                assert!(world.plan.fails(), "a store that never fails");
                sleep(Duration::from_millis(30)).await;
            }
        }
    }
    Err(Unavailable)
}

const AHEAD_TRIES: u32 = 20;
const ATTACH_TRIES: u32 = 3;
const READ_TRIES: u32 = 3;
const PAGE_LEN: usize = 7;
