//! Silent viewers and quiet rooms: heartbeats and deadlines.

use std::time::Duration;

use danmaku_wire::CloseReason;

use super::closing::End;
use super::{Shard, open};
use crate::outbox::Control;
use crate::room_sets::ViewerKey;
use crate::schedule::{Due, SLICES, Timer};
use crate::viewer::{Phase, Ping};

/// A room with a frame newer than this is expected to have another one soon.
const BUSY_ROOM_PAUSE_MAX: Duration = Duration::from_millis(2_500);

impl Shard {
    /// Acts on a deadline, unless it is moot.
    pub(super) fn timer(&mut self, timer: Timer, now: Duration) {
        let viewer = self.viewers.get(timer.key.index());
        let Some(viewer) = viewer.filter(|viewer| viewer.conn == timer.conn) else {
            return;
        };
        match timer.due {
            Due::Close if viewer.phase != Phase::Open => self.remove(timer.key, End::Deadline),
            Due::Idle if viewer.silent(now) >= self.config.idle_deadline => {
                self.close_idle(timer.key, now);
            }
            Due::Quiet if self.quiet(timer.key, now) >= self.config.ping_interval => {
                self.heartbeat(timer.key, now);
            }
            Due::Close | Due::Idle | Due::Quiet => {}
        }
    }

    /// Checks the viewers whose turn it is.
    pub(super) fn look_around(&mut self, now: Duration) {
        let slices = self.sweep.due(now);
        if self.viewers.is_empty() {
            return;
        }
        for slice in slices {
            self.ping_left_over(now);
            for index in (slice..self.viewers.capacity()).step_by(SLICES) {
                self.look_at(index, now);
            }
        }
    }

    fn look_at(&mut self, index: usize, now: Duration) {
        let Some(key) = ViewerKey::new(index) else {
            return;
        };
        let Some(viewer) = open(&mut self.viewers, key) else {
            return;
        };
        if viewer.packing.dialect().answers_heartbeats() {
            self.look_at_silent(key, now);
        } else {
            self.look_at_quiet(key, now);
        }
    }

    /// Pings a viewer that has been silent for about an interval, or would be closed before its next check.
    fn look_at_silent(&mut self, key: ViewerKey, now: Duration) {
        let quiet = self.quiet(key, now);
        let Some(viewer) = open(&mut self.viewers, key) else {
            return;
        };
        let silent = viewer.silent(now);
        let left = self.config.idle_deadline.saturating_sub(silent);
        let last_look = left < self.config.ping_interval;
        if left.is_zero() {
            self.close_idle(key, now);
            return;
        }
        // One slice less than the interval: the previous ping's answer came a little after the ping.
        if silent + self.sweep.slice() < self.config.ping_interval && !last_look {
            return;
        }
        if last_look {
            self.timers.push(Timer {
                at: now + left,
                due: Due::Idle,
                key,
                conn: viewer.conn,
            });
        }
        let busy = quiet <= BUSY_ROOM_PAUSE_MAX;
        if busy && !last_look && viewer.outbox.is_none() {
            // A frame is about to go to this viewer: sending the ping along saves a write and two wake-ups.
            viewer.ping = Ping::WithNextFrame;
            self.riding[0].push(key);
            return;
        }
        self.heartbeat(key, now);
    }

    /// Gives a viewer that answers nothing a heartbeat when its room has been quiet for an interval, so that proxies
    /// keep the connection open and the kernel finds out when the peer is gone.
    fn look_at_quiet(&mut self, key: ViewerKey, now: Duration) {
        let quiet = self.quiet(key, now);
        let left = self.config.ping_interval.saturating_sub(quiet);
        if left.is_zero() {
            self.heartbeat(key, now);
        } else if quiet > BUSY_ROOM_PAUSE_MAX
            && let Some(viewer) = self.viewers.get(key.index())
        {
            // The next check would be up to an interval too late.
            self.timers.push(Timer {
                at: now + left,
                due: Due::Quiet,
                key,
                conn: viewer.conn,
            });
        }
    }

    /// How long there has been no frame in a viewer's room.
    fn quiet(&self, key: ViewerKey, now: Duration) -> Duration {
        let seat = self.viewers.get(key.index()).and_then(|it| it.seat);
        let delivered = seat.and_then(|seat| self.rooms.delivered(seat));
        delivered.map_or(Duration::MAX, |at| now.saturating_sub(at))
    }

    /// Pings those for whom no frame came in the meantime.
    fn ping_left_over(&mut self, now: Duration) {
        self.riding.swap(0, 1);
        let mut left_over = std::mem::take(&mut self.riding[0]);
        for key in left_over.drain(..) {
            let viewer = self.viewers.get(key.index());
            if viewer.is_some_and(|viewer| viewer.ping == Ping::WithNextFrame) {
                self.heartbeat(key, now);
            }
        }
        self.riding[0] = left_over;
    }

    fn heartbeat(&mut self, key: ViewerKey, now: Duration) {
        let Some(viewer) = open(&mut self.viewers, key) else {
            return;
        };
        viewer.ping = Ping::NotDue;
        let bytes = &self.heartbeats[viewer.packing.dialect().index()];
        let (config, counts) = (&self.config, &mut self.counts);
        let sent = viewer.send_control(bytes, Control::Heartbeat, now, config, counts);
        self.settle(key, sent, now);
    }

    fn close_idle(&mut self, key: ViewerKey, now: Duration) {
        if open(&mut self.viewers, key).is_some() {
            self.counts.closed_idle += 1;
            let deadline = self.config.close_deadline;
            self.close(key, CloseReason::IdleTimeout, deadline, now);
        }
    }
}
