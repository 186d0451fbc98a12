//! Sealed frames: the bytes every viewer of a room shares.

use std::num::NonZeroU32;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::batch::{Batch, BatchComment, Gap};
use crate::compress::{CompressionLevel, CompressionPolicy, gzip, raw_deflate};
use crate::dialect::{Dialect, sse_text};
use crate::event::BatchEvent;
use crate::head::{Opcode, SERVER_HEAD_BYTES_MAX, ServerHead, binary_frame};
use crate::ids::{Epoch, Position, Seq};
use crate::outbound::gap_json;

/// One ready-to-write rendering of a frame: protocol x encoding, and where frames may refer back into each other,
/// chained or independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A WebSocket text message.
    WsIdentity,
    /// A WebSocket binary message with one gzip member.
    WsGzip,
    /// A WebSocket binary message with deflate blocks that refer to nothing before them.
    WsDeflate,
    /// A WebSocket binary message with deflate blocks that refer back into their group.
    WsDeflateChained,
    /// The text of a server-sent event.
    SseIdentity,
    /// A server-sent event as deflate blocks that refer to nothing before them.
    SseGzip,
    /// A server-sent event as deflate blocks that refer back into their group.
    SseGzipChained,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; Self::COUNT] = [
        Self::WsIdentity,
        Self::WsGzip,
        Self::WsDeflate,
        Self::WsDeflateChained,
        Self::SseIdentity,
        Self::SseGzip,
        Self::SseGzipChained,
    ];

    /// How many there are.
    pub const COUNT: usize = 7;
}

/// A stream whose frames may refer back into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chain {
    WsDeflate,
    SseGzip,
}

impl Chain {
    pub(crate) const ALL: [Self; 2] = [Self::WsDeflate, Self::SseGzip];

    const fn independent(self) -> Form {
        match self {
            Self::WsDeflate => Form::WsDeflate,
            Self::SseGzip => Form::SseGzip,
        }
    }

    const fn chained(self) -> Form {
        match self {
            Self::WsDeflate => Form::WsDeflateChained,
            Self::SseGzip => Form::SseGzipChained,
        }
    }

    /// Packs `text` as this stream carries it.
    pub(crate) fn pack(self, level: CompressionLevel, history: &[u8], text: &[u8]) -> Bytes {
        match self {
            Self::WsDeflate => raw_deflate(level, history, text, binary_frame),
            Self::SseGzip => raw_deflate(level, history, text, Bytes::copy_from_slice),
        }
    }
}

/// A sealed batch or gap, and its forms.
///
/// A form is made when first needed, only once, and shared by refcount.
#[derive(Debug)]
pub struct FrameSet {
    batch: Batch,
    kind: Kind,
    level: CompressionLevel,
    /// The JSON and a line feed, as the deflate stream carries them. It shares its allocation with the form
    /// [`Form::WsIdentity`], whose head stands right before it.
    line: Bytes,
    forms: [OnceLock<Bytes>; Form::COUNT],
    /// The frame's place in its group, for each [`Chain`] it has a chained form of.
    links: [Option<Link>; Chain::ALL.len()],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Batch,
    Gap,
}

/// A frame's place in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) group: GroupId,
    pub(crate) index: u32,
}

/// Names a group: a run of batches of one room that share their deflate history. Unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupId(pub(crate) NonZeroU32);

impl FrameSet {
    /// Seals a batch outside any group, for a replay.
    #[must_use]
    pub fn replay(batch: Batch, policy: CompressionPolicy) -> Self {
        Self::batch(batch, policy.level)
    }

    /// Seals a gap.
    #[must_use]
    pub fn gap(gap: Gap, policy: CompressionPolicy) -> Self {
        let json = gap_json(gap.after, gap.seq, &gap.events);
        let batch = Batch {
            epoch: gap.epoch,
            after: gap.after,
            seq: gap.seq,
            ts_ms: 0,
            viewers: 0,
            likes: 0,
            shed: 0,
            comments: Vec::new(),
            events: gap.events,
        };
        Self::seal(batch, Kind::Gap, policy.level, json.len(), |_, out| {
            out.extend_from_slice(json.as_bytes());
        })
    }

    pub(crate) fn batch(batch: Batch, level: CompressionLevel) -> Self {
        let len_max = batch.json_len_max();
        Self::seal(batch, Kind::Batch, level, len_max, Batch::json_into)
    }

    /// The frame without the comments with these ids, for the same positions but outside its group; `None` if it holds
    /// none of them.
    #[must_use]
    pub fn without(&self, ids: &[Seq]) -> Option<Self> {
        let named = |comment: &BatchComment| ids.contains(&comment.seq);
        if !self.batch.comments.iter().any(named) {
            return None;
        }
        let mut batch = self.batch.clone();
        batch.comments.retain(|comment| !named(comment));
        Some(Self::batch(batch, self.level))
    }

    fn seal(
        mut batch: Batch,
        kind: Kind,
        level: CompressionLevel,
        json_len_max: usize,
        json_into: impl FnOnce(&Batch, &mut Vec<u8>),
    ) -> Self {
        // The head's length is known only after the JSON's, so room for the longest is left in front of it.
        let mut bytes = Vec::with_capacity(SERVER_HEAD_BYTES_MAX + json_len_max + 1);
        bytes.resize(SERVER_HEAD_BYTES_MAX, 0);
        json_into(&batch, &mut bytes);
        let json_end = bytes.len();
        bytes.push(b'\n');
        let head = ServerHead::new(Opcode::Text, json_end - SERVER_HEAD_BYTES_MAX);
        let start = SERVER_HEAD_BYTES_MAX - head.as_bytes().len();
        bytes[start..SERVER_HEAD_BYTES_MAX].copy_from_slice(head.as_bytes());
        // Frames stay in the history ring, and most of a small one's buffer is slack.
        bytes.shrink_to_fit();
        batch.comments.shrink_to_fit();
        let bytes = Bytes::from(bytes);
        let set = Self {
            batch,
            kind,
            level,
            line: bytes.slice(SERVER_HEAD_BYTES_MAX..),
            forms: Default::default(),
            links: Default::default(),
        };
        set.made(Form::WsIdentity, || bytes.slice(start..json_end));
        set
    }

    /// Adds the chained form of one stream. The first of a group has nothing to refer back to, so it is the
    /// independent form too.
    pub(crate) fn link(&mut self, chain: Chain, link: Link, packed: Bytes) {
        self.links[chain as usize] = Some(link);
        if link.index == 0 {
            self.made(chain.independent(), || packed.clone());
        }
        self.made(chain.chained(), || packed);
    }

    /// The text as `chain` carries it.
    pub(crate) fn chain_text(&self, chain: Chain) -> Bytes {
        match chain {
            Chain::WsDeflate => self.line.clone(),
            Chain::SseGzip => self.form(Form::SseIdentity).clone(),
        }
    }

    /// The bytes of a form, which is made when first needed.
    ///
    /// The chained forms of a frame that was sealed outside of a group are its independent ones.
    pub fn form(&self, form: Form) -> &Bytes {
        self.made(form, || match form {
            Form::WsIdentity => unreachable!("invariant: made when the frame is sealed"),
            Form::WsGzip => gzip(self.level, self.json(), binary_frame),
            Form::SseIdentity => sse_text(Some(self.position()), self.json()).into(),
            Form::WsDeflate => Chain::WsDeflate.pack(self.level, &[], &self.line),
            Form::SseGzip => Chain::SseGzip.pack(self.level, &[], self.form(Form::SseIdentity)),
            Form::WsDeflateChained => self.form(Form::WsDeflate).clone(),
            Form::SseGzipChained => self.form(Form::SseGzip).clone(),
        })
    }

    fn made(&self, form: Form, make: impl FnOnce() -> Bytes) -> &Bytes {
        self.forms[form as usize].get_or_init(make)
    }

    /// Whether a form is made already, so that [`FrameSet::form`] costs nothing.
    #[must_use]
    pub fn is_made(&self, form: Form) -> bool {
        self.forms[form as usize].get().is_some()
    }

    /// The room's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.batch.epoch
    }

    /// Where the previous frame ended.
    #[must_use]
    pub fn after(&self) -> Seq {
        self.batch.after
    }

    /// The last position it covers; [`FrameSet::after`] if it covers none.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.batch.seq
    }

    /// Its comments in order of position.
    #[must_use]
    pub fn comments(&self) -> &[BatchComment] {
        &self.batch.comments
    }

    /// Its events in order of position.
    #[must_use]
    pub fn events(&self) -> &[BatchEvent] {
        &self.batch.events
    }

    /// How many accepted comments are missing from it because there were too many.
    #[must_use]
    pub fn shed(&self) -> u32 {
        self.batch.shed
    }

    /// Whether it is a gap: positions that are not delivered.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.kind == Kind::Gap
    }

    /// The message as JSON, without any head.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.line[..self.line.len() - 1]
    }

    /// Heap bytes of the batch and of the forms made so far.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        let forms: usize = Form::ALL
            .into_iter()
            .filter(|&form| form != Form::WsIdentity && !self.is_shared(form))
            .filter_map(|form| self.forms[form as usize].get())
            .map(Bytes::len)
            .sum();
        let comments = self.batch.comments.len() * size_of::<BatchComment>();
        let events: usize = self
            .batch
            .events
            .iter()
            .map(|it| it.event.bytes_max())
            .sum();
        SERVER_HEAD_BYTES_MAX + self.line.len() + forms + comments + events
    }

    /// Whether a chained form shares the bytes of the independent one.
    fn is_shared(&self, form: Form) -> bool {
        Chain::ALL.into_iter().any(|chain| {
            form == chain.chained() && self.links[chain as usize].is_none_or(|it| it.index == 0)
        })
    }

    fn position(&self) -> Position {
        Position {
            epoch: self.batch.epoch,
            seq: self.batch.seq,
        }
    }
}

/// A viewer's place in the history that its room's viewers of the same stream share.
///
/// The choice between the chained and the independent form depends on what was *written* to the viewer before, so it
/// is made when a frame starts to be written, not when it is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The group of which the viewer has every batch so far.
    group: Option<GroupId>,
    /// The index that continues it.
    next: u32,
}

impl Cursor {
    /// Records that the viewer missed a frame, or was sent something else in the stream: independent forms until the
    /// next group.
    pub fn skipped(&mut self) {
        *self = Self::default();
    }

    /// The form to write now to a viewer of this dialect, which must then be written whole.
    #[inline]
    #[must_use]
    pub fn choose(&mut self, dialect: Dialect, set: &FrameSet) -> Form {
        match dialect {
            Dialect::WsIdentity => Form::WsIdentity,
            // A gap is a text message in every encoding, outside of the stream that batches make.
            Dialect::WsGzip | Dialect::WsDeflate if set.is_gap() => Form::WsIdentity,
            Dialect::WsGzip => Form::WsGzip,
            Dialect::WsDeflate => self.choose_link(Chain::WsDeflate, set),
            Dialect::SseIdentity => Form::SseIdentity,
            Dialect::SseGzip => self.choose_link(Chain::SseGzip, set),
        }
    }

    fn choose_link(&mut self, chain: Chain, set: &FrameSet) -> Form {
        match set.links[chain as usize] {
            Some(link) if link.index == 0 || *self == Self::at(link) => {
                *self = Self {
                    group: Some(link.group),
                    next: link.index + 1,
                };
                chain.chained()
            }
            // Whatever stands in the stream out of turn moves all distances into the group.
            _ => {
                self.skipped();
                chain.independent()
            }
        }
    }

    fn at(link: Link) -> Self {
        Self {
            group: Some(link.group),
            next: link.index,
        }
    }
}
