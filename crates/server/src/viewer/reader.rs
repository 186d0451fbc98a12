//! Owns the reading half of a WebSocket viewer's connection: bytes to messages to posts.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use danmaku_auth::Action;
use danmaku_engine::admission::TokenBucket;
use danmaku_fanout::{ConnId, Link, ShardMsg};
use danmaku_log::Appended;
use danmaku_wire::limits::MESSAGE_BYTES_MAX;
use danmaku_wire::outbound::{ack_json, held_json, pong_frame};
use danmaku_wire::{
    ClientDecoder, ClientEvent, ClientMessage, CloseReason, Comment, CommentLimits, Dialect,
    Encoding, IdempotencyKey, Reference, Secret, parse_client_message,
};

use super::session;
use crate::admission::ConnectionPermit;
use crate::auth::{Author, NewSession, SessionGuard};
use crate::context::Context;
use crate::idempotency::Accepted;
use crate::origins::OriginNotAllowed;
use crate::posting::{self, Poster, Target};
use crate::refusal::{RateScope, Refusal};
use crate::room::handle::RoomHandle;
use crate::stop_gate::Inside;

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
    /// The viewer's session, if it is a user's.
    session: Option<SessionGuard>,
    decoder: ClientDecoder,
    posts: TokenBucket,
    /// Messages of any kind; a viewer over this limit is closed.
    flood: TokenBucket,
    permit: ConnectionPermit,
    /// Whether the page that opened the connection, if any, may post over it.
    origin: Result<(), OriginNotAllowed>,
    dialect: Dialect,
    /// A close frame is on its way: anything still arriving is discarded.
    closing: bool,
}

/// A WebSocket viewer that its shard knows.
#[derive(Debug)]
pub struct Attached {
    /// Its connection.
    pub conn: ConnId,
    /// Its socket.
    pub link: Arc<Link>,
    /// Its room.
    pub room: Arc<RoomHandle>,
    /// Its dialect.
    pub dialect: Dialect,
    /// Its session, if it is a user's.
    pub session: Option<SessionGuard>,
    /// Whether the page that opened the connection, if any, may post over it.
    pub origin: Result<(), OriginNotAllowed>,
}

/// What one read left to do.
#[derive(Debug)]
enum Inbound {
    Message(ClientMessage),
    Refused(Option<Reference>, Refusal),
    /// The newest ping of the read, which is the only one that has to be answered (RFC 6455, 5.5.3).
    Ping(Bytes),
    Close(CloseReason),
}

impl Inbound {
    fn parse(text: &mut [u8], limits: &CommentLimits) -> Self {
        match parse_client_message(text, limits) {
            Ok(message) => Self::Message(message),
            Err(error) => Self::Refused(
                error.reference,
                Refusal::BadInput {
                    index: None,
                    problem: error.problem,
                },
            ),
        }
    }
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
    pub fn new(viewer: Attached, context: Arc<Context>, permit: ConnectionPermit) -> Self {
        let Attached {
            conn,
            link,
            room,
            dialect,
            session,
            origin,
        } = viewer;
        Self {
            conn,
            link,
            room,
            context,
            session,
            decoder: ClientDecoder::new(MESSAGE_BYTES_MAX),
            posts: TokenBucket::new(),
            flood: TokenBucket::new(),
            permit,
            origin,
            dialect,
            closing: false,
        }
    }

    /// Handles bytes that arrived with the upgrade request.
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
                // Most of what viewers send is pongs, which need no action.
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
        let Context {
            comment_limits: limits,
            config,
            clock,
            ..
        } = &*self.context;
        let now = clock.now().monotonic;
        let (flood, rate) = (&mut self.flood, config.admission.flood);
        let mut flooding = false;
        let decoded = self.decoder.decode(bytes, |event| {
            // A pong is itself an answer.
            let is_free = matches!(event, ClientEvent::Pong(_) | ClientEvent::Close(_));
            flooding |= !is_free && flood.try_take(rate, now, 1).is_err();
            if flooding {
                return;
            }
            match event {
                ClientEvent::Text(text) => events.push(Inbound::parse(text, limits)),
                ClientEvent::Binary(_) => events.push(Inbound::Close(CloseReason::Unsupported)),
                ClientEvent::Ping(payload) => {
                    events.retain(|event| !matches!(event, Inbound::Ping(_)));
                    events.push(Inbound::Ping(Bytes::copy_from_slice(payload)));
                }
                ClientEvent::Pong(_) => {}
                ClientEvent::Close(_) => events.push(Inbound::Close(CloseReason::Normal)),
            }
        });
        if flooding {
            self.context.stats.inbound.floods.add(1);
            events.push(Inbound::Close(CloseReason::Flooding));
        } else if let Err(error) = decoded {
            self.context.stats.inbound.protocol_errors.add(1);
            events.push(Inbound::Close(error.close_reason()));
        }
        events
    }

    /// Handles one read's messages. All answers go to the shard together: one message, one write.
    async fn handle(&mut self, events: Vec<Inbound>) {
        let mut replies = Vec::new();
        let mut pong = None;
        let mut close = None;
        for event in events {
            match event {
                Inbound::Message(ClientMessage::Auth { reference, token }) => {
                    match self.authenticate(reference, &token).await {
                        Ok(json) => replies.push(Reply::Ready(json)),
                        Err(reason) => {
                            close = Some(reason);
                            break;
                        }
                    }
                }
                Inbound::Message(message) => replies.extend(self.reply(message)),
                Inbound::Refused(reference, refusal) => {
                    // An invalid message costs as much as a valid one.
                    let refusal = self.take_message().err().unwrap_or(refusal);
                    self.context.stats.inbound.refused(&refusal);
                    replies.push(Reply::Ready(refusal.error_json(reference.as_ref())));
                }
                Inbound::Ping(payload) => pong = Some(pong_frame(&payload)),
                Inbound::Close(reason) => {
                    close = Some(reason);
                    break;
                }
            }
        }
        let conn = self.conn;
        if let Some(bytes) = pong {
            self.shard(ShardMsg::Pong { conn, bytes }).await;
        }
        let answers = self.answers(replies).await;
        if !answers.is_empty() {
            let bytes = Bytes::from(answers);
            self.shard(ShardMsg::Unicast { conn, bytes }).await;
        }
        if let Some(reason) = close {
            tracing::debug!(conn = conn.0, reason = reason.name(), "viewer closed");
            self.shard(ShardMsg::Close { conn, reason }).await;
            self.closing = true;
        }
    }

    /// Makes the viewer the user that a token names, for the first time or again.
    async fn authenticate(
        &mut self,
        reference: Option<Reference>,
        token: &Secret,
    ) -> Result<String, CloseReason> {
        if let Err(refusal) = self.take_message() {
            self.context.stats.inbound.refused(&refusal);
            return Ok(refusal.error_json(reference.as_ref()));
        }
        let identity = match session::identity(&self.context, token, self.room.id()).await {
            Ok(Some(identity)) => identity,
            Ok(None) => return Ok(Refusal::Unauthorized.error_json(reference.as_ref())),
            Err(reason) => {
                self.context.stats.inbound.refused(&Refusal::Unauthorized);
                return Err(reason);
            }
        };
        let now_ms = self.context.clock.now().unix_ms;
        let json = session::authorized(&identity, reference.as_ref(), now_ms);
        let new = NewSession {
            identity,
            conn: self.conn,
            dialect: self.dialect,
            room: self.room.key(),
        };
        self.session = Some(session::open_session(&self.context, new).await?);
        Ok(json)
    }

    /// Whose comments the viewer's are.
    fn author(&self) -> Author<'_> {
        match &self.session {
            Some(session) => Author::User(&session.identity),
            None => Author::Guest,
        }
    }

    fn check_post(&self) -> Result<(), Refusal> {
        match &self.session {
            Some(session) if session.is_over() => Err(Refusal::Unauthorized),
            Some(session) if session.identity.allowed.has(Action::Post) => Ok(()),
            Some(_) => Err(Refusal::Forbidden),
            None => Ok(self.context.auth.check_guest(Action::Post)?),
        }
    }

    /// Handles a message, but for the post that it may hold.
    fn reply(&mut self, message: ClientMessage) -> Option<Reply> {
        match message {
            ClientMessage::Comment {
                reference,
                key,
                mut comment,
            } => Some(match self.admit() {
                Ok(inside) => {
                    self.author().sign(&mut comment);
                    Reply::Post(Box::new(Post {
                        reference,
                        key,
                        comment,
                        inside,
                    }))
                }
                Err(refusal) => Reply::Ready(refusal.error_json(reference.as_ref())),
            }),
            ClientMessage::Like { count } => {
                let refusal = self.like(count.get()).err()?;
                self.context.stats.inbound.refused(&refusal);
                Some(Reply::Ready(refusal.error_json(None)))
            }
            // It changes who the viewer is, so it is not one of many: see `handle`.
            ClientMessage::Auth { .. } => None,
        }
    }

    /// Charges a comment to this connection and lets it in.
    fn admit(&mut self) -> Result<Inside, Refusal> {
        let Some(inside) = self.context.gate.enter() else {
            return Err(Refusal::Stopping);
        };
        let taken = self.take_message();
        if let Err(refusal) = taken
            .and_then(|()| Ok(self.origin?))
            .and_then(|()| self.check_post())
        {
            self.context.stats.inbound.refused(&refusal);
            return Err(refusal);
        }
        Ok(inside)
    }

    /// The answers to one read's messages, in order. Its comments are posted together: one after the other, each would
    /// wait for a commit of its own.
    async fn answers(&self, replies: Vec<Reply>) -> Vec<u8> {
        let mut answers: Vec<_> = replies
            .into_iter()
            .map(|reply| match reply {
                Reply::Ready(json) => Answer::Ready(json),
                Reply::Post(post) => Answer::Pending(Box::pin(self.post(*post))),
            })
            .collect();
        poll_fn(|cx| {
            let mut pending = false;
            for answer in &mut answers {
                // In order, so that the log has them in order.
                pending |= answer.poll(cx).is_pending();
            }
            if pending {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        let mut bytes = Vec::new();
        for answer in answers {
            if let Answer::Ready(json) = answer {
                // Messages other than batches are the same in every encoding.
                bytes.extend_from_slice(&Dialect::web_socket(Encoding::Identity).message(&json));
            }
        }
        bytes
    }

    /// Posts a comment and returns the answer.
    async fn post(&self, post: Post) -> String {
        let Post {
            reference,
            key,
            comment,
            inside,
        } = post;
        let target = Target::Open(&self.room);
        let poster = Poster {
            permit: &self.permit,
            author: self.author(),
        };
        let posted = posting::post(&self.context, poster, target, &[comment], key).await;
        drop(inside);
        match posted {
            // One comment has one position.
            Ok(Accepted::Posted(Appended { seqs, .. })) => match seqs.first() {
                Some(id) => ack_json(reference.as_ref(), *id),
                None => Refusal::OutcomeUnknown.error_json(reference.as_ref()),
            },
            Ok(Accepted::Held(id)) => held_json(reference.as_ref(), id),
            Err(refusal) => refusal.error_json(reference.as_ref()),
        }
    }

    fn like(&mut self, count: u32) -> Result<(), Refusal> {
        self.take_message()?;
        self.origin?;
        self.check_post()?;
        let poster = Poster {
            permit: &self.permit,
            author: self.author(),
        };
        poster.charge(&self.context, 1, self.context.clock.now())?;
        self.room.like(count);
        Ok(())
    }

    /// Charges one message to this connection.
    fn take_message(&mut self) -> Result<(), Refusal> {
        let now = self.context.clock.now().monotonic;
        let rate = self.context.config.admission.per_connection;
        self.posts
            .try_take(rate, now, 1)
            .map_err(|refusal| Refusal::rate(RateScope::Connection, refusal))
    }

    async fn shard(&self, msg: ShardMsg) {
        self.context.fanout.shard_for(self.conn).send(msg).await;
    }
}

/// What a message is answered with.
enum Reply {
    Ready(String),
    /// The result of a post.
    Post(Box<Post>),
}

/// A comment that was let in.
struct Post {
    reference: Option<Reference>,
    key: Option<IdempotencyKey>,
    comment: Comment,
    inside: Inside,
}

/// An answer that is there, or on its way.
enum Answer<'a> {
    Ready(String),
    Pending(Pin<Box<dyn Future<Output = String> + Send + 'a>>),
}

impl Answer<'_> {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let Self::Pending(post) = self else {
            return Poll::Ready(());
        };
        post.as_mut().poll(cx).map(|json| *self = Self::Ready(json))
    }
}

thread_local! {
    /// One read's worth of bytes, shared by all readers of a thread: it is
    /// borrowed between two awaits and never across one.
    static READ_BUFFER: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; READ_BUFFER_BYTES].into_boxed_slice());
}

/// Bytes read from a socket at once.
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

    /// Of the goal of 0.9 KB per idle viewer, all in. tokio adds about 104 bytes and aligns a task to 128, so a task takes 256
    /// bytes with anything up to this.
    const READER_BYTES_MAX: usize = 136;
}
