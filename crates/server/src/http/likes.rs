//! Owns likes from clients without a WebSocket.

use std::sync::Arc;

use danmaku_auth::{Action, Principal};
use danmaku_wire::{RoomId, parse_like};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::HttpResult;
use super::access;
use super::body::read_body;
use super::cors;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::posting::Poster;
use crate::refusal::Refusal;

/// `POST /v1/rooms/{room}/likes`.
pub(super) async fn post(
    context: &Arc<Context>,
    (permit, principal): (&AddressPermit, &Principal),
    room: &RoomId,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_origin(context, request.headers())?;
    cors::check_media_type(request.headers())?;
    access::check(context, principal, room, Action::Post)?;
    let identity = access::identity(principal, room)?;
    let author = access::author(principal, identity.as_ref());
    let (mut body, _held) = read_body(context, permit, request.into_body()).await?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let liked = async {
        let count = parse_like(&mut body, &context.comment_limits).map_err(|problem| {
            Refusal::BadInput {
                index: None,
                problem,
            }
        })?;
        Poster { permit, author }.charge(context, 1, context.clock.now())?;
        let room = context.open_room(room, Some(permit)).await?;
        room.like(count.get());
        Ok(())
    };
    liked
        .await
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
