//! Delivers frames to a room's viewers: a small room at once, a large one in slices.

use std::sync::Arc;
use std::time::Duration;

use danmaku_wire::FrameSet;

use super::{Shard, open};
use crate::message::RoomKey;
use crate::room_sets::ViewerKey;
use crate::viewer::Sent;

impl Shard {
    /// Delivers a frame: at once to a small room, else in slices behind the frames under way to the room.
    pub(super) fn deliver(&mut self, room: RoomKey, frame: Arc<FrameSet>, now: Duration) {
        self.rooms.note_delivery(room, now);
        self.counts.passes += 1;
        if let Some((_, pass)) = self.rooms.pass(room) {
            pass.push(frame);
            let over = pass.len() > PASS_FRAMES_MAX;
            if over {
                // Frames come faster than they are delivered: let the inbox hold the room up.
                self.finish_frame(room, now);
            }
            return;
        }
        let members = self.rooms.members(room);
        let start = self.rotation.start(members.len());
        if members.len() <= self.config.slice_viewers_max.get() {
            self.deliver_at_once(room, start, &frame, now);
        } else {
            self.rooms.begin_pass(room, frame, start);
            self.passing.push_back(room);
        }
    }

    /// One pass over a room: one write per viewer, and more work only for those that cannot take it.
    fn deliver_at_once(
        &mut self,
        room: RoomKey,
        start: usize,
        frame: &Arc<FrameSet>,
        now: Duration,
    ) {
        let (last, first) = self.rooms.members(room).split_at(start);
        for &key in first.iter().chain(last) {
            let Some(viewer) = self.viewers.get_mut(key.index()) else {
                debug_assert!(false, "a room's viewer is in the shard");
                continue;
            };
            match viewer.send_frame(frame, now, &self.config, &mut self.counts) {
                Sent::Whole | Sent::Waits => {}
                sent => self.unsettled.push((key, sent)),
            }
        }
        self.settle_all(now);
    }

    /// One slice of the room whose turn it is.
    pub(super) fn deliver_slice(&mut self, now: Duration) {
        let Some(room) = self.passing.pop_front() else {
            return;
        };
        let viewers_max = self.config.slice_viewers_max.get();
        if self.deliver_to(room, viewers_max, now) == Progress::Unfinished {
            self.passing.push_back(room);
        }
    }

    /// Delivers the frame under way to all who have not got it.
    fn finish_frame(&mut self, room: RoomKey, now: Duration) {
        let frames = |shard: &mut Self| shard.rooms.pass(room).map_or(0, |(_, pass)| pass.len());
        let before = frames(self);
        while frames(self) == before && self.deliver_to(room, usize::MAX, now) != Progress::Done {}
    }

    /// Continues a room's pass for at most this many viewers.
    fn deliver_to(&mut self, room: RoomKey, viewers_max: usize, now: Duration) -> Progress {
        let Some((members, pass)) = self.rooms.pass(room) else {
            return Progress::Done;
        };
        let Some(frame) = pass.frame().cloned() else {
            return Progress::Done;
        };
        for _ in 0..viewers_max {
            let Some(place) = pass.next_due() else {
                break;
            };
            let key = members[place];
            let Some(viewer) = self.viewers.get_mut(key.index()) else {
                debug_assert!(false, "a room's viewer is in the shard");
                continue;
            };
            match viewer.send_frame(&frame, now, &self.config, &mut self.counts) {
                Sent::Whole | Sent::Waits => {}
                sent => self.unsettled.push((key, sent)),
            }
        }
        let mut progress = Progress::Unfinished;
        if pass.is_delivered() {
            pass.advance(self.rotation.start(members.len()));
            if pass.frame().is_none() {
                self.rooms.end_pass(room);
                progress = Progress::Done;
            }
        }
        self.settle_all(now);
        progress
    }

    /// Writes the frames under way that a viewer is still due.
    pub(super) fn catch_up(&mut self, key: ViewerKey, now: Duration) {
        let seat = self.viewers.get(key.index()).and_then(|it| it.seat);
        let due = seat.map_or_else(Vec::new, |seat| self.rooms.catch_up(seat));
        for frame in &due {
            let Some(viewer) = open(&mut self.viewers, key) else {
                return;
            };
            let sent = viewer.send_frame(frame, now, &self.config, &mut self.counts);
            self.settle(key, sent, now);
        }
    }

    fn settle_all(&mut self, now: Duration) {
        while let Some((key, sent)) = self.unsettled.pop() {
            self.settle(key, sent, now);
        }
    }
}

/// How far a room's pass is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unfinished,
    Done,
}

/// Where each pass begins, so that nobody is always the last.
#[derive(Debug, Default)]
pub(super) struct Rotation(u32);

impl Rotation {
    /// The next start among `len` viewers.
    fn start(&mut self, len: usize) -> usize {
        // Steps of 2^32 over the golden ratio spread the starts evenly whatever the length.
        self.0 = self.0.wrapping_add(0x9E37_79B9);
        ((u64::from(self.0) * len as u64) >> 32) as usize
    }
}

/// Frames of one room under way at a time. With more, the room is delivered to without a break.
const PASS_FRAMES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn passes_begin_everywhere_alike() {
        for len in [1, 7, 64] {
            let mut rotation = Rotation::default();
            let starts: Vec<_> = (0..len * 4).map(|_| rotation.start(len)).collect();
            let different: BTreeSet<_> = starts.iter().collect();
            assert_eq!(different.len(), len, "each is first in turn");
            assert!(starts.iter().all(|&start| start < len));
        }
        assert_eq!(Rotation::default().start(0), 0);
    }
}
