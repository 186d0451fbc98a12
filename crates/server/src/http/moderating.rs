//! Owns who may moderate over HTTP: in a room those who moderate it, everywhere operators.

use danmaku_wire::RoomId;
use hyper::body::Incoming;
use hyper::{Method, Request};

use super::error::ApiError;
use super::route::Route;
use super::{Asker, HttpResult, access, held, sanctions, terms};
use crate::context::Context;

/// Handles a moderator's request.
pub(super) async fn route(
    context: &Context,
    asker: &Asker<'_>,
    (route, query): (&Route, &str),
    request: Request<Incoming>,
) -> HttpResult {
    let check = |room: Option<&RoomId>| {
        let who = (asker.peer, &asker.principal);
        match room {
            Some(room) => access::check_moderator(context, who, room, request.headers()),
            None => access::check_operator(context, who, request.headers()),
        }
    };
    let permit = asker.requester.permit();
    let who = &asker.principal;
    match route {
        Route::Terms(room) => {
            let room = room.as_ref();
            check(room)?;
            if *request.method() == Method::PUT {
                terms::replace(context, (permit, who), room, query, request).await
            } else {
                terms::show(context, permit, room)
            }
        }
        Route::Held(room) => {
            check(Some(room))?;
            held::list(context, permit, room)
        }
        Route::Decision(room, id, decision) => {
            check(Some(room))?;
            held::decide(context, who, room, (id, *decision), query).await
        }
        Route::Sanctions(room) => {
            let room = room.as_ref();
            check(room)?;
            if *request.method() == Method::POST {
                sanctions::impose(context, (permit, who), room, query, request).await
            } else {
                sanctions::list(context, permit, room, query)
            }
        }
        Route::Sanction(room, id) => {
            let room = room.as_ref();
            check(room)?;
            sanctions::lift(context, (permit, who), room, id, query).await
        }
        _ => Err(ApiError::NotFound),
    }
}
