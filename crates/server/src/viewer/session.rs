//! Owns how a viewer becomes a user: by the token of its request, or by that of an `auth` message.

use std::time::Duration;

use bytes::Bytes;
use danmaku_auth::{Action, Principal};
use danmaku_fanout::ShardMsg;
use danmaku_wire::limits::MESSAGE_BYTES_MAX;
use danmaku_wire::outbound::{Authorized, close_frame};
use danmaku_wire::{
    ClientDecoder, ClientEvent, ClientMessage, CloseReason, CommentLimits, Dialect, Encoding,
    Reference, RoomId, Secret, parse_client_message,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::auth::{Identity, NewSession, NotValid, SessionGuard};
use crate::context::Context;

/// Who a token of an `auth` message names; `None` on a server without users.
///
/// # Errors
/// Why the connection has to end.
pub(super) async fn identity(
    context: &Context,
    token: &Secret,
    room: &RoomId,
) -> Result<Option<Identity>, CloseReason> {
    let now_ms = context.clock.now().unix_ms;
    let principal = context.auth.identify(Some(token.as_str()), now_ms).await;
    match principal.map_err(|NotValid| CloseReason::Unauthorized)? {
        Principal::Guest => Ok(None),
        Principal::Server(_) => Err(CloseReason::Forbidden),
        Principal::User(user) => {
            let identity = Identity::of(&user, room).map_err(|_| CloseReason::Unauthorized)?;
            if identity.allowed.has(Action::Watch) {
                Ok(Some(identity))
            } else {
                Err(CloseReason::Forbidden)
            }
        }
    }
}

/// Takes a viewer's session in, and closes those of the same user that it replaces.
///
/// # Errors
/// [`CloseReason::TooManySessions`], [`CloseReason::Unauthorized`].
pub async fn open_session(context: &Context, new: NewSession) -> Result<SessionGuard, CloseReason> {
    let duplicates = context.auth.duplicates();
    let now_ms = context.clock.now().unix_ms;
    let (session, replaced) = context
        .sessions
        .open(new, duplicates, now_ms)
        .map_err(|_| CloseReason::TooManySessions)?;
    // It may have been revoked since it was checked; from here on, a revocation finds the session.
    if context.auth.is_revoked(&session.identity, now_ms) {
        return Err(CloseReason::Unauthorized);
    }
    for conn in replaced {
        let reason = CloseReason::Replaced;
        let shard = context.fanout.shard_for(conn);
        shard.send(ShardMsg::Close { conn, reason }).await;
    }
    Ok(session)
}

/// The answer to an `auth` message.
pub(super) fn authorized(
    identity: &Identity,
    reference: Option<&Reference>,
    now_ms: u64,
) -> String {
    let ends_at_ms = identity.ends_at_s.map(|at_s| at_s.saturating_mul(1_000));
    Authorized {
        reference,
        user: &identity.user,
        name: identity.name.as_ref(),
        role: identity.role,
        expires_in_ms: ends_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms)),
    }
    .to_json()
}

/// Waits for the first message of a viewer that has to say who it is before it may watch. The headers of the response
/// are written here. A viewer that cannot be let in is told why.
///
/// Nothing else may come with the message: what follows it belongs after the answer.
pub async fn first_message(
    context: &Context,
    stream: &mut TcpStream,
    (opening, early): (&Bytes, &Bytes),
    room: &RoomId,
) -> Option<Identity> {
    let deadline = context.config.handshake_deadline;
    let asked = async {
        stream.write_all(opening).await.ok()?;
        let identified = match read_token(stream, early).await {
            Some((reference, token)) => match identity(context, &token, room).await {
                Ok(identity) => identity
                    .map(|identity| (reference, identity))
                    .ok_or(CloseReason::Unauthorized),
                Err(reason) => Err(reason),
            },
            None => Err(CloseReason::Unauthorized),
        };
        Some(identified)
    };
    let identified = tokio::time::timeout(deadline, asked)
        .await
        .unwrap_or(Some(Err(CloseReason::Unauthorized)))?;
    let (bytes, identity) = match identified {
        Ok((reference, identity)) => {
            let now_ms = context.clock.now().unix_ms;
            let json = authorized(&identity, reference.as_ref(), now_ms);
            let dialect = Dialect::web_socket(Encoding::Identity);
            (dialect.message(&json), Some(identity))
        }
        Err(reason) => (close_frame(reason), None),
    };
    stream.write_all(&bytes).await.ok()?;
    if identity.is_none() {
        // A close with bytes unread would be a reset, which can overtake the reason.
        let _ = stream.shutdown().await;
        let drained = async { while matches!(stream.read(&mut [0; 512]).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(CLOSE_LINGER, drained).await;
    }
    identity
}

/// The token of a message that comes alone.
async fn read_token(stream: &mut TcpStream, early: &Bytes) -> Option<(Option<Reference>, Secret)> {
    let mut decoder = ClientDecoder::new(MESSAGE_BYTES_MAX);
    let mut bytes = early.to_vec();
    loop {
        let mut message = None;
        let mut others = false;
        let decoded = decoder.decode(&mut bytes, |event| match event {
            ClientEvent::Text(text) if message.is_none() => {
                message = Some(parse_client_message(text, &CommentLimits::default()));
            }
            ClientEvent::Pong(_) => {}
            _ => others = true,
        });
        if decoded.is_err() || others {
            return None;
        }
        match message {
            Some(Ok(ClientMessage::Auth { reference, token })) => return Some((reference, token)),
            Some(_) => return None,
            None => {}
        }
        bytes.resize(READ_BYTES, 0);
        let read = stream
            .read(&mut bytes)
            .await
            .ok()
            .filter(|&read| read > 0)?;
        bytes.truncate(read);
    }
}

/// Bytes read at once.
const READ_BYTES: usize = 4_096;

/// How long a refused viewer may take to read the reason.
const CLOSE_LINGER: Duration = Duration::from_secs(1);
