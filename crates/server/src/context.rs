//! Owns what every task of the server shares.

use std::sync::Arc;

use danmaku_fanout::Fanout;
use danmaku_log::{Log, Store};
use danmaku_wire::{CommentLimits, RoomId};

use crate::admission::Admission;
use crate::clock::Clock;
use crate::config::{Config, processors};
use crate::idempotency::Idempotency;
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::replay::LeadMaker;
use crate::room::actor::{RoomActor, RoomEnvironment};
use crate::room::handle::RoomHandle;
use crate::stats::Stats;
use crate::stop_gate::StopGate;

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
    pub registry: Arc<Registry>,
    /// Where comments are logged.
    pub log: Log,
    /// The shards.
    pub fanout: Arc<Fanout>,
    /// Who may connect and post.
    pub admission: Arc<Admission>,
    /// Answers to posts that carried an idempotency key.
    pub idempotency: Idempotency,
    /// What joining viewers are shown from the log.
    pub leads: LeadMaker,
    /// Counters.
    pub stats: Arc<Stats>,
    /// The gate that posts pass.
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
        let environment = RoomEnvironment {
            clock,
            fanout: Arc::clone(&fanout),
            registry: Arc::clone(&registry),
            stats: Arc::clone(&stats),
            room: config.room,
            room_idle: config.room_idle,
            replay_bytes_max,
        };
        Self {
            comment_limits: CommentLimits::default(),
            clock,
            registry,
            log: Log::new(config.log, store),
            fanout,
            admission: Arc::new(Admission::new(config.admission)),
            idempotency: Idempotency::default(),
            leads: LeadMaker::new(
                config.room.compression,
                replay_bytes_max,
                processors().get(),
            ),
            stats,
            gate: StopGate::default(),
            environment: Arc::new(environment),
            spawn_room,
            config,
        }
    }

    /// The room, made on first use.
    ///
    /// # Errors
    /// [`Refusal::TooManyRooms`], or [`Refusal::Unavailable`] when its log cannot be opened.
    pub async fn open_room(&self, id: &RoomId) -> Result<Arc<RoomHandle>, Refusal> {
        if let Some(room) = self.registry.find(id) {
            return Ok(room);
        }
        let fresh = self.registry.fresh_epoch(self.clock.now().unix_ms);
        // Two may open it at once; the one that is inserted first is used by both.
        let log = self.log.open(id, fresh).await?;
        self.registry.insert(id, |key| {
            let shards = self.fanout.shards().len();
            let (handle, inbox) = RoomHandle::new(id.clone(), key, log, shards);
            let environment = Arc::clone(&self.environment);
            (self.spawn_room)(RoomActor::new(Arc::clone(&handle), inbox, environment));
            handle
        })
    }
}
