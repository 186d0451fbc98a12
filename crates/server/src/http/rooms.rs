//! Owns the views of rooms.

use std::time::Duration;

use danmaku_wire::RoomId;
use hyper::StatusCode;
use serde::Serialize;

use super::HttpResult;
use super::error::{ApiError, held_json, json};
use super::query::RoomsQuery;
use crate::admission::AddressPermit;
use crate::context::Context;
use crate::refusal::Refusal;
use crate::room::handle::RoomHandle;

/// `GET /v1/rooms`.
pub(super) fn list(context: &Context, permit: &AddressPermit, query: &str) -> HttpResult {
    let query = RoomsQuery::parse(query)?;
    let limit = (query.limit as usize).min(ROOMS_PER_PAGE_MAX);
    // One extra, to know whether there are more.
    let mut rooms = context.registry.list(query.after.as_ref(), limit + 1);
    let mut bytes = LIST_HEAD_BYTES_MAX;
    let mut fitting = 0;
    for room in rooms.iter().take(limit) {
        let view = room.id().as_str().len() + VIEW_BYTES_MAX;
        if bytes + view > PAGE_BYTES_MAX {
            break;
        }
        bytes += view;
        fitting += 1;
    }
    let more = rooms.len() > fitting;
    rooms.truncate(fitting);
    let held = context.hold_answer(permit, bytes)?;
    let now = context.clock.now().monotonic;
    let list = List {
        total: context.registry.len(),
        more,
        next: more
            .then(|| rooms.last())
            .flatten()
            .map(|room| room.id().as_str()),
        rooms: rooms.iter().map(|room| View::new(room, now)).collect(),
    };
    let mut json = Vec::with_capacity(bytes);
    serde_json::to_writer(&mut json, &list).expect("invariant: views have string keys only");
    Ok(held_json(json, held))
}

/// `GET /v1/rooms/{room}`.
pub(super) async fn show(context: &Context, room: &RoomId) -> HttpResult {
    if let Some(room) = context.registry.find(room) {
        return Ok(json(
            StatusCode::OK,
            &View::new(&room, context.clock.now().monotonic),
        ));
    }
    let log = context.log.find(room).await.map_err(Refusal::from)?;
    let log = log.ok_or(ApiError::RoomNotFound)?;
    // Nobody watches it, so nothing waits to be sealed.
    let view = View {
        room: room.as_str(),
        epoch: log.epoch().value(),
        seq: log.head().value(),
        sealed: log.head().value(),
        viewers: 0,
        likes: 0,
    };
    Ok(json(StatusCode::OK, &view))
}

#[derive(Serialize)]
struct List<'a> {
    total: usize,
    more: bool,
    /// The `after` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
    rooms: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    room: &'a str,
    epoch: u64,
    /// The last position in the room's log.
    seq: u64,
    /// The last position in a sealed frame.
    sealed: u64,
    viewers: u32,
    likes: u64,
}

impl<'a> View<'a> {
    fn new(room: &'a RoomHandle, now: Duration) -> Self {
        let view = room.view(now);
        Self {
            room: room.id().as_str(),
            epoch: view.epoch.value(),
            seq: view.head.value(),
            sealed: view.sealed.value(),
            viewers: view.viewers,
            likes: view.likes,
        }
    }
}

/// Maximum bytes of one response: a page of rooms or comments ends there and sets `more`.
pub(super) const PAGE_BYTES_MAX: usize = 256 << 10;

/// Bytes around the rooms of a list: names, a number, and an id of 64 bytes.
const LIST_HEAD_BYTES_MAX: usize = 160;

/// A view without its room's id: names, and five numbers of at most 20 digits.
const VIEW_BYTES_MAX: usize = 170;

/// No response has room for more.
const ROOMS_PER_PAGE_MAX: usize = PAGE_BYTES_MAX / VIEW_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_cover_the_longest() {
        let room = "r".repeat(64);
        let view = View {
            room: "",
            epoch: u64::MAX,
            seq: u64::MAX,
            sealed: u64::MAX,
            viewers: u32::MAX,
            likes: u64::MAX,
        };
        // And a comma.
        assert!(serde_json::to_vec(&view).unwrap().len() < VIEW_BYTES_MAX);
        let list = List {
            total: usize::MAX,
            more: false,
            next: Some(&room),
            rooms: Vec::new(),
        };
        assert!(serde_json::to_vec(&list).unwrap().len() <= LIST_HEAD_BYTES_MAX);
    }
}
