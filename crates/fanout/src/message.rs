//! The closed list of messages to a shard.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use danmaku_wire::{CloseReason, Dialect, FrameSet};

use crate::audience::Audience;
use crate::config::SHARDS_MAX;
use crate::link::Link;

/// Identifies a viewer's connection; its highest bits are the shard that owns it. Never reused in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The `number`th connection, owned by shard `shard`.
    pub(crate) fn new(number: u64, shard: usize) -> Self {
        debug_assert!(number >> NUMBER_BITS == 0 && shard < SHARDS_MAX);
        Self((shard as u64) << NUMBER_BITS | number)
    }

    /// Its number: later connections have higher ones, whatever their shard.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// The index of the shard that owns it.
    #[must_use]
    pub fn shard(self) -> usize {
        (self.0 >> NUMBER_BITS) as usize
    }
}

/// Identifies a room to the shards. Never reused in a process, not even for a room of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey(pub u64);

/// A message into a shard's inbox.
///
/// Messages for an unknown or closing connection are ignored: the viewer has left. So nothing about a connection may
/// be sent before its [`ShardMsg::Attach`] is in the inbox.
#[derive(Debug)]
pub enum ShardMsg {
    /// Attaches a viewer. Boxed, so that the rarest message does not set the size of all.
    Attach(Box<Attach>),
    /// A frame for every viewer of the room.
    Deliver {
        /// The room.
        room: RoomKey,
        /// The frame.
        frame: Arc<FrameSet>,
    },
    /// A message for one viewer, whole and in its dialect. It is never skipped.
    Unicast {
        /// The viewer.
        conn: ConnId,
        /// The message.
        bytes: Bytes,
    },
    /// The answer to a viewer's ping. Of several that wait, only the newest is sent (RFC 6455, section 5.5.3).
    Pong {
        /// The viewer.
        conn: ConnId,
        /// The pong frame.
        bytes: Bytes,
    },
    /// Write what the connection owes after a read: see [`Link::owes_write`].
    Flush {
        /// The viewer.
        conn: ConnId,
    },
    /// Close the connection once its outbox is empty.
    Close {
        /// The viewer.
        conn: ConnId,
        /// The reason it gets.
        reason: CloseReason,
    },
    /// Close every viewer of the room once its outbox is empty.
    CloseRoom {
        /// The room.
        room: RoomKey,
        /// What the viewers are told.
        reason: CloseReason,
    },
    /// The connection's reader has ended: forget the viewer.
    Detach {
        /// The viewer.
        conn: ConnId,
    },
    /// Close every viewer and end.
    Stop {
        /// What the viewers are told.
        reason: CloseReason,
        /// How long to wait for viewers that have not read everything.
        deadline: Duration,
    },
}

/// A viewer to attach to a room.
#[derive(Debug)]
pub struct Attach {
    /// The viewer's connection.
    pub conn: ConnId,
    /// Its socket.
    pub link: Arc<Link>,
    /// The room.
    pub room: RoomKey,
    /// The room's audience. The sender has counted the viewer with [`Audience::join`]; the shard counts it out.
    pub audience: Arc<Audience>,
    /// What the viewer speaks.
    pub dialect: Dialect,
    /// What it is sent before any frame delivered to the room, in order. It begins with the dialect's
    /// [`opening`](Dialect::opening), where there is one.
    pub first: Vec<Outgoing>,
}

/// One message to one viewer.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// A message, whole and in the viewer's dialect, that must not be skipped.
    Control(Bytes),
    /// A sealed frame, skipped like any other when the viewer is too slow.
    Frame(Arc<FrameSet>),
}

/// Bits of a connection's number: a million new connections a second for a century.
const NUMBER_BITS: u32 = 52;

const _: () = assert!(SHARDS_MAX <= 1 << (u64::BITS - NUMBER_BITS));
