//! Owns the reading half of a viewer that only listens (Server-Sent Events): it waits for the end.

use std::pin::Pin;
use std::sync::Arc;

use danmaku_fanout::{ConnId, Link, ShardMsg};

use crate::admission::ConnectionPermit;
use crate::auth::SessionGuard;
use crate::context::Context;

/// The reader of a connection whose peer may send nothing more.
#[derive(Debug)]
pub struct Listener {
    conn: ConnId,
    link: Arc<Link>,
    context: Arc<Context>,
    /// The viewer's session, if it is a user's.
    _session: Option<SessionGuard>,
    /// The viewer's place among the connections.
    _permit: ConnectionPermit,
}

impl Listener {
    /// A reader for a viewer that is attached.
    #[must_use]
    pub fn new(
        conn: ConnId,
        link: Arc<Link>,
        context: Arc<Context>,
        permit: ConnectionPermit,
        session: Option<SessionGuard>,
    ) -> Self {
        Self {
            conn,
            link,
            context,
            _session: session,
            _permit: permit,
        }
    }

    /// Waits until the viewer is gone. One that keeps sending counts as gone too.
    ///
    /// Not an `async fn`, which would hold the listener twice.
    #[expect(
        clippy::manual_async_fn,
        reason = "the future is held once per idle viewer"
    )]
    pub fn run(self) -> impl Future<Output = ()> + Send {
        async move {
            let mut bytes_left = STRAY_BYTES_MAX;
            while self.link.readable().await.is_ok() {
                match self.read(bytes_left) {
                    Some(left) => bytes_left = left,
                    None => break,
                }
                if self.link.owes_write() {
                    // A sink that answers what it reads, as TLS does; only the shard writes.
                    self.shard(ShardMsg::Flush { conn: self.conn }).await;
                }
            }
            self.shard(ShardMsg::Detach { conn: self.conn }).await;
        }
    }

    /// Reads and discards what is there. Returns how much more may come, or `None` at the end.
    ///
    /// Not in the future, which would keep the buffer while it waits.
    fn read(&self, bytes_left: u16) -> Option<u16> {
        let mut buffer = [0; READ_BUFFER_BYTES];
        match self.link.try_read(&mut buffer) {
            Ok(0) => None,
            Ok(read) => bytes_left.checked_sub(u16::try_from(read).ok()?),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Some(bytes_left),
            Err(_) => None,
        }
    }

    /// Boxed, so that an idle viewer does not pay for the rare await.
    fn shard(&self, msg: ShardMsg) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.context.fanout.shard_for(self.conn).send(msg))
    }
}

/// Bytes that a peer may send after its request: some send another request too early.
const STRAY_BYTES_MAX: u16 = 16 << 10;

/// Bytes read from a socket at once.
const READ_BUFFER_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that `start` would make.
    fn future_bytes<F>(_start: impl FnOnce(Listener) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_listeners_task_is_small() {
        let bytes = future_bytes(Listener::run);
        assert!(bytes <= LISTENER_BYTES_MAX, "{bytes} bytes");
    }

    /// Of the goal of 0.9 KB per idle viewer, all in.
    const LISTENER_BYTES_MAX: usize = 104;
}
