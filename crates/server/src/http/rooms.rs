//! Owns the views of rooms.

use danmaku_wire::RoomId;
use hyper::StatusCode;
use serde::Serialize;

use super::HttpResult;
use super::error::{ApiError, json};
use super::query::RoomsQuery;
use crate::context::Context;
use crate::room::handle::RoomHandle;

/// `GET /v1/rooms`.
pub(super) fn list(context: &Context, query: &str) -> HttpResult {
    let query = RoomsQuery::parse(query)?;
    let rooms = context
        .registry
        .list(query.after.as_ref(), query.limit as usize);
    let list = List {
        total: context.registry.len(),
        rooms: rooms.iter().map(|room| View::new(room)).collect(),
    };
    Ok(json(StatusCode::OK, &list))
}

/// `GET /v1/rooms/{room}`.
pub(super) fn show(context: &Context, room: &RoomId) -> HttpResult {
    let room = context.registry.find(room).ok_or(ApiError::RoomNotFound)?;
    Ok(json(StatusCode::OK, &View::new(&room)))
}

#[derive(Serialize)]
struct List<'a> {
    total: usize,
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
    fn new(room: &'a RoomHandle) -> Self {
        let view = room.view();
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
