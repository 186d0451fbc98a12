//! The roles of users.

use serde::{Deserialize, Serialize};

/// What a token calls its user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Anyone.
    #[default]
    Viewer,
    /// A supporter of the streamer.
    Member,
    /// A moderator.
    Moderator,
    /// A room's streamer.
    Streamer,
    /// Somebody who runs the server.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Viewer,
        Self::Member,
        Self::Moderator,
        Self::Streamer,
        Self::Operator,
    ];

    /// The word in tokens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Streamer => "streamer",
            Self::Operator => "operator",
        }
    }
}
