//! Owns the reading half of a viewer that only listens (Server-Sent Events): it waits for the end.

use std::pin::Pin;
use std::sync::Arc;

use danmaku_fanout::{ConnId, Link, ShardMsg};

use crate::admission::ConnectionPermit;
use crate::context::Context;

/// The reader of a connection on which nothing more may come.
#[derive(Debug)]
pub struct Listener {
    conn: ConnId,
    link: Arc<Link>,
    context: Arc<Context>,
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
    ) -> Self {
        Self {
            conn,
            link,
            context,
            _permit: permit,
        }
    }

    /// Waits until the viewer is gone. One that goes on sending is taken to be gone too.
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
                let mut buffer = [0; READ_BUFFER_BYTES];
                match self.link.try_read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) if read > bytes_left => break,
                    Ok(read) => bytes_left -= read,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
                if self.link.owes_write() {
                    // A sink that answers what it reads, as TLS does; only the shard writes.
                    self.shard(ShardMsg::Flush { conn: self.conn }).await;
                }
            }
            self.shard(ShardMsg::Detach { conn: self.conn }).await;
        }
    }

    /// Boxed, so that an idle viewer does not pay for the rare await.
    fn shard(&self, msg: ShardMsg) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.context.fanout.shard_for(self.conn).send(msg))
    }
}

/// Bytes that a peer may send after its request: some send another one too early.
const STRAY_BYTES_MAX: usize = 16 << 10;

/// Bytes taken from a socket at once.
const READ_BUFFER_BYTES: usize = 512;
