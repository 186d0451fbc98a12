//! Owns posting comments over HTTP and reading them again.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use danmaku_log::{Appended, Page};
use danmaku_wire::limits::BODY_BYTES_MAX;
use danmaku_wire::{Comment, Epoch, Posted, RoomId, Seq, parse_posted};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response, StatusCode};

use super::Answer;
use super::error::{ApiError, raw_json};
use super::idempotency::Claim;
use super::query::{CommentsQuery, Since};
use crate::admission::ConnectionPermit;
use crate::context::Context;

/// `POST /v1/rooms/{room}/comments`.
pub(super) async fn post(
    context: &Arc<Context>,
    permit: &ConnectionPermit,
    room: &RoomId,
    request: Request<Incoming>,
) -> Answer {
    let key = request.headers().get("idempotency-key").cloned();
    let body = read_body(context, request.into_body()).await?;
    // Only now: a stop waits for posts under way, not for bodies.
    let _posting = context.begin_post().ok_or(ApiError::Stopping)?;
    let Some(key) = key else {
        let body = accept(context, permit, room, &body).await?;
        return Ok(created(body));
    };
    let now = context.clock.now().monotonic;
    match context
        .idempotency
        .claim(room, key.as_bytes(), &body, now)?
    {
        Claim::Answered(body) => Ok(created(body)),
        Claim::Run(reservation) => {
            let body = accept(context, permit, room, &body).await?;
            reservation.answer(body.clone(), now);
            Ok(created(body))
        }
    }
}

/// `GET /v1/rooms/{room}/comments`.
pub(super) async fn list(context: &Arc<Context>, room: &RoomId, query: &str) -> Answer {
    let query = CommentsQuery::parse(query)?;
    let room = context.rooms.find(room).ok_or(ApiError::RoomNotFound)?;
    let epoch = room.log().epoch();
    // Another numbering's position says nothing here: everything is new.
    let since = match query.since {
        Since::Seq(seq) => seq.min(room.log().head()),
        Since::Position(position) if position.epoch == epoch => position.seq.min(room.log().head()),
        Since::Position(_) => Seq::ZERO,
    };
    let page = room.log().read_after(since, query.limit as usize).await;
    Ok(raw_json(
        StatusCode::OK,
        Bytes::from(page_json(epoch, since, &page)),
    ))
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

/// Takes the body's comments, all or none; the answer's JSON.
async fn accept(
    context: &Arc<Context>,
    permit: &ConnectionPermit,
    room: &RoomId,
    body: &[u8],
) -> Result<Bytes, ApiError> {
    // The parser unescapes in place.
    let mut body = body.to_vec();
    let posted = parse_posted(&mut body, &context.comment_limits).map_err(|error| {
        context.stats.inbound.rejected();
        ApiError::BadComment {
            index: error.index,
            problem: error.problem,
        }
    })?;
    match posted {
        Posted::One(comment) => {
            let appended = append(context, permit, room, &[comment]).await?;
            let (epoch, id) = (appended.epoch.value(), appended.first.value());
            Ok(Bytes::from(format!(r#"{{"epoch":{epoch},"id":{id}}}"#)))
        }
        Posted::Many(comments) => {
            let appended = append(context, permit, room, &comments).await?;
            Ok(Bytes::from(ids_json(&appended)))
        }
    }
}

async fn append(
    context: &Arc<Context>,
    permit: &ConnectionPermit,
    room: &RoomId,
    comments: &[Comment],
) -> Result<Appended, ApiError> {
    let admission = &context.config.admission;
    let now = context.clock.now().monotonic;
    let count = u32::try_from(comments.len()).unwrap_or(u32::MAX);
    permit.try_post(now, count).map_err(|refusal| {
        context.stats.inbound.rate_limited();
        ApiError::rate(refusal, "too many comments from this address")
    })?;
    let room = context.open_room(room)?;
    let appended = room
        .post(comments, admission.per_room, now)
        .await
        .inspect_err(|error| context.stats.inbound.refused(error))?;
    context.stats.inbound.accepted(appended.count);
    Ok(appended)
}

fn created(body: Bytes) -> Response<Full<Bytes>> {
    raw_json(StatusCode::CREATED, body)
}

fn ids_json(appended: &Appended) -> String {
    let mut json = format!(r#"{{"epoch":{},"ids":["#, appended.epoch.value());
    for (index, seq) in appended.seqs().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{}", seq.value());
    }
    json.push_str("]}");
    json
}

/// The fragments are JSON already: they are joined, not encoded again.
fn page_json(epoch: Epoch, since: Seq, page: &Page) -> Vec<u8> {
    let last = page.entries.last().map_or(since, |entry| entry.seq);
    let mut json = format!(
        r#"{{"epoch":{},"last":{},"more":{}"#,
        epoch.value(),
        last.value(),
        page.more
    );
    if let Some((from, to)) = page.missing {
        let _ = write!(
            json,
            r#","gap":{{"from":{},"to":{}}}"#,
            from.value(),
            to.value()
        );
    }
    json.push_str(r#","comments":["#);
    let mut json = json.into_bytes();
    for (index, entry) in page.entries.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        entry.fragment.object_into(entry.seq, &mut json);
    }
    json.extend_from_slice(b"]}");
    json
}
