//! Bytes of the danmaku protocol: what viewers may send, what a room's batch looks like, and how it is packed.
//!
//! Nothing here knows about sockets, tasks, clocks or the rules of a room: bytes and values in, bytes and values out.
//!
//! - In: [`ClientDecoder`] turns raw bytes into WebSocket messages, [`parse_client_message`] and [`parse_posted`] turn
//!   those into values that cannot be invalid.
//! - Out: a [`Comment`] is escaped once into a [`Fragment`]; a [`Batch`] of fragments is sealed by a [`Sealer`] into a
//!   [`FrameSet`], whose forms are ready to be written; all other messages to viewers are in [`outbound`].

mod batch;
mod close;
mod comment;
mod compress;
mod data;
mod decoder;
mod dialect;
mod encoding;
mod escape;
mod event;
mod frame;
mod head;
mod ids;
mod inbound;
pub mod limits;
pub mod outbound;
mod problem;
mod sealer;
mod segment;
mod tape;
mod text;

pub use batch::{Batch, BatchComment, Gap};
pub use close::{CloseReason, Reconnect};
pub use comment::{Color, Comment, FontSize, Fragment, Mode, Priority, Role};
pub use compress::{CompressionLevel, CompressionPolicy};
pub use data::CommentData;
pub use decoder::{ClientDecoder, ClientEvent, DecodeError};
pub use dialect::{Dialect, Protocol};
pub use encoding::{Encoding, EncodingError};
pub use escape::escape_into;
pub use event::{BatchEvent, Event};
pub use frame::{Cursor, Form, FrameSet, GroupId};
pub use ids::{Epoch, Position, PositionError, RoomId, RoomIdError, Seq};
pub use inbound::{
    ClientMessage, InboundError, LoggedComment, Posted, PostedError, Reference, Secret,
    parse_client_message, parse_like, parse_logged, parse_posted,
};
pub use limits::CommentLimits;
pub use problem::{Fault, Field, Problem};
pub use sealer::{Chains, Sealer};
pub use segment::{SealedSegment, Segment};
pub use text::{CommentText, DisplayName, IdempotencyKey, UserId};
