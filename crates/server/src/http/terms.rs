//! Owns lists of blocked terms over HTTP.

use danmaku_auth::Principal;
use danmaku_log::Change;
use danmaku_wire::RoomId;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::Serialize;

use super::HttpResult;
use super::access;
use super::audit::{self, Action};
use super::body::read_body_up_to;
use super::cors;
use super::error::{ApiError, held_json, json};
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::moderation::{BadTerms, TermList};
use crate::refusal::Refusal;

/// `GET /v1/rooms/{room}/terms` and `GET /v1/terms`. The caller has checked that the client may do this.
pub(super) fn show(context: &Context, permit: &AddressPermit, room: Option<&RoomId>) -> HttpResult {
    let terms = context.log.records().terms(room);
    let json = terms.map_or_else(|| b"[]".to_vec(), |terms| terms.as_bytes().to_vec());
    let held = context.hold_answer(permit, json.len())?;
    Ok(held_json(json, held))
}

/// `PUT` of the same: replaces the list. The caller has checked that the client may do this.
pub(super) async fn replace(
    context: &Context,
    (permit, who): (&AddressPermit, &Principal),
    room: Option<&RoomId>,
    query: &str,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_media_type(request.headers())?;
    let max = TERMS_BYTES_MAX;
    let (body, held) = read_body_up_to(context, permit, request.into_body(), max).await?;
    // This thread's other tasks go on elsewhere meanwhile.
    let parsed = tokio::task::block_in_place(|| TermList::parse(&body));
    let list = parsed.map_err(|BadTerms { index, problem }| ApiError::BadMember {
        code: "bad_terms",
        field: None,
        index,
        problem,
    })?;
    drop((body, held));
    if list.text.len() > TERMS_BYTES_MAX {
        return Err(ApiError::BodyTooLarge {
            max: TERMS_BYTES_MAX,
        });
    }
    let terms = list.count;
    let target = format!("{terms} terms");
    let audit = audit::entry(
        context,
        (query, access::name(who)),
        Action::Terms,
        room,
        &target,
    )?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let _alone = context.moderation.terms.replacing.lock().await;
    let change = Change::SetTerms {
        room: room.map(|room| room.as_str().to_owned()),
        body: list.text.clone(),
    };
    context.log.records().change(change, Some(audit)).await?;
    context.moderation.terms.replace(room, list);
    Ok(json(StatusCode::OK, &Replaced { terms }))
}

#[derive(Serialize)]
struct Replaced {
    terms: usize,
}

/// The longest list, in bytes of JSON: 50,000 terms of 13 Chinese characters.
const TERMS_BYTES_MAX: usize = 4 << 20;
