//! Owns the comment that a room shows above all others.

use danmaku_auth::Principal;
use danmaku_log::{Change, ChangeError, ChangeRefusal, EntryBody, Lookup, Pin, RoomLog};
use danmaku_wire::{Epoch, Event, Fault, Field, Problem, RoomId, Seq};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};

use super::HttpResult;
use super::access;
use super::audit::{self, Action};
use super::body::read_body;
use super::cors;
use super::error::{ApiError, json};
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::posting;
use crate::refusal::{RateScope, Refusal};

/// `GET /v1/rooms/{room}/pin`.
pub(super) async fn show(context: &Context, room: &RoomId) -> HttpResult {
    let log = context
        .find_log(room)
        .await?
        .ok_or(ApiError::RoomNotFound)?;
    let records = context.log.records().of_room(room);
    let now_ms = context.clock.now().unix_ms;
    let pin = records.as_ref().and_then(|records| records.pin(now_ms));
    // A pin of another epoch names another comment.
    let pin = pin.filter(|pin| pin.epoch == log.epoch().value());
    let pin = pin.ok_or(ApiError::PinNotFound)?;
    Ok(json(StatusCode::OK, &View::new(pin)))
}

/// `POST` of the same. The caller has checked that the client may do this.
pub(super) async fn set(
    context: &Context,
    (permit, who): (&AddressPermit, &Principal),
    room: &RoomId,
    query: &str,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_media_type(request.headers())?;
    let (body, _held) = read_body(context, permit, request.into_body()).await?;
    let Wanted {
        comment,
        duration_ms,
    } = Wanted::parse(&body)?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let now = charge(context, permit)?;
    let log = context
        .find_log(room)
        .await?
        .ok_or(ApiError::RoomNotFound)?;
    let target = comment.value().to_string();
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        Action::Pin,
        Some(room),
        &target,
    )?;
    let pin = Pin {
        epoch: log.epoch().value(),
        seq: comment.value(),
        body: comment_json(&log, comment).await?,
        until_ms: duration_ms.map(|duration| now + duration),
        by: audit.who.clone(),
        at_ms: now,
    };
    let change = Change::Pin {
        room: room.as_str().to_owned(),
        pin: pin.clone(),
    };
    let records = context.log.records();
    records.change(change, Some(audit)).await?;
    // It may have been retracted meanwhile.
    if log.find(comment).await.map_err(Refusal::from)? != Lookup::Comment {
        retracted(context, room, log.epoch(), &[comment]).await?;
        return Err(ApiError::CommentNotFound);
    }
    let event = Event::Pin {
        comment,
        until_ms: pin.until_ms,
    };
    posting::announce(&log, event, now).await?;
    Ok(json(StatusCode::OK, &View::new(&pin)))
}

/// `DELETE` of the same. The caller has checked that the client may do this.
pub(super) async fn remove(
    context: &Context,
    (permit, who): (&AddressPermit, &Principal),
    room: &RoomId,
    query: &str,
) -> HttpResult {
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let now = charge(context, permit)?;
    let log = context
        .find_log(room)
        .await?
        .ok_or(ApiError::RoomNotFound)?;
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let records = context.log.records();
    let known = records.of_room(room);
    if known.is_none_or(|known| known.pin(now).is_none()) {
        return Ok(response);
    }
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        Action::Unpin,
        Some(room),
        "",
    )?;
    // First, so that a repeated request does what this one could not.
    posting::announce(&log, Event::Unpin, now).await?;
    let change = Change::Unpin {
        room: room.as_str().to_owned(),
    };
    match records.change(change, Some(audit)).await {
        Ok(_) | Err(ChangeError::Refused(ChangeRefusal::NotFound)) => Ok(response),
        Err(error) => Err(error.into()),
    }
}

/// Forgets the pin if it is of one of these comments, which were retracted.
///
/// # Errors
/// [`ApiError::Refused`]: the pin is still there; a repeated retraction removes it.
pub(super) async fn retracted(
    context: &Context,
    room: &RoomId,
    epoch: Epoch,
    ids: &[Seq],
) -> Result<(), ApiError> {
    let records = context.log.records();
    let is_pinned = records.of_room(room).is_some_and(|found| {
        let pin = found.pin(0);
        pin.is_some_and(|pin| {
            pin.epoch == epoch.value() && ids.iter().any(|id| id.value() == pin.seq)
        })
    });
    if !is_pinned {
        return Ok(());
    }
    let change = Change::Unpin {
        room: room.as_str().to_owned(),
    };
    match records.change(change, None).await {
        Ok(_) | Err(ChangeError::Refused(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Charges an action to the client's address; returns the time.
fn charge(context: &Context, permit: &AddressPermit) -> Result<u64, Refusal> {
    let now = context.clock.now();
    permit
        .try_post(now.monotonic, 1)
        .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))?;
    Ok(now.unix_ms)
}

/// The comment as `GET …/comments` shows it.
async fn comment_json(log: &RoomLog, id: Seq) -> Result<Vec<u8>, ApiError> {
    let page = log.read_after(id.previous(), 1).await;
    let page = page.map_err(Refusal::from)?;
    match page.entries.first() {
        Some(entry) if entry.seq == id => match &entry.body {
            EntryBody::Comment { fragment, .. } => {
                let mut json = Vec::new();
                fragment.object_into(id, entry.at_ms, &mut json);
                Ok(json)
            }
            EntryBody::Event(_) => Err(ApiError::CommentNotFound),
        },
        _ => Err(ApiError::CommentNotFound),
    }
}

/// What is to be pinned.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    comment: Seq,
    duration_ms: Option<u64>,
}

impl Wanted {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let members: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
            let fault = if error.is_data() {
                Fault::WrongType
            } else {
                Fault::Invalid
            };
            Refusal::BadInput {
                index: None,
                problem: Problem {
                    field: Field::Json,
                    fault,
                },
            }
        })?;
        let comment = members.get("id").and_then(Value::as_u64);
        let comment = comment.filter(|id| (1..=Seq::MAX.value()).contains(id));
        let duration_ms = match members.get("duration_s") {
            None | Some(Value::Null) => None,
            Some(given) => {
                let seconds = given.as_u64();
                let seconds = seconds.filter(|it| (1..=u64::from(DURATION_S_MAX)).contains(it));
                let seconds = seconds.ok_or(ApiError::BadDuration {
                    max: DURATION_S_MAX,
                })?;
                Some(seconds * 1_000)
            }
        };
        Ok(Self {
            comment: Seq::new(comment.ok_or(ApiError::BadCommentId { field: "id" })?),
            duration_ms,
        })
    }
}

#[derive(Serialize)]
struct View<'a> {
    comment: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    by: &'a str,
    at: u64,
}

impl<'a> View<'a> {
    fn new(pin: &'a Pin) -> Self {
        Self {
            comment: serde_json::from_slice(&pin.body)
                .expect("invariant: the comment was written as JSON"),
            until: pin.until_ms,
            by: &pin.by,
            at: pin.at_ms,
        }
    }
}

/// How long a pin can last: 14 days.
const DURATION_S_MAX: u32 = 14 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_pins() {
        #[track_caller]
        fn check(body: &str, expected: Result<(u64, Option<u64>), &str>) {
            let found = Wanted::parse(body.as_bytes());
            let found = found.map(|it| (it.comment.value(), it.duration_ms));
            assert_eq!(
                found.as_ref().map_err(ApiError::code),
                expected.as_ref().map_err(|it| *it)
            );
        }
        check(r#"{"id":7}"#, Ok((7, None)));
        check(r#"{"id":7,"duration_s":60}"#, Ok((7, Some(60_000))));
        check("{}", Err("bad_comment_id"));
        check(r#"{"id":0}"#, Err("bad_comment_id"));
        check(r#"{"id":"7"}"#, Err("bad_comment_id"));
        check(r#"{"id":9007199254740992}"#, Err("bad_comment_id"));
        check(r#"{"id":7,"duration_s":0}"#, Err("bad_duration"));
        check(r#"{"id":7,"duration_s":1209601}"#, Err("bad_duration"));
        check(r#"{"id":7,"duration_s":"1"}"#, Err("bad_duration"));
        check("[7]", Err("json_wrong_type"));
        check("{", Err("json_invalid"));
    }
}
