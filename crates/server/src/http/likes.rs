//! Owns likes from clients without a WebSocket.

use std::sync::Arc;

use danmaku_wire::{RoomId, parse_like};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};

use super::HttpResult;
use super::body::read_body;
use super::cors;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::refusal::{RateScope, Refusal};

/// `POST /v1/rooms/{room}/likes`.
pub(super) async fn post(
    context: &Arc<Context>,
    permit: &AddressPermit,
    room: &RoomId,
    request: Request<Incoming>,
) -> HttpResult {
    cors::check_origin(context, request.headers())?;
    cors::check_media_type(request.headers())?;
    let (mut body, _held) = read_body(context, permit, request.into_body()).await?;
    let _inside = context.gate.enter().ok_or(Refusal::Stopping)?;
    let liked = async {
        let count = parse_like(&mut body, &context.comment_limits).map_err(|problem| {
            Refusal::BadInput {
                index: None,
                problem,
            }
        })?;
        permit
            .try_post(context.clock.now().monotonic, 1)
            .map_err(|refusal| Refusal::rate(RateScope::Address, refusal))?;
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
