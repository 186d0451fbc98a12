//! Owns what a token's user is in one room.

use danmaku_auth::{Action, Allowed, Role, ServerKey, User, digest};
use danmaku_wire::{Comment, CommentLimits, DisplayName, RoomId, UserId};

use super::NotValid;

/// A user in one room. Kept for as long as they watch, so it holds nothing about other rooms.
#[derive(Debug)]
pub struct Identity {
    /// The user's id.
    pub user: UserId,
    /// The id as a number: the same for the same user, on every machine.
    pub key: u64,
    /// The name to show.
    pub name: Option<DisplayName>,
    /// The role in this room.
    pub role: danmaku_wire::Role,
    /// What the user may do in this room.
    pub allowed: Allowed,
    /// Since when the user is a member, in Unix seconds.
    pub member_since_s: Option<u64>,
    /// When a connection ends, in Unix seconds; `None` for never.
    pub ends_at_s: Option<u64>,
    /// When the token was issued, in Unix seconds.
    pub issued_at_s: Option<u64>,
    /// The token's id as a number.
    pub token: Option<u64>,
}

impl Identity {
    /// What `user` is in `room`.
    ///
    /// # Errors
    /// [`NotValid`] if the user's id is not one that comments may carry.
    pub fn of(user: &User, room: &RoomId) -> Result<Self, NotValid> {
        let limits = CommentLimits::default();
        Ok(Self {
            user: UserId::new(&user.id, &limits).map_err(|_| NotValid)?,
            key: digest(&user.id),
            name: (user.name.as_deref()).and_then(|name| DisplayName::new(name, &limits).ok()),
            role: match user.role_in(room.as_str()) {
                Role::Viewer => danmaku_wire::Role::Viewer,
                Role::Member => danmaku_wire::Role::Member,
                Role::Moderator | Role::Operator => danmaku_wire::Role::Moderator,
                Role::Streamer => danmaku_wire::Role::Streamer,
            },
            allowed: user.allowed_in(room.as_str()),
            member_since_s: user.member_since_s,
            ends_at_s: user.ends_at_s,
            issued_at_s: user.issued_at_s,
            token: user.token_id.as_deref().map(digest),
        })
    }
}

/// Whose comments they are.
#[derive(Clone, Copy, Debug)]
pub enum Author<'a> {
    /// A guest, on a server that lets guests post.
    Guest,
    /// A user.
    User(&'a Identity),
    /// A back end, which posts for users of its own.
    BackEnd(&'a ServerKey),
}

impl Author<'_> {
    /// Whether slow mode is not for them.
    #[must_use]
    pub fn moderates(self) -> bool {
        match self {
            Self::Guest => false,
            Self::User(identity) => identity.allowed.has(Action::Moderate),
            Self::BackEnd(_) => true,
        }
    }

    /// Puts the user's id, name and role on a comment, whatever its poster wrote there.
    pub fn sign(self, comment: &mut Comment) {
        if let Self::User(identity) = self {
            comment.user = Some(identity.user.clone());
            comment.name.clone_from(&identity.name);
            comment.role = identity.role;
        }
    }
}
