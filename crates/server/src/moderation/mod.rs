//! Owns what is checked before a comment is accepted: sanctions against its poster, the room's rules, and blocked terms.

mod repeated;
mod rules;
mod sanctions;
mod terms;

use danmaku_engine::Now;
use danmaku_engine::admission::AddressKey;
use danmaku_log::Records;
use danmaku_wire::{Comment, Role, RoomId, UserId};

use crate::auth::Author;
use crate::refusal::Refusal;
use crate::slow_mode::{SlowMode, Turn};
use repeated::{Repeated, Said};

pub use sanctions::address_subject;
pub use terms::{BadTerms, TermList, TermLists};

/// What moderation remembers of rooms whose rules need it.
#[derive(Debug, Default)]
pub struct Moderation {
    slow_mode: SlowMode,
    repeated: Repeated,
    /// Blocked terms, ready to search texts.
    pub terms: TermLists,
    /// Held while a moderator decides, so that each comment is decided once.
    pub deciding: tokio::sync::Mutex<()>,
}

/// Comments that somebody wants to post.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// Where.
    pub room: &'a RoomId,
    /// All of them are accepted, or none.
    pub comments: &'a [Comment],
    /// Where they come from.
    pub address: AddressKey,
    /// What their poster is in the room.
    pub standing: Standing,
    /// Now.
    pub now: Now,
}

/// What a poster is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Anyone.
    Anyone,
    /// A member, since a time in Unix seconds if it is known.
    Member {
        /// Since when.
        since_s: Option<u64>,
    },
    /// Somebody who moderates the room: most rules are not for them. Sanctions are.
    Moderator,
    /// A back end that posts for others, from an address that says nothing about them. It knows who its members are.
    BackEnd,
}

/// Comments that nothing speaks against. Dropped without [`Approved::posted`], they do not count for slow mode or as having
/// been said.
#[derive(Debug, Default)]
#[must_use]
pub struct Approved<'a> {
    turn: Option<Turn<'a>>,
    said: Option<Said<'a>>,
    /// The comments with blocked terms masked, if there were any.
    pub masked: Option<Vec<Comment>>,
    /// Whether the comment has to wait for a moderator.
    pub hold: bool,
}

impl Moderation {
    /// With the blocked terms of the records.
    #[must_use]
    pub fn new(records: &Records) -> Self {
        Self {
            terms: TermLists::load(records),
            ..Self::default()
        }
    }

    /// Checks comments against what holds in the room and everywhere. Where nothing holds, that is two looks into a table.
    ///
    /// # Errors
    /// [`Refusal`]: the first reason that was found, and the comment's index in an array.
    pub fn check(
        &self,
        records: &Records,
        submission: &Submission<'_>,
    ) -> Result<Approved<'_>, Refusal> {
        let room = records.of_room(submission.room);
        let everywhere = records.of_all_rooms();
        let lists = self.terms.of(submission.room);
        if room.is_none() && everywhere.is_none() && lists.is_empty() {
            return Ok(Approved::default());
        }
        let in_force = [&room, &everywhere].map(Option::as_deref);
        for known in in_force.into_iter().flatten() {
            sanctions::check(known, submission, None)?;
        }
        let [room, everywhere] = in_force.map(|known| known.map(|it| *it.settings()));
        let settings = room.unwrap_or_default().or(&everywhere.unwrap_or_default());
        rules::check(&settings, submission)?;
        if submission.standing == Standing::Moderator {
            return Ok(Approved::default());
        }
        let terms = terms::check(&lists, submission)?;
        let said = self.repeated.claim(&settings, submission)?;
        let turn = rules::claim_turn(&self.slow_mode, &settings, submission)?;
        Ok(Approved {
            turn,
            said,
            masked: terms.masked,
            hold: terms.hold,
        })
    }
}

/// Checks sanctions against the address, the comments' users, and `user`.
///
/// # Errors
/// [`Refusal::Moderated`].
pub fn check_sanctions(
    records: &Records,
    submission: &Submission<'_>,
    user: Option<&UserId>,
) -> Result<(), Refusal> {
    let in_force = [records.of_room(submission.room), records.of_all_rooms()];
    for known in in_force.iter().flatten() {
        sanctions::check(known, submission, user)?;
    }
    Ok(())
}

impl Approved<'_> {
    /// The comments were accepted.
    pub fn posted(self) {
        if let Some(turn) = self.turn {
            turn.taken();
        }
        if let Some(said) = self.said {
            said.posted();
        }
    }
}

impl From<Author<'_>> for Standing {
    fn from(author: Author<'_>) -> Self {
        match author {
            Author::Guest => Self::Anyone,
            Author::User(_) if author.moderates() => Self::Moderator,
            Author::User(user) => match user.role {
                Role::Member => Self::Member {
                    since_s: user.member_since_s,
                },
                Role::Viewer | Role::Moderator | Role::Streamer => Self::Anyone,
            },
            Author::BackEnd(_) => Self::BackEnd,
        }
    }
}

impl Submission<'_> {
    /// The index to name in a refusal.
    fn index(&self, index: usize) -> Option<usize> {
        (self.comments.len() > 1).then_some(index)
    }
}

#[cfg(test)]
mod tests;
