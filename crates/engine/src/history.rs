//! The last sealed frames of a room.

use std::collections::VecDeque;
use std::sync::Arc;

use danmaku_wire::{FrameSet, Seq};

/// A ring of sealed frames, bounded in frames and in bytes, each of which begins where the one before ended.
#[derive(Debug)]
pub(crate) struct History {
    frames: VecDeque<Arc<FrameSet>>,
    frames_max: usize,
    bytes_max: usize,
}

impl History {
    /// An empty ring; it takes memory when frames come.
    pub(crate) const fn new(frames_max: usize, bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            frames_max,
            bytes_max,
        }
    }

    /// Takes in the newest frame and forgets the oldest ones over the bounds. A frame of likes only stands for no
    /// position and holds nothing that a viewer who comes later needs, so it is not kept.
    pub(crate) fn push(&mut self, frame: &Arc<FrameSet>) {
        if frame.after() < frame.seq() {
            if let Some(newest) = self.frames.back() {
                assert_eq!(
                    frame.after(),
                    newest.seq(),
                    "a frame begins where the one before ended"
                );
            }
            self.frames.push_back(Arc::clone(frame));
        }
        // A frame grows when a shard asks for another form of it, so the sum is taken anew: once per window.
        let mut bytes = self.bytes();
        while self.frames.len() > self.frames_max || bytes > self.bytes_max {
            let Some(oldest) = self.frames.pop_front() else {
                break;
            };
            // It may have grown since the sum, a moment ago.
            bytes = bytes.saturating_sub(oldest.bytes_held());
        }
    }

    /// Seals the frames that hold some of these comments again, without them. Whoever was given a frame before keeps
    /// it.
    pub(crate) fn retract(&mut self, ids: &[Seq]) {
        for frame in &mut self.frames {
            let inside = |id: &&Seq| frame.after() < **id && **id <= frame.seq();
            let ids: Vec<_> = ids.iter().filter(inside).copied().collect();
            if !ids.is_empty()
                && let Some(without) = frame.without(&ids)
            {
                *frame = Arc::new(without);
            }
        }
    }

    /// The frames that stand for nothing up to `since`, oldest first.
    pub(crate) fn after(&self, since: Seq) -> Vec<Arc<FrameSet>> {
        let start = self.frames.partition_point(|frame| frame.after() < since);
        self.frames.range(start..).cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes_held()).sum()
    }
}
