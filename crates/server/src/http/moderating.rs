//! Owns what moderators and operators do over HTTP, each after a check that the client may: in a room those who moderate it,
//! everywhere operators.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request};

use super::error::ApiError;
use super::route::Route;
use super::{
    Asker, HttpResult, access, audit, comments, held, pin, revocations, sanctions, settings,
    streams, terms, users,
};
use crate::context::Context;

/// Handles such a request.
pub(super) async fn route(
    context: &Arc<Context>,
    asker: &Asker<'_>,
    (route, query): (&Route, &str),
    request: Request<Incoming>,
) -> HttpResult {
    let (method, headers) = (request.method(), request.headers());
    let (permit, who) = (asker.requester.permit(), &asker.principal);
    let by = (permit, who);
    match route.moderated_room() {
        Some(room) => access::check_moderator(context, (asker.peer, who), room, headers)?,
        None => access::check_operator(context, (asker.peer, who), headers)?,
    }
    match route {
        Route::Comment(room, id) => comments::retract(context, by, room, id, query).await,
        Route::Pin(room) if method == Method::DELETE => pin::remove(context, by, room, query).await,
        Route::Pin(room) => pin::set(context, by, room, query, request).await,
        Route::Streams(room) => streams::begin(context, by, (room, query), request).await,
        Route::Stream(room, id) => streams::update(context, by, (room, id, query), request).await,
        Route::Settings(room) if method == Method::PATCH => {
            settings::update(context, by, room.as_ref(), query, request).await
        }
        Route::Settings(room) => Ok(settings::show(context, room.as_ref())),
        Route::Terms(room) if method == Method::PUT => {
            terms::replace(context, by, room.as_ref(), query, request).await
        }
        Route::Terms(room) => terms::show(context, permit, room.as_ref()),
        Route::Held(room) => held::list(context, permit, room),
        Route::Decision(room, id, decision) => {
            held::decide(context, who, room, (id, *decision), query).await
        }
        Route::Sanctions(room) if method == Method::POST => {
            sanctions::impose(context, by, room.as_ref(), query, request).await
        }
        Route::Sanctions(room) => sanctions::list(context, permit, room.as_ref(), query),
        Route::Sanction(room, id) => sanctions::lift(context, by, room.as_ref(), id, query).await,
        Route::Audit => audit::list(context, permit, query).await,
        Route::Revocations if method == Method::POST => {
            revocations::add(context, by, query, request).await
        }
        Route::Revocations => revocations::list(context, permit, query),
        Route::Revocation(id) => revocations::lift(context, who, id, query).await,
        Route::UserComments(user) if method == Method::DELETE => {
            users::erase(context, who, user, query).await
        }
        Route::UserComments(user) => users::export(context, permit, user, query).await,
        _ => Err(ApiError::NotFound),
    }
}
