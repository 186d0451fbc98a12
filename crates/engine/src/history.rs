//! The last sealed frames of a room.

use std::collections::VecDeque;
use std::sync::Arc;

use danmaku_wire::{FrameSet, Seq};

/// A ring of sealed frames, bounded in frames and in bytes, whose positions follow each other without a hole.
#[derive(Debug)]
pub(crate) struct History {
    frames: VecDeque<Arc<FrameSet>>,
    frames_max: usize,
    bytes_max: usize,
}

/// What [`History::after`] found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The first position that `frames` tell.
    pub(crate) from: Option<Seq>,
    /// The frames that tell nothing up to the asked position, oldest first.
    pub(crate) frames: Vec<Arc<FrameSet>>,
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

    /// Takes in the newest frame and forgets the oldest ones over the bounds. A frame of likes only has no position and
    /// nothing that a viewer who comes later needs, so it is not kept.
    pub(crate) fn push(&mut self, frame: &Arc<FrameSet>) {
        if frame.covered() > 0 {
            if let Some(newest) = self.frames.back() {
                assert_eq!(frame.first(), newest.last().next(), "the ring has no hole");
            }
            self.frames.push_back(Arc::clone(frame));
        }
        // A frame grows when a shard asks for another encoding of it, so the sum is taken anew: once per window.
        let mut bytes = self.bytes();
        while self.frames.len() > self.frames_max || bytes > self.bytes_max {
            let Some(oldest) = self.frames.pop_front() else {
                break;
            };
            // It may have grown since the sum, a moment ago.
            bytes = bytes.saturating_sub(oldest.bytes_held());
        }
    }

    /// The frames after `since`, without a frame that `since` cuts in two.
    pub(crate) fn after(&self, since: Seq) -> Found {
        let start = self.frames.partition_point(|frame| frame.first() <= since);
        let frames: Vec<_> = self.frames.range(start..).cloned().collect();
        Found {
            from: frames.first().map(|frame| frame.first()),
            frames,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes_held()).sum()
    }
}
