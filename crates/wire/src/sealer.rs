//! Sealing: from a batch to its frame set, and the history a room's deflate viewers share.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::batch::Batch;
use crate::compress::{CompressionPolicy, DEFLATE_WINDOW_BYTES, raw_deflate};
use crate::frame::{Chained, FrameSet, GroupId, binary_frame};

/// Whether a room has viewers of [`Encoding::Deflate`](crate::Encoding::Deflate) now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeflateViewers {
    /// There are none: no chained form is made.
    None,
    /// There are some.
    Some,
}

/// Seals a room's batches. There is one per room.
///
/// A compressor that lived as long as its group would cost some 270 KB per room. The same bytes come out of a pooled
/// one that is given the group's text so far as a dictionary, so a room keeps at most 32 KiB, and nothing without
/// deflate viewers.
#[derive(Debug)]
pub struct Sealer {
    policy: CompressionPolicy,
    group: Option<Group>,
}

#[derive(Debug)]
struct Group {
    id: GroupId,
    next: u32,
    window: Vec<u8>,
}

impl Sealer {
    /// A sealer outside of any group.
    #[must_use]
    pub fn new(policy: CompressionPolicy) -> Self {
        Self {
            policy,
            group: None,
        }
    }

    /// Seals the next batch of the room.
    ///
    /// The chained form is made here, because it needs the group's text, which is not kept; all others when asked for.
    #[must_use]
    pub fn seal(&mut self, batch: &Batch, deflate: DeflateViewers) -> FrameSet {
        let level = self.policy.level;
        FrameSet::seal(batch, level, |line| {
            if deflate == DeflateViewers::None {
                // Whoever joins later could not use the history, so it ends here.
                self.group = None;
                return None;
            }
            let group = self.group.get_or_insert_with(Group::start);
            let frame = raw_deflate(level, &group.window, line, binary_frame);
            let chained = Chained {
                group: group.id,
                index: group.next,
                frame,
            };
            group.next += 1;
            if group.next >= self.policy.group_batches.get() {
                self.group = None;
            } else {
                group.remember(line);
            }
            Some(chained)
        })
    }

    /// Bytes of text it keeps for the next chained form.
    #[must_use]
    pub fn window_bytes_held(&self) -> usize {
        self.group
            .as_ref()
            .map_or(0, |group| group.window.capacity())
    }
}

/// Seals a batch made for one viewer's replay: it belongs to no group.
#[must_use]
pub fn seal_replay(batch: &Batch, policy: CompressionPolicy) -> FrameSet {
    FrameSet::seal(batch, policy.level, |_| None)
}

impl Group {
    fn start() -> Self {
        // Unique in the process and not only in the room: a cursor must never take the group of a room that was
        // retired and made anew for the one it knows. A wrap after 2^32 groups meets no cursor that old.
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let id =
            NonZeroU32::new(STARTED.fetch_add(1, Ordering::Relaxed)).unwrap_or(NonZeroU32::MAX);
        Self {
            id: GroupId(id),
            next: 0,
            window: Vec::new(),
        }
    }

    /// Appends to the window and forgets what deflate could not reach.
    fn remember(&mut self, line: &[u8]) {
        let tail = &line[line.len().saturating_sub(DEFLATE_WINDOW_BYTES)..];
        let forget = (self.window.len() + tail.len()).saturating_sub(DEFLATE_WINDOW_BYTES);
        self.window.drain(..forget);
        let needed = self.window.len() + tail.len();
        if needed > self.window.capacity() {
            // Doubling without this bound could keep twice the window.
            let capacity = (self.window.capacity() * 2).clamp(needed, DEFLATE_WINDOW_BYTES);
            self.window.reserve_exact(capacity - self.window.len());
        }
        self.window.extend_from_slice(tail);
    }
}
