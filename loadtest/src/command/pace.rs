//! The traffic that the floor imitates.

use std::time::Duration;

use danmaku_client::{Connection, Event};
use danmaku_wire::{Dialect, Encoding, RoomId};

use crate::error::HarnessError;
use crate::floor::FloorPlan;
use crate::session::{Outcome, Party, Program};
use crate::spec::Spec;
use crate::swarm::WatchVia;
use crate::target::Target;
use danmaku_chat::Sealing;

/// Asks the server for its window by joining a room once.
async fn window_of(target: &Target, room: &RoomId) -> Result<Duration, HarnessError> {
    let failed = |source| HarnessError::Server {
        address: target.entrance.address.to_string(),
        source,
    };
    let connect = target.entrance.connect(room.clone(), 0);
    let mut connection = Connection::connect(&connect).await.map_err(failed)?;
    let event = connection.next().await.map_err(failed)?;
    let window_ms = if let Event::Joined(joined) = event {
        joined.window_ms
    } else {
        1000
    };
    let _ = connection.close().await;
    Ok(Duration::from_millis(window_ms.max(1)))
}

/// The traffic the floor imitates: frame sizes, and how often a viewer gets a frame.
pub(super) struct Pace {
    frame_bytes: [usize; 3],
    interval: Duration,
}

impl Pace {
    /// Before the run: from the server's window.
    pub(super) async fn asked(
        target: &Target,
        spec: &Spec,
        party: &Party,
        program: &Program,
    ) -> Result<Self, HarnessError> {
        let window = window_of(target, &party.rooms[0]).await?;
        let (rooms, via) = (spec.rooms, party.seating.via);
        let sealing = Sealing::of(&program.by_room(rooms), window);
        Ok(Self::expected(&sealing, via, program, rooms, window))
    }

    /// Before the run: from sealing the schedule offline.
    fn expected(
        sealing: &Sealing,
        via: WatchVia,
        program: &Program,
        rooms: u32,
        window: Duration,
    ) -> Self {
        let batches = u32::try_from(sealing.batches / u64::from(rooms)).unwrap_or(u32::MAX);
        let interval = program
            .duration
            .checked_div(batches)
            .unwrap_or(program.duration);
        Self {
            frame_bytes: Encoding::ALL.map(|encoding| {
                let dialect = via.dialect(encoding).unwrap_or(Dialect::WsDeflate);
                sealing.frame_bytes(dialect)
            }),
            interval: interval.max(window),
        }
    }

    /// After the run: from what was delivered.
    pub(super) fn measured(outcome: &Outcome, viewers: u32) -> Self {
        let frame_bytes = outcome.delivered.map(|delivered| {
            usize::try_from(
                delivered
                    .bytes
                    .checked_div(delivered.frames)
                    .unwrap_or_default(),
            )
            .unwrap_or(usize::MAX)
        });
        let frames: u64 = outcome
            .delivered
            .iter()
            .map(|delivered| delivered.frames)
            .sum();
        let per_viewer = u32::try_from(frames / u64::from(viewers)).unwrap_or(u32::MAX);
        let seconds = Duration::from_secs_f64(outcome.seconds);
        Self {
            frame_bytes,
            interval: seconds.checked_div(per_viewer).unwrap_or(seconds),
        }
    }

    pub(super) fn plan(&self, party: &Party, sender_threads: usize, half: Duration) -> FloorPlan {
        let rounds = half
            .as_nanos()
            .checked_div(self.interval.as_nanos())
            .unwrap_or(1)
            .max(1);
        let mut seating = party.seating.clone();
        seating.stalling = 0;
        // The same sends to the same sockets: the kernel does not care what the bytes mean.
        seating.via = WatchVia::Ws;
        FloorPlan {
            seating,
            frame_bytes: self.frame_bytes,
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            interval: self.interval,
            sender_threads,
            swarm_threads: party.threads,
            connects_per_second: party.connects_per_second,
        }
    }
}
