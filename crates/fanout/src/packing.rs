//! The one place that chooses the form in which a viewer gets its frames.

use bytes::Bytes;
use danmaku_wire::{Cursor, Dialect, Form, FrameSet};

/// What a viewer speaks, and its place in the history that the forms of its room's frames share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    dialect: Dialect,
    cursor: Cursor,
}

impl Packing {
    /// The packing of a viewer of this dialect that has had nothing yet.
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            cursor: Cursor::default(),
        }
    }

    pub(crate) fn dialect(self) -> Dialect {
        self.dialect
    }

    /// The bytes to write now, which must then be written whole.
    #[inline]
    pub(crate) fn form<'a>(&mut self, frame: &'a FrameSet) -> &'a Bytes {
        frame.form(self.cursor.choose(self.dialect, frame))
    }

    /// Records that a message other than a room's frame is written.
    pub(crate) fn message_written(&mut self) {
        if self.dialect.message_ends_chain() {
            self.cursor.skipped();
        }
    }

    /// Records that a frame was not written.
    pub(crate) fn skipped(&mut self) {
        self.cursor.skipped();
    }
}

/// The form in which most viewers of `dialect` get `frame`: those that have had every frame before it.
pub(crate) fn usual_form(dialect: Dialect, frame: &FrameSet) -> &Bytes {
    let chained = match dialect {
        Dialect::WsDeflate => Some(Form::WsDeflateChained),
        Dialect::SseGzip => Some(Form::SseGzipChained),
        Dialect::WsIdentity | Dialect::WsGzip | Dialect::SseIdentity => None,
    };
    // A frame that was sealed in a group has its chained form from the start.
    let form = chained
        .filter(|&form| frame.is_made(form))
        .unwrap_or_else(|| Cursor::default().choose(dialect, frame));
    frame.form(form)
}
