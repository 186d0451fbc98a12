//! A small client of the danmaku server: it owns how a program *uses* the protocol.
//!
//! [`Connection`] watches one room over WebSocket and posts to it; [`EventStream`] watches one over Server-Sent Events;
//! [`HttpClient`] speaks the HTTP API over one kept-alive connection. All return typed values and errors that carry the
//! server's own `{"error":{"code","message"}}`.
//!
//! The crate serves the command line of the server, the load test and the integration tests. It knows the bytes of
//! `danmaku-wire` and nothing of the engine, the fan-out or the server.

mod access;
mod address;
mod comment;
mod connect;
mod connection;
mod error;
mod event;
mod event_stream;
mod handshake;
mod http;
mod sse;
mod stream;
mod unpack;

pub use access::{Access, AccessError, Trust};
pub use address::{AddressError, ServerAddress};
pub use comment::{NewComment, Reference};
pub use connect::Connect;
pub use connection::Connection;
pub use error::{ClientError, Refusal};
pub use event::{
    Ack, Batch, Closed, Closing, Comment, Event, EventError, Gap, Joined, RoomEvent, RoomEventKind,
    ServerError,
};
pub use event_stream::EventStream;
pub use http::{Download, HttpAnswer, HttpClient, Page, Posted};
pub use unpack::{UnpackError, Unpacker};
