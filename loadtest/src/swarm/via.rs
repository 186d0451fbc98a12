//! How viewers watch.

use danmaku_wire::{Dialect, Encoding, Protocol};
use serde::{Deserialize, Serialize};

/// How viewers watch.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum WatchVia {
    /// WebSocket.
    #[default]
    Ws,
    /// Server-Sent Events.
    Sse,
    /// WebSocket, with the Pusher protocol of another server: one event for each comment, and deliveries are counted.
    Pusher,
}

impl WatchVia {
    /// As the command line calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Sse => "sse",
            Self::Pusher => "pusher",
        }
    }

    /// The dialect of a viewer that asks for an encoding; none when there is no such thing.
    #[must_use]
    pub fn dialect(self, encoding: Encoding) -> Option<Dialect> {
        let protocol = match self {
            Self::Pusher if encoding != Encoding::Identity => return None,
            Self::Ws | Self::Pusher => Protocol::WebSocket,
            Self::Sse => Protocol::Sse,
        };
        Dialect::ALL
            .into_iter()
            .find(|dialect| (dialect.protocol(), dialect.encoding()) == (protocol, encoding))
    }
}
