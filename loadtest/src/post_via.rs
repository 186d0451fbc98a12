//! Owns how posts reach the server: both the specification and the publisher name it.

use serde::{Deserialize, Serialize};

/// How posts reach the server.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum PostVia {
    /// `POST /v1/rooms/{room}/comments` over kept-alive connections.
    Http,
    /// WebSocket messages over one connection per room.
    Ws,
}

impl PostVia {
    /// Connections needed to post to this many rooms; over HTTP there are `connections`.
    #[must_use]
    pub const fn posters(self, connections: u16, rooms: u32) -> u32 {
        match self {
            Self::Http => connections as u32,
            Self::Ws => rooms,
        }
    }
}
