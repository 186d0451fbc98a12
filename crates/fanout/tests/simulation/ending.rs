//! How a world ends: everybody catches up, is held to what it was told, and leaves.

use std::time::Duration;

use danmaku_fanout::ShardMsg;
use danmaku_wire::{CloseReason, Dialect};

use crate::ledger::{Gone, Told};
use crate::plan::Partings;
use crate::viewer::{Habit, Outcome, Viewer};
use crate::world::World;

impl World {
    /// Nobody posts; the slow ones catch up; those that read nothing are evicted.
    pub(crate) fn settle(&mut self) {
        for viewer in &mut self.viewers {
            if matches!(viewer.habit, Habit::Slow { .. } | Habit::Choppy { .. }) {
                viewer.wake();
            }
        }
        let patience = match self.plan.partings {
            Partings::Some => self.plan.fanout.evict_after + self.plan.fanout.close_deadline,
            Partings::None => Duration::ZERO,
        };
        self.pass(WINDOW_MAX + patience + LAG_MAX);
        if self.plan.partings == Partings::Some {
            // Heartbeats go on, and one of them may be what no longer fits.
            for _ in 0..HEARTBEATS_UNREAD_MAX {
                if self.stats().viewers_behind > 0 {
                    self.pass(patience + LAG_MAX);
                }
            }
            assert_eq!(
                self.stats().viewers_behind,
                0,
                "those that read nothing are gone by now"
            );
        }
        for viewer in &mut self.viewers {
            if matches!(viewer.habit, Habit::Stalls { .. }) {
                viewer.wake();
            }
        }
        for _ in 0..200 {
            self.step();
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    /// Everybody who is still here has everything, and what is missing was counted.
    pub(crate) fn check(&mut self) {
        let (alive, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.viewers)
            .into_iter()
            .partition(Viewer::is_online);
        for viewer in &gone {
            self.gone.enter(viewer);
        }
        for viewer in &alive {
            let room = &self.rooms[viewer.room];
            viewer.check_complete(room.sealed().seq.value(), &room.truth);
        }
        self.gone.check(&alive, &self.stats());
        if self.plan.partings == Partings::None {
            assert_eq!(self.gone, Gone::default(), "nobody was to end");
        }
        for (index, room) in self.rooms.iter().enumerate() {
            let here = alive.iter().filter(|it| it.room == index).count();
            assert_eq!(
                room.audience.viewers() as usize,
                here,
                "the audience of room {index}"
            );
        }
        self.viewers = alive;
    }

    /// Every shard ends in time, having told everybody.
    pub(crate) fn stop(&mut self) {
        for live in &mut self.shards {
            live.inbox.push_back(ShardMsg::Stop {
                reason: CloseReason::GoingAway,
                deadline: STOP_DEADLINE,
            });
        }
        self.pass(STOP_DEADLINE + LAG_MAX);
        assert!(
            self.shards.iter().all(|live| live.stopped),
            "a shard goes on"
        );
        for viewer in &self.viewers {
            assert_eq!(
                viewer.outcome,
                Outcome::Closed(CloseReason::GoingAway.code()),
                "{viewer:#?}"
            );
        }
        for room in &self.rooms {
            let left = Dialect::ALL.map(|dialect| room.audience.viewers_of(dialect));
            assert_eq!((room.audience.viewers(), left), (0, [0; Dialect::COUNT]));
        }
    }

    /// What viewers were told, when the plan alone decides who is here.
    pub(crate) fn told(&self) -> Vec<Told> {
        if self.plan.partings == Partings::Some {
            return Vec::new();
        }
        let told = self.viewers.iter().map(|viewer| Told {
            conn: viewer.conn,
            last: viewer.account.last(),
            events: viewer.account.events.clone(),
        });
        told.collect()
    }
}

/// The longest time until what is posted is sealed.
const WINDOW_MAX: Duration = Duration::from_millis(1_050);

/// What steps, retries and a shard without a processor add up to.
const LAG_MAX: Duration = Duration::from_millis(150);

/// How many of those who read nothing may fall behind one after the other when there is nothing left to tell them.
const HEARTBEATS_UNREAD_MAX: usize = 5;

/// How long everybody may take to hear of the end.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
