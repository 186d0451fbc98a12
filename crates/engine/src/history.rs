//! The last sealed frames of a room.

use std::collections::VecDeque;
use std::sync::Arc;

use danmaku_wire::{FrameSet, Seq};

/// A ring of sealed frames, bounded in frames and bytes. Each frame begins where the previous one ended.
#[derive(Debug)]
pub(crate) struct History {
    kept: VecDeque<Kept>,
    /// The sum of the frames' counted bytes.
    bytes: usize,
    /// The next older frame to recount.
    recount_at: usize,
    frames_max: usize,
    bytes_max: usize,
}

/// A frame and its counted bytes. A frame grows when a viewer needs another form of it: the newest while it is being
/// delivered, an older one when a viewer returns.
#[derive(Debug)]
struct Kept {
    frame: Arc<FrameSet>,
    bytes: usize,
}

impl History {
    /// An empty ring; it allocates when the first frame arrives.
    pub(crate) const fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            bytes: 0,
            recount_at: 0,
            frames_max,
            bytes_max,
        }
    }

    /// Adds the newest frame and drops the oldest ones over the bounds. A frame of likes only covers no position and
    /// holds nothing that a later viewer needs, so it is not kept.
    pub(crate) fn push(&mut self, frame: &Arc<FrameSet>) {
        // The previous newest has been delivered since. The older ones take turns: no walk through the ring per window.
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

    /// Drops the oldest frames, at least `bytes` bytes or all of them. Returns the bytes freed.
    pub(crate) fn trim(&mut self, bytes: usize) -> usize {
        let mut freed = 0;
        while freed < bytes && !self.kept.is_empty() {
            freed += self.forget_oldest();
        }
        self.kept.shrink_to_fit();
        freed
    }

    /// Reseals the frames that contain any of these comments, without them. Frames already handed out stay as they
    /// are.
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

    /// The frames that cover only positions after `since`, oldest first.
    pub(crate) fn after(&self, since: Seq) -> Vec<Arc<FrameSet>> {
        let start = self.kept.partition_point(|kept| kept.frame.after() < since);
        let frames = self.kept.range(start..).map(|kept| Arc::clone(&kept.frame));
        frames.collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The frames' bytes as last counted.
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

    /// Returns the frame's counted bytes; 0 when there is none.
    fn forget_oldest(&mut self) -> usize {
        let bytes = self.kept.pop_front().map_or(0, |oldest| oldest.bytes);
        self.bytes -= bytes;
        bytes
    }
}
