//! In which form a viewer gets its frames: the only place where that is chosen.

use bytes::Bytes;
use danmaku_wire::{DeflateCursor, Encoding, FrameSet, frame_for};

/// What a viewer reads, and its place in the history that the forms of its room's frames share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    encoding: Encoding,
    cursor: DeflateCursor,
}

impl Packing {
    /// The packing of a viewer of this encoding that has had nothing yet.
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            cursor: DeflateCursor::default(),
        }
    }

    pub(crate) fn encoding(self) -> Encoding {
        self.encoding
    }

    /// The bytes to write now, which must then be written whole.
    #[inline]
    pub(crate) fn form<'a>(&mut self, frame: &'a FrameSet) -> &'a Bytes {
        frame_for(self.encoding, &mut self.cursor, frame)
    }

    /// Notes that a frame was not written.
    pub(crate) fn skipped(&mut self) {
        self.cursor.skipped();
    }

    /// How many bytes a waiting frame is counted as. Which form will be written is not known yet, and making the other
    /// one just to measure it would cost more than the difference.
    pub(crate) fn bytes_waiting(self, frame: &FrameSet) -> usize {
        match (self.encoding, frame.chained()) {
            (Encoding::Deflate, Some(chained)) => chained.len(),
            _ => frame_for(self.encoding, &mut DeflateCursor::default(), frame).len(),
        }
    }
}
