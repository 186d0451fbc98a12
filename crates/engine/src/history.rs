//! The last sealed frames of a room.

use std::collections::VecDeque;
use std::sync::Arc;

use danmaku_wire::{FrameSet, Seq};

/// A ring of sealed frames, bounded in frames and in bytes, each of which begins where the one before ended.
#[derive(Debug)]
pub(crate) struct History {
    kept: VecDeque<Kept>,
    /// The sum of what was counted for each frame.
    bytes: usize,
    /// The next of the older frames that is counted again.
    recount_at: usize,
    frames_max: usize,
    bytes_max: usize,
}

/// A frame, and what it is counted for. It grows when a viewer needs another form of it: the newest does while it is
/// delivered, an older one when somebody comes back.
#[derive(Debug)]
struct Kept {
    frame: Arc<FrameSet>,
    bytes: usize,
}

impl History {
    /// An empty ring; it takes memory when frames come.
    pub(crate) const fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            bytes: 0,
            recount_at: 0,
            frames_max,
            bytes_max,
        }
    }

    /// Takes in the newest frame and forgets the oldest ones over the bounds. A frame of likes only stands for no
    /// position and holds nothing that a viewer who comes later needs, so it is not kept.
    pub(crate) fn push(&mut self, frame: &Arc<FrameSet>) {
        // The newest has been delivered since, and the older ones take turns: no walk through the ring per window.
        self.recount(self.kept.len().saturating_sub(1));
        self.recount_at = (self.recount_at + 1) % self.kept.len().max(1);
        self.recount(self.recount_at);
        if frame.after() < frame.seq() {
            if let Some(newest) = self.kept.back() {
                assert_eq!(
                    frame.after(),
                    newest.frame.seq(),
                    "a frame begins where the one before ended"
                );
            }
            let bytes = frame.bytes_held();
            self.bytes += bytes;
            self.kept.push_back(Kept {
                frame: Arc::clone(frame),
                bytes,
            });
        }
        while self.kept.len() > self.frames_max || self.bytes > self.bytes_max {
            if self.forget_oldest() == 0 {
                break;
            }
        }
    }

    /// Forgets the oldest frames, at least `bytes` bytes of them or all; how many bytes that were.
    pub(crate) fn trim(&mut self, bytes: usize) -> usize {
        let mut freed = 0;
        while freed < bytes && !self.kept.is_empty() {
            freed += self.forget_oldest();
        }
        self.kept.shrink_to_fit();
        freed
    }

    /// Seals the frames that hold some of these comments again, without them. Whoever was given a frame before keeps
    /// it.
    pub(crate) fn retract(&mut self, ids: &[Seq]) {
        for index in 0..self.kept.len() {
            let frame = &mut self.kept[index].frame;
            let inside = |id: &&Seq| frame.after() < **id && **id <= frame.seq();
            let ids: Vec<_> = ids.iter().filter(inside).copied().collect();
            if !ids.is_empty()
                && let Some(without) = frame.without(&ids)
            {
                *frame = Arc::new(without);
                self.recount(index);
            }
        }
    }

    /// The frames that stand for nothing up to `since`, oldest first.
    pub(crate) fn after(&self, since: Seq) -> Vec<Arc<FrameSet>> {
        let start = self.kept.partition_point(|kept| kept.frame.after() < since);
        let frames = self.kept.range(start..).map(|kept| Arc::clone(&kept.frame));
        frames.collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// What the frames were last counted for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn recount(&mut self, index: usize) {
        if let Some(kept) = self.kept.get_mut(index) {
            let bytes = kept.frame.bytes_held();
            self.bytes = self.bytes - kept.bytes + bytes;
            kept.bytes = bytes;
        }
    }

    /// What it was counted for; 0 when there is none.
    fn forget_oldest(&mut self) -> usize {
        let bytes = self.kept.pop_front().map_or(0, |oldest| oldest.bytes);
        self.bytes -= bytes;
        bytes
    }
}
