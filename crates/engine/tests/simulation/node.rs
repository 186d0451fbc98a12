//! One node's room: the actor that a server would run.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use danmaku_engine::{Now, Resume, Room, SealInput};
use danmaku_log::{Entry, EntryBody, RoomLog, Tail, Tailed};
use danmaku_wire::{
    BatchComment, BatchEvent, Chains, Event, FrameSet, Gap, Position, Priority, Seq,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use crate::viewer::Viewer;
use crate::world::{World, unix_ms};

/// What others hold of a node's room while its actor runs.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) log: RoomLog,
    pub(crate) mailbox: mpsc::Sender<NodeMsg>,
    /// What the room was told to retract, so that nobody may be given it from then on.
    pub(crate) retracted: Arc<Mutex<BTreeSet<Seq>>>,
}

#[derive(Debug)]
pub(crate) enum NodeMsg {
    /// Where a viewer would begin.
    Place {
        since: Option<Position>,
        answer: oneshot::Sender<Place>,
    },
    Attach(Box<Attach>),
    /// Ends the actor at once, as a crash would.
    Crash,
    /// Seals what is there and answers with the last sealed position.
    Stop {
        answer: oneshot::Sender<Position>,
    },
}

#[derive(Debug)]
pub(crate) enum Place {
    /// Nothing is known of its position: it begins here.
    Fresh(Position),
    /// Its position is not sealed yet.
    Ahead,
    /// Frames follow from here on.
    At(Seq),
}

/// A viewer with its prefix, which ends at `boundary`.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) viewer: Viewer,
    pub(crate) prefix: Vec<FrameSet>,
    pub(crate) boundary: Seq,
    pub(crate) last_try: bool,
    pub(crate) answer: oneshot::Sender<Attached>,
}

#[derive(Debug)]
pub(crate) enum Attached {
    Yes(Arc<Mutex<Viewer>>),
    /// No frame begins at the boundary any more, but here.
    Gone(Box<Attach>, Seq),
}

/// Why an actor ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Crash,
    NewEpoch,
    Stop,
}

#[derive(Debug)]
pub(crate) struct Actor {
    world: Arc<World>,
    room: Room,
    tail: Tail,
    retracted: Arc<Mutex<BTreeSet<Seq>>>,
    viewers: Vec<Arc<Mutex<Viewer>>>,
}

impl Actor {
    pub(crate) fn new(world: &Arc<World>, handle: &Handle) -> Self {
        let head = handle.log.head();
        Self {
            room: Room::new(world.plan.room, handle.log.epoch(), head),
            tail: handle.log.tail_after(head),
            retracted: Arc::clone(&handle.retracted),
            viewers: Vec::new(),
            world: Arc::clone(world),
        }
    }

    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<NodeMsg>) -> End {
        let mut entries = Vec::new();
        let end = loop {
            let deadline = self.room.deadline();
            let due = self.world.begun + deadline.unwrap_or(Duration::MAX / 4);
            let tailed = tokio::select! {
                biased;
                msg = inbox.recv() => match msg.expect("the node holds a sender") {
                    NodeMsg::Place { since, answer } => {
                        let _gone = answer.send(self.place(since));
                        Tailed::Nothing
                    }
                    NodeMsg::Attach(attach) => {
                        self.attach(*attach);
                        Tailed::Nothing
                    }
                    NodeMsg::Crash => break End::Crash,
                    NodeMsg::Stop { answer } => {
                        self.stop(&mut entries).await;
                        let _gone = answer.send(self.room.sealed());
                        break End::Stop;
                    }
                },
                tailed = follow(&mut self.tail, &mut entries, deadline) => tailed,
                () = sleep_until(due), if deadline.is_some() => Tailed::Nothing,
            };
            if self.take_all(tailed, &mut entries).await == Tailed::NewEpoch {
                break End::NewEpoch;
            }
            if let Some(frame) = self.room.tick(self.now(), INPUT) {
                self.deliver(&frame);
            }
        };
        for viewer in &self.viewers {
            viewer.lock().unwrap().disconnect();
        }
        end
    }

    async fn stop(&mut self, entries: &mut Vec<Entry>) {
        while self.take_all(Tailed::Nothing, entries).await == Tailed::Entries {}
        if let Some(frame) = self.room.flush(self.now(), INPUT) {
            self.deliver(&frame);
        }
    }

    /// Takes up what is there; answers the last thing that the tail said.
    async fn take_all(&mut self, mut tailed: Tailed, entries: &mut Vec<Entry>) -> Tailed {
        for _ in 0..TAIL_READS_MAX {
            self.take(tailed, entries);
            if tailed == Tailed::NewEpoch {
                break;
            }
            tailed = self.tail.drain(entries, TAKE_MAX).await;
            if tailed == Tailed::Nothing {
                break;
            }
        }
        self.take(tailed, entries);
        tailed
    }

    fn take(&mut self, tailed: Tailed, entries: &mut Vec<Entry>) {
        let now = self.now();
        if let Tailed::Lost { through } = tailed {
            assert!(entries.is_empty());
            let plan = &self.world.plan;
            assert!(
                plan.store.is_some() && plan.forgets(),
                "{through} was never dropped"
            );
            self.world.coverage().losses += 1;
            let frames = self.room.lost(now, through, INPUT);
            assert!(!frames.is_empty(), "{through} was lost before");
            for frame in frames {
                self.deliver(&frame);
            }
        }
        for Entry { seq, at_ms, body } in entries.drain(..) {
            match body {
                EntryBody::Comment { fragment, priority } => {
                    let comment = BatchComment {
                        seq,
                        at_ms,
                        fragment,
                    };
                    self.room.comment(now, comment, priority);
                }
                EntryBody::Event(event) => {
                    if let Event::Retract { ids } = &event {
                        self.retracted.lock().unwrap().extend(ids.iter());
                    }
                    self.room.event(now, BatchEvent { seq, event });
                }
            }
        }
    }

    fn place(&self, since: Option<Position>) -> Place {
        match since.map(|since| self.room.resume(since)) {
            None | Some(Resume::OtherEpoch) => Place::Fresh(self.room.sealed()),
            Some(Resume::Ahead) => Place::Ahead,
            Some(Resume::At { boundary, .. }) => Place::At(boundary),
        }
    }

    fn attach(&mut self, mut attach: Attach) {
        if self.room.sealed().epoch != attach.viewer.epoch() {
            return;
        }
        let frames = match self.room.frames_after(attach.boundary) {
            Some(frames) => frames,
            None => {
                let since = Position {
                    seq: attach.boundary,
                    ..self.room.sealed()
                };
                let Resume::At { boundary, frames } = self.room.resume(since) else {
                    panic!("a boundary is in the past");
                };
                self.world.coverage().boundaries_gone += 1;
                if !attach.last_try {
                    let (answer, _) = oneshot::channel();
                    let back = std::mem::replace(&mut attach.answer, answer);
                    let _gone = back.send(Attached::Gone(Box::new(attach), boundary));
                    return;
                }
                attach.prefix.push(gap(since, boundary, &self.world));
                frames
            }
        };
        let mut viewer = attach.viewer;
        for frame in &attach.prefix {
            viewer.receive(frame);
        }
        for frame in &frames {
            self.check(frame);
            viewer.receive(frame);
        }
        assert_eq!(viewer.place(), self.room.sealed());
        let viewer = Arc::new(Mutex::new(viewer));
        self.viewers.push(Arc::clone(&viewer));
        let _gone = attach.answer.send(Attached::Yes(viewer));
    }

    fn deliver(&mut self, frame: &Arc<FrameSet>) {
        self.check(frame);
        {
            let mut coverage = self.world.coverage();
            coverage.frames += 1;
            coverage.shed += u64::from(frame.shed());
            coverage.digest(frame.json());
        }
        self.viewers.retain(|viewer| {
            let mut viewer = viewer.lock().unwrap();
            if viewer.is_connected() {
                viewer.receive(frame);
            }
            viewer.is_connected()
        });
    }

    /// Nothing that the room was told to retract is in what it hands out.
    fn check(&self, frame: &FrameSet) {
        let retracted = self.retracted.lock().unwrap();
        for comment in frame.comments() {
            assert!(
                !retracted.contains(&comment.seq),
                "{} is handed out",
                comment.seq
            );
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.world.begun.elapsed(),
            unix_ms: unix_ms(self.world.begun),
        }
    }
}

/// Waits for what a room must take up now. While its window is open, entries wait in the log for the window's end.
async fn follow(tail: &mut Tail, entries: &mut Vec<Entry>, deadline: Option<Duration>) -> Tailed {
    if deadline.is_some() {
        tail.crowded().await;
        return Tailed::Nothing;
    }
    tail.next(entries, TAKE_MAX).await
}

/// A gap after a position, in a viewer's prefix.
pub(crate) fn gap(since: Position, seq: Seq, world: &World) -> FrameSet {
    world.coverage().prefix_gaps += 1;
    let gap = Gap {
        epoch: since.epoch,
        after: since.seq,
        seq,
        events: Vec::new(),
    };
    FrameSet::gap(gap, world.plan.room.compression)
}

/// Runs a node's room: opens its log, runs its actor, and again.
pub(crate) async fn run(world: Arc<World>, node: usize) {
    loop {
        let Ok(log) = world.log.open(&world.room, world.fresh_epoch()).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (mailbox, inbox) = mpsc::channel(64);
        let handle = Handle {
            log,
            mailbox,
            retracted: Arc::default(),
        };
        let actor = Actor::new(&world, &handle);
        *world.nodes[node].lock().unwrap() = Some(handle);
        let end = actor.run(inbox).await;
        *world.nodes[node].lock().unwrap() = None;
        match end {
            End::Crash => world.coverage().restarts += 1,
            End::NewEpoch => world.coverage().new_epochs += 1,
            End::Stop => return,
        }
    }
}

const INPUT: SealInput = SealInput {
    viewers: 1,
    chains: Chains {
        ws_deflate: false,
        sse_gzip: false,
    },
};

/// Entries taken from the log at once.
const TAKE_MAX: usize = 16;

/// Reads of the tail between two looks at the clock.
const TAIL_READS_MAX: usize = 16;

/// Everybody posts as a viewer.
pub(crate) const PRIORITY: Priority = Priority::Viewer;
