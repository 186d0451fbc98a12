//! Owns the audit trail: what operators did, and why.

use danmaku_log::{Audit, Change};
use danmaku_wire::RoomId;
use serde::Serialize;

use super::HttpResult;
use super::error::{ApiError, held_json};
use super::query;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::refusal::Refusal;

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Change settings.
    Settings,
    /// Keep somebody from posting for a time.
    Timeout,
    /// Ban somebody.
    Ban,
    /// Lift a sanction.
    Lift,
    /// Replace blocked terms.
    Terms,
    /// Allow a comment that was held.
    Allow,
    /// Deny a comment that was held.
    Deny,
    /// Retract a comment.
    Retract,
    /// Retract all of a user's comments.
    Erase,
    /// Revoke tokens.
    Revoke,
    /// Lift a revocation.
    LiftRevocation,
    /// Say when a stream began.
    BeginStream,
    /// Say when a stream ended.
    EndStream,
    /// Correct a stream's title or start.
    UpdateStream,
    /// Pin a comment.
    Pin,
    /// Remove the pin.
    Unpin,
}

impl Action {
    /// Its word in the audit trail.
    fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Timeout => "timeout",
            Self::Ban => "ban",
            Self::Lift => "lift",
            Self::Terms => "terms",
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Retract => "retract",
            Self::Erase => "erase",
            Self::Revoke => "revoke",
            Self::LiftRevocation => "lift_revocation",
            Self::BeginStream => "begin_stream",
            Self::EndStream => "end_stream",
            Self::UpdateStream => "update_stream",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
        }
    }
}

/// An entry for something that is about to be done; `why` is in the query, and `who` is the one who does it.
///
/// # Errors
/// [`ApiError::BadWhy`].
pub(super) fn entry(
    context: &Context,
    (query, who): (&str, &str),
    action: Action,
    room: Option<&RoomId>,
    target: &str,
) -> Result<Audit, ApiError> {
    Ok(Audit {
        id: 0,
        at_ms: context.clock.now().unix_ms,
        who: who.to_owned(),
        what: action.as_str().to_owned(),
        room: room.map(|room| room.as_str().to_owned()),
        target: target.to_owned(),
        why: query::why(query)?,
    })
}

/// Records what was done to a log, which has no record of its own.
///
/// # Errors
/// [`ApiError::Refused`]: it was done, but the trail does not have it; a repeated request records it.
pub(super) async fn record(context: &Context, entry: Audit) -> Result<(), ApiError> {
    let records = context.log.records();
    records.change(Change::Nothing, Some(entry)).await?;
    Ok(())
}

/// `GET /v1/audit`. The caller has checked that the client may do this.
pub(super) async fn list(context: &Context, permit: &AddressPermit, query: &str) -> HttpResult {
    let mut wanted = query::audit(query)?;
    let limit = wanted.limit as usize;
    // One extra, to know whether there are more.
    wanted.limit += 1;
    let mut found = context
        .log
        .records()
        .audit(wanted)
        .await
        .map_err(Refusal::from)?;
    let more = found.len() > limit;
    found.truncate(limit);
    let page = Page {
        next: more.then(|| found.last()).flatten().map(|last| last.id),
        entries: found.iter().map(Entry::new).collect(),
    };
    let json = serde_json::to_vec(&page).expect("invariant: entries have string keys only");
    let held = context.hold_answer(permit, json.len())?;
    Ok(held_json(json, held))
}

#[derive(Serialize)]
struct Page<'a> {
    entries: Vec<Entry<'a>>,
    /// The `before` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: u64,
    ts: u64,
    who: &'a str,
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    target: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
}

impl<'a> Entry<'a> {
    fn new(entry: &'a Audit) -> Self {
        Self {
            id: entry.id,
            ts: entry.at_ms,
            who: &entry.who,
            action: &entry.what,
            room: entry.room.as_deref(),
            target: &entry.target,
            why: &entry.why,
        }
    }
}
