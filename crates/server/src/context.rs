//! Owns the data that all of the server's tasks share.

use std::sync::Arc;

use danmaku_fanout::Fanout;
use danmaku_log::{Change, Log, RoomLog, Store};
use danmaku_wire::{CommentLimits, RoomId};
use tokio::sync::Semaphore;

use crate::admission::{AddressPermit, Admission, Held};
use crate::auth::{Auth, Sessions};
use crate::clock::Clock;
use crate::config::{Config, processors};
use crate::idempotency::Idempotency;
use crate::memory::MemoryBudget;
use crate::moderation::Moderation;
use crate::process::RecentProcess;
use crate::refusal::{RateScope, Refusal};
use crate::registry::Registry;
use crate::replay::LeadMaker;
use crate::room::actor::{RoomActor, RoomEnvironment};
use crate::room::handle::RoomHandle;
use crate::samples::{self, Samples, Taken};
use crate::segments::SegmentMaker;
use crate::stats::Stats;
use crate::stop_gate::StopGate;

/// The data that all of the server's tasks share. Built once, never changed.
#[derive(Debug)]
pub struct Context {
    /// The checked flags.
    pub config: Config,
    /// Limits on comments.
    pub comment_limits: CommentLimits,
    /// The clock.
    pub clock: Clock,
    /// The rooms.
    pub registry: Arc<Registry>,
    /// Where comments are logged.
    pub log: Log,
    /// The shards.
    pub fanout: Arc<Fanout>,
    /// Who may do what.
    pub auth: Auth,
    /// The connections of users with tokens.
    pub sessions: Arc<Sessions>,
    /// Limits on connections and posts.
    pub admission: Arc<Admission>,
    /// Answers to posts that carried an idempotency key.
    pub idempotency: Idempotency,
    /// What is checked before a comment is accepted.
    pub moderation: Moderation,
    /// What was sampled of rooms' likes and viewers.
    pub samples: Samples,
    /// Budget for what rooms hold for returning viewers.
    pub memory: Arc<MemoryBudget>,
    /// Replays from the log for joining viewers.
    pub leads: LeadMaker,
    /// Segments for viewers who pull.
    pub segments: SegmentMaker,
    /// A permit for each export that is being written.
    pub export_slots: Arc<Semaphore>,
    /// A permit for each read of an export, so that there are connections left for viewers' reads.
    pub export_reads: Semaphore,
    /// Counters.
    pub stats: Arc<Stats>,
    /// The process's own figures.
    pub(crate) process: RecentProcess,
    /// The gate that posts pass through.
    pub gate: StopGate,
    environment: Arc<RoomEnvironment>,
    /// Starts a room's actor.
    spawn_room: fn(RoomActor),
}

impl Context {
    /// A context around started shards and a store. `spawn_room` starts a room's actor.
    #[must_use]
    pub fn new(
        config: Config,
        store: Store,
        fanout: Fanout,
        clock: Clock,
        spawn_room: fn(RoomActor),
    ) -> Self {
        let fanout = Arc::new(fanout);
        let registry = Arc::new(Registry::new(config.rooms_max));
        let stats = Arc::new(Stats::default());
        let replay_bytes_max = config.fanout.outbox_bytes_max;
        let log = Log::new(config.log, store);
        let environment = RoomEnvironment {
            clock,
            records: log.records().clone(),
            fanout: Arc::clone(&fanout),
            registry: Arc::clone(&registry),
            stats: Arc::clone(&stats),
            room: config.room,
            room_idle: config.room_idle,
            replay_bytes_max,
        };
        let moderation = Moderation::new(log.records());
        Self {
            comment_limits: CommentLimits::default(),
            clock,
            registry,
            auth: Auth::new(config.auth.clone(), &log.records().revocations()),
            log,
            fanout,
            sessions: Arc::default(),
            admission: Arc::new(Admission::new(config.admission)),
            idempotency: Idempotency::default(),
            moderation,
            samples: Samples::default(),
            memory: Arc::new(MemoryBudget::new(config.memory_bytes_max)),
            leads: LeadMaker::new(
                config.room.compression,
                replay_bytes_max,
                processors().get(),
            ),
            segments: SegmentMaker::new(
                config.segment_ms.into(),
                config.room.compression,
                processors().get(),
            ),
            export_slots: Arc::new(Semaphore::new(EXPORTS_MAX)),
            export_reads: Semaphore::new(EXPORT_READS_MAX),
            stats,
            process: RecentProcess::default(),
            gate: StopGate::default(),
            environment: Arc::new(environment),
            spawn_room,
            config,
        }
    }

    /// The room, created on first use; charged to `maker` if there is one.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`] when the maker's address creates too many, [`Refusal::TooManyRooms`], or
    /// [`Refusal::Unavailable`] when its log cannot be opened.
    pub async fn open_room(
        &self,
        id: &RoomId,
        maker: Option<&AddressPermit>,
    ) -> Result<Arc<RoomHandle>, Refusal> {
        if let Some(room) = self.registry.find(id) {
            return Ok(room);
        }
        let now = self.clock.now();
        if let Some(maker) = maker {
            maker
                .try_make_room(now.monotonic)
                .map_err(|refusal| Refusal::rate(RateScope::Rooms, refusal))?;
        }
        let fresh = self.registry.fresh_epoch(now.unix_ms);
        // Two tasks may open it at once; both use the one that is inserted first.
        let log = self.log.open(id, fresh).await?;
        self.registry.insert(id, |key| {
            let shards = self.fanout.shards().len();
            let memory = Arc::clone(&self.memory);
            let segment_ms = self.config.segment_ms;
            let handle = RoomHandle::new(id.clone(), key, log, shards, memory, segment_ms);
            let environment = Arc::clone(&self.environment);
            (self.spawn_room)(RoomActor::new(Arc::clone(&handle), environment));
            handle
        })
    }

    /// The log of a room that is in use or that the data file has something of; `None` if there is neither.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn find_log(&self, id: &RoomId) -> Result<Option<RoomLog>, Refusal> {
        if let Some(room) = self.registry.find(id) {
            return Ok(Some(room.log().clone()));
        }
        Ok(self.log.find(id).await?)
    }

    /// Up to `ROOMS_AT_ONCE` rooms that are in use or that the data file has something of, in order of their ids, after
    /// `after`.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`].
    pub async fn all_rooms(&self, after: Option<&RoomId>) -> Result<Vec<RoomId>, Refusal> {
        let used = self.registry.list(after, ROOMS_AT_ONCE);
        let mut ids: Vec<_> = used.iter().map(|room| room.id().clone()).collect();
        if let Some(file) = self.log.file() {
            ids.extend(file.rooms_after(after, ROOMS_AT_ONCE).await?);
        }
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(ROOMS_AT_ONCE);
        Ok(ids)
    }

    /// Samples the likes and viewers of all rooms into the store. What it does not take is in the next samples.
    pub async fn sample_rooms(&self) {
        let now = self.clock.now();
        let rooms = self.registry.all().into_iter().map(|room| {
            let view = room.view(now.monotonic);
            samples::Now {
                key: room.key(),
                room: room.id().clone(),
                likes: view.likes,
                viewers: view.viewers,
            }
        });
        let taken = self.samples.take(rooms.collect(), now.unix_ms);
        for taken in taken.chunks(SAMPLES_AT_ONCE) {
            let samples = taken.iter().map(|it: &Taken| it.sample.clone());
            let change = Change::AddSamples(samples.collect());
            if self.log.records().change(change, None).await.is_err() {
                return;
            }
            self.samples.kept(taken);
        }
    }

    /// Counts the bytes of a response as held until it is written.
    ///
    /// # Errors
    /// [`Refusal::TooManyBytes`] or [`Refusal::RateLimited`], which is counted.
    pub fn hold_answer(&self, permit: &AddressPermit, bytes: usize) -> Result<Held, Refusal> {
        permit
            .hold(self.clock.now().monotonic, bytes)
            .map_err(Refusal::from)
            .inspect_err(|refusal| self.stats.requests.refused(refusal))
    }
}

/// Exports that are written at the same time. Slow clients can hold them all, so there are more than may read at once.
const EXPORTS_MAX: usize = 16;

/// Exports that read at the same time: half of what the data file allows.
const EXPORT_READS_MAX: usize = 2;
/// Samples written at once, so that no comment waits long for them.
const SAMPLES_AT_ONCE: usize = 1_000;

/// Rooms that are listed at once.
const ROOMS_AT_ONCE: usize = 256;
