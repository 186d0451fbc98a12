//! Which room of which server to watch, and from where.

use std::time::Duration;

use danmaku_wire::{Encoding, Position, RoomId};

use crate::ServerAddress;
use crate::access::Access;

/// What to connect to.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The server.
    pub server: ServerAddress,
    /// How to get in.
    pub access: Access,
    /// The room.
    pub room: RoomId,
    /// How batches are packed on the way.
    pub encoding: Encoding,
    /// Replay everything after this position.
    pub since: Option<Position>,
    /// Replay this many of the latest comments.
    pub history: Option<u32>,
    /// How long the handshake may take.
    pub deadline: Duration,
}

impl Connect {
    /// A plain connection: `identity`, nothing replayed, five seconds for the handshake.
    #[must_use]
    pub fn new(server: ServerAddress, room: RoomId) -> Self {
        let deadline = Duration::from_secs(5);
        Self {
            server,
            access: Access::default(),
            room,
            encoding: Encoding::Identity,
            since: None,
            history: None,
            deadline,
        }
    }

    /// The path of one of the room's resources, with what is to be replayed.
    pub(crate) fn path_and_query(&self, resource: &str, encoding: Option<String>) -> String {
        let since = self.since.map(|since| format!("since={since}"));
        let history = self.history.map(|history| format!("history={history}"));
        let parameters: Vec<String> = encoding.into_iter().chain(since).chain(history).collect();
        let question = if parameters.is_empty() { "" } else { "?" };
        self.server.path(&format!(
            "/v1/rooms/{}/{resource}{question}{}",
            self.room,
            parameters.join("&")
        ))
    }
}
