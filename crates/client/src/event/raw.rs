//! The JSON shapes of the server's messages, and how they become the types of [`super`].

use serde::Deserialize;

use danmaku_wire::{Epoch, Mode, Seq};

use crate::event::{Batch, Comment, EventError, Gap, Joined, RoomEvent, RoomEventKind};

#[derive(Deserialize)]
pub(crate) struct RawJoined {
    room: String,
    epoch: u64,
    after: u64,
    seq: u64,
    window_ms: u64,
    #[serde(default)]
    viewers: u32,
    #[serde(default)]
    resumed: bool,
}

impl RawJoined {
    pub(crate) fn parse(json: &[u8]) -> Result<Joined, EventError> {
        let Self {
            room,
            epoch,
            after,
            seq,
            window_ms,
            viewers,
            resumed,
        } = serde_json::from_slice(json)?;
        Ok(Joined {
            room,
            epoch: Epoch::new(epoch),
            after: Seq::new(after),
            seq: Seq::new(seq),
            window_ms,
            viewers,
            resumed,
        })
    }
}

#[derive(Deserialize)]
pub(crate) struct RawBatch {
    after: u64,
    seq: u64,
    #[serde(default)]
    ts: u64,
    #[serde(default)]
    viewers: u32,
    #[serde(default)]
    likes: u64,
    #[serde(default)]
    shed: u32,
    /// Differences between ids, the first from `after`; all 1 when absent.
    ids: Option<Vec<u64>>,
    /// Tenths of a second before `ts`; all 0 when absent.
    at: Option<Vec<u64>>,
    comments: Vec<RawComment>,
    #[serde(default)]
    events: Vec<RawRoomEvent>,
}

impl RawBatch {
    pub(crate) fn parse(json: &[u8]) -> Result<Batch, EventError> {
        let Self {
            after,
            seq,
            ts,
            viewers,
            likes,
            shed,
            ids,
            at,
            comments,
            events,
        } = serde_json::from_slice(json)?;
        let one_each = |entries: &Option<Vec<u64>>| {
            entries
                .as_ref()
                .is_none_or(|entries| entries.len() == comments.len())
        };
        if !one_each(&ids) {
            return Err(EventError::Entries("ids"));
        }
        if !one_each(&at) {
            return Err(EventError::Entries("at"));
        }
        let entry = |entries: &Option<Vec<u64>>, index: usize, default: u64| {
            entries.as_ref().map_or(default, |entries| entries[index])
        };
        let mut id = after;
        let comments = comments
            .into_iter()
            .enumerate()
            .map(|(index, raw)| {
                id = id.saturating_add(entry(&ids, index, 1));
                let ago_ms = entry(&at, index, 0).saturating_mul(100);
                raw.comment(Seq::new(id), ts.saturating_sub(ago_ms))
            })
            .collect::<Result<_, _>>()?;
        Ok(Batch {
            after: Seq::new(after),
            seq: Seq::new(seq),
            ts_ms: ts,
            viewers,
            likes,
            shed,
            comments,
            events: RawRoomEvent::events(events)?,
        })
    }
}

#[derive(Deserialize)]
pub(crate) struct RawGap {
    after: u64,
    seq: u64,
    #[serde(default)]
    events: Vec<RawRoomEvent>,
}

impl RawGap {
    pub(crate) fn parse(json: &[u8]) -> Result<Gap, EventError> {
        serde_json::from_slice::<Self>(json)?.gap()
    }

    pub(crate) fn gap(self) -> Result<Gap, EventError> {
        Ok(Gap {
            after: Seq::new(self.after),
            seq: Seq::new(self.seq),
            events: RawRoomEvent::events(self.events)?,
        })
    }
}

#[derive(Deserialize)]
pub(crate) struct RawRoomEvent {
    id: u64,
    ts: Option<u64>,
    #[serde(rename = "type")]
    kind: String,
    /// In an event of a later version, a member of this name may be anything.
    #[serde(default)]
    ids: serde_json::Value,
}

impl RawRoomEvent {
    pub(crate) fn events(raw: Vec<Self>) -> Result<Vec<RoomEvent>, EventError> {
        raw.into_iter().map(Self::event).collect()
    }

    fn event(self) -> Result<RoomEvent, EventError> {
        let kind = match self.kind.as_str() {
            "retract" => {
                let ids: Vec<u64> = serde_json::from_value(self.ids)?;
                RoomEventKind::Retract {
                    ids: ids.into_iter().map(Seq::new).collect(),
                }
            }
            _ => RoomEventKind::Other(self.kind),
        };
        Ok(RoomEvent {
            id: Seq::new(self.id),
            at_ms: self.ts,
            kind,
        })
    }
}

#[derive(Deserialize)]
pub(crate) struct RawComment {
    text: String,
    user: Option<String>,
    name: Option<String>,
    mode: Option<String>,
    color: Option<u32>,
    size: Option<u32>,
    role: Option<String>,
    reply_to: Option<u64>,
    data: Option<serde_json::Value>,
}

/// The default `color`: white.
const COLOR_DEFAULT: u32 = 0x00FF_FFFF;
/// The default `size`.
const SIZE_DEFAULT: u32 = 25;

impl RawComment {
    pub(crate) fn comment(self, id: Seq, at_ms: u64) -> Result<Comment, EventError> {
        let mode = match self.mode.as_deref() {
            None | Some("scroll") => Mode::Scroll,
            Some("top") => Mode::Top,
            Some("bottom") => Mode::Bottom,
            Some(_) => return Err(EventError::Mode(self.mode.unwrap_or_default())),
        };
        Ok(Comment {
            id,
            at_ms,
            text: self.text,
            user: self.user,
            name: self.name,
            mode,
            color: self.color.unwrap_or(COLOR_DEFAULT),
            size: self.size.unwrap_or(SIZE_DEFAULT),
            role: self.role,
            reply_to: self.reply_to.map(Seq::new),
            data: self.data,
        })
    }
}
