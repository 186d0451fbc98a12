//! Owns comments that wait for a moderator, over HTTP: listing, allowing, denying and reporting them.

use danmaku_auth::Principal;
use danmaku_log::{Change, ChangeError, ChangeRefusal, EntryBody, Held};
use danmaku_wire::{RoomId, Seq};
use http_body_util::Full;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::HttpResult;
use super::access;
use super::audit::{self, Action};
use super::cors;
use super::error::{ApiError, held_json, json};
use super::pin;
use super::query;
use super::route;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::posting::{self, Decision, Poster};
use crate::refusal::Refusal;

/// `GET /v1/rooms/{room}/held`, the oldest first. The caller has checked that the client may do this.
pub(super) fn list(context: &Context, permit: &AddressPermit, room: &RoomId) -> HttpResult {
    let now_ms = context.clock.now().unix_ms;
    let held = context.log.records().held(room, now_ms);
    let page = Page {
        held: held.iter().filter_map(|held| View::of(held)).collect(),
    };
    let json = serde_json::to_vec(&page).expect("invariant: comments have string keys only");
    let answer = context.hold_answer(permit, json.len())?;
    Ok(held_json(json, answer))
}

/// `POST /v1/rooms/{room}/held/{id}/allow` and `…/deny`. The caller has checked that the client may do this.
pub(super) async fn decide(
    context: &Context,
    who: &Principal,
    room: &RoomId,
    (id, decision): (&str, Decision),
    query: &str,
) -> HttpResult {
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let _alone = context.moderation.deciding.lock().await;
    let now = context.clock.now();
    let held = context.log.records().held(room, now.unix_ms);
    let held = held.iter().find(|held| held.id.to_string() == id);
    let held = held.ok_or(ApiError::HeldNotFound)?;
    let action = match decision {
        Decision::Allow => Action::Allow,
        Decision::Deny => Action::Deny,
    };
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        action,
        Some(room),
        &held.user,
    )?;
    let id = posting::decide(context, room, held, decision, now).await?;
    if let (Decision::Deny, Some(reported)) = (decision, held.reported)
        && let Some(log) = context.find_log(room).await?
    {
        pin::retracted(context, room, log.epoch(), &[Seq::new(reported)]).await?;
    }
    let change = Change::Decide {
        room: held.room.clone(),
        id: held.id,
    };
    context.log.records().change(change, Some(audit)).await?;
    Ok(json(
        StatusCode::OK,
        &Decided {
            id: id.map(Seq::value),
        },
    ))
}

/// `POST /v1/rooms/{room}/comments/{id}/reports`. A comment is in the queue once, however many report it. The caller has
/// checked that the client may post in the room.
pub(super) async fn report(
    context: &Context,
    (permit, who): (&AddressPermit, &Principal),
    room: &RoomId,
    id: &str,
    query: &str,
    headers: &HeaderMap,
) -> HttpResult {
    cors::check_origin(context, headers)?;
    let id = route::comment_id(id)?;
    let why = query::why(query)?;
    let now = context.clock.now();
    let identity = access::identity(who, room)?;
    let author = access::author(who, identity.as_ref());
    let poster = Poster { permit, author };
    let allowed = poster
        .charge(context, 1, now)
        .and_then(|()| poster.check_sanctions(context, room, now));
    allowed.inspect_err(|refusal| context.stats.inbound.refused(refusal))?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let log = context.find_log(room).await?;
    let log = log.ok_or(ApiError::RoomNotFound)?;
    let page = log
        .read_after(id.previous(), 1)
        .await
        .map_err(Refusal::from)?;
    let entry = page.entries.into_iter().find(|entry| entry.seq == id);
    let Some(EntryBody::Comment { fragment, priority }) = entry.map(|entry| entry.body) else {
        return Err(ApiError::CommentNotFound);
    };
    let records = context.log.records();
    let known = records.held(room, now.unix_ms);
    if !known.iter().any(|held| held.reported == Some(id.value())) {
        let mut held = posting::held(room, &fragment, priority, now);
        held.reported = Some(id.value());
        held.why = why;
        let change = Change::Hold(held);
        records
            .change(change, None)
            .await
            .map_err(|error| match error {
                ChangeError::Refused(ChangeRefusal::TooMany { .. }) => posting::queue_full().into(),
                other => ApiError::from(other),
            })?;
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// Drops reports of a comment that was retracted, with its text.
///
/// # Errors
/// [`ApiError::Refused`]: a report is still there; a repeated retraction removes it.
pub(super) async fn retracted(context: &Context, room: &RoomId, id: Seq) -> Result<(), ApiError> {
    let records = context.log.records();
    let waiting = records.held(room, context.clock.now().unix_ms);
    let reports = waiting.iter().filter(|it| it.reported == Some(id.value()));
    for report in reports {
        let change = Change::Decide {
            room: report.room.clone(),
            id: report.id,
        };
        match records.change(change, None).await {
            // Somebody has decided meanwhile.
            Ok(_) | Err(ChangeError::Refused(ChangeRefusal::NotFound)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Decided {
    /// The comment's position, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
}

#[derive(Serialize)]
struct Page<'a> {
    held: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    id: u64,
    ts: u64,
    until: u64,
    cause: &'static str,
    /// The position of one that was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    reported: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    why: &'a str,
    comment: Box<RawValue>,
}

impl<'a> View<'a> {
    fn of(held: &'a Held) -> Option<Self> {
        let members = std::str::from_utf8(&held.body).ok()?;
        Some(Self {
            id: held.id,
            ts: held.at_ms,
            until: held.until_ms,
            cause: if held.reported.is_some() {
                "report"
            } else {
                "term"
            },
            reported: held.reported,
            why: &held.why,
            comment: RawValue::from_string(format!("{{{members}}}")).ok()?,
        })
    }
}
