//! Owns the reading half of a viewer's connection: bytes to messages to
//! posts. Everything toward the viewer goes through its shard.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use danmaku_engine::admission::{Refusal, TokenBucket};
use danmaku_fanout::{ConnId, Link, ShardMsg};
use danmaku_log::AppendError;
use danmaku_wire::limits::MESSAGE_BYTES_MAX;
use danmaku_wire::outbound::{ErrorReply, ack_json, pong_frame, text_frame};
use danmaku_wire::{
    ClientDecoder, ClientEvent, ClientMessage, CloseReason, Comment, InboundError, Reference,
    parse_client_message,
};

use crate::admission::ConnectionPermit;
use crate::context::Context;
use crate::room::{PostError, RoomHandle};

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
    /// A close frame is on its way: what still comes is thrown away.
    closing: bool,
}

/// What one read left to do.
#[derive(Debug)]
enum Inbound {
    Message(ClientMessage),
    Rejected(InboundError),
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
    ) -> Self {
        Self {
            conn,
            link,
            room,
            context,
            decoder: ClientDecoder::new(MESSAGE_BYTES_MAX),
            posts: TokenBucket::new(),
            permit,
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
                Err(error) => Inbound::Rejected(error),
            }),
            ClientEvent::Binary(_) => events.push(Inbound::Close(CloseReason::Unsupported)),
            ClientEvent::Ping(payload) => {
                events.push(Inbound::Ping(Bytes::copy_from_slice(payload)));
            }
            ClientEvent::Pong(_) => {}
            ClientEvent::Close(_) => events.push(Inbound::Close(CloseReason::Normal)),
        });
        if let Err(error) = decoded {
            self.context.stats.inbound.protocol_error();
            events.push(Inbound::Close(error.close_reason()));
        }
        events
    }

    async fn handle(&mut self, events: Vec<Inbound>) {
        for event in events {
            match event {
                Inbound::Message(ClientMessage::Comment { reference, comment }) => {
                    let answer = self.comment(reference.as_ref(), comment).await;
                    self.unicast(text_frame(&answer)).await;
                }
                Inbound::Message(ClientMessage::Like { count }) => {
                    if let Some(answer) = self.like(count.get()) {
                        self.unicast(text_frame(&answer)).await;
                    }
                }
                Inbound::Rejected(error) => {
                    self.context.stats.inbound.rejected();
                    let answer = ErrorReply {
                        reference: error.reference.as_ref(),
                        code: error.code(),
                        field: error.field(),
                        message: &error.message(),
                        retry_after_ms: None,
                    }
                    .to_json();
                    self.unicast(text_frame(&answer)).await;
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

    async fn comment(&mut self, reference: Option<&Reference>, comment: Comment) -> String {
        let refused = |code, message: &str, retry_after_ms| {
            ErrorReply {
                reference,
                code,
                field: None,
                message,
                retry_after_ms,
            }
            .to_json()
        };
        let Some(_posting) = self.context.begin_post() else {
            return refused("stopping", STOPPING, None);
        };
        if let Err(wait_ms) = self.admit() {
            return refused("rate_limited", RATE_LIMITED, Some(wait_ms));
        }
        let rate = self.context.config.admission.per_room;
        let now = self.context.clock.now().monotonic;
        match self.room.post(&[comment], rate, now).await {
            Ok(appended) => {
                self.context.stats.inbound.accepted(1);
                ack_json(reference, appended.first)
            }
            Err(PostError::RoomRate(refusal)) => {
                self.context.stats.inbound.rate_limited();
                let wait_ms = refusal_retry_ms(refusal);
                refused("rate_limited", ROOM_RATE_LIMITED, Some(wait_ms))
            }
            Err(PostError::Log(error @ AppendError::Overloaded { .. })) => {
                self.context.stats.inbound.overloaded();
                refused("overloaded", &error.to_string(), Some(OVERLOADED_RETRY_MS))
            }
        }
    }

    /// Counts likes; the answer, when they were refused.
    fn like(&mut self, count: u32) -> Option<String> {
        match self.admit() {
            Ok(()) => {
                self.room.like(count);
                None
            }
            Err(wait_ms) => Some(
                ErrorReply {
                    reference: None,
                    code: "rate_limited",
                    field: None,
                    message: RATE_LIMITED,
                    retry_after_ms: Some(wait_ms),
                }
                .to_json(),
            ),
        }
    }

    /// One message from this connection and from its address; else when to
    /// come again, in milliseconds.
    fn admit(&mut self) -> Result<(), u64> {
        let now = self.context.clock.now().monotonic;
        let rate = self.context.config.admission.per_connection;
        self.posts
            .try_take(rate, now, 1)
            .and_then(|()| self.permit.try_post(now, 1))
            .map_err(|refusal| {
                self.context.stats.inbound.rate_limited();
                refusal_retry_ms(refusal)
            })
    }

    async fn unicast(&self, bytes: Bytes) {
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

/// What a poster is told to wait while its room catches up, in milliseconds.
pub const OVERLOADED_RETRY_MS: u64 = 250;

/// A wait in whole milliseconds, rounded up: who comes then is let through.
#[must_use]
pub fn retry_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// One message is never over a burst, which is at least one.
fn refusal_retry_ms(refusal: Refusal) -> u64 {
    match refusal {
        Refusal::RetryAfter(wait) => retry_ms(wait),
        Refusal::OverBurst { .. } => OVERLOADED_RETRY_MS,
    }
}

const STOPPING: &str = "the server is stopping";
const RATE_LIMITED: &str = "too many messages from this connection or address";
/// What a poster is told when its room takes no more.
pub const ROOM_RATE_LIMITED: &str = "too many comments in this room";

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
