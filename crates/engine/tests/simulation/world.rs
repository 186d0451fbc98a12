//! One world: nodes, posters, viewers and mishaps, from one seed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use danmaku_engine::SplitMix64;
use danmaku_log::{Double, Log};
use danmaku_wire::{Epoch, Position, RoomId, Seq};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::coverage::Coverage;
use crate::join::{Want, join, read_page};
use crate::ledger::Ledger;
use crate::node::{self, Handle, NodeMsg};
use crate::plan::{Plan, below};
use crate::poster;
use crate::viewer::Viewer;

#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    pub(crate) plan: Plan,
    pub(crate) begun: Instant,
    pub(crate) room: RoomId,
    pub(crate) log: Log,
    store: Option<Double>,
    pub(crate) nodes: Vec<Mutex<Option<Handle>>>,
    epochs: AtomicU64,
    quiet: AtomicBool,
    ledger: Mutex<Ledger>,
    coverage: Mutex<Coverage>,
    sessions: Mutex<Vec<Arc<Mutex<Viewer>>>>,
}

/// Runs the world of a seed and judges it.
pub(crate) fn run(seed: u64) -> Coverage {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(seed));
        let lived = timeout(LIFE_MAX, world.live()).await;
        lived.expect("a world comes to its end");
        world.judge()
    })
}

pub(crate) fn unix_ms(begun: Instant) -> u64 {
    1_700_000_000_000 + u64::try_from(begun.elapsed().as_millis()).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let plan = Plan::new(seed);
        let (store, double) = plan.store();
        Self {
            seed,
            begun: Instant::now(),
            room: RoomId::parse("room").unwrap(),
            log: Log::new(plan.log, store),
            store: double,
            nodes: (0..plan.nodes).map(|_| Mutex::default()).collect(),
            epochs: AtomicU64::new(1),
            quiet: AtomicBool::new(false),
            ledger: Mutex::default(),
            coverage: Mutex::default(),
            sessions: Mutex::default(),
            plan,
        }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub(crate) fn coverage(&self) -> MutexGuard<'_, Coverage> {
        self.coverage.lock().unwrap()
    }

    pub(crate) fn random(&self, salt: u64) -> SplitMix64 {
        SplitMix64::new(self.seed.wrapping_mul(1_000).wrapping_add(salt))
    }

    pub(crate) fn fresh_epoch(&self) -> Epoch {
        Epoch::new(self.epochs.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn some_node(&self, random: &mut SplitMix64) -> Option<Handle> {
        let node = below(random, self.nodes.len() as u64);
        self.nodes[node].lock().unwrap().clone()
    }

    /// Everything happens, then nothing any more, and then the rooms stop.
    async fn live(self: &Arc<Self>) {
        let mut nodes = JoinSet::new();
        for index in 0..self.nodes.len() {
            nodes.spawn(node::run(Arc::clone(self), index));
        }
        let mut posters = JoinSet::new();
        for index in 0..self.plan.posters {
            posters.spawn(poster::post(Arc::clone(self), index));
        }
        posters.spawn(poster::moderate(Arc::clone(self)));
        let mut others = JoinSet::new();
        for index in 0..self.plan.viewers {
            others.spawn(watch(Arc::clone(self), index));
        }
        others.spawn(page_through(Arc::clone(self)));
        others.spawn(mishaps(Arc::clone(self)));

        finish(posters).await;
        self.quiet.store(true, Ordering::Relaxed);
        finish(others).await;
        sleep(SETTLED_AFTER).await;
        let sealed = self.stop_nodes().await;
        finish(nodes).await;

        match &self.store {
            Some(store) => {
                let epoch = sealed[0].epoch;
                self.ledger().close(epoch, store.committed(&self.room));
            }
            None => self.ledger().close_with_acked(),
        }
        let head = self.ledger().head().unwrap_or(Seq::ZERO);
        for position in sealed {
            assert_eq!(
                position.seq, head,
                "a room did not seal all that was committed"
            );
        }
    }

    async fn stop_nodes(&self) -> Vec<Position> {
        let mut sealed = Vec::new();
        for node in &self.nodes {
            let handle = loop {
                let handle = node.lock().unwrap().clone();
                match handle {
                    Some(handle) => break handle,
                    None => sleep(Duration::from_millis(50)).await,
                }
            };
            let (answer, answered) = oneshot::channel();
            let stop = NodeMsg::Stop { answer };
            handle.mailbox.send(stop).await.unwrap();
            sealed.push(answered.await.unwrap());
        }
        sealed
    }

    fn judge(&self) -> Coverage {
        let ledger = self.ledger();
        ledger.check_acks();
        ledger.check_pages();
        let mut coverage = self.coverage().clone();
        for viewer in &*self.sessions.lock().unwrap() {
            let viewer = viewer.lock().unwrap();
            coverage.sessions += 1;
            coverage.removed_by_viewers += viewer.removed();
            coverage.never_shown += ledger.check_viewer(&viewer);
        }
        if !self.plan.forgets() && !self.plan.fails() && self.plan.history_bytes_max > 100 {
            // A boundary that is gone three times is a gap too, of a room without a ring of frames.
            assert!(
                coverage.prefix_gaps == 0 || self.plan.room.history_frames_max < 2,
                "nothing was lost"
            );
        }
        coverage
    }
}

async fn finish(mut tasks: JoinSet<()>) {
    while let Some(task) = tasks.join_next().await {
        if let Err(error) = task {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// Joins, watches, leaves, and comes back: where it was, somewhere else, or with history.
async fn watch(world: Arc<World>, index: u64) {
    let mut random = world.random(300 + index);
    let mut since = None;
    while !world.quiet.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(random.below(300))).await;
        let Some(handle) = world.some_node(&mut random) else {
            continue;
        };
        let history = below(&mut random, 3) * below(&mut random, 20);
        let want = Want { since, history };
        let Some(viewer) = join(&world, handle, want).await else {
            continue;
        };
        world.sessions.lock().unwrap().push(Arc::clone(&viewer));
        let leave_at = Instant::now() + Duration::from_millis(random.below(4_000));
        while viewer.lock().unwrap().is_connected() && Instant::now() < leave_at {
            if world.quiet.load(Ordering::Relaxed) {
                // It stays until the rooms stop.
                return;
            }
            sleep(Duration::from_millis(40)).await;
        }
        let place = {
            let mut viewer = viewer.lock().unwrap();
            viewer.disconnect();
            viewer.place()
        };
        since = match random.below(8) {
            0 => None,
            1 => Some(Position {
                seq: Seq::new(random.below(place.seq.value() + 1)),
                ..place
            }),
            2 => Some(Position {
                seq: Seq::new(place.seq.value().saturating_sub(random.below(20))),
                ..place
            }),
            3 => Some(Position {
                seq: place.seq.plus(random.below(8)),
                ..place
            }),
            _ => Some(place),
        };
    }
}

/// Reads the whole log now and then, as `GET …/comments` does.
async fn page_through(world: Arc<World>) {
    let mut random = world.random(400);
    while !world.quiet.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(random.below(1_500))).await;
        let Some(handle) = world.some_node(&mut random) else {
            continue;
        };
        let mut since = Seq::ZERO;
        loop {
            let Ok(page) = read_page(&world, &handle.log, since).await else {
                break;
            };
            assert!(page.after >= since && page.seq >= page.after);
            assert!(page.after == since || world.plan.forgets(), "never dropped");
            {
                let retracted = handle.retracted.lock().unwrap();
                for entry in page.entries.iter().filter(|entry| entry.is_comment()) {
                    let seq = entry.seq;
                    assert!(
                        !retracted.contains(&seq),
                        "{seq} is read after its retraction"
                    );
                }
            }
            since = page.seq;
            if !page.more {
                break;
            }
        }
    }
}

/// What goes wrong beside what the store does by itself.
async fn mishaps(world: Arc<World>) {
    let mut random = world.random(500);
    let Some(store) = &world.store else {
        return;
    };
    while !world.quiet.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(200 + random.below(1_200))).await;
        match random.below(4) {
            0 if world.plan.outages => {
                store.fail();
                sleep(Duration::from_millis(random.below(1_500))).await;
                store.recover();
            }
            1 if world.plan.drops => {
                let back = below(&mut random, 20) * below(&mut random, 2);
                let committed = store.committed(&world.room);
                if let Some(entry) = committed.iter().rev().nth(back) {
                    store.drop_through(&world.room, entry.seq);
                }
            }
            2 => {
                if let Some(handle) = world.some_node(&mut random) {
                    let _gone = handle.mailbox.send(NodeMsg::Crash).await;
                }
            }
            3 if world.plan.epochs && random.below(2) == 0 => {
                let Some(handle) = world.some_node(&mut random) else {
                    continue;
                };
                let epoch = handle.log.epoch();
                let mut ledger = world.ledger();
                ledger.close(epoch, store.committed(&world.room));
                store.begin_epoch(&world.room, world.fresh_epoch());
            }
            _ => {}
        }
    }
}

/// Longer than a lost message goes unnoticed, and a window takes.
const SETTLED_AFTER: Duration = Duration::from_secs(6);

/// Longer than any world has things to do.
const LIFE_MAX: Duration = Duration::from_secs(600);
