//! Owns how a post or a retraction gets into a room's log, from HTTP, WebSocket or the demo feed.

use std::sync::Arc;
use std::time::Duration;

use danmaku_auth::digest;
use danmaku_engine::Now;
use danmaku_log::{Append, AppendKey, Appended, EntryBody, Lookup, RoomLog};
use danmaku_wire::{Comment, Event, Fault, Field, IdempotencyKey, Problem, RoomId, Seq};

use crate::admission::AddressPermit;
use crate::auth::Author;
use crate::context::Context;
use crate::idempotency::{Claim, KeyConflict, PosterKey};
use crate::refusal::{RateScope, Refusal};
use crate::room::handle::RoomHandle;
use crate::slow_mode::{self, Turn};

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

/// Appends all of `comments` to the room's log, or none. A retry with the key of an accepted post gets the same answer as
/// the first.
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
) -> Result<Appended, Refusal> {
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
) -> Result<Appended, Refusal> {
    let claim = context
        .idempotency
        .claim(poster.key(), target.id(), &key, comments, now.monotonic);
    match claim {
        Err(KeyConflict::Reused) => Err(Refusal::KeyReused),
        Err(KeyConflict::InProgress) => Err(Refusal::KeyInProgress),
        Ok(Claim::Answered(appended)) => Ok(appended),
        Ok(Claim::Run(reservation)) => {
            let key = AppendKey {
                poster: poster.key().value(),
                key,
            };
            let appended = append(context, poster, target, comments, Some(key), now).await?;
            reservation.answer(appended.clone(), now.monotonic);
            Ok(appended)
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
) -> Result<Appended, Refusal> {
    let turn = check_settings(context, poster, target.id(), comments, now)?;
    let rate = context.config.admission.per_room;
    let appended = match target {
        Target::Open(room) => room.post(comments, key, rate, now).await?,
        Target::Named(id) => {
            let room = context.open_room(id, Some(poster.permit)).await?;
            room.post(comments, key, rate, now).await?
        }
    };
    if let Some(turn) = turn {
        turn.taken();
    }
    context.stats.inbound.accepted(comments.len());
    Ok(appended)
}

/// Checks comments against the room's settings; in slow mode, the posters' turn is over once the comments are accepted.
fn check_settings<'a>(
    context: &'a Context,
    poster: Poster<'_>,
    room: &RoomId,
    comments: &[Comment],
    now: Now,
) -> Result<Option<Turn<'a>>, Refusal> {
    let settings = context.log.records().settings(room);
    if settings.closed == Some(true) {
        return Err(Refusal::RoomClosed);
    }
    if let Some(max) = settings.text_scalars_max {
        let max = max as usize;
        let is_too_long = |comment: &Comment| comment.text.as_str().chars().nth(max).is_some();
        if let Some(index) = comments.iter().position(is_too_long) {
            return Err(Refusal::BadInput {
                index: (comments.len() > 1).then_some(index),
                problem: Problem {
                    field: Field::Text,
                    fault: Fault::TooManyScalars { max },
                },
            });
        }
    }
    let slow_s = settings.slow_mode_s.filter(|_| !poster.author.moderates());
    let Some(interval_s) = slow_s.filter(|&seconds| seconds > 0) else {
        return Ok(None);
    };
    let posters = comments.iter().map(|comment| match &comment.user {
        Some(user) => slow_mode::Poster::User(user.as_str()),
        None => slow_mode::Poster::Address(poster.permit.address()),
    });
    let interval = Duration::from_secs(interval_s.into());
    let claimed = context
        .slow_mode
        .claim(room, posters, interval, now.monotonic);
    claimed
        .map(Some)
        .map_err(|no_turn| Refusal::slow_mode(interval_s, no_turn))
}

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
