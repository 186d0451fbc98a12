//! Sealed frames: the bytes every viewer of a room shares.

use std::num::NonZeroU32;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::batch::Batch;
use crate::compress::{CompressionLevel, gzip, raw_deflate};
use crate::encoding::Encoding;
use crate::head::{Opcode, SERVER_HEAD_BYTES_MAX, ServerHead};
use crate::ids::Seq;

/// One sealed batch in every form a viewer may need, each with its WebSocket head in front.
///
/// A form nobody asks for is not made; one that is asked for is made once, whoever asks, and shared by refcount.
#[derive(Debug)]
pub struct FrameSet {
    first: Seq,
    last: Seq,
    comments: u32,
    shed: u32,
    level: CompressionLevel,
    /// The JSON and a line feed: what the deflate stream carries.
    line: Bytes,
    /// Shares its allocation with `line`.
    identity: Bytes,
    gzip: OnceLock<Bytes>,
    independent: OnceLock<Bytes>,
    chained: Option<Chained>,
}

/// The form that refers back to the batches before it in its group.
#[derive(Debug)]
pub(crate) struct Chained {
    pub(crate) group: GroupId,
    pub(crate) index: u32,
    pub(crate) frame: Bytes,
}

/// Names a group: a run of batches of one room that share their deflate history. Unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupId(pub(crate) NonZeroU32);

impl FrameSet {
    /// Seals `batch` in its plain form; `chain` makes the chained one of the line, if there is to be one.
    pub(crate) fn seal(
        batch: &Batch,
        level: CompressionLevel,
        chain: impl FnOnce(&[u8]) -> Option<Chained>,
    ) -> Self {
        // The head's length is known only after the JSON's, so room for the longest is left in front of it.
        let mut bytes = Vec::with_capacity(SERVER_HEAD_BYTES_MAX + batch.json_len_max());
        bytes.resize(SERVER_HEAD_BYTES_MAX, 0);
        batch.json_into(&mut bytes);
        let json_end = bytes.len();
        bytes.push(b'\n');
        let head = ServerHead::new(Opcode::Text, json_end - SERVER_HEAD_BYTES_MAX);
        let start = SERVER_HEAD_BYTES_MAX - head.as_bytes().len();
        bytes[start..SERVER_HEAD_BYTES_MAX].copy_from_slice(head.as_bytes());
        let bytes = Bytes::from(bytes);

        let line = bytes.slice(SERVER_HEAD_BYTES_MAX..);
        let chained = chain(&line);
        let independent = OnceLock::new();
        if let Some(Chained {
            index: 0, frame, ..
        }) = &chained
        {
            // The first of a group has nothing to refer back to.
            independent.get_or_init(|| frame.clone());
        }
        Self {
            first: batch.first,
            last: batch.last(),
            comments: u32::try_from(batch.comments.len()).unwrap_or(u32::MAX),
            shed: batch.shed,
            level,
            identity: bytes.slice(start..json_end),
            line,
            gzip: OnceLock::new(),
            independent,
            chained,
        }
    }

    /// The first position it covers.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.first
    }

    /// The last position it covers: the one before [`FrameSet::first`] when it covers none.
    #[must_use]
    pub fn last(&self) -> Seq {
        self.last
    }

    /// How many comments it carries.
    #[must_use]
    pub fn comments(&self) -> u32 {
        self.comments
    }

    /// How many comments are missing from it because there were too many.
    #[must_use]
    pub fn shed(&self) -> u32 {
        self.shed
    }

    /// How many positions it covers.
    #[must_use]
    pub fn covered(&self) -> u64 {
        u64::from(self.comments) + u64::from(self.shed)
    }

    /// The batch as JSON, without any head.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.line[..self.line.len() - 1]
    }

    /// The frame for [`Encoding::Identity`].
    #[must_use]
    pub fn identity(&self) -> &Bytes {
        &self.identity
    }

    /// The frame for [`Encoding::Gzip`].
    #[must_use]
    pub fn gzip(&self) -> &Bytes {
        self.gzip
            .get_or_init(|| gzip(self.level, self.json(), binary_frame))
    }

    /// The frame for [`Encoding::Deflate`] that refers to nothing before it.
    #[must_use]
    pub fn independent(&self) -> &Bytes {
        self.independent
            .get_or_init(|| raw_deflate(self.level, &[], &self.line, binary_frame))
    }

    /// The frame for [`Encoding::Deflate`] that refers back into its group: none when it was sealed outside of one.
    #[must_use]
    pub fn chained(&self) -> Option<&Bytes> {
        self.chained.as_ref().map(|chained| &chained.frame)
    }

    /// The group it was sealed in and its index there.
    #[must_use]
    pub fn group(&self) -> Option<(GroupId, u32)> {
        self.chained
            .as_ref()
            .map(|chained| (chained.group, chained.index))
    }

    /// Heap bytes of the forms made so far.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        let made = |form: &OnceLock<Bytes>| form.get().map_or(0, Bytes::len);
        let chained = match &self.chained {
            Some(chained) if chained.index > 0 => chained.frame.len(),
            // The first of a group is its own independent form, and counted there.
            _ => 0,
        };
        SERVER_HEAD_BYTES_MAX
            + self.line.len()
            + made(&self.gzip)
            + made(&self.independent)
            + chained
    }
}

/// A viewer's place in the history that its room's deflate viewers share.
///
/// The choice between the chained and the independent form depends on what was *written* to the viewer before, so it
/// is made when a frame starts to be written, not when it is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeflateCursor {
    /// The group of which the viewer has every batch so far.
    group: Option<GroupId>,
    /// The index that continues it.
    next: u32,
}

impl DeflateCursor {
    /// Notes that the viewer missed a frame: independent forms until the next group.
    pub fn skipped(&mut self) {
        *self = Self::default();
    }

    fn choose<'a>(&mut self, set: &'a FrameSet) -> &'a Bytes {
        match &set.chained {
            Some(chained) if chained.index == 0 || *self == Self::at(chained) => {
                *self = Self {
                    group: Some(chained.group),
                    next: chained.index + 1,
                };
                &chained.frame
            }
            // Whatever stands in the stream out of turn moves all distances into the group.
            _ => {
                self.skipped();
                set.independent()
            }
        }
    }

    fn at(chained: &Chained) -> Self {
        Self {
            group: Some(chained.group),
            next: chained.index,
        }
    }
}

/// The bytes to write now to a viewer of this encoding, which must then be written whole.
#[must_use]
pub fn frame_for<'a>(
    encoding: Encoding,
    cursor: &mut DeflateCursor,
    set: &'a FrameSet,
) -> &'a Bytes {
    match encoding {
        Encoding::Identity => set.identity(),
        Encoding::Gzip => set.gzip(),
        Encoding::Deflate => cursor.choose(set),
    }
}

/// A binary message from the server.
pub(crate) fn binary_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Binary, payload)
}

/// A frame in an allocation of its exact size.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let head = ServerHead::new(opcode, payload.len());
    let mut bytes = Vec::with_capacity(head.as_bytes().len() + payload.len());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(payload);
    Bytes::from(bytes)
}
