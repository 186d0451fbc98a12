//! Owns the request for a stream of Server-Sent Events (WHATWG HTML, section 9.2).

use std::str::FromStr;

use danmaku_wire::{Dialect, Position, RoomId};
use hyper::Request;

use super::error::ApiError;
use super::negotiation::takes_gzip;
use super::{Asker, Watch, query, room_to_watch, viewer_identity};
use crate::context::Context;

/// `GET /v1/rooms/{room}/events`. The viewer's shard writes the response, headers included.
pub(super) async fn watch<B>(
    context: &Context,
    asker: Asker<'_>,
    room: &RoomId,
    request: &Request<B>,
) -> Result<Watch, ApiError> {
    let mut start = query::start(request.uri().query().unwrap_or(""))?;
    let last_event_id = request.headers().get("last-event-id");
    // An empty id comes from a stream that has had none (WHATWG HTML, section 9.2.4).
    if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
        // When a browser reconnects, its latest position counts, not the one in its URL.
        let position = id.to_str().ok().and_then(|id| Position::from_str(id).ok());
        start.since = Some(position.ok_or(ApiError::BadLastEventId)?);
    }
    let dialect = if takes_gzip(request.headers()) {
        Dialect::SseGzip
    } else {
        Dialect::SseIdentity
    };
    Ok(Watch {
        identity: viewer_identity(context, &asker.principal, room)?,
        room: room_to_watch(context, &asker.requester, room).await?,
        dialect,
        opening: dialect.opening().unwrap_or_default(),
        start,
        // An event stream cannot post.
        origin: Ok(()),
        forwarded: asker.requester.into_forwarded(),
    })
}
