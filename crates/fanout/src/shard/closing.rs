//! How viewers end: the close handshake and its deadline, the shard's stop, and leaving.

use std::time::Duration;

use danmaku_wire::CloseReason;

use super::{Drained, Shard, Stopping, open};
use crate::message::RoomKey;
use crate::outbox::Control;
use crate::room_sets::ViewerKey;
use crate::schedule::{Due, Timer};
use crate::stats::SkipReason;
use crate::viewer::{Phase, Sent};

/// How a viewer's connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its reader is gone already.
    Reader,
    /// It failed.
    Broken,
    /// It took too long to close.
    Deadline,
}

impl Shard {
    /// Closes a viewer: takes nothing more for it, and writes what is queued and under way, then its dialect's close.
    pub(super) fn close(
        &mut self,
        key: ViewerKey,
        reason: CloseReason,
        deadline: Duration,
        now: Duration,
    ) {
        self.catch_up(key, now);
        self.close_now(key, reason, deadline, now);
    }

    /// Closes a viewer that is to get nothing more of its room.
    pub(super) fn close_now(
        &mut self,
        key: ViewerKey,
        reason: CloseReason,
        deadline: Duration,
        now: Duration,
    ) {
        let Some(viewer) = open(&mut self.viewers, key) else {
            return;
        };
        viewer.phase = Phase::Closing;
        self.counts.closes_begun += 1;
        self.timers.push(Timer {
            at: now.saturating_add(deadline),
            due: Due::Close,
            key,
            conn: viewer.conn,
        });
        let bytes = viewer.packing.dialect().close(reason);
        let (config, counts) = (&self.config, &mut self.counts);
        let sent = viewer.send_control(&bytes, Control::Close, now, config, counts);
        self.leave_room(key);
        match sent {
            Sent::Whole => self.close_written(key, now),
            sent => self.settle(key, sent, now),
        }
    }

    /// The close is out: the peer answers it, or ends, or is reset at its deadline.
    pub(super) fn close_written(&mut self, key: ViewerKey, now: Duration) {
        let Some(viewer) = self.viewers.get_mut(key.index()) else {
            return;
        };
        viewer.phase = Phase::Closed;
        viewer.link.end_writing();
        if self.stop.is_some() {
            // A stop's deadline is for viewers with something left to read. One that has read everything gets the
            // usual close deadline.
            self.timers.push(Timer {
                at: now.saturating_add(self.config.close_deadline),
                due: Due::Close,
                key,
                conn: viewer.conn,
            });
        }
    }

    /// Closes every viewer of a room.
    pub(super) fn close_room(&mut self, room: RoomKey, reason: CloseReason, now: Duration) {
        // A closing viewer leaves its room, so the set shrinks during the walk.
        for key in self.rooms.members(room).to_vec() {
            self.close(key, reason, self.config.close_deadline, now);
        }
    }

    pub(super) fn stop(&mut self, reason: CloseReason, deadline: Duration, now: Duration) {
        if self.stop.is_some() {
            return;
        }
        let at = now.saturating_add(deadline);
        self.stop = Some(Stopping {
            reason,
            at,
            drained: Drained::Flushed,
        });
        let viewers: Vec<_> = self
            .by_conn
            .iter()
            .map(|(&conn, &key)| (conn, key))
            .collect();
        for (conn, key) in viewers {
            self.close(key, reason, deadline, now);
            // For viewers that were already closing: the stop does not wait for their own deadlines.
            let due = Due::Close;
            self.timers.push(Timer { at, due, key, conn });
        }
    }

    /// Forgets a viewer and ends its connection.
    pub(super) fn remove(&mut self, key: ViewerKey, end: End) {
        self.leave_room(key);
        let Some(viewer) = self.viewers.try_remove(key.index()) else {
            return;
        };
        self.by_conn.remove(&viewer.conn);
        if let Some(outbox) = &viewer.outbox {
            self.counts.skip(SkipReason::Closed, outbox.frames());
            self.remove_behind(outbox.listed);
            if let (Some(stop), End::Deadline) = (&mut self.stop, end) {
                stop.drained = Drained::Deadline;
            }
        }
        match end {
            End::Reader => {}
            End::Broken => {
                self.counts.broken += 1;
                viewer.link.end();
            }
            End::Deadline => {
                self.counts.closes_forced += 1;
                viewer.link.reset();
            }
        }
    }

    /// Takes a viewer out of its room. The only place that decrements the counts.
    fn leave_room(&mut self, key: ViewerKey) {
        let Some(viewer) = self.viewers.get_mut(key.index()) else {
            return;
        };
        let Some(seat) = viewer.seat.take() else {
            return;
        };
        viewer.audience.leave(self.index, viewer.packing.dialect());
        let moved = self.rooms.leave(seat);
        if let Some(moved) = moved.and_then(|key| self.viewers.get_mut(key.index())) {
            moved.seat = Some(seat);
        }
    }
}
