//! Owns the HTTP side: one connection from its first byte to its end or until it is a viewer's, and the table of paths.

mod comments;
mod deadline;
mod error;
mod events;
mod peer;
mod query;
mod rooms;
mod websocket;

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use danmaku_wire::{Dialect, RoomId};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;

pub use error::{ApiError, refusal};

use crate::admission::ConnectionPermit;
use crate::context::Context;
use crate::metrics;
use crate::process::Process;
use crate::refusal::Refusal;
use crate::replay::Start;
use crate::room::handle::RoomHandle;
use crate::snapshot::Snapshot;
use deadline::AnswerDeadline;
use error::json;
use peer::Peer;

/// What became of a connection.
#[derive(Debug)]
pub enum Ended {
    /// It was closed.
    Closed,
    /// It is a viewer's from here on.
    Viewer(Box<ViewerConnection>),
}

/// A connection that is a viewer's. Its request has not been answered yet.
#[derive(Debug)]
pub struct ViewerConnection {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes that came along with the request.
    pub early: Bytes,
    /// What was asked for.
    pub watch: Watch,
}

/// A request to watch a room.
#[derive(Debug)]
pub struct Watch {
    /// The room to join.
    pub room: Arc<RoomHandle>,
    /// What the viewer speaks.
    pub dialect: Dialect,
    /// The head of the answer.
    pub opening: Bytes,
    /// Where it wants to start.
    pub start: Start,
}

/// Serves one connection until it ends or is a viewer's.
pub async fn serve(
    context: &Arc<Context>,
    stream: TcpStream,
    (address, permit): (IpAddr, &ConnectionPermit),
) -> Ended {
    let peer = Peer { address, permit };
    let watch = Mutex::new(None);
    let service = service_fn(|request| {
        Box::pin(async {
            let answered = route(context, &peer, &watch, request).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|error| error.response()))
        })
    });
    let mut connection = http1::Builder::new()
        // Without a timer hyper ignores the deadline.
        .timer(TokioTimer::new())
        .header_read_timeout(context.config.handshake_deadline)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        // Without it hyper reads once more per request, to see whether the peer has gone; a peer that has only shut
        // its half gets its answer.
        .half_close(true)
        .serve_connection(
            AnswerDeadline::new(stream, context.config.answer_deadline),
            service,
        );
    let served = poll_fn(|cx| match connection.poll_without_shutdown(cx) {
        // The shard writes the answer to a viewer, head included, so its request stays unanswered here, and the socket is
        // taken as soon as nothing of an earlier answer is left to write.
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
        // An earlier answer that this peer has not read would end up behind the head.
        Some(_) if parts.io.is_held_up() => Ended::Closed,
        Some(watch) => Ended::Viewer(Box::new(ViewerConnection {
            stream: parts.io.into_inner(),
            early: parts.read_buf,
            watch,
        })),
        None => Ended::Closed,
    }
}

fn lock(watch: &Mutex<Option<Watch>>) -> std::sync::MutexGuard<'_, Option<Watch>> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one request comes to.
type HttpResult = Result<Response<Full<Bytes>>, ApiError>;

async fn route(
    context: &Arc<Context>,
    peer: &Peer<'_>,
    watch: &Mutex<Option<Watch>>,
    request: Request<Incoming>,
) -> HttpResult {
    let path = request.uri().path().to_owned();
    let mut segments = path.trim_start_matches('/').split('/');
    let segments = [(); SEGMENTS_MAX].map(|()| segments.next());
    match segments {
        [Some(""), None, ..] => read_only(&request).map(|()| plain(INDEX)),
        [Some("healthz"), None, ..] => read_only(&request).map(|()| plain("ok\n")),
        [Some("readyz"), None, ..] => read_only(&request).and_then(|()| ready(context)),
        [Some("metrics"), None, ..] => read_only(&request).map(|()| scrape(context)),
        [Some("v1"), Some("stats"), None, ..] => {
            read_only(&request).map(|()| json(StatusCode::OK, &Snapshot::of(context)))
        }
        [Some("v1"), Some("rooms"), None, ..] => {
            read_only(&request)?;
            rooms::list(context, request.uri().query().unwrap_or(""))
        }
        [Some("v1"), Some("rooms"), Some(room), rest @ ..] => {
            let room = room_id(room)?;
            in_room(context, peer, watch, (&room, rest), request).await
        }
        _ => Err(ApiError::NotFound),
    }
}

/// What is below `/v1/rooms/{room}`.
async fn in_room(
    context: &Arc<Context>,
    peer: &Peer<'_>,
    watch: &Mutex<Option<Watch>>,
    (room, below): (&RoomId, [Option<&str>; SEGMENTS_MAX - 3]),
    mut request: Request<Incoming>,
) -> HttpResult {
    let query = request.uri().query().unwrap_or("").to_owned();
    match below {
        [None, ..] => {
            read_only(&request)?;
            rooms::show(context, room)
        }
        [Some("ws"), None, ..] => {
            only(&request, &Method::GET, "GET")?;
            let wanted = websocket::upgrade(context, peer, room, &mut request).await?;
            *lock(watch) = Some(wanted);
            // The shard answers: see `serve`.
            std::future::pending().await
        }
        [Some("events"), None, ..] => {
            only(&request, &Method::GET, "GET")?;
            let wanted = events::watch(context, peer, room, &request).await?;
            *lock(watch) = Some(wanted);
            // The shard answers: see `serve`.
            std::future::pending().await
        }
        [Some("comments"), None, ..] => {
            if is_read(&request) {
                comments::list(context, room, &query).await
            } else {
                only(&request, &Method::POST, "GET, HEAD, POST")?;
                comments::post(context, peer, room, request).await
            }
        }
        [Some("comments"), Some(id), None] => {
            only(&request, &Method::DELETE, "DELETE")?;
            comments::retract(context, peer, (room, id), request.headers()).await
        }
        _ => Err(ApiError::NotFound),
    }
}

/// The room that `peer` wants to watch, made on first use.
async fn room_to_watch(
    context: &Context,
    peer: &Peer<'_>,
    room: &RoomId,
) -> Result<Arc<RoomHandle>, Refusal> {
    let opened = async {
        if context.gate.is_closed() {
            return Err(Refusal::Stopping);
        }
        context.open_room(room, Some(peer.permit)).await
    };
    opened
        .await
        .inspect_err(|refusal| context.stats.inbound.refused(refusal))
}

fn is_read(request: &Request<Incoming>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

fn read_only(request: &Request<Incoming>) -> Result<(), ApiError> {
    if is_read(request) {
        Ok(())
    } else {
        Err(ApiError::MethodNotAllowed { allow: "GET, HEAD" })
    }
}

fn only(request: &Request<Incoming>, method: &Method, allow: &'static str) -> Result<(), ApiError> {
    if request.method() == method {
        Ok(())
    } else {
        Err(ApiError::MethodNotAllowed { allow })
    }
}

/// A room id of a path; some clients escape its `:`.
fn room_id(segment: &str) -> Result<RoomId, ApiError> {
    let decoded = percent_decode_str(segment).decode_utf8_lossy();
    RoomId::parse(&decoded).map_err(ApiError::BadRoomId)
}

fn ready(context: &Context) -> HttpResult {
    if context.gate.is_closed() {
        Err(Refusal::Stopping.into())
    } else {
        Ok(plain("ready\n"))
    }
}

/// `GET /metrics`. Reading the process's figures blocks, but for less time than it
/// would take to have another thread do it.
fn scrape(context: &Context) -> Response<Full<Bytes>> {
    let exposition = metrics::exposition(&Snapshot::of(context), &Process::read());
    text(metrics::CONTENT_TYPE, Bytes::from(exposition))
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

/// Segments of the longest path.
const SEGMENTS_MAX: usize = 6;

/// Bytes of a request head.
const REQUEST_HEAD_BYTES_MAX: usize = 16 << 10;

const INDEX: &str = "\
danmaku: a live-stream comment fan-out server

  GET  /v1/rooms/{room}/ws        watch a room (WebSocket; ?encoding=identity|gzip|deflate)
  GET  /v1/rooms/{room}/events    watch a room (Server-Sent Events)
  POST /v1/rooms/{room}/comments  post {\"text\":\"...\"}, or an array of such
  GET  /v1/rooms/{room}/comments  read comments again (?since=&limit=)
  DELETE /v1/rooms/{room}/comments/{id}  take a comment back (from this machine)
  GET  /v1/rooms                  rooms and their viewers
  GET  /v1/rooms/{room}           one room
  GET  /v1/stats                  counters
  GET  /metrics                   counters and process figures, for Prometheus
  GET  /healthz, /readyz          probes
";
