//! Owns how a post or a retraction gets into a room's log, from HTTP, WebSocket or the demo feed.

use std::sync::Arc;

use danmaku_auth::digest;
use danmaku_engine::Now;
use danmaku_log::{Append, AppendKey, Change, ChangeError, EntryBody, Held, Lookup, RoomLog};
use danmaku_wire::{Comment, Event, Fragment, IdempotencyKey, Priority, RoomId, Seq};

use crate::admission::AddressPermit;
use crate::auth::Author;
use crate::context::Context;
use crate::idempotency::{Accepted, Claim, KeyConflict, PosterKey};
use crate::moderation::{self, Submission};
use crate::objection::Objection;
use crate::refusal::{RateScope, Refusal};
use crate::room::handle::RoomHandle;

/// Who posts.
#[derive(Clone, Copy, Debug)]
pub struct Poster<'a> {
    /// The permit of the client's address.
    pub permit: &'a AddressPermit,
    /// Whose posts they are.
    pub author: Author<'a>,
}

impl Poster<'_> {
    /// Charges `count` posts to the user and the address. A back end posts for many users from one address, and pays only
    /// in the room.
    ///
    /// # Errors
    /// [`Refusal::RateLimited`], [`Refusal::ArrayOverBurst`].
    pub fn charge(&self, context: &Context, count: u32, now: Now) -> Result<(), Refusal> {
        let Self { permit, author } = self;
        if let Author::User(identity) = author {
            context
                .admission
                .try_post_as(identity.key, now.monotonic, count)
                .map_err(|refusal| Refusal::rate(RateScope::User, refusal))?;
        }
        if let Author::BackEnd(_) = author {
            return Ok(());
        }
        permit
            .try_post(now.monotonic, count)
            .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))
    }

    /// Checks sanctions against the address and the user.
    ///
    /// # Errors
    /// [`Refusal::Moderated`].
    pub fn check_sanctions(
        &self,
        context: &Context,
        room: &RoomId,
        now: Now,
    ) -> Result<(), Refusal> {
        let submission = Submission {
            room,
            comments: &[],
            address: self.permit.address(),
            standing: self.author.into(),
            now,
        };
        let user = match self.author {
            Author::User(identity) => Some(&identity.user),
            Author::Guest | Author::BackEnd(_) => None,
        };
        moderation::check_sanctions(context.log.records(), &submission, user)
    }

    fn key(&self) -> PosterKey {
        match self.author {
            Author::Guest => PosterKey::Address(self.permit.address()),
            Author::User(identity) => PosterKey::User(identity.key),
            Author::BackEnd(key) => PosterKey::BackEnd(digest(&key.name)),
        }
    }
}

/// The room a post goes to.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A room that the poster watches.
    Open(&'a Arc<RoomHandle>),
    /// A room that is created on first use.
    Named(&'a RoomId),
}

impl Target<'_> {
    fn id(&self) -> &RoomId {
        match self {
            Self::Open(room) => room.id(),
            Self::Named(id) => id,
        }
    }
}

/// Appends all of `comments` to the room's log, or none; or holds a comment for a moderator. A retry with the key of an
/// accepted post gets the same answer as the first.
///
/// The caller holds the stop gate, so that shutdown waits for the answer.
///
/// # Errors
/// [`Refusal`], which is counted; except for [`Refusal::OutcomeUnknown`], nothing was accepted.
pub async fn post(
    context: &Context,
    poster: Poster<'_>,
    target: Target<'_>,
    comments: &[Comment],
    key: Option<IdempotencyKey>,
) -> Result<Accepted, Refusal> {
    let now = context.clock.now();
    let count = u32::try_from(comments.len()).unwrap_or(u32::MAX);
    let posted = async {
        poster.charge(context, count, now)?;
        match key {
            None => append(context, poster, target, comments, None, now).await,
            Some(key) => append_once(context, poster, target, comments, key, now).await,
        }
    };
    posted
        .await
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))
}

async fn append_once(
    context: &Context,
    poster: Poster<'_>,
    target: Target<'_>,
    comments: &[Comment],
    key: IdempotencyKey,
    now: Now,
) -> Result<Accepted, Refusal> {
    let claim = context
        .idempotency
        .claim(poster.key(), target.id(), &key, comments, now.monotonic);
    match claim {
        Err(KeyConflict::Reused) => Err(Refusal::KeyReused),
        Err(KeyConflict::InProgress) => Err(Refusal::KeyInProgress),
        Ok(Claim::Answered(accepted)) => Ok(accepted),
        Ok(Claim::Run(reservation)) => {
            let key = AppendKey {
                poster: poster.key().value(),
                key,
            };
            let accepted = append(context, poster, target, comments, Some(key), now).await?;
            reservation.answer(accepted.clone(), now.monotonic);
            Ok(accepted)
        }
    }
}

async fn append(
    context: &Context,
    poster: Poster<'_>,
    target: Target<'_>,
    comments: &[Comment],
    key: Option<AppendKey>,
    now: Now,
) -> Result<Accepted, Refusal> {
    let submission = Submission {
        room: target.id(),
        comments,
        address: poster.permit.address(),
        standing: poster.author.into(),
        now,
    };
    let records = context.log.records();
    let approved = context.moderation.check(records, &submission)?;
    let comments = approved.masked.as_deref().unwrap_or(comments);
    if approved.hold
        && let [comment] = comments
    {
        let id = hold(context, target.id(), comment, now).await?;
        approved.posted();
        return Ok(Accepted::Held(id));
    }
    let count = comments.len();
    let rate = context.config.admission.per_room;
    let appended = match target {
        Target::Open(room) => room.post(comments, key, rate, now).await?,
        Target::Named(id) => {
            let room = context.open_room(id, Some(poster.permit)).await?;
            room.post(comments, key, rate, now).await?
        }
    };
    approved.posted();
    context.stats.inbound.accepted(count);
    Ok(Accepted::Posted(appended))
}

/// Puts a comment into the queue for moderators.
async fn hold(
    context: &Context,
    room: &RoomId,
    comment: &Comment,
    now: Now,
) -> Result<u64, Refusal> {
    let mut held = held(room, &comment.fragment(), comment.priority(), now);
    if let Some(user) = &comment.user {
        user.as_str().clone_into(&mut held.user);
    }
    let change = Change::Hold(held);
    let id = context.log.records().change(change, None).await;
    let id = id.map_err(|error| match error {
        ChangeError::Refused(_) => queue_full(),
        ChangeError::NotTaken(error) => error.into(),
    })?;
    context.stats.inbound.held();
    Ok(id)
}

/// A comment for the queue.
pub fn held(room: &RoomId, fragment: &Fragment, priority: Priority, now: Now) -> Held {
    Held {
        id: 0,
        room: room.as_str().to_owned(),
        body: fragment.as_bytes().to_vec(),
        priority: match priority {
            Priority::Viewer => 0,
            Priority::Member => 1,
            Priority::Staff => 2,
        },
        user: fragment.user().unwrap_or_default(),
        reported: None,
        why: String::new(),
        at_ms: now.unix_ms,
        until_ms: now.unix_ms + HELD_MS_MAX,
    }
}

/// The refusal of a comment for which the queue has no room.
pub fn queue_full() -> Refusal {
    Refusal::Moderated {
        index: None,
        objection: Objection::QueueFull,
    }
}

/// What a moderator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is shown.
    Allow,
    /// It is not.
    Deny,
}

/// Does what a moderator decided about a comment; its position, if it has one now. Doing it again does nothing.
///
/// # Errors
/// [`Refusal`]: the log did not take it.
pub async fn decide(
    context: &Context,
    room: &RoomId,
    held: &Held,
    decision: Decision,
    now: Now,
) -> Result<Option<Seq>, Refusal> {
    let reported = held.reported.map(Seq::new);
    match (decision, reported) {
        (Decision::Allow, None) => {
            let key = IdempotencyKey::new(&format!("held-{}", held.id));
            let append = Append {
                entries: vec![EntryBody::Comment {
                    fragment: Fragment::from_log(held.body.clone()),
                    priority: match held.priority {
                        0 => Priority::Viewer,
                        1 => Priority::Member,
                        _ => Priority::Staff,
                    },
                }],
                // If the record of the decision is lost, the comment is not.
                key: key.ok().map(|key| AppendKey { poster: 0, key }),
                now_ms: now.unix_ms,
            };
            let room = context.open_room(room, None).await?;
            let appended = room.log().append(append).await?;
            context.stats.inbound.accepted(1);
            Ok(appended.seqs.first().copied())
        }
        (Decision::Deny, None) => Ok(None),
        (Decision::Allow, Some(id)) => Ok(Some(id)),
        (Decision::Deny, Some(id)) => {
            if let Some(log) = context.find_log(room).await? {
                retract(&log, id, now.unix_ms).await?;
            }
            Ok(None)
        }
    }
}

/// How long a comment waits for a moderator before it is denied, in milliseconds.
const HELD_MS_MAX: u64 = 600_000;

/// The outcome of a retraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retracted {
    /// The comment is retracted, now or earlier.
    Done,
    /// No comment ever had this id.
    NoSuchComment,
}

/// Retracts the comment `id`: the log forgets it, and viewers are notified. They are also notified of a comment that is no
/// longer held, because it may still be on their screens.
///
/// # Errors
/// [`Refusal`]: the log did not accept the retraction.
pub async fn retract(log: &RoomLog, id: Seq, now_ms: u64) -> Result<Retracted, Refusal> {
    match log.find(id).await? {
        Lookup::AboveHead | Lookup::Event => Ok(Retracted::NoSuchComment),
        Lookup::Retracted => Ok(Retracted::Done),
        Lookup::Comment | Lookup::NotHeld => {
            retract_all(log, &[id], now_ms).await?;
            Ok(Retracted::Done)
        }
    }
}

/// Retracts comments with one event.
///
/// # Errors
/// [`Refusal`]: the log did not accept the retraction.
pub async fn retract_all(log: &RoomLog, ids: &[Seq], now_ms: u64) -> Result<(), Refusal> {
    announce(log, Event::Retract { ids: ids.into() }, now_ms).await
}

/// Appends an event.
///
/// # Errors
/// [`Refusal`]: the log did not accept it.
pub async fn announce(log: &RoomLog, event: Event, now_ms: u64) -> Result<(), Refusal> {
    let append = Append {
        entries: vec![EntryBody::Event(event)],
        key: None,
        now_ms,
    };
    log.append(append).await?;
    Ok(())
}
