//! Owns posting comments over HTTP, reading them again, and taking them back.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use danmaku_log::{Appended, EntryBody, Page};
use danmaku_wire::limits::BODY_BYTES_MAX;
use danmaku_wire::{Epoch, IdempotencyKey, Posted, RoomId, Seq, parse_posted};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};

use super::HttpResult;
use super::cors;
use super::error::{ApiError, raw_json};
use super::query::{CommentsQuery, Since};
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::posting::{self, Target};
use crate::refusal::{RateScope, Refusal};
use crate::room::handle::Retracted;

/// `POST /v1/rooms/{room}/comments`.
pub(super) async fn post(
    context: &Arc<Context>,
    permit: &AddressPermit,
    room: &RoomId,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_origin(context, request.headers())?;
    cors::check_media_type(request.headers())?;
    let key = idempotency_key(request.headers())?;
    let body = read_body(context, request.into_body()).await?;
    // Only now: a stop waits for posts under way, not for bodies.
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    // The parser unescapes in place.
    let mut body = body.to_vec();
    let posted = parse_posted(&mut body, &context.comment_limits).map_err(|error| {
        let refusal = Refusal::BadInput {
            index: error.index,
            problem: error.problem,
        };
        context.stats.inbound.refused(&refusal);
        refusal
    })?;
    let target = Target::Named(room);
    let json = match posted {
        Posted::One(comment) => {
            let appended = posting::post(context, permit, target, &[comment], key).await?;
            id_json(&appended)
        }
        Posted::Many(comments) => {
            let appended = posting::post(context, permit, target, &comments, key).await?;
            ids_json(&appended)
        }
    };
    Ok(raw_json(StatusCode::CREATED, Bytes::from(json)))
}

/// `GET /v1/rooms/{room}/comments`.
pub(super) async fn list(context: &Arc<Context>, room: &RoomId, query: &str) -> HttpResult {
    let query = CommentsQuery::parse(query)?;
    let room = context.registry.find(room).ok_or(ApiError::RoomNotFound)?;
    let epoch = room.log().epoch();
    // A position of another epoch says nothing here: everything is new.
    let since = match query.since {
        Since::Seq(seq) => seq.min(room.log().head()),
        Since::Position(position) if position.epoch == epoch => position.seq.min(room.log().head()),
        Since::Position(_) => Seq::ZERO,
    };
    let page = room.log().read_after(since, query.limit as usize).await;
    let page = page.map_err(Refusal::from)?;
    Ok(raw_json(
        StatusCode::OK,
        Bytes::from(page_json(epoch, since, &page)),
    ))
}

/// `DELETE /v1/rooms/{room}/comments/{id}`. The caller has checked who asks.
pub(super) async fn retract(
    context: &Arc<Context>,
    permit: &AddressPermit,
    room: &RoomId,
    id: &str,
) -> HttpResult {
    let id = comment_id(id)?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let room = context.registry.find(room).ok_or(ApiError::RoomNotFound)?;
    let now = context.clock.now();
    let retracted = async {
        permit
            .try_post(now.monotonic, 1)
            .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))?;
        room.retract(id, now.unix_ms).await
    };
    let retracted = retracted
        .await
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))?;
    match retracted {
        Retracted::Done => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        Retracted::NoSuchComment => Err(ApiError::CommentNotFound),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, ApiError> {
    headers
        .get("idempotency-key")
        .map(|value| {
            let key = value.to_str().map_err(|_| ApiError::BadIdempotencyKey)?;
            IdempotencyKey::new(key).map_err(|_| ApiError::BadIdempotencyKey)
        })
        .transpose()
}

/// An id of a path: a position, so not 0.
fn comment_id(segment: &str) -> Result<Seq, ApiError> {
    segment
        .parse()
        .ok()
        .filter(|&id| id > 0 && segment.bytes().all(|byte| byte.is_ascii_digit()))
        .map(Seq::new)
        .filter(|&id| id <= Seq::MAX)
        .ok_or(ApiError::BadCommentId)
}

async fn read_body(context: &Context, body: Incoming) -> Result<Bytes, ApiError> {
    let too_large = ApiError::BodyTooLarge {
        max: BODY_BYTES_MAX,
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large);
    }
    let body = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(context.config.handshake_deadline, body).await {
        Err(_) => Err(ApiError::BodyTimeout),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large),
        Ok(Err(_)) => Err(ApiError::BodyBroken),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn id_json(appended: &Appended) -> String {
    // One comment has one position.
    let id = appended.seqs.first().copied().unwrap_or(Seq::ZERO);
    format!(r#"{{"epoch":{},"id":{id}}}"#, appended.epoch)
}

fn ids_json(appended: &Appended) -> String {
    let mut json = format!(r#"{{"epoch":{},"ids":["#, appended.epoch);
    for (index, seq) in appended.seqs.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{seq}");
    }
    json.push_str("]}");
    json
}

/// The fragments are JSON already: they are joined, not encoded again.
fn page_json(epoch: Epoch, since: Seq, page: &Page) -> Vec<u8> {
    let Page {
        after, seq, more, ..
    } = page;
    let mut json = format!(r#"{{"epoch":{epoch},"after":{after},"seq":{seq},"more":{more}"#);
    if *after > since {
        let _ = write!(json, r#","gap":{{"after":{since},"seq":{after}}}"#);
    }
    json.push_str(r#","comments":["#);
    let mut json = json.into_bytes();
    let mut events = Vec::new();
    let mut comma: &[u8] = b"";
    for entry in &page.entries {
        match &entry.body {
            EntryBody::Comment { fragment, .. } => {
                json.extend_from_slice(comma);
                fragment.object_into(entry.seq, entry.at_ms, &mut json);
                comma = b",";
            }
            EntryBody::Event(event) => {
                events.extend_from_slice(if events.is_empty() { b"" } else { b"," });
                event.logged_object_into(entry.seq, entry.at_ms, &mut events);
            }
        }
    }
    json.push(b']');
    if !events.is_empty() {
        json.extend_from_slice(b",\"events\":[");
        json.extend_from_slice(&events);
        json.push(b']');
    }
    json.push(b'}');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comment_ids() {
        fn check(segment: &str, expected: Option<u64>) {
            assert_eq!(comment_id(segment).ok().map(Seq::value), expected);
        }
        check("7", Some(7));
        check("9007199254740991", Some((1 << 53) - 1));
        for bad in [
            "",
            "0",
            "-1",
            "+7",
            "7x",
            "9007199254740992",
            "99999999999999999999",
        ] {
            check(bad, None);
        }
    }
}
