//! Owns HTTP: one connection from its first byte until it ends or becomes a viewer's.

mod access;
mod audit;
mod body;
mod comments;
mod cors;
mod deadline;
mod error;
mod events;
mod export;
mod figures;
mod held;
mod likes;
mod moderating;
mod negotiation;
mod operations;
mod peer;
mod pin;
mod query;
mod revocations;
mod rooms;
mod route;
mod sanctions;
mod segments;
mod settings;
mod streams;
mod terms;
mod users;
mod web;
mod websocket;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use danmaku_auth::{Action, Principal};
use danmaku_wire::{Dialect, RoomId};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;

pub use error::{ApiError, refusal};
pub use operations::serve_admin;

use crate::admission::{AddressPermit, Admitted};
use crate::auth::Identity;
use crate::context::Context;
use crate::origins::OriginNotAllowed;
use crate::refusal::{RateScope, Refusal};
use crate::replay::Start;
use crate::room::handle::RoomHandle;
use deadline::AnswerDeadline;
use export::ExportBody;
use peer::{Peer, Requester};
use route::Route;

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// It was closed.
    Closed,
    /// It became a viewer's.
    Viewer(Box<ViewerConnection>),
}

/// A viewer's connection. Its request has not been answered yet.
#[derive(Debug)]
pub struct ViewerConnection {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes that arrived with the request.
    pub early: Bytes,
    /// The request.
    pub watch: Watch,
}

/// A request to watch a room.
#[derive(Debug)]
pub struct Watch {
    /// The room to join.
    pub room: Arc<RoomHandle>,
    /// The viewer's dialect.
    pub dialect: Dialect,
    /// The headers of the response.
    pub opening: Bytes,
    /// Where it wants to start.
    pub start: Start,
    /// Who the viewer is.
    pub identity: Option<Box<Identity>>,
    /// Whether the requesting page, if any, may also post over this connection.
    pub origin: Result<(), OriginNotAllowed>,
    /// The permit of the client's address, if it came through a proxy.
    pub forwarded: Option<AddressPermit>,
}

/// Serves one connection until it ends or becomes a viewer's.
pub async fn serve(
    context: &Arc<Context>,
    stream: TcpStream,
    (address, admitted): (IpAddr, &Admitted),
) -> Ended {
    let peer = Peer { address, admitted };
    let watch = Mutex::new(None);
    let service = service_fn(|request| {
        Box::pin(async {
            let about_rooms = request.uri().path().starts_with("/v1/rooms");
            let answered = route(context, &peer, &watch, request).await;
            let mut response = answered.unwrap_or_else(|error| whole(error.response()));
            if about_rooms {
                cors::open(response.headers_mut());
            }
            Ok::<_, Infallible>(response)
        })
    });
    let io = AnswerDeadline::new(stream, context.config.answer_deadline);
    let mut connection = http1_builder(context).serve_connection(io, service);
    let served = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
        // The shard writes a viewer's response, headers included, so its request stays unanswered here, and the socket is
        // taken once all earlier responses are written.
        Poll::Pending if lock(&watch).is_some() => Poll::Ready(Ok(())),
        served => served,
    });
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended early");
        context.stats.connections.broken.add(1);
        return Ended::Closed;
    }
    let parts = connection.into_parts();
    let wanted = lock(&watch).take();
    match wanted {
        // An earlier response that the peer has not read would end up after the headers.
        Some(_) if parts.io.is_held_up() => Ended::Closed,
        Some(watch) => Ended::Viewer(Box::new(ViewerConnection {
            stream: parts.io.into_inner(),
            early: parts.read_buf,
            watch,
        })),
        None => Ended::Closed,
    }
}

fn http1_builder(context: &Context) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // Without a timer hyper ignores the deadline.
        .timer(TokioTimer::new())
        .header_read_timeout(context.config.handshake_deadline)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        // Otherwise hyper does an extra read per request to see whether the peer is gone. With it, a peer that has only
        // shut its half still gets its response.
        .half_close(true);
    builder
}

fn lock(watch: &Mutex<Option<Watch>>) -> std::sync::MutexGuard<'_, Option<Watch>> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A response that is ready as a whole.
type HttpResult = Result<Response<Full<Bytes>>, ApiError>;

/// A response, ready or still being made.
type AnyResponse = Response<Either<Full<Bytes>, ExportBody>>;

fn whole(response: Response<Full<Bytes>>) -> AnyResponse {
    response.map(Either::Left)
}

/// Handles one request.
async fn route(
    context: &Arc<Context>,
    peer: &Peer<'_>,
    watch: &Mutex<Option<Watch>>,
    request: Request<Incoming>,
) -> Result<AnyResponse, ApiError> {
    let route = Route::parse(request.uri().path())?;
    route.check_method(request.method())?;
    if route.is_probe() {
        return operations::probe(context, &route).map(whole);
    }
    let requester = peer.requester(context, request.headers())?;
    if route.is_asked(request.method()) {
        check_rate(context, requester.permit())?;
    }
    if *request.method() == Method::OPTIONS {
        return Ok(whole(cors::preflight(&route)));
    }
    if let Route::Export(room) = &route {
        let (permit, query) = (requester.permit(), request.uri().query().unwrap_or(""));
        let who = access::identify(context, permit, request.headers(), query).await?;
        access::check(context, &who, room, Action::Watch)?;
        let export = export::show(context, requester.permit(), room, &request).await?;
        return Ok(export.map(Either::Right));
    }
    answer(context, peer, watch, (&route, requester), request)
        .await
        .map(whole)
}

/// Handles a request within the limits.
async fn answer(
    context: &Arc<Context>,
    peer: &Peer<'_>,
    watch: &Mutex<Option<Watch>>,
    (route, requester): (&Route, Requester<'_>),
    request: Request<Incoming>,
) -> HttpResult {
    let query = request.uri().query().unwrap_or("").to_owned();
    match route {
        Route::Page => web::page(request.headers()),
        Route::Overlay => web::overlay(request.headers()),
        Route::Web(path) => web::module(path, request.headers()),
        Route::Healthz | Route::Readyz => operations::probe(context, route),
        Route::Metrics | Route::Stats if context.config.admin_listen.is_some() => {
            Err(ApiError::NotFound)
        }
        Route::Metrics => Ok(operations::scrape(context)),
        Route::Stats => Ok(operations::stats(context)),
        _ => {
            let permit = requester.permit();
            let principal = access::identify(context, permit, request.headers(), &query).await?;
            let asker = Asker {
                peer,
                requester,
                principal,
            };
            route_known(context, asker, watch, (route, &query), request).await
        }
    }
}

/// Who a request is from.
struct Asker<'a> {
    peer: &'a Peer<'a>,
    requester: Requester<'a>,
    principal: Principal,
}

/// Handles a request about rooms or users, for which it matters who it is from.
async fn route_known(
    context: &Arc<Context>,
    asker: Asker<'_>,
    watch: &Mutex<Option<Watch>>,
    (route, query): (&Route, &str),
    request: Request<Incoming>,
) -> HttpResult {
    let permit = asker.requester.permit();
    let who = &asker.principal;
    let headers = request.headers();
    if let Some(room) = route.is_read(request.method()) {
        access::check(context, who, room, Action::Watch)?;
    }
    match route {
        Route::Rooms => {
            access::check_list(context, who)?;
            rooms::list(context, permit, query)
        }
        Route::Room(room) => rooms::show(context, room).await,
        Route::Figures(room) => figures::show(context, permit, room, query).await,
        Route::SegmentHead(room) => segments::head(context, &asker.requester, room).await,
        Route::Streams(room) if *request.method() != Method::POST => {
            streams::list(context, permit, room).await
        }
        Route::Segment(room, length_ms, n) => {
            let name = (length_ms.as_str(), n.as_str());
            segments::show(context, permit, room, name, headers).await
        }
        Route::Likes(room) => likes::post(context, (permit, who), room, request).await,
        Route::Socket(room) => {
            let wanted = websocket::upgrade(context, asker, room, request).await?;
            *lock(watch) = Some(wanted);
            // The shard answers: see `serve`.
            std::future::pending().await
        }
        Route::Events(room) => {
            let wanted = events::watch(context, asker, room, &request).await?;
            *lock(watch) = Some(wanted);
            // The shard answers: see `serve`.
            std::future::pending().await
        }
        Route::Comments(room) if *request.method() == Method::POST => {
            comments::post(context, (permit, who), room, request).await
        }
        Route::Comments(room) => comments::list(context, permit, room, query).await,
        Route::Reports(room, id) => {
            access::check(context, who, room, Action::Post)?;
            held::report(context, (permit, who), room, id, query, headers).await
        }
        Route::Pin(room)
            if request.method() != Method::POST && request.method() != Method::DELETE =>
        {
            pin::show(context, room).await
        }
        _ => moderating::route(context, &asker, (route, query), request).await,
    }
}

/// The room that the requester wants to watch, created on first use.
async fn room_to_watch(
    context: &Context,
    requester: &Requester<'_>,
    room: &RoomId,
) -> Result<Arc<RoomHandle>, Refusal> {
    let opened = async {
        if context.gate.is_closed() {
            return Err(Refusal::Stopping);
        }
        context.open_room(room, Some(requester.permit())).await
    };
    opened
        .await
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))
}

/// Who a viewer is, if it is a user.
///
/// # Errors
/// [`Refusal::Forbidden`] if the token does not allow to watch the room, and for server keys, which are for requests;
/// [`Refusal::TooManySessions`].
fn viewer_identity(
    context: &Context,
    principal: &Principal,
    room: &RoomId,
) -> Result<Option<Box<Identity>>, Refusal> {
    let identified = || {
        match principal {
            Principal::Guest => return Ok(None),
            Principal::Server(_) => return Err(Refusal::Forbidden),
            Principal::User(_) => context.auth.check(principal, room, Action::Watch)?,
        }
        let identity = access::identity(principal, room)?;
        if let Some(identity) = &identity
            && let Some(room) = context.registry.find(room)
        {
            let duplicates = context.auth.duplicates();
            if context.sessions.is_full(identity, room.key(), duplicates) {
                return Err(Refusal::TooManySessions);
            }
        }
        Ok(identity.map(Box::new))
    };
    identified().inspect_err(|refusal| context.stats.inbound.refused(refusal))
}

/// # Errors
/// [`Refusal::RateLimited`], which is counted, if the address sends too many requests.
fn check_rate(context: &Context, permit: &AddressPermit) -> Result<(), Refusal> {
    permit
        .try_request(context.clock.now().monotonic)
        .map_err(|refusal| Refusal::rate(RateScope::Requests, refusal))
        .inspect_err(|refusal| context.stats.requests.refused(refusal))
}

fn plain(words: &'static str) -> Response<Full<Bytes>> {
    text(
        "text/plain; charset=utf-8",
        Bytes::from_static(words.as_bytes()),
    )
}

fn text(content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Maximum bytes of request headers.
const REQUEST_HEAD_BYTES_MAX: usize = 16 << 10;
