//! Owns the reading half of a WebSocket viewer's connection: bytes to messages to posts.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use danmaku_engine::admission::TokenBucket;
use danmaku_fanout::{ConnId, Link, ShardMsg};
use danmaku_wire::limits::MESSAGE_BYTES_MAX;
use danmaku_wire::outbound::{ack_json, pong_frame};
use danmaku_wire::{
    ClientDecoder, ClientEvent, ClientMessage, CloseReason, Comment, Dialect, Encoding,
    IdempotencyKey, Reference, Seq, parse_client_message,
};

use crate::admission::ConnectionPermit;
use crate::context::Context;
use crate::origins::OriginNotAllowed;
use crate::posting::{self, Target};
use crate::refusal::{RateScope, Refusal};
use crate::room::handle::RoomHandle;

/// The reader of one viewer's connection.
///
/// Held once per idle viewer, so it keeps no buffer: bytes are read into one
/// buffer per thread and decoded there, and only an unfinished message is kept.
#[derive(Debug)]
pub struct Reader {
    conn: ConnId,
    link: Arc<Link>,
    room: Arc<RoomHandle>,
    context: Arc<Context>,
    decoder: ClientDecoder,
    posts: TokenBucket,
    permit: ConnectionPermit,
    /// Whether the page that opened the connection, if one did, may post over it.
    origin: Result<(), OriginNotAllowed>,
    /// A close frame is on its way: what still comes is thrown away.
    closing: bool,
}

/// What one read left to do.
#[derive(Debug)]
enum Inbound {
    Message(ClientMessage),
    Refused(Option<Reference>, Refusal),
    Ping(Bytes),
    Close(CloseReason),
}

/// What a read brought.
enum ReadOutcome {
    Nothing,
    Events(Vec<Inbound>),
    End,
}

impl Reader {
    /// A reader for a viewer that is attached, or about to be.
    #[must_use]
    pub fn new(
        conn: ConnId,
        link: Arc<Link>,
        room: Arc<RoomHandle>,
        context: Arc<Context>,
        permit: ConnectionPermit,
        origin: Result<(), OriginNotAllowed>,
    ) -> Self {
        Self {
            conn,
            link,
            room,
            context,
            decoder: ClientDecoder::new(MESSAGE_BYTES_MAX),
            posts: TokenBucket::new(),
            permit,
            origin,
            closing: false,
        }
    }

    /// Handles what came along with the upgrade request.
    pub async fn early(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            let events = self.decode(&mut bytes.to_vec());
            self.handle(events).await;
        }
    }

    /// Reads until the viewer is gone.
    ///
    /// Not an `async fn`, which would hold the reader twice; and the rare
    /// awaits are boxed, so that an idle viewer does not pay for them.
    #[expect(
        clippy::manual_async_fn,
        reason = "the future is held once per idle viewer"
    )]
    pub fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            while self.link.readable().await.is_ok() {
                match self.read() {
                    ReadOutcome::Nothing => {}
                    ReadOutcome::Events(events) => Box::pin(self.handle(events)).await,
                    ReadOutcome::End => break,
                }
                if self.link.owes_write() {
                    // A sink that answers what it reads, as TLS does; only the shard writes.
                    Box::pin(self.shard(ShardMsg::Flush { conn: self.conn })).await;
                }
            }
            Box::pin(self.shard(ShardMsg::Detach { conn: self.conn })).await;
        }
    }

    /// One read of what is there, decoded in place.
    fn read(&mut self) -> ReadOutcome {
        READ_BUFFER.with_borrow_mut(|buffer| match self.link.try_read(buffer) {
            Ok(0) => ReadOutcome::End,
            Ok(n) => {
                self.link.heard(self.context.clock.now().monotonic);
                let events = if self.closing {
                    Vec::new()
                } else {
                    self.decode(&mut buffer[..n])
                };
                // A pong leaves nothing to do, and is most of what viewers send.
                if events.is_empty() {
                    ReadOutcome::Nothing
                } else {
                    ReadOutcome::Events(events)
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => ReadOutcome::Nothing,
            Err(_) => ReadOutcome::End,
        })
    }

    fn decode(&mut self, bytes: &mut [u8]) -> Vec<Inbound> {
        let mut events = Vec::new();
        let limits = &self.context.comment_limits;
        let decoded = self.decoder.decode(bytes, |event| match event {
            ClientEvent::Text(text) => events.push(match parse_client_message(text, limits) {
                Ok(message) => Inbound::Message(message),
                Err(error) => Inbound::Refused(
                    error.reference,
                    Refusal::BadInput {
                        index: None,
                        problem: error.problem,
                    },
                ),
            }),
            ClientEvent::Binary(_) => events.push(Inbound::Close(CloseReason::Unsupported)),
            ClientEvent::Ping(payload) => {
                events.push(Inbound::Ping(Bytes::copy_from_slice(payload)));
            }
            ClientEvent::Pong(_) => {}
            ClientEvent::Close(_) => events.push(Inbound::Close(CloseReason::Normal)),
        });
        if let Err(error) = decoded {
            self.context.stats.inbound.protocol_errors.add(1);
            events.push(Inbound::Close(error.close_reason()));
        }
        events
    }

    async fn handle(&mut self, events: Vec<Inbound>) {
        for event in events {
            match event {
                Inbound::Message(ClientMessage::Comment {
                    reference,
                    key,
                    comment,
                }) => {
                    let answer = match self.comment(comment, key).await {
                        Ok(id) => ack_json(reference.as_ref(), id),
                        Err(refusal) => refusal.error_json(reference.as_ref()),
                    };
                    self.tell(&answer).await;
                }
                Inbound::Message(ClientMessage::Like { count }) => {
                    if let Err(refusal) = self.like(count.get()) {
                        self.context.stats.inbound.refused(&refusal);
                        self.tell(&refusal.error_json(None)).await;
                    }
                }
                Inbound::Refused(reference, refusal) => {
                    self.context.stats.inbound.refused(&refusal);
                    self.tell(&refusal.error_json(reference.as_ref())).await;
                }
                Inbound::Ping(payload) => {
                    let pong = pong_frame(&payload);
                    self.shard(ShardMsg::Pong {
                        conn: self.conn,
                        bytes: pong,
                    })
                    .await;
                }
                Inbound::Close(reason) => {
                    tracing::debug!(conn = self.conn.0, reason = reason.name(), "viewer closed");
                    self.shard(ShardMsg::Close {
                        conn: self.conn,
                        reason,
                    })
                    .await;
                    self.closing = true;
                    return;
                }
            }
        }
    }

    /// Posts a comment; its id.
    async fn comment(
        &mut self,
        comment: Comment,
        key: Option<IdempotencyKey>,
    ) -> Result<Seq, Refusal> {
        let Some(_inside) = self.context.gate.enter() else {
            return Err(Refusal::Stopping);
        };
        let taken = self.take_message();
        if let Err(refusal) = taken.and_then(|()| Ok(self.origin?)) {
            self.context.stats.inbound.refused(&refusal);
            return Err(refusal);
        }
        let target = Target::Open(&self.room);
        let appended = posting::post(&self.context, &self.permit, target, &[comment], key).await?;
        // One comment has one position.
        appended
            .seqs
            .first()
            .copied()
            .ok_or(Refusal::OutcomeUnknown)
    }

    fn like(&mut self, count: u32) -> Result<(), Refusal> {
        self.take_message()?;
        self.origin?;
        let now = self.context.clock.now().monotonic;
        self.permit
            .try_post(now, 1)
            .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))?;
        self.room.like(count);
        Ok(())
    }

    /// Takes one message from what this connection may send.
    fn take_message(&mut self) -> Result<(), Refusal> {
        let now = self.context.clock.now().monotonic;
        let rate = self.context.config.admission.per_connection;
        self.posts
            .try_take(rate, now, 1)
            .map_err(|refusal| Refusal::rate(RateScope::Connection, refusal))
    }

    /// Sends a message to this viewer. Messages beside batches are the same in every encoding.
    async fn tell(&self, json: &str) {
        let bytes = Dialect::web_socket(Encoding::Identity).message(json);
        self.shard(ShardMsg::Unicast {
            conn: self.conn,
            bytes,
        })
        .await;
    }

    async fn shard(&self, msg: ShardMsg) {
        self.context.fanout.shard_for(self.conn).send(msg).await;
    }
}

thread_local! {
    /// One read's worth of bytes, shared by all readers of a thread: it is
    /// borrowed between two awaits and never across one.
    static READ_BUFFER: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice());
}

/// Bytes taken from a socket at once.
const READ_BUFFER_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that `start` would make.
    fn future_bytes<F>(_start: impl FnOnce(Reader) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_viewers_task_is_small() {
        let bytes = future_bytes(Reader::run);
        assert!(bytes <= READER_BYTES_MAX, "{bytes} bytes");
    }

    /// Of the goal of 1 KiB per idle viewer, all in.
    const READER_BYTES_MAX: usize = 128;
}
